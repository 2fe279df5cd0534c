"""Where a dataset begins: the folder level that its layouts ask for, and what to say where it is another one."""

from collections.abc import Sequence
from pathlib import Path

from clouds.base.text import some
from clouds.data.layouts import DATASETS, Spec
from clouds.errors import DataError


def fill(pattern: str, part: str, key: str) -> str:
    """The path a pattern stands for, for messages."""
    return pattern.replace("{split}", part).replace("{key}", key).replace("{ext}", "png|jpg")


class NoFilesError(DataError):
    """The folder holds no image of the split."""


class MissingSplitError(NoFilesError):
    """The dataset is there, but not this split of it."""


def explain(name: str, spec: Spec, root: Path, split: str, others: Sequence[str]) -> DataError:
    """The error to raise; ``others``: the splits of the dataset that are there."""
    pattern, part = spec.layouts[0].images, spec.splits[split][0]
    expected = spec.layouts[0].manifest or pattern.format(split=part, key="*", ext="png|jpg")
    if others:
        return MissingSplitError(f"{root}: {name} has no files of split {split!r} here (expected {expected}); "
                                 f"there is {', '.join(others)}")  # fmt: skip
    if better := _better_levels(spec, root):
        return DataError(f"{root}: wrong folder level for {name}; use {' or '.join(map(str, better))}")
    if packed := sorted(root.glob("*.rar")) + sorted(root.glob("*.7z")):
        return DataError(f"{root}: {packed[0].name} cannot be read in place; unpack it there")
    wanted = "such images" if name == "folder" else name
    there = "something else in that archive"
    if root.is_dir():
        there = some(sorted(p.name for p in root.iterdir()), 6) or "nothing"
    return NoFilesError(
        f"{root}: holds no {wanted}; expected {expected} in it, or an archive of that ({spec.home}); there is {there}"
    )


def _better_levels(spec: Spec, root: Path) -> list[Path]:
    """Folders up to two levels below ``root``, or else one up to four above, in which a layout's own folders start."""
    above = [folder for folder in list(root.absolute().parents)[:4] if root.is_dir() and _is_level(spec, folder)]
    below = levels_below(spec, root)
    outer = [folder for folder in below if not any(other in folder.parents for other in below)]
    return [folder for folder in outer if folder.name == spec.folder] or outer[:4] or above[:1]


def holds_sets(root: Path, spec: Spec) -> bool:
    """Whether ``root`` is a folder of several datasets: it has the own folder of another one."""
    return any(each.folder != spec.folder and (root / each.folder).is_dir() for each in DATASETS.values())


def levels_below(spec: Spec, root: Path, depths: Sequence[str] = ("*", "*/*")) -> list[Path]:
    """The folders below ``root`` in which a layout's own folders start."""
    if not root.is_dir():
        return []
    below = [p for depth in depths for p in sorted(root.glob(depth))[:1000] if p.is_dir()]
    return [folder for folder in below if _is_level(spec, folder)]


def _is_level(spec: Spec, folder: Path) -> bool:
    starts = {
        layout.images.replace("{split}", part).partition("{key}")[0].rpartition("/")[0]
        for layout in spec.layouts
        for parts in (*spec.splits.values(), *layout.splits.values())
        for part in parts
    } - {""}
    return any((folder / start).is_dir() for start in starts) or any(
        layout.manifest and (folder / layout.manifest).is_file() for layout in spec.layouts
    )
