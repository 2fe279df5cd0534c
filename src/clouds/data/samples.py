"""What a dataset is made of: files where they lie, pairs of an image and a label, and what is wrong with them."""

from typing import NamedTuple, Protocol

from clouds.base.arrays import Labels
from clouds.data.archives import Files
from clouds.data.layouts import Layout


class Place(NamedTuple):
    """One file: who holds it, and under which name."""

    files: Files
    name: str

    def read(self) -> bytes:
        return self.files.read(self.name)

    def __str__(self) -> str:
        return self.files.where(self.name)


class Sample(NamedTuple):
    """An image with its label."""

    name: str  # stable id: split folder and key
    image: Place
    label: Place | None


class DataProblem(NamedTuple):
    path: str
    what: str


class SampleReader(Protocol):
    """Reads the label of a sample: (H, W) uint8 indices, 255 ignored. ``meaning`` differs where the same files read
    otherwise; ``notes`` say what was lost in reading, a line each."""

    meaning: str

    def __call__(self, sample: Sample, max_pixels: int) -> Labels: ...

    def notes(self) -> list[str]: ...


class Scan(NamedTuple):
    """What a folder holds of one split in one layout. ``reader``: of its labels, None where the layout says how.

    ``notes``: what is lost or passed over, a line each. ``bare``: images without a label, where a format lists them.
    """

    layout: Layout
    samples: list[Sample]
    problems: list[DataProblem]
    reader: SampleReader | None = None
    notes: tuple[str, ...] = ()
    bare: tuple[Place, ...] = ()
