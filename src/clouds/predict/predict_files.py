"""Pictures and videos in, label files out: in batches, to be interrupted at any moment and to go on when run again."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.files import DISK, read_json, reason, sha256, whole_file, write_json
from clouds.base.locks import check_idle, one_writer
from clouds.base.machine import usable_device
from clouds.base.progress import track
from clouds.base.signals import noted_signals
from clouds.base.text import counted
from clouds.errors import DataError, UsageError
from clouds.model.inference import Inference
from clouds.model.place import files_of, is_exported
from clouds.predict.annotations import join_coco
from clouds.predict.image_predictor import ImagePredictor
from clouds.predict.inputs import Item, check_targets, gather
from clouds.predict.ledger import Ledger
from clouds.predict.loading import check_and_say, load
from clouds.predict.result import PICTURES, Result, check_kinds, legend_of
from clouds.predict.tool_sets import SETS, Classes, PredictedImage, finish_sets
from clouds.predict.video import Pick, frame_count, frames, pyav, video_writer

DEFAULT_KINDS = ("labels", "overlay")
COCO = "coco.json"  # all images in one
UNWRITTEN = (UsageError, OSError)  # where a file or folder stands in the way, a name is too long, one may not write


Failure = dict[str, str]  # {"path", "what"}


class Predicted(NamedTuple):
    """``done``: images that are segmented, ``made`` of them now; ``frames`` of ``videos`` and cameras, now."""

    done: list[Path | str]
    failed: list[Failure]
    made: int = 0
    frames: int = 0
    videos: int = 0

    @property
    def total(self) -> int:
        """Inputs in all."""
        return len(self.done) + self.videos + len(self.failed)

    def as_record(self, out: Path) -> dict[str, Any]:
        """The object of ``--json``."""
        counts = {"images": len(self.done), "made": self.made, "videos": self.videos, "frames": self.frames}
        return {**counts, "folder": str(out.resolve()), "failed": self.failed}


def predict_files(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: Path,
    kinds: Sequence[str] = DEFAULT_KINDS,
    batch_size: int = 1,
    classes: str | None = None,
    weights: str | None = None,
    device: str = "cpu",
    pick: Pick = Pick(),  # noqa: B008 - a tuple of plain values
    film: bool = True,
    stdin: BinaryIO | None = None,
    legend: bool = False,
    **inference: Any,
) -> Predicted:
    """Segment what ``inputs`` name (see ``predict.inputs.gather``) with a model, as ``clouds.load`` takes it.

    Writes NAME.png for kind "labels", NAME_KIND.png or .json for the others of ``result.KINDS``, below ``out`` as they
    lie in the folder or glob given, and for "coco" also ``coco.json`` of all. Of a video, the frames of ``pick``:
    overlay and colours as a video each (``film``), all else as files NAME/NUMBER. The kinds of ``tool_sets`` are whole
    data sets, each in a folder of its own. ``batch_size`` images are read at a
    time, and those of equal size segmented together. ``inference``: fields of ``Inference`` that are to differ from the
    model's own; None leaves one as it is. ``classes`` (and ``weights``) as in ``Predictor.with_classes``: labels are
    then positions in that list. ``legend``: below overlays, the names and colours of the classes that are there.

    What cannot be read is named in ``failed`` and does not stop the others. What ``out`` holds already, of the same
    input, model and settings, is not made again. UsageError before any work for values that cannot be, for two inputs
    of one output, and where an input would be overwritten; BusyError where another process writes there.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size: got {batch_size}; expected at least 1")
    if weights is not None and classes is None:
        raise UsageError(f"--weights: got {weights!r} without --classes; only new names need the text tower's weights")
    changes = {field: value for field, value in inference.items() if value is not None}
    Inference(**changes)  # what cannot be is refused before the model is read
    pick.check()
    check_kinds(kinds)
    if not is_exported(model):
        usable_device(device, "--device")
    items = gather(inputs, out, stdin)
    check_targets(items, out, kinds, film)
    check_idle(out)
    if any(item.kind != "image" for item in items):
        pyav()
    elif pick != Pick():
        raise UsageError("--every, --fps and --limit choose frames of videos and cameras, and no input is one; leave "
                         "them out")  # fmt: skip
    (folder,) = check_and_say(model)
    predictor = load(folder, device).with_inference(**changes)
    if classes is not None:
        predictor = predictor.with_classes(classes, weights)
    check_kinds(kinds, predictor.classes)
    settings = _settings(folder, predictor, classes, weights) + ("legend" if legend else "")
    with one_writer(out, "predicting"):
        work = PredictionRun(predictor, out, tuple(kinds), batch_size, Ledger(out, settings), legend)
        return _predict(work, items, pick, film)


