"""A process that dies ends those that were started with it, and they say which one it was.

Nothing else does so in good time: a collective of NCCL waits for its time-out. Here every process holds a connection to
the main one. The system closes it when a process ends, however that ends, and finds out within half a minute when a
whole machine is gone. A process that is done says goodbye first.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clouds.base.progress import say
from clouds.errors import CloudsError, Stopped

SECONDS_TO_END = 10.0  # by its own error, before a process that has lost another is ended
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a machine that is gone is known to be in 30 s
PORT = "clouds/watch"  # in the store: {"port", "token"}
GOODBYE = "goodbye"


class Watch:
    """The connections of this process: the main one's to all others, the others' to the main one.

    ``lost``: what is known of a process that ended before the work was done, None while nobody did.
    """

    def __init__(self, store: Any, rank: int, world: int) -> None:
        """store: torch's, through which the processes met. All of them have to do this at the same time."""
        self.rank, self.world = rank, world
        self.lost: str | None = None
        self._news = threading.Event()
        self._links: dict[int, socket.socket] = {}
        self._done = False
        self._lock = threading.Lock()
        address = os.environ["MASTER_ADDR"]
        if rank == 0:
            token = secrets.token_hex(16)
            near = address in ("localhost", "127.0.0.1", "::1")
            server = socket.create_server(("127.0.0.1" if near else "", 0))
            store.set(PORT, json.dumps({"port": server.getsockname()[1], "token": token}))
            self._start(self._receive_all, server, token)
        else:
            found = json.loads(store.get(PORT))
            try:
                link = socket.create_connection((address, found["port"]), timeout=20)
            except OSError as error:  # a firewall: work goes on, and only time-outs notice a death
                say(f"process {rank}: no connection to the main process at {address} port {found['port']} ({error}); "
                    "if one process dies the others notice it after their time-out only")  # fmt: skip
                return
            link.settimeout(None)
            _send(link, {"rank": rank, "who": f"pid {os.getpid()} on {socket.gethostname()}", "token": found["token"]})
            self._links[0] = link
            self._start(self._listen, link, 0, "the main one")

    def _start(self, what: Any, *arguments: Any) -> None:
        threading.Thread(target=what, args=arguments, daemon=True, name="watch").start()

    def _receive_all(self, server: socket.socket, token: str) -> None:
        while len(self._links) < self.world - 1:
            link, _ = server.accept()
            with contextlib.suppress(OSError, ValueError, KeyError):
                link.settimeout(20)
                hello = _receive(link)
                if hello and secrets.compare_digest(str(hello["token"]), token):
                    link.settimeout(None)
                    self._links[int(hello["rank"])] = link
                    self._start(self._listen, link, int(hello["rank"]), str(hello["who"]))
        server.close()

    def _listen(self, link: socket.socket, rank: int, who: str) -> None:
        """Until the other end says goodbye, tells of a loss, or is gone."""
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # Linux has them all
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        try:
            said = _receive(link)
        except (OSError, ValueError):
            said = None
        if said == GOODBYE or self._done:
            return
        self._lose(said["lost"] if isinstance(said, dict) else f"process {rank} of {self.world} ({who})")

    def _lose(self, which: str) -> None:
        with self._lock:
            if self.lost:
                return
            self.lost = f"{which} ended before the work was done, and so this one, process {self.rank}, ends too; " \
                        "its own output says why. What was saved is kept"  # fmt: skip
        for link in list(self._links.values()) if self.rank == 0 else []:
            with contextlib.suppress(OSError):
                _send(link, {"lost": which})
        self._news.set()
        time.sleep(SECONDS_TO_END)
        if not self._done:
            say(f"clouds: {self.lost}")
            os._exit(1)  # it waits in a collective, which nothing else ends

    def news(self, seconds: float) -> str | None:
        """What is known of a loss, waiting for it so long."""
        self._news.wait(seconds)
        return self.lost

    def goodbye(self) -> None:
        """From now on this process may end, and so may others."""
        self._done = True
        for link in self._links.values():
            with contextlib.suppress(OSError):
                _send(link, GOODBYE)


def _send(link: socket.socket, value: Any) -> None:
    link.sendall(json.dumps(value).encode() + b"\n")


def _receive(link: socket.socket) -> Any:
    """One line's value; None where the connection is closed."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 10_000:
        part = link.recv(1)
        if not part:
            return None
        line += part
    return json.loads(line)


@contextmanager
def watched(watch: Watch | None) -> Iterator[None]:
    """Work of several processes: its end is no loss to the others; an error that another one's loss caused names that.
    """
    try:
        yield
    except Stopped:
        if watch:
            watch.goodbye()
        raise
    except CloudsError:
        raise
    except Exception as error:
        if watch and (lost := watch.news(2.0)):
            raise CloudsError(lost) from error
        raise
    if watch:
        watch.goodbye()
