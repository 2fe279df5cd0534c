"""The frames of a video as files, for what looks at them again and again."""

import hashlib
from pathlib import Path

from clouds.base.files import as_bytes, read_json, whole_folder, write_json
from clouds.base.progress import clock, say, track
from clouds.data.frames import Pick, frame_count, frames
from clouds.data.images import encode_image
from clouds.errors import DataError

TIMES = "frames.json"  # file of a frame -> its seconds


def take_frames(video: Path, every: float, below: Path) -> tuple[Path, dict[str, float]]:
    """Frames of a video, one in ``every`` seconds, as files of a folder ``below``: (the folder, file -> its seconds).

    They are taken once, all or none. Of a video that ends early, as where a camera lost its power, those before that
    are taken, and it is said; DataError where none can be read.
    """
    folder = below / frames_name(video, every)
    if not (folder / TIMES).is_file():
        with whole_folder(folder) as temporary:
            times: dict[str, float] = {}
            count = frame_count(video, Pick(fps=1 / every))
            try:
                taken = frames(video, fps=1 / every)
                for frame in track(taken, f"taking frames of {video.name}", count, unit="frames"):
                    name = f"{frame.number:06d}.jpg"
                    (temporary / name).write_bytes(encode_image(frame.pixels, folder / name, ".jpg"))
                    times[name] = round(frame.seconds, 3)
            except DataError as error:
                if not times:
                    raise
                say(f"{error}: used up to {clock(max(times.values()))}")
            write_json(temporary / TIMES, times)
    return folder, dict(read_json(folder / TIMES))


def frames_name(video: Path, every: float) -> str:
    """The name of the folder of a video's frames, another one when the video changes."""
    status = video.stat()
    known = f"{video.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0{every}"
    return f"{video.stem[:40]}-{hashlib.sha256(as_bytes(known)).hexdigest()[:12]}"