def _predict(work: "PredictionRun", items: list[Item], pick: Pick, film: bool) -> Predicted:
    done: list[Path | str] = []
    made = frames = videos = 0
    work.ledger.begin()
    for item, now in segment_images(work, [item for item in items if item.kind == "image"]):
        done.append(item.source if isinstance(item.source, Path) else item.shown)
        made += now
    for item in items:
        if item.kind != "image":
            count, whole = segment_frames(work, item, pick, film)
            frames, videos = frames + count, videos + whole
    finish_sets(work.out, work.sets, work.classes)
    if work.parts:
        with whole_file(work.out / COCO) as temporary, temporary.open("w", encoding="utf-8") as file:
            join_coco((read_json(part) for part in sorted(work.parts)), file, json.dumps)
    return Predicted(done, work.failed, made, frames, videos)


def _settings(folder: Path, predictor: ImagePredictor, classes: str | None, weights: str | None) -> str:
    """All that a prediction follows from beside its image, as text."""
    own = [sha256(file) for file in files_of(folder)]
    return json.dumps([own, predictor.inference.as_record(), classes, weights])


def result_text(result: Predicted, out: Path) -> str:
    """The result for a person."""
    old = len(result.done) - result.made
    parts = [f"{counted(len(result.done), 'image')} segmented in {out}"] if result.done or not result.videos else []
    parts += [f"{old} of them by an earlier call"] if old else []
    parts += [f"{counted(result.frames, 'frame')} of {counted(result.videos, 'video')} segmented in {out}"] * bool(
        result.videos
    )
    return ", ".join(parts)


def failure_text(failed: list[Failure], total: int) -> str:
    """What could not be read or written, a line each, for a person."""
    lines = [f"{len(failed)} of {total} images could not be read or written, the others are done:"]
    return "\n  ".join([*lines, *(f"{failure['path']}: {failure['what']}" for failure in failed)])


def split_kinds(words: list[str]) -> list[str]:
    """Words ["labels,ids", "color"] -> ["labels", "ids", "color"], each once."""
    return list(dict.fromkeys(kind.strip() for word in words for kind in word.split(",")))


