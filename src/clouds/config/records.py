"""What the files of a run hold: the records that writers build are the very ones that readers read.

A writer fills in what it knows and ``as_json`` gives exactly that: what it left out stays out of the file. A reader
gets defaults for what an older run does not hold, and what a file holds beyond its record is ignored. ``runs`` has the
names of the files, ``score_records`` the records of scores and sweeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from clouds.base.files import lies_inside, write_json, write_text
from clouds.base.strict_yaml import parse_yaml
from clouds.errors import DataError

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
# by part of a run: photographs, prompts, images, regions, source, restyle, warmup, joint, scoring
Seconds = dict[str, Positive]


class Record(BaseModel):
    """A row or a file; never changed once it is built."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Change(Record):
    """Settings that a run goes on with in place of others: what they were, by key."""

    commit: str | None = None
    was: dict[str, Any] = {}


class Provenance(Record):
    """`recipe.yaml`: what was asked for, where and with what."""

    changes: list[Change] = []
    recipe: str = ""
    seed: int | None = None
    commit: str | None = None
    versions: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class Prompt(Record):
    """A line of `prompts.jsonl`: the sentence, what it speaks of, who wrote it in which round.

    ``filled``: by the grammar, in another writer's place. ``recipe``: a hash of the settings that asked for it,
    ``subject`` one of its scene and classes where these are uncommon.
    """

    prompt: str
    attributes: Mapping[str, list[str] | str] = {}
    classes: list[str] = []
    model: str | None = None
    revision: str | None = None
    round: int = 0
    filled: bool = False
    writer: str | None = None
    seed: int | None = None
    recipe: str | None = None
    subject: str | None = None


class Drawn(Record):
    """A line of `generated/metadata.jsonl`: an image, how it was drawn, and after an audit whether to keep it.

    A generator of one's own may record more of its settings, which stay in the row.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    file_name: str
    prompt: str = ""
    seed: int | None = None
    generator: str | None = None
    revision: str | int | None = None
    steps: int | None = None
    guidance: int | float | None = None
    size: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None  # height, width
    restyle: dict[str, Any] | None = None
    sha256: str | None = None
    keep: bool | None = None
    why: str | list[str] | None = None

    @field_validator("file_name")
    @classmethod
    def _inside(cls, name: str) -> str:
        if not lies_inside(name):
            raise ValueError("expected a path inside the generated folder")
        return name

    @property
    def reason(self) -> str:
        """Why the audit dropped it, as one text."""
        return ", ".join(self.why) if isinstance(self.why, list) else self.why or ""


class RestyledImage(Record):
    """A line of `restyled/metadata.jsonl`: a source image in another style. ``source_bytes`` tells another file of its
    name, ``index`` is its place among all source images. ``exif``: `data.exif`, unless
    that refuses.
    """

    file_name: str
    source: str
    source_bytes: Count | None
    index: Count
    variant: Count
    seed: int
    exif: str | None = None


class UnlabelledPhoto(Record):
    """A line of `photographs.jsonl`: a photograph without labels that joint training learns from, and where it is from.

    ``file``: itself, its archive or its video, absolute; ``member``: its name in the archive; ``seconds``: of the frame
    in the video. ``set``: its place in `data.unlabelled`. ``size``: height and width, upright. ``problem``: why it is
    left out.
    """

    set: Count
    file: str
    member: str | None = None
    seconds: Positive | None = None
    frame: str | None = None  # the file of the frame in the run's folder
    size: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    bytes: Count | None = None
    sha256: str | None = None
    problem: str | None = None


class Step(Record):
    """A line of `metrics.jsonl`: means over the last steps; any number may be absent.

    ``generated_loss`` is the loss of the generated images alone. Beside the fields there are shares of each class
    (``kept/road``, ``changed/road``, ``ignored/road``) and scores of validation (``val/DOMAIN``).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    stage: str
    step: int
    loss: float | None = None
    loss_ce: float | None = None
    loss_mask: float | None = None
    loss_dice: float | None = None
    generated_loss: float | None = None
    lr: float | None = None
    gradient_norm: float | None = None
    teacher_confidence: float | None = None
    decided: float | None = None
    changed: float | None = None
    components: float | None = None
    bad_files: float | None = None
    val_miou: float | None = None
    seconds: float | None = None


