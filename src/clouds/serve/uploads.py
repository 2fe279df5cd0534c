"""A request's image as bytes: read within limits of size, time and memory, never written to a file."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.requests import Request

from clouds.serve.service import Refused, Service

PARTS = 16  # of a form; only the one named "image" is used


class Room:
    """What may be in memory at a time: uploads by bytes, images by number and pixels. For the event loop alone."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.images = self.pixels = self.bytes = 0
        self.pace = 1.0  # seconds an image, lately: what Retry-After is made of

    def full(self) -> bool:
        return self.images >= self.service.places

    def busy(self) -> Refused:
        seconds = min(max(round(self.images * self.pace), 1), 60)
        detail = f"the server is busy, {self.images} images are in the queue; try again in {seconds} s"
        return Refused(503, "busy", detail, {"Retry-After": str(seconds)})

    @contextmanager
    def image(self, pixels: int) -> Iterator[None]:
        """Room for an image of so many pixels; Refused 503 where there is none."""
        if self.full() or (self.pixels and self.pixels + pixels > self.service.held_pixels):
            raise self.busy()
        self.images, self.pixels = self.images + 1, self.pixels + pixels
        try:
            yield
        finally:
            self.images, self.pixels = self.images - 1, self.pixels - pixels


async def read_body(request: Request, service: Service, room: Room) -> bytes:
    """The body; Refused 413 beyond ``max_bytes``, 408 beyond ``timeout``, 503 where uploads fill their memory."""
    too_large = Refused(413, "too_large", f"the upload is larger than {service.max_bytes} bytes; send a smaller one")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > service.max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(service.timeout):
            async for chunk in request.stream():
                if len(body) + len(chunk) > service.max_bytes:
                    raise too_large
                if room.bytes + len(chunk) > service.held_bytes:
                    raise room.busy()
                room.bytes += len(chunk)
                body += chunk
        return bytes(body)
    except TimeoutError:
        raise Refused(
            408, "upload_timeout", f"{len(body)} bytes came in {service.timeout:g} s, not the whole upload"
        ) from None
    finally:
        room.bytes -= len(body)


def check_type(content_type: str) -> None:
    """Refused 415 for what is neither an image nor a form, before a byte of it is read."""
    kind = content_type.partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "multipart/form-data"):
        raise Refused(
            415, "unsupported_type",
            f"Content-Type: got {kind or 'none'}; expected image/png, image/jpeg, or multipart/form-data with a part "
            "'image'",
        )  # fmt: skip


def image_of(body: bytes, content_type: str) -> bytes:
    """The image's bytes: the body itself, or a form's part named ``image``; Refused 400 for a broken form."""
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data":
        return body
    images: list[bytes] = []
    parts: list[bytes | None] = []

    def on_part(part: File | Field) -> None:
        parts.append(part.field_name)
        if len(parts) > PARTS:
            raise FormParserError(f"more than {PARTS} parts")
        if isinstance(part, File) and part.field_name == b"image":
            part.file_object.seek(0)
            images.append(part.file_object.read())

    # kept in memory, where the limit of the body holds; a client's file name is never used
    config = {"MAX_MEMORY_FILE_SIZE": float("inf"), "MAX_FIELDS": PARTS, "MAX_FIELD_SIZE": 10_000}
    try:
        parser = FormParser("multipart/form-data", on_part, on_part, boundary=options.get(b"boundary"), config=config)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, AssertionError) as error:
        raise Refused(400, "bad_form", f"the form cannot be read: {error}") from error
    if len(images) != 1:
        raise Refused(400, "bad_form", f"the form has {len(images)} files named 'image'; expected one")
    return images[0]