def split_scales(text: str) -> tuple[float, ...]:
    """Text "0.75,1,1.25" -> (0.75, 1.0, 1.25); UsageError for what is no number."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"--scales: got {text!r}; expected numbers separated by commas, such as 0.75,1,1.25") from None


@dataclass
class PredictionRun:
    """Who segments, what is written where, and what came of it: ``failed`` inputs, ``parts`` of coco.json, label files
    of the ``sets`` of other tools."""

    predictor: ImagePredictor
    out: Path
    kinds: tuple[str, ...]
    batch_size: int
    ledger: Ledger
    legend: bool = False
    failed: list[Failure] = field(default_factory=list)
    parts: list[Path] = field(default_factory=list)
    sets: dict[str, list[Path]] = field(default_factory=dict)

    def has(self, targets: dict[str, Path], key: str | None) -> bool:
        """Whether these files are made already."""
        made = self.ledger.has(targets.values(), key)
        if made:
            self._note(targets)
        return made

    @property
    def classes(self) -> Classes:
        return Classes(self.predictor.classes, self.predictor.colors.tolist())

    def _note(self, targets: dict[str, Path]) -> None:
        self.parts += [targets["coco"]] if "coco" in targets else []
        for kind in targets.keys() & SETS.keys():
            self.sets.setdefault(kind, []).append(targets[kind])

    def save(
        self, result: Result, targets: dict[str, Path], name: Path, shown: str, key: str | None, source: Path | None
    ) -> None:
        for kind, target in targets.items():
            if kind in SETS:
                folder = self.out / SETS[kind].folder
                predicted = PredictedImage(name, result.labels, result.image, source)
                SETS[kind].write(folder, predicted, self.classes)
            elif kind == "coco":
                write_json(target, result.coco(shown))
            else:
                result.save(target, kind, self.legend)
        self.ledger.add(targets.values(), shown, key)
        self._note(targets)

    def film_frame(self, kind: str, result: Result) -> Pixels:
        """One frame of a video; its legend has all classes, for the frames are of one size."""
        picture = PICTURES[kind](result)
        if kind != "overlay" or not self.legend:
            return picture
        return np.vstack([picture, legend_of(result.classes, result.colors, picture.shape[1])])

    def fail(self, item: Item, error: Exception) -> None:
        """Note what went wrong with one input; raises it again where the disk is full, for all others would fail."""
        if isinstance(error, OSError) and error.errno in DISK:
            raise error
        self.failed.append({"path": item.where, "what": reason(error).removeprefix(f"{item.where}: ")})


def segment_images(work: PredictionRun, items: list[Item]) -> Iterator[tuple[Item, bool]]:
    """Segment images: each that is done, and whether it was now."""
    keys = {item.name: work.ledger.key(item.source) for item in items}
    todo = [item for item in items if not work.has(item.targets(work.out, work.kinds), keys[item.name])]
    waiting = {item.name for item in todo}
    yield from ((item, False) for item in items if item.name not in waiting)

    def segment() -> Iterator[Item | None]:
        """Image by image, or None where one could not be read."""
        rest = iter(todo)
        while batch := list(islice(rest, work.batch_size)):
            readable: list[tuple[Item, Pixels]] = []
            for item in batch:
                try:
                    pixels = item.pixels()
                    work.predictor.alike(pixels)  # an exported file may take one size of images
                    readable.append((item, pixels))
                except DataError as error:
                    work.fail(item, error)
                    yield None
            results = work.predictor.predict_batch([pixels for _, pixels in readable], work.batch_size)
            for (item, _), result in zip(readable, results, strict=True):
                try:
                    source = item.source if isinstance(item.source, Path) else None
                    targets = item.targets(work.out, work.kinds)
                    work.save(result, targets, Path(item.name), item.shown, keys[item.name], source)
                    yield item
                except UNWRITTEN as error:
                    work.fail(item, error)
                    yield None

    for item in track(segment(), "segmenting", len(items), len(items) - len(todo), unit="images"):
        if item:
            yield item, True


def segment_frames(work: PredictionRun, item: Item, pick: Pick, film: bool) -> tuple[int, bool]:
    """Segment a video's or a camera's frames -> how many were segmented now, and whether it was read to its end.

    Ctrl-C ends a camera, whose video is then finished; pressed again, it interrupts as ever.
    """
    films = item.films(work.out, work.kinds) if film else {}
    singles = [kind for kind in work.kinds if kind not in films]
    key = work.ledger.key(item.source)
    film_key = key and f"{key} {pick.every} {pick.fps} {pick.limit}"  # a single frame is the same by any pick
    filming = bool(films) and not work.ledger.has(films.values(), film_key)
    if not filming and not singles:
        return 0, True

    def segment() -> Iterator[None]:
        with ExitStack() as stack:
            camera = item.kind == "camera"
            stopped = stack.enter_context(noted_signals(numbers=(signal.SIGINT,))) if camera else ()
            writers = {k: stack.enter_context(video_writer(path)) for k, path in films.items()} if filming else {}
            coming = frames(item.source, *pick)  # type: ignore[arg-type]
            while not stopped and (batch := list(islice(coming, 1 if camera else work.batch_size))):
                targets = [item.frame_targets(work.out, singles, frame.number) for frame in batch]
                made = [bool(singles) and work.has(each, key) for each in targets]
                todo = [i for i, is_made in enumerate(made) if writers or not is_made]
                results = work.predictor.predict_batch([batch[i].pixels for i in todo], work.batch_size)
                for i, result in zip(todo, results, strict=True):
                    for kind, write in writers.items():
                        write(work.film_frame(kind, result), batch[i].seconds)
                    if not made[i]:
                        number = f"{batch[i].number:06d}"
                        work.save(result, targets[i], Path(item.name) / number, f"{item.shown}/{number}", key, None)
                    yield
        if filming:
            work.ledger.add(films.values(), item.shown, film_key)

    count = 0
    try:
        total = frame_count(item.source, pick) if isinstance(item.source, Path) else pick.limit
        for _ in track(segment(), f"segmenting {item.shown}", total, unit="frames"):
            count += 1
    except (DataError, *UNWRITTEN) as error:
        work.fail(item, error)
        return count, False
    return count, True
