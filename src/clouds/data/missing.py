"""Why a dataset's folder yields nothing: another split is there, the level is wrong, or it is something else."""

from collections.abc import Sequence
from pathlib import Path

from clouds.data.layouts import Spec
from clouds.errors import DataError


class NoFilesError(DataError):
    """The folder holds no image of the split."""


class MissingSplitError(NoFilesError):
    """The dataset is there, but not this split of it."""


def explain(name: str, spec: Spec, root: Path, split: str, others: Sequence[str]) -> DataError:
    """The error to raise; ``others``: the splits of the dataset that are there."""
    pattern, part = spec.layouts[0].images, spec.splits[split][0]
    expected = spec.layouts[0].manifest or pattern.format(split=part, key="*", ext="png|jpg")
    if others:
        return MissingSplitError(
            f"{root}: {name} has no files of split {split!r} here (expected {expected}); there is {', '.join(others)}"
        )
    if better := _better_level(spec, root):
        return DataError(f"{root}: wrong folder level for {name}; use {better}")
    if packed := sorted(root.glob("*.rar")) + sorted(root.glob("*.7z")):
        return DataError(f"{root}: {packed[0].name} cannot be read in place; unpack it there")
    wanted = "such images" if name == "folder" else name
    return NoFilesError(
        f"{root}: holds no {wanted}; expected {expected} in it, or an archive of that ({spec.home}); "
        f"there is {_content(root)}"
    )


def _better_level(spec: Spec, root: Path) -> Path | None:
    """A folder up to two levels below ``root``, or up to four above, in which a layout's own folders start."""
    if not root.is_dir():
        return None
    below = [p for depth in ("*", "*/*") for p in sorted(root.glob(depth))[:1000] if p.is_dir()]
    starts = {
        layout.images.replace("{split}", part).partition("{key}")[0].rpartition("/")[0]
        for layout in spec.layouts
        for parts in spec.splits.values()
        for part in parts
    } - {""}
    for candidate in (*below, *list(root.absolute().parents)[:4]):
        if any((candidate / start).is_dir() for start in starts):
            return candidate
        if any(layout.manifest and (candidate / layout.manifest).is_file() for layout in spec.layouts):
            return candidate
    return None


def _content(root: Path) -> str:
    if not root.is_dir():
        return "something else in that archive"
    names = sorted(p.name for p in root.iterdir())
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "nothing"
