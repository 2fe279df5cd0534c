"""How a model is served, as one checked value, and the answer to a request that is refused."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.requests import Request

from clouds.base.arrays import Pixels
from clouds.data.exif import orientation, turned
from clouds.data.images import JPEG, KINDS, decode_image, image_size, opened_by
from clouds.errors import DataError, UsageError


@dataclass(frozen=True)
class Service:
    """The limits of a server; raises UsageError naming every value that cannot be.

    host, port: where it listens; port 0 lets the system choose one.
    token: what clients have to send as ``Authorization: Bearer TOKEN``; None asks for none.
    max_bytes: of an upload. max_pixels: of an image, read from its header before a pixel is decoded.
    queue: images that wait while a batch is computed; those beyond are answered 503.
    batch: images that go through the network together.
    timeout: seconds for the upload, seconds from there to the answer, and seconds that a stop waits for answers.
    drain: seconds between the signal to stop, when ``/ready`` turns 503, and the port's end.
    threads: of the model; None leaves it to PyTorch.
    cors: origins whose pages may ask, as "https://example.org", or "*" for all; by default none but the server's own.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    max_bytes: int = 20_000_000
    max_pixels: int = 16_000_000
    queue: int = 32
    batch: int = 4
    timeout: float = 30.0
    drain: float = 2.0
    threads: int | None = None
    cors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {"max_bytes": 1, "max_pixels": 1, "queue": 0, "batch": 1, "port": 0, "drain": 0}
        faults = [
            f"{name}: got {getattr(self, name)}; expected at least {low}"
            for name, low in least.items()
            if not getattr(self, name) >= low
        ]
        if self.port > 65535:
            faults.append(f"port: got {self.port}; expected at most 65535")
        if not 0 < self.timeout < float("inf"):
            faults.append(f"timeout: got {self.timeout}; expected seconds above 0")
        if self.threads is not None and self.threads < 1:
            faults.append(f"threads: got {self.threads}; expected at least 1")
        faults += [
            f"cors: got {origin!r}; expected an origin such as https://example.org, without a path, or *"
            for origin in self.cors
            if not re.fullmatch(r"\*|https?://[^/\s?#]+", origin)
        ]
        if self.token is not None and not (self.token and all("!" <= letter <= "~" for letter in self.token)):
            faults.append("token: empty, or holds other than ASCII letters, digits and signs; choose another")
        if faults:
            raise UsageError("\n  ".join(faults))

    @property
    def places(self) -> int:
        """Images in the house: those that wait and those in the network."""
        return self.queue + self.batch

    @property
    def held_pixels(self) -> int:
        """Pixels of the images in the house together, so that a queue of the largest ones does not fill memory."""
        return 4 * self.max_pixels

    @property
    def held_bytes(self) -> int:
        """Bytes of uploads that are being received."""
        return 8 * self.max_bytes


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that gets an error: HTTP ``status``, a short ``error`` for programs, a ``detail`` for people."""

    def __init__(self, status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.error, self.detail, self.headers = status, error, detail, headers or {}


PARTS = 16  # of a form; only one of these names is used
NAMES = ("image", "file")


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
    def upload(self, count: int) -> Iterator[None]:
        """So many bytes of a whole upload, until its image is looked at."""
        self.bytes += count
        try:
            yield
        finally:
            self.bytes -= count

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
        detail = f"{len(body)} bytes came in {service.timeout:g} s, not the whole upload"
        raise Refused(408, "upload_timeout", detail) from None
    finally:
        room.bytes -= len(body)


def check_type(content_type: str) -> None:
    """Refused 415 for what is neither an image nor a form, before a byte of it is read."""
    kind = content_type.partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "multipart/form-data"):
        raise Refused(
            415, "unsupported_type",
            f"Content-Type: got {kind or 'none'}; expected image/png, image/jpeg or another image, or "
            "multipart/form-data with a part 'image' or 'file'",
        )  # fmt: skip


def image_of(body: bytes, content_type: str) -> bytes:
    """The image's bytes: the body itself, or a form's part of one of ``NAMES``; Refused 400 for a broken form."""
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data":
        return body
    images: list[bytes] = []
    parts: list[bytes | None] = []

    def on_part(part: File | Field) -> None:
        parts.append(part.field_name)
        if len(parts) > PARTS:
            raise FormParserError(f"more than {PARTS} parts")
        if isinstance(part, File) and (part.field_name or b"").decode("latin-1") in NAMES:
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
        raise Refused(400, "bad_form", f"the form has {len(images)} files named 'image' or 'file'; expected one")
    return images[0]


MAX_SIDE, MAX_ASPECT = 32_768, 100  # of an image: a strip of few pixels costs as much as a picture of its length
MAX_SCANS = 100  # of a progressive JPEG; cameras and editors write about ten, and each is a pass over all pixels

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # inside a scan, 0xff is followed by 0 or a restart's number


def pixel_count(data: bytes, max_pixels: int) -> int:
    """Pixels of an upload by its header; raises Refused 400, 413 or 415 for what will not be decoded."""
    if not data:
        raise Refused(400, "empty", f"the image has no bytes; send the content of a {KINDS} file")
    try:
        opened_by(data, "image")
    except DataError as error:
        raise Refused(415, "unsupported_type", str(error).replace(", fetch it again", "")) from error
    try:
        height, width = image_size(data, "image", max_pixels=None)
    except DataError as error:
        raise _undecodable(error) from error
    if height * width > max_pixels:
        raise Refused(
            413, "too_many_pixels",
            f"the image has {width} x {height} pixels, {height * width / 1e6:.1f} million; at most "
            f"{max_pixels / 1e6:g} million are taken, send a smaller one",
        )  # fmt: skip
    if max(height, width) > MAX_SIDE or max(height, width) > MAX_ASPECT * max(min(height, width), 1):
        raise Refused(
            413, "too_long",
            f"the image has {width} x {height} pixels; sides of at most {MAX_SIDE} pixels are taken, the longer one at "
            f"most {MAX_ASPECT} times the shorter; cut it into pieces",
        )  # fmt: skip
    if not height * width:
        raise Refused(400, "undecodable", "the image has no pixels")
    if data.startswith(JPEG):
        _check_scans(data)
    return height * width


def decode(data: bytes, max_pixels: int) -> Pixels:
    """Bytes of an image file -> uint8 (H, W, 3) RGB, upright; of an animated PNG the first image. Raises Refused."""
    pixel_count(data, max_pixels)
    try:
        pixels = decode_image(data, "image", max_pixels)
    except DataError as error:
        raise _undecodable(error) from error
    return turned(pixels, orientation(data))


def _undecodable(error: DataError) -> Refused:
    return Refused(400, "undecodable", str(error).replace("fetch it again", "send a whole one"))


def _check_scans(data: bytes) -> None:
    """Refused where the end of a JPEG is missing (a thumbnail's end hides it from a plain search) or it is a bomb."""
    at, scans = 2, 0
    while found := _MARKER.search(data, at):
        kind, at = found[1][0], found.end()
        if kind == 0xD9:
            return
        scans += kind == 0xDA
        if scans > MAX_SCANS:
            raise Refused(400, "undecodable", f"a JPEG of more than {MAX_SCANS} scans; save it again with fewer")
        at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    raise Refused(400, "undecodable", "the end of the JPEG is missing; truncated, send a whole one")
