"""Servers for tests: the command with a tiny model, and one whose model only sleeps, each a process of its own."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from clouds.base.arrays import Pixels
from clouds.deploy.serve.batching import Served
from clouds.predict.result import Result

RGB = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)


def encoded(picture: np.ndarray | Image.Image = RGB, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def sleeper(seconds: float = 0.0, seen: list[int] | None = None) -> Served:
    """A model of two classes: the red channel's upper half. ``seen`` gets the size of each batch."""

    def segment(images: list[Pixels]) -> list[Result]:
        if seen is not None:
            seen.append(len(images))
        time.sleep(seconds)
        colors = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
        return [
            Result((image[..., 0] > 127).astype(np.uint8), np.full(image.shape[:2], 0.75, np.float32), image,
                   ("dark", "red"), colors)
            for image in images
        ]  # fmt: skip

    return Served("sleeper", ("dark", "red"), ((0, 0, 0), (255, 0, 0)), segment, lambda image: image.shape)


class Live:
    """A server in a process; ``url`` is its address."""

    def __init__(self, *command: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by live()
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log()
        self.record = json.loads(line)
        self.url: str = self.record["url"]
        self.port = int(self.url.rpartition(":")[2])

    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode()

    def segment(self, data: bytes, **query: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/segment", content=data, params=query, headers={"Content-Type": "image/png"})

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which ``data`` was sent."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        opened.sendall(data)
        return opened

    def metric(self, name: str) -> float:
        """The sum of a metric's values over its labels."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    def memory(self) -> int:
        """Bytes resident now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def stop(self, seconds: float = 30) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def live(*command: str) -> Iterator[Live]:
    server = Live(*command)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()
        server.errors.close()


if __name__ == "__main__":  # serving.py SECONDS KEY=VALUE...: the model that sleeps, behind the true server
    from clouds.deploy.serve.limits import Service
    from clouds.deploy.serve.server import listen, run

    limits = Service(port=0, **{key: float(value) if "." in value else int(value)
                                for key, value in (word.split("=") for word in sys.argv[2:])})  # type: ignore[arg-type]
    run([sleeper(float(sys.argv[1]))], limits, listen(limits),
        lambda url: print(json.dumps({"url": url}), flush=True))  # noqa: T201
