"""What the OpenAPI document says beside the routes: requests' bodies, small answers."""

from collections.abc import Sequence

from pydantic import BaseModel

from clouds.serve.answers import hex_color
from clouds.serve.batching import Served
from clouds.serve.service import Service


class ClassName(BaseModel):
    id: int
    name: str
    color: str


class ModelNames(BaseModel):
    name: str
    classes: list[ClassName]


class Names(BaseModel):
    """What is served, and what is taken."""

    models: list[ModelNames]
    max_bytes: int
    max_pixels: int


class State(BaseModel):
    status: str


BYTES = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": ["image"], "properties": {"image": {"type": "string", "format": "binary"}}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "A PNG or JPEG file, by itself or as the part `image` of a form.",
        "content": {"image/png": BYTES, "image/jpeg": BYTES, "multipart/form-data": {"schema": _FORM}},
    }
}


def names(models: Sequence[Served], service: Service) -> Names:
    listed = [
        ModelNames(
            name=model.name,
            classes=[
                ClassName(id=i, name=name, color=hex_color(model.colors[i])) for i, name in enumerate(model.classes)
            ],
        )
        for model in models
    ]
    return Names(models=listed, max_bytes=service.max_bytes, max_pixels=service.max_pixels)
