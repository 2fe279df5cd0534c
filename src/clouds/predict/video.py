"""Moving pictures: a video written whole or not at all; its frames are read by ``data.frames``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.files import DISK, whole_file
from clouds.data.frames import CAMERA, TICKS, VIDEO_ENDINGS, Clock, Frame, Pick, frame_count, frames, pyav
from clouds.errors import DataError

__all__ = ["CAMERA", "VIDEO_ENDINGS", "Clock", "Frame", "Pick", "frame_count", "frames", "pyav", "video_writer"]


@contextmanager
def video_writer(path: str | Path) -> Iterator[Callable[[Pixels, float], None]]:
    """Yield a function that adds a picture (H, W, 3) RGB, shown from so many seconds on; all get the first one's size.

    H.264 where PyAV has its encoder, else MPEG-4. The file appears when all is written; DataError if nothing was.
    """
    av = pyav()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    stream: Any = None
    last = -1
    with whole_file(Path(path)) as temporary, _named(path), av.open(str(temporary), "w") as container:

        def write(picture: Pixels, seconds: float) -> None:
            nonlocal stream, last
            height, width = picture.shape[:2]
            if stream is None:
                stream = container.add_stream(codec, rate=30)
                stream.pix_fmt = "yuv420p"
                stream.width, stream.height = width + width % 2, height + height % 2  # chroma is of half the size
                stream.codec_context.time_base = Fraction(1, TICKS)
            if (stream.width, stream.height) != (width, height):
                if abs(stream.width - width) < 2 and abs(stream.height - height) < 2:
                    down, right = stream.height - height, stream.width - width
                    picture = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_REPLICATE)
                else:
                    picture = cv2.resize(picture, (stream.width, stream.height), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            last = max(round(seconds * TICKS), last + 1)  # encoders take no time twice
            frame.pts, frame.time_base = last, Fraction(1, TICKS)
            with _named(path):
                container.mux(stream.encode(frame))

        yield write
        if stream is None:
            raise DataError(f"{path}: no frame came, so no video is written")
        container.mux(stream.encode())


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """What the encoder refuses, as a DataError that names the file; a system's error stays one."""
    try:
        yield
    except pyav().error.FFmpegError as error:
        if error.errno in DISK:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise DataError(f"{path}: cannot be written as a video ({error.strerror or error})") from error
