"""What was found in an image, as a client asked for it: PNG of train ids, PNG overlay, or JSON."""

from base64 import b64encode
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from clouds.base.arrays import Pixels
from clouds.data.images import encode_image
from clouds.deploy.serve.batching import Done, Served
from clouds.predict.result import Result, encoded
from clouds.report.templating import css

Format = Literal["labels", "overlay", "json"]

ROWS = 256  # of an overlay mixed at a time: mixing takes 70 bytes a pixel


class Wish(BaseModel):
    """The query of ``/v1/segment``."""

    model_config = ConfigDict(extra="forbid")

    format: Format | None = Field(None, description="By default what Accept names: image/png gives labels, else JSON.")
    model: str | None = Field(None, description="A name of /v1/classes; by default the first.")
    opacity: float = Field(0.55, ge=0, le=1, allow_inf_nan=False, description="Of the colours of an overlay.")
    maps: bool = Field(False, description="Add label map and confidence to JSON.")


class ClassFound(BaseModel):
    id: int = Field(description="The class's value in a label map.")
    name: str
    color: str = Field(description="As #rrggbb.")
    share: float = Field(description="Of the image's pixels, 0..1.")
    confidence: float | None = Field(description="Mean over its pixels, 0..1; null where it has none.")


class Milliseconds(BaseModel):
    queue: float = Field(description="From decoded to its turn.")
    model: float = Field(description="Of the batch it was in.")


class Maps(BaseModel):
    labels: str = Field(description="PNG in base64: a byte a pixel, class ids; a palette has their colours.")
    confidence: str = Field(description="PNG in base64: 8-bit grey, 0..255 for 0..1.")


class Found(BaseModel):
    """The answer as JSON."""

    model: str
    width: int
    height: int
    confidence: float = Field(description="Mean over the image, 0..1.")
    classes: list[ClassFound]
    batch: int = Field(description="Images that went through the network together.")
    ms: Milliseconds
    maps: Maps | None = None


def overlay(result: Result, opacity: float) -> Pixels:
    """``Result.overlay``, a block of rows at a time."""
    mixed = np.empty_like(result.image)
    for top in range(0, len(mixed), ROWS):
        rows = slice(top, top + ROWS)
        mixed[rows] = replace(result, labels=result.labels[rows], image=result.image[rows]).overlay(opacity)
    return mixed


def found(model: Served, done: Done, maps: bool) -> Found:
    result = done.result
    labels, count = result.labels.ravel(), len(model.classes)
    pixels = np.bincount(labels, minlength=count)
    sums = np.bincount(labels, weights=result.scores.ravel(), minlength=count)
    classes = [
        ClassFound(
            id=i, name=name, color=css(model.colors[i]), share=round(float(pixels[i] / labels.size), 6),
            confidence=round(float(sums[i] / pixels[i]), 4) if pixels[i] else None,
        )
        for i, name in enumerate(model.classes)
    ]
    height, width = result.labels.shape
    return Found(
        model=model.name, width=width, height=height, confidence=round(float(sums.sum() / labels.size), 4),
        classes=classes, batch=done.batch,
        ms=Milliseconds(queue=round(done.waited * 1000, 1), model=round(done.computed * 1000, 1)),
        maps=Maps(labels=_text(result, "labels"), confidence=_text(result, "scores")) if maps else None,
    )  # fmt: skip


def answer(model: Served, done: Done, format: Format, wish: Wish) -> tuple[bytes, str]:
    """-> (content, media type)."""
    if format == "json":
        left_out = None if wish.maps else {"maps"}
        return found(model, done, wish.maps).model_dump_json(exclude=left_out).encode(), "application/json"
    if format == "labels":
        return encoded(done.result, "labels", "the answer"), "image/png"
    return encode_image(overlay(done.result, wish.opacity), "the answer"), "image/png"


def _text(result: Result, kind: str) -> str:
    return b64encode(encoded(result, kind)).decode()
