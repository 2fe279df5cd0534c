"""Images and frames through a predictor to the files asked for, item by item, leaving out what is made already."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType

from clouds.base.files import write_json
from clouds.base.progress import track
from clouds.errors import DataError
from clouds.inputs import Item
from clouds.ledger import Ledger
from clouds.pictures import Pixels
from clouds.predict import Predictor
from clouds.result import PICTURES, Result
from clouds.video import Pick, frame_count, frames, video_writer

Failure = dict[str, str]  # {"path", "what"}


@dataclass
class Work:
    """Who segments, what is written where, and what came of it: ``failed`` inputs, ``parts`` of coco.json."""

    predictor: Predictor
    out: Path
    kinds: tuple[str, ...]
    batch_size: int
    ledger: Ledger
    failed: list[Failure] = field(default_factory=list)
    parts: list[Path] = field(default_factory=list)

    def has(self, targets: dict[str, Path], key: str | None) -> bool:
        """Whether these files are made already."""
        made = self.ledger.has(targets.values(), key)
        if made and "coco" in targets:
            self.parts.append(targets["coco"])
        return made

    def save(self, result: Result, targets: dict[str, Path], shown: str, key: str | None) -> None:
        for kind, target in targets.items():
            if kind == "coco":
                write_json(target, result.coco(shown))
                self.parts.append(target)
            else:
                result.save(target, kind)
        self.ledger.add(targets.values(), shown, key)

    def fail(self, item: Item, error: DataError) -> None:
        self.failed.append({"path": item.where, "what": str(error).removeprefix(f"{item.where}: ")})


def segment_images(work: Work, items: list[Item]) -> Iterator[tuple[Item, bool]]:
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
                    readable.append((item, item.pixels()))
                except DataError as error:
                    work.fail(item, error)
                    yield None
            results = work.predictor.predict_batch([pixels for _, pixels in readable], work.batch_size)
            for (item, _), result in zip(readable, results, strict=True):
                work.save(result, item.targets(work.out, work.kinds), item.shown, keys[item.name])
                yield item

    for item in track(segment(), "segmenting", len(items), len(items) - len(todo), unit="images"):
        if item:
            yield item, True


def segment_frames(work: Work, item: Item, pick: Pick, film: bool) -> tuple[int, bool]:
    """Segment a video's or a camera's frames -> how many were segmented now, and whether it was read to its end."""
    films = item.films(work.out, work.kinds) if film else {}
    singles = [kind for kind in work.kinds if kind not in films]
    key = work.ledger.key(item.source)
    film_key = key and f"{key} {pick.every} {pick.fps} {pick.limit}"  # a single frame is the same by any pick
    filming = bool(films) and not work.ledger.has(films.values(), film_key)
    if not filming and not singles:
        return 0, True

    def segment() -> Iterator[None]:
        with ExitStack() as stack:
            stopped = stack.enter_context(stop_by_signal()) if item.kind == "camera" else lambda: False
            writers = {k: stack.enter_context(video_writer(path)) for k, path in films.items()} if filming else {}
            coming = frames(item.source, *pick)  # type: ignore[arg-type]
            while not stopped() and (batch := list(islice(coming, 1 if item.kind == "camera" else work.batch_size))):
                targets = [item.frame_targets(work.out, singles, frame.number) for frame in batch]
                made = [bool(singles) and work.has(each, key) for each in targets]
                todo = [i for i, is_made in enumerate(made) if writers or not is_made]
                results = work.predictor.predict_batch([batch[i].pixels for i in todo], work.batch_size)
                for i, result in zip(todo, results, strict=True):
                    for kind, write in writers.items():
                        write(PICTURES[kind](result), batch[i].seconds)
                    if not made[i]:
                        work.save(result, targets[i], f"{item.shown}/{batch[i].number:06d}", key)
                    yield
        if filming:
            work.ledger.add(films.values(), item.shown, film_key)

    count = 0
    try:
        total = frame_count(item.source, pick) if isinstance(item.source, Path) else pick.limit
        for _ in track(segment(), f"segmenting {item.shown}", total, unit="images"):
            count += 1
    except DataError as error:
        work.fail(item, error)
        return count, False
    return count, True


@contextmanager
def stop_by_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed: the way to end a camera, whose video is then finished.

    Pressed again, it interrupts as ever.
    """
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, _: FrameType | None) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
