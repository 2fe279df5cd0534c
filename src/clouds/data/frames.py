"""Frames of a video file, a stream or a camera, read as they are asked for."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np

from clouds.base.arrays import Pixels
from clouds.data.images import MAX_PIXELS
from clouds.errors import BackendError, DataError, UsageError

VIDEO_ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")
CAMERA = "camera:"
TICKS = 60_000  # a second: most frame rates, 30000/1001 among them, are whole numbers of ticks


class Frame(NamedTuple):
    """``number``: its place in the video, from 0. ``seconds``: since the first one. ``pixels``: uint8 (H, W, 3) RGB."""

    number: int
    seconds: float
    pixels: Pixels


class Pick(NamedTuple):
    """Which frames: one in ``every``, or ``fps`` a second of the video, at most ``limit``."""

    every: int = 1
    fps: float | None = None
    limit: int | None = None

    def check(self) -> None:
        """Raises UsageError naming what cannot be."""
        if self.every < 1 or (self.limit is not None and self.limit < 1):
            raise UsageError(f"--every, --limit: got {self.every}, {self.limit}; expected 1 or more")
        if self.fps is not None and (not 0 < self.fps <= 1000 or self.every != 1):
            raise UsageError(f"--fps: got {self.fps:g}; expected frames a second, up to 1000, and no --every with it")


def frames(source: str | Path | BinaryIO, every: int = 1, fps: float | None = None, limit: int | None = None,
           ) -> Iterator[Frame]:  # fmt: skip
    """Frames of a video file or stream (PyAV), or of ``"camera:0"`` (OpenCV), read as they are asked for.

    A video's rotation is heeded. Raises UsageError for picks that cannot be, BackendError without PyAV, DataError for
    what cannot be read.
    """
    pick = Pick(every, fps, limit)
    pick.check()
    if isinstance(source, str) and source.startswith(CAMERA):
        return _picked(_camera(source.removeprefix(CAMERA)), pick)
    pyav()
    return _picked(_video(source), pick)


def frame_count(path: Path, pick: Pick) -> int | None:
    """About how many frames there are to be picked; None where the file does not tell."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            seconds = (container.duration or 0) / 1e6
            whole = stream.frames or round(seconds * rate)
    except (av.error.FFmpegError, OSError, IndexError):
        return None  # reading it will say what is wrong
    count = round(seconds * min(pick.fps, rate or pick.fps)) if pick.fps else -(-whole // pick.every)
    count = min(count, pick.limit) if pick.limit and count else count
    return count if 0 < count < 1e8 else None  # what the file says need not be so


def pyav() -> Any:
    """The package av; BackendError saying how to get it."""
    try:
        import av
    except ImportError as error:
        raise BackendError("videos are read by PyAV, which is not installed; pip install 'clouds[video]'") from error
    return av


def _picked(source: Generator[Frame, None, None], pick: Pick) -> Iterator[Frame]:
    taken, slot = 0, -1
    with closing(source):
        for frame in source:
            if pick.fps is None:
                wanted = frame.number % pick.every == 0
            else:
                due = int(frame.seconds * pick.fps + 1e-6)
                wanted, slot = due > slot, max(due, slot)
            if wanted:
                taken += 1
                yield frame
            if pick.limit and taken >= pick.limit:
                return


def _video(source: str | Path | BinaryIO) -> Generator[Frame, None, None]:
    av = pyav()
    where = str(source) if isinstance(source, str | Path) else "stdin"
    try:
        with av.open(source if where == "stdin" else where) as container:
            if not container.streams.video:
                raise DataError(f"{where}: holds no video")
            stream = container.streams.video[0]
            clock = Clock(float(stream.average_rate or 0))
            index = -1
            for index, each in enumerate(container.decode(stream)):
                if each.width * each.height > MAX_PIXELS:
                    raise DataError(f"{where}: frame {index} is {each.width}x{each.height}; more than "
                                    f"{MAX_PIXELS / 1e6:.0f} million pixels are refused")  # fmt: skip
                pixels = np.rot90(each.to_ndarray(format="rgb24"), round(each.rotation / 90))
                yield Frame(index, clock(each.time), np.ascontiguousarray(pixels))
            if index < 0:
                raise DataError(f"{where}: holds no frame that can be decoded")
    except (av.error.FFmpegError, OSError, EOFError) as error:
        why = getattr(error, "strerror", None)
        why = f"; {why}" if why else ""
        hint = ". An MP4 can only be piped if it begins with its index" if where == "stdin" else ""
        raise DataError(f"{where}: cannot be read as a video, or only in part{why}{hint}") from error


class Clock:
    """Called with the time that each frame says it has -> seconds since the first one, later than the frame before.

    Joined files begin their clocks anew, and some files have none, or a wrong one. A frame that goes back, or leaps
    ahead by more than 10 seconds and 100 usual steps, comes one usual step after the one before.
    """

    def __init__(self, rate: float) -> None:
        """``rate``: frames a second, as the file says."""
        self.step = 1 / rate if 0.001 <= rate <= 1000 else 1 / 25
        self.said = self.offset = self.seconds = 0.0
        self.began = False

    def __call__(self, said: float | None) -> float:
        now = float(said) if said is not None else self.said + self.step if self.began else 0.0
        step = now - self.said
        if not self.began:
            self.began, self.offset = True, now
        elif 0 <= step <= max(10, 100 * self.step):
            self.step = step or self.step
            self.seconds = max(now - self.offset, self.seconds + 1 / TICKS)
        else:
            self.seconds += self.step
            self.offset = now - self.seconds
        self.said = now
        return self.seconds


def _camera(name: str) -> Generator[Frame, None, None]:
    """A camera's frames, the newest at a time: those that come while the model works are lost, not queued."""
    capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
    try:
        if not capture.isOpened():
            raise DataError(f"{CAMERA}{name}: OpenCV cannot open it; name a camera's number, its device or an address")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        began, index = time.monotonic(), 0
        while True:
            whole, pixels = capture.read()
            if not whole:
                break
            yield Frame(index, time.monotonic() - began, np.ascontiguousarray(pixels[..., ::-1]))
            index += 1
        if not index:
            raise DataError(f"{CAMERA}{name}: opened, but gives no frame; is another program using it?")
    finally:
        capture.release()
