"""Files and folders of pictures in, label files out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clouds.errors import DataError, UsageError
from clouds.model.inference import Inference
from clouds.predict import Pixels, as_rgb, load
from clouds.progress import track
from clouds.result import check_kinds

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
DEFAULT_KINDS = ("labels", "overlay")

Wanted = tuple[Path, dict[str, Path]]  # an image, and the file of each kind made of it
Failure = dict[str, str]  # {"path", "what"}


def predict_files(
    path: Path,
    inputs: list[Path],
    out: Path,
    kinds: Sequence[str] = DEFAULT_KINDS,
    batch_size: int = 1,
    classes: str | None = None,
    weights: str | None = None,
    **inference: Any,
) -> tuple[list[Path], list[Failure]]:
    """Segment images and folders of images with the model in ``path``; folders are kept below ``out``.

    Writes NAME.png for kind "labels", NAME_KIND.png for the others of ``result.KINDS``. ``batch_size`` files are read
    at a time, and those of equal size segmented together. ``inference``: fields of ``Inference`` that are to differ
    from the model's own; None leaves one as it is. ``classes`` (and ``weights``) as in ``Predictor.with_classes``:
    labels are then positions in that list.

    -> (images segmented, images that could not be read and why): one bad file does not stop the others. UsageError
    before any work for values that cannot be, for two inputs of one output, and where an input would be overwritten.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size: got {batch_size}; expected at least 1")
    if weights is not None and classes is None:
        raise UsageError(f"--weights: got {weights!r} without --classes; only new names need the text tower's weights")
    changes = {field: value for field, value in inference.items() if value is not None}
    Inference(**changes)  # what cannot be is refused before the model is read
    check_kinds(kinds)
    wanted = _plan(inputs, out, kinds)
    predictor = load(path).with_inference(**changes)
    if classes is not None:
        predictor = predictor.with_classes(classes, weights)
    check_kinds(kinds, predictor.classes)
    failed: list[Failure] = []

    def segment() -> Iterator[Path | None]:
        """Image by image: its path, or None where it could not be read."""
        for start in range(0, len(wanted), batch_size):
            readable: list[tuple[Wanted, Pixels]] = []
            for image, targets in wanted[start : start + batch_size]:
                try:
                    readable.append(((image, targets), as_rgb(image)))
                except DataError as error:
                    failed.append({"path": str(image), "what": str(error).removeprefix(f"{image}: ")})
                    yield None
            results = predictor.predict_batch([pixels for _, pixels in readable], batch_size)
            for ((image, targets), _), result in zip(readable, results, strict=True):
                for kind, target in targets.items():
                    result.save(target, kind)
                yield image

    done = [image for image in track(segment(), "segmenting", len(wanted), unit="images") if image]
    return done, failed


def failure_text(failed: list[Failure], total: int) -> str:
    """What could not be read, a line each, for a person."""
    lines = [f"{len(failed)} of {total} images could not be read, the others are done:"]
    return "\n  ".join([*lines, *(f"{failure['path']}: {failure['what']}" for failure in failed)])


def split_kinds(words: list[str]) -> list[str]:
    """Words ["labels,ids", "color"] -> ["labels", "ids", "color"], each once."""
    return list(dict.fromkeys(kind.strip() for word in words for kind in word.split(",")))


def split_scales(text: str) -> tuple[float, ...]:
    """Text "0.75,1,1.25" -> (0.75, 1.0, 1.25); UsageError for what is no number."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"--scales: got {text!r}; expected numbers with commas between, such as 0.75,1,1.25") from None


def _plan(inputs: list[Path], out: Path, kinds: Sequence[str]) -> list[Wanted]:
    """Every image with its targets; raises UsageError where files would be lost."""
    images: list[tuple[Path, Path]] = []
    for item in inputs:
        if item.is_dir():
            found = sorted(p for p in item.rglob("*") if _is_photo(p, out))
            if not found:
                raise UsageError(f"{item}: holds no {', '.join(IMAGE_ENDINGS)} image")
            images += [(image, image.relative_to(item).with_suffix("")) for image in found]
        elif item.is_file():
            images.append((item, Path(item.stem)))
        else:
            raise UsageError(f"{item}: no such image or folder")
    ends = {kind: ".png" if kind == "labels" else f"_{kind}.png" for kind in kinds}
    wanted = [(image, {kind: out / f"{name}{end}" for kind, end in ends.items()}) for image, name in images]
    count = Counter(target for _, targets in wanted for target in targets.values())
    if twice := sorted(str(target) for target, n in count.items() if n > 1):
        raise UsageError(f"{', '.join(twice)}: two inputs would be written there; give the folder that holds both")
    inside = {image.resolve() for image, _ in images}
    if lost := sorted(str(target) for target in count if target.resolve() in inside):
        raise UsageError(f"{', '.join(lost)}: an input would be overwritten; choose another --out")
    return wanted


def _is_photo(path: Path, out: Path) -> bool:
    """An image by its name; not a hidden one (half-written or a file manager's), nor an earlier prediction."""
    hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_ENDINGS and not hidden and out not in path.parents
