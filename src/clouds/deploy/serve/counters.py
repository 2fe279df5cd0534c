"""What Prometheus reads: requests, the queue, the batches. Labels are the server's own words, never a client's."""

from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clouds.deploy.serve.limits import Room

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


class Counters:
    """The metrics of one server."""

    def __init__(self, room: Room, batch: int) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("clouds_requests", "Requests answered.", ["route", "method", "code"], **own)
        self.seconds = Histogram(
            "clouds_request_seconds", "From a request's headers to its answer's end.", ["route"], buckets=SECONDS, **own
        )
        self.refused = Counter("clouds_refused", "Requests answered with an error, by its name.", ["error"], **own)
        self.gone = Counter("clouds_disconnects", "Clients that left before their answer.", **own)
        self.images = Counter("clouds_images", "Images segmented.", ["model"], **own)
        self.model = Histogram("clouds_model_seconds", "Of a batch.", ["model"], buckets=SECONDS, **own)
        sizes = sorted({1, 2, 4, 8, 16, 32, batch})
        self.batches = Histogram("clouds_batch_images", "Images of a batch.", ["model"], buckets=sizes, **own)
        for name, text, read in (
            ("clouds_queue_images", "Images waiting or in the network.", lambda: room.images),
            ("clouds_queue_pixels", "Their pixels.", lambda: room.pixels),
            ("clouds_upload_bytes", "Bytes of uploads being received.", lambda: room.bytes),
        ):
            Gauge(name, text, **own).set_function(read)

    def batch(self, model: str, images: int, seconds: float) -> None:
        self.images.labels(model).inc(images)
        self.model.labels(model).observe(seconds)
        self.batches.labels(model).observe(images)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Counting:
    """Middleware that counts requests by the route that took them, and says that answers are not to be guessed at."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self.app, self.counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, code = perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.counters.requests.labels(route, method, str(code or 500)).inc()
            self.counters.seconds.labels(route).observe(perf_counter() - start)