class NotFinite(Record):
    """`not-finite/STAGE-STEP.json`: a step whose loss or gradient is not finite, both as text, and its samples."""

    stage: str
    step: int
    loss: str
    gradient_norm: str
    samples: list[str]


class Fate(Record):
    """What became of the pixels that the teacher gave one class: shares, and its mean confidence in them."""

    pixels: Count
    kept: Share
    changed: Share
    ignored: Share
    confidence: Share


class WorkSummary(Record):
    """`work.json`: what each role did in joint training. Its counts stand in `results.json` too."""

    prompts_written: Count = 0
    images_drawn: Count = 0
    images_trained_on: Count = 0
    photographs: Count = 0
    photographs_trained_on: Count = 0
    pseudo_labels_made: Count = 0
    components_refined: Count = 0
    pixels_seen: Count = 0
    pixels_decided: Count = 0
    pixels_changed: Count = 0
    masks_rejected: Count = 0
    classes: dict[str, Fate] = {}


class Drift(Record):
    """`drift.json`: how far joint training has come from the warm-up's model after ``step`` steps.

    agreement: share of the pixels of ``images`` images without labels that keep the warm-up's class; source: mean IoU
    of some source crops, before and now; shares: of the unlabelled pixels, by class, before and now. ``harm``: whether
    this looks like harm (`train/harm.py`).
    """

    step: Count
    images: Count
    agreement: Share
    source: tuple[Share, Share]
    shares: dict[str, tuple[Share, Share]]
    harm: bool


Points = list[tuple[int, list[tuple[Finite, Finite]]]]  # `pseudo/*/points.json`: (class, its points as x, y), by piece


class Spent(Record):
    """`seconds.json`: what each part of the run took so far, over all sessions."""

    seconds: Seconds = {}


R = TypeVar("R", bound=Record)
V = TypeVar("V")


def as_json(record: Record) -> dict[str, Any]:
    """A record as plain data: what its writer filled in, in the order of the fields."""
    return record.model_dump(mode="json", exclude_unset=True)


def write_record(path: Path, record: Record) -> None:
    """Write a record's file, JSON or YAML by its name, whole or not at all."""
    if path.suffix == ".yaml":
        write_text(path, yaml.safe_dump(as_json(record), sort_keys=False))
    else:
        write_json(path, as_json(record))


def read_record(path: Path, kind: type[R]) -> R | None:
    """A record's file, JSON or YAML by its name; None where there is none, DataError where it is damaged."""
    if path.suffix == ".yaml":
        return _read(path, lambda data: kind.model_validate(parse_yaml(data)))
    return _read(path, partial(_parse, kind))


def _parse(kind: type[R], data: bytes) -> R:
    """JSON as a record. A file name that is no UTF-8 stands there as half a surrogate pair, which pydantic refuses."""
    return kind.model_validate(json.loads(data)) if _SURROGATE.search(data) else kind.model_validate_json(data)


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_rows(path: Path, kind: type[R], grows: bool = False) -> list[R]:
    """A JSON-lines file; of one that grows as the run works, a last line that a kill cut short is no damage."""
    lines = _read(path, lambda data: data.split(b"\n")) or []
    if grows:
        lines = lines[:-1]  # nothing, or what a kill left without its newline
    return [row for number, line in enumerate(lines, 1) if line.strip()
            for row in [_checked(f"{path}, line {number}", partial(_parse, kind), line)]]  # fmt: skip


def read_points(path: Path, classes: int) -> Points:
    """The points that prompted the refinement; none where the file is missing, DataError for a class that is none."""
    found = _read(path, TypeAdapter(Points).validate_json) or []
    for class_, _ in found:
        if not 0 <= class_ < classes:
            raise DataError(f"{path}: damaged: class {class_}; expected 0 to {classes - 1}")
    return found


def _read(path: Path, parse: Callable[[bytes], V]) -> V | None:
    """The parsed file, None where there is none."""
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _checked(str(path), parse, data)


def _checked(where: str, parse: Callable[[bytes], V], data: bytes) -> V:
    """Parse, or say which file is damaged and how."""
    try:
        return parse(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: damaged: {place + ': ' if place else ''}{first['msg']}") from error
    except ValueError as error:
        raise DataError(f"{where}: damaged: {' '.join(str(error).split())}") from error
