"""The routes: ``/v1/segment``, ``/v1/classes``, health, readiness, metrics, the OpenAPI document and the page."""

import asyncio
import hmac
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from clouds.deploy.serve.answers import Format, Found, Wish, answer
from clouds.deploy.serve.batching import Batcher, Done, Gone, Served, Warmth
from clouds.deploy.serve.counters import Counters, Counting
from clouds.deploy.serve.headers import HeadAsGet, preferred
from clouds.deploy.serve.limits import Refused, Room, Service, check_type, decode, image_of, pixel_count, read_body
from clouds.deploy.serve.page import docs_page, example_image, page
from clouds.deploy.serve.problems import answer_in_json, problems
from clouds.errors import DataError
from clouds.report.templating import css

T = TypeVar("T")

HANDS = 2  # threads that decode and encode beside the model


def make_app(models: Sequence[Served], service: Service, warmth: Warmth | None = None) -> FastAPI:
    """The application; ``warmth`` learns when the server stops, and knows whether it is ready."""
    warmth = warmth or Warmth()
    room = Room(service)
    counters = Counters(room, service.batch)
    by_name = {model.name: model for model in models}
    hands = ThreadPoolExecutor(HANDS, "hands")

    def prepare() -> None:
        if service.threads is not None and (torch := sys.modules.get("torch")):
            torch.set_num_threads(service.threads)  # counts for this thread alone
        warmth.warm(models)

    def watch(model: str, images: int, seconds: float) -> None:
        counters.batch(model, images, seconds)
        room.pace = 0.8 * room.pace + 0.2 * seconds / images

    batcher = Batcher(service.batch, prepare, watch)
    dead = Refused(503, "dead", "the thread of the model has ended; restart the server")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        warmth.thread = batcher.thread
        yield
        batcher.close(service.timeout)
        hands.shutdown(wait=False, cancel_futures=True)

    # FastAPI's own pages of documentation fetch scripts from elsewhere; /docs below is one that does not
    app = FastAPI(title="CLOUDS", version=version("clouds"), lifespan=lifespan, docs_url=None, redoc_url=None,
                  redirect_slashes=False)  # a redirect would name whatever Host the client sent  # fmt: skip
    app.add_middleware(HeadAsGet)
    app.add_middleware(Counting, counters=counters)
    if service.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=service.cors, allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization", "Content-Type"), expose_headers=("Retry-After",),
        )  # fmt: skip
    answer_in_json(app, counters)
    guarded = [Depends(_guard(service.token))] if service.token else []
    refusals = problems(401) if service.token else {}

    def beside(work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(hands, work, *arguments)

    @app.post(
        "/v1/segment",
        dependencies=guarded,
        response_model=Found,
        responses={
            200: {"content": {"image/png": BYTES}, "description": "JSON, or a PNG as asked for."},
            **problems(400, 404, 408, 413, 415, 422, 500, 503, 504),
            **refusals,
        },
        openapi_extra=BODY,
    )
    async def segment(request: Request, wish: Annotated[Wish, Query()]) -> Response:
        """Segment one image."""
        content_type = request.headers.get("content-type", "")
        check_type(content_type)
        model = _chosen(by_name, wish.model)
        if not warmth.takes_work:
            raise Refused(503, "starting", "the model is being prepared; try again in 1 s", {"Retry-After": "1"})
        if not batcher.alive and warmth.ready:
            raise dead
        if room.full():
            raise room.busy()
        uploads, held = [await read_body(request, service, room)], ExitStack()
        held.enter_context(room.upload(len(uploads[0])))

        async def work() -> Response:
            images = [await beside(image_of, uploads.pop(), content_type)]  # popped: no bytes stay while pixels wait
            with room.image(await beside(pixel_count, images[0], service.max_pixels)):
                held.close()
                pixels = await beside(decode, images.pop(), service.max_pixels)
                try:
                    waiting = batcher.submit(model, pixels)
                except DataError as error:  # an exported file may take one size of images
                    raise Refused(400, "wrong_size", str(error)) from None
                done: Done = await asyncio.wrap_future(waiting)
                liked = preferred(request.headers.get("accept", ""), ("application/json", "image/png"))
                bare: Format = "labels" if liked == "image/png" else "json"
                content, kind = await beside(answer, model, done, wish.format or bare, wish)
            return Response(content, media_type=kind)

        try:
            async with asyncio.timeout(service.timeout):
                with held:
                    return await _unless_gone(request, work())
        except Gone:
            raise dead from None
        except TimeoutError:
            raise Refused(504, "timeout", f"no answer within {service.timeout:g} s; the image was dropped") from None
        except asyncio.CancelledError:
            raise Refused(503, "stopping", "the server stopped before the answer", {"Retry-After": "5"}) from None

    @app.get("/v1/classes", dependencies=guarded, responses=refusals)
    async def classes() -> Names:
        """The models by name, and the classes of each in the order of their label values."""
        return names(models, service)

    @app.get("/health", responses=problems(503))
    async def health() -> State:
        """Whether the process works at all: restart it where this is not 200."""
        if not batcher.alive:
            raise dead
        return State(status="ok")

    @app.get("/ready", responses=problems(503))
    async def ready() -> State:
        """Whether requests should be sent here: not before the model is warm, nor once it stops."""
        if not warmth.ready:
            raise Refused(503, warmth.status, f"the server is {warmth.status}", {"Retry-After": "1"})
        if not batcher.alive:
            raise dead
        return State(status="ready")

    @app.get("/metrics", dependencies=guarded, response_class=Response, responses={200: TEXT, **refusals})
    async def metrics() -> Response:
        """For Prometheus."""
        return PlainTextResponse(counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    html, policy = page(models, service)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(html, headers=policy)

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        text, headers = docs_page(app.openapi())
        return HTMLResponse(text, headers=headers)

    @app.get("/example.jpg", include_in_schema=False)
    async def example() -> Response:
        return Response(await beside(example_image), media_type="image/jpeg")

    return app


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; the work is cancelled when the client leaves (ClientDisconnect) or this is cancelled."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _chosen(models: dict[str, Served], name: str | None) -> Served:
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise Refused(404, "unknown_model", f"model: got {name[:100]!r}; expected {' or '.join(models)}")
    return models[name]


def _guard(token: str) -> Callable[..., None]:
    """A dependency that lets only the bearer of ``token`` through; the time it takes tells nothing of the token."""
    expected = token.encode()

    def guard(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), expected):
            raise Refused(
                401, "unauthorized", "send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
            )

    return guard


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


_FILE = {"type": "string", "format": "binary", "minLength": 1}
BYTES = {"schema": _FILE}
TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_FORM = {
    "type": "object", "properties": {"image": _FILE, "file": _FILE},
    "oneOf": [{"required": ["image"]}, {"required": ["file"]}],
}  # fmt: skip
BODY = {
    "requestBody": {
        "required": True,
        "description": "An image file, such as PNG or JPEG, by itself or as the part `image` (or `file`) of a form.",
        "content": {"image/png": BYTES, "image/jpeg": BYTES, "multipart/form-data": {"schema": _FORM}},
    }
}


def names(models: Sequence[Served], service: Service) -> Names:
    listed = []
    for model in models:
        classes = [ClassName(id=i, name=name, color=css(model.colors[i])) for i, name in enumerate(model.classes)]
        listed.append(ModelNames(name=model.name, classes=classes))
    return Names(models=listed, max_bytes=service.max_bytes, max_pixels=service.max_pixels)
