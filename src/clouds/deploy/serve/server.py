"""The server's life: the port is taken, models are read, requests are answered, a signal ends it gracefully."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clouds.base.machine import usable_device
from clouds.base.progress import say
from clouds.deploy.serve.app import make_app
from clouds.deploy.serve.batching import Served, Warmth, served
from clouds.deploy.serve.limits import Service
from clouds.errors import BackendError, UsageError
from clouds.model.place import is_exported
from clouds.predict.loading import load

BACKLOG = 256
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(paths: Sequence[str | Path], service: Service, device: str, tell: Callable[[dict[str, Any]], None]) -> None:
    """Serve one or two models, as ``clouds.load`` takes them, until SIGTERM or Ctrl-C.

    UsageError or DataError before the first request.
    """
    if not 1 <= len(paths) <= 2:
        raise UsageError(f"MODEL: got {len(paths)}; expected one, or two to be compared")
    if not all(is_exported(path) for path in paths):
        usable_device(device, "--device")
    if service.host not in LOOPBACK and service.token is None:
        say(f"{service.host} can be reached from other machines and no token is asked for: set CLOUDS_TOKEN")
    with listen(service) as taken:
        names = names_of(paths)
        models = [served(name, load(path, device, service.threads)) for name, path in zip(names, paths, strict=True)]
        run(models, service, taken, lambda url: tell({"url": url, "models": names}))


def run(models: Sequence[Served], service: Service, taken: socket.socket, tell: Callable[[str], None]) -> None:
    """Answer requests on a listening socket until a signal; ``tell`` gets the address once the models are warm.

    BackendError where a model cannot be run at all.
    """
    warmth = Warmth()

    class Protocol(_Protocol):
        limit = service.timeout

    config = uvicorn.Config(
        make_app(models, service, warmth), http=Protocol, loop="asyncio", ws="none", lifespan="on",
        log_level="warning", access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG,
        timeout_graceful_shutdown=round(service.timeout) + 1,
    )  # fmt: skip
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else `nohup`, or another thread's
        with suppress(ValueError):
            signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    _Server(config, warmth, service.drain, lambda: tell(_url(taken))).run([taken])
    if warmth.thread is not None and warmth.thread.is_alive():
        # it is still computing: the interpreter would take its tensors away under it, and abort
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    if warmth.fault is not None:
        raise BackendError(f"the model cannot be run ({warmth.fault})") from warmth.fault


def listen(service: Service) -> socket.socket:
    """The port, taken; UsageError where it cannot be."""
    try:
        family, *_, address = socket.getaddrinfo(service.host, service.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"{service.host}:{service.port}: cannot be used ({error.strerror}); choose another --port or --host"
        ) from error


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """What models are called in requests: their folders' names; a run's joint model has the run's."""
    whole = [Path(path).resolve() for path in paths]
    folders = [path.parent if path.name == "model" else path for path in whole]
    names = [folder.stem if is_exported(folder) else folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.parent.name}-{folder.name}" for folder in folders]
    if len(set(names)) < len(names):
        raise UsageError(f"MODEL: {' and '.join(map(str, paths))} have the same name; give two different models")
    return names


class _Server(uvicorn.Server):
    """Uvicorn's, which at the first signal says that it is not ready, and only after ``drain`` seconds closes the port.

    A second signal ends it at once. A stop is no failure: the signal is not raised again.
    """

    def __init__(self, config: uvicorn.Config, warmth: Warmth, drain: float, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self.warmth, self.drain, self.tell = warmth, drain, tell
        self.end: float | None = None
        self.announced = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - whatever the signal
        self.warmth.stop()
        if self.end is not None:
            self.force_exit = self.should_exit = True
        else:
            self.end = monotonic() + self.drain

    async def on_tick(self, counter: int) -> bool:
        if self.warmth.ready and not self.announced:
            self.announced = True
            self.tell()
        if self.warmth.fault or (self.end is not None and monotonic() >= self.end):
            self.should_exit = True
        return await super().on_tick(counter)


class _Protocol(H11Protocol):
    """Uvicorn's, which also ends connections that never finish a request's headers, or never read their answer."""

    limit: float
    _seen: Any = None
    _watching: asyncio.TimerHandle | None = None
    _blocked: asyncio.TimerHandle | None = None
    _left: int | None = None  # bytes that were still to be read at the last look

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def _watch(self) -> None:
        """Between two looks, a request has to begin: headers that trickle in and a refused body without end do not."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._seen == (self.cycle,):
            self.transport.abort()
            return
        self._seen = (self.cycle,) if idle else None
        self._watching = self.loop.call_later(self.limit, self._watch)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        """A slow reader is waited for as long as it reads."""
        left = self.transport.get_write_buffer_size()
        if self._left is not None and left >= self._left:
            self.transport.abort()
            return
        self._left, self._blocked = left, self.loop.call_later(self.limit, self._wait_for_reader)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._blocked is not None:
            self._blocked.cancel()
        self._left = None

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._watching, self._blocked):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)


def _url(taken: socket.socket) -> str:
    host, port = taken.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
