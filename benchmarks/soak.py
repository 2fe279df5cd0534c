"""A server under a mixed load for minutes: are its answers right, and is its memory bounded?

    python benchmarks/soak.py [--minutes 10] [--clients 32] [--seed 0]

`clouds serve` with a small model, in a process of its own, is asked over loopback by clients that draw what they send:
pictures of several sizes and kinds whose labels are known, for labels, overlays or JSON; broken files; strips; other
types; uploads that end early; status pages. It held where each answer has a status that such a request may get, and
known pictures get their known labels. Memory is read every second; it is bounded where its mean in the last quarter is
at most a tenth above that in the second (the first one warms up).
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import mean, quantiles

import httpx
import numpy as np
import torch

from clouds.base.machine import versions
from clouds.data.encodings import read_indices
from clouds.data.images import encode_image
from clouds.model.folder import save_model
from clouds.predict.predictor import load
from clouds.testing.model_contract import small_segmenter

SIZES = ((64, 96), (90, 160), (240, 320), (480, 640))
BUSY = {503, 504}  # any request that reaches the model may get these


def pictures(model: Path, rng: np.random.Generator) -> list[tuple[bytes, str, np.ndarray]]:
    """(bytes, type, labels): blocks of colour, whose JPEG is sent as it is and as a PNG of its pixels."""
    predictor, found = load(model), []
    for height, width in SIZES:
        blocks = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3))
        picture = np.kron(blocks, np.ones((16, 16, 1)))[:height, :width].astype(np.uint8)
        for ending, kind in ((".png", "image/png"), (".jpg", "image/jpeg")):
            data = encode_image(picture, "a picture", ending)
            found.append((data, kind, predictor.predict(data).labels))
    return found


class Load:
    """What clients send, and what came of it."""

    def __init__(self, url: str, pictures: list[tuple[bytes, str, np.ndarray]], ends: float, seed: int) -> None:
        self.url, self.pictures, self.ends, self.seed = url, pictures, ends, seed
        self.statuses: Counter[str] = Counter()
        self.took: list[float] = []
        self.lost: list[str] = []
        self.long = encode_image(np.zeros((4, 9000), np.uint8), "a strip")

    def client(self, number: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        kinds = (self.known, self.broken, self.strip, self.other, self.early, self.status)
        with httpx.Client(base_url=self.url, timeout=120) as session:
            while time.monotonic() < self.ends:
                (ask,) = rng.choices(kinds, (12, 3, 1, 1, 1, 2))
                try:
                    ask(session, rng)
                except httpx.TransportError as error:
                    self.lost.append(f"{ask.__name__}: no answer ({error!r})")

    def note(self, what: str, answer: httpx.Response, *allowed: int) -> None:
        self.statuses[f"{what} {answer.status_code}"] += 1
        if answer.status_code not in allowed:
            self.lost.append(f"{what}: {answer.status_code} {answer.text[:100]}")
        if answer.status_code == 503:
            time.sleep(0.2)  # a client's patience

    def ask(self, session: httpx.Client, data: bytes, kind: str, **query: str) -> httpx.Response:
        return session.post("/v1/segment", content=data, params=query, headers={"Content-Type": kind})

    def known(self, session: httpx.Client, rng: random.Random) -> None:
        data, kind, labels = rng.choice(self.pictures)
        wanted, began = rng.choice(("labels", "labels", "overlay", "json")), time.monotonic()
        answer = self.ask(session, data, kind, format=wanted)
        self.note(wanted, answer, 200, *BUSY)
        if answer.status_code == 200:
            self.took.append(time.monotonic() - began)
            if wanted == "labels" and not np.array_equal(read_indices(answer.content, "the answer"), labels):
                self.lost.append(f"labels: others than alone, for a {kind} of {labels.shape}")

    def broken(self, session: httpx.Client, rng: random.Random) -> None:
        data, kind, _ = rng.choice(self.pictures)
        found, at = bytearray(data), rng.randrange(len(data))
        found[at : at + 8] = b"" if rng.random() < 0.5 else rng.randbytes(8)
        answer = self.ask(session, bytes(found[: at if rng.random() < 0.5 else None]), kind)
        self.note("broken", answer, 200, 400, 413, 415, *BUSY)  # a JPEG may be whole all the same

    def strip(self, session: httpx.Client, _: random.Random) -> None:
        self.note("strip", self.ask(session, self.long, "image/png"), 413, *BUSY)

    def other(self, session: httpx.Client, _: random.Random) -> None:
        self.note("other type", self.ask(session, b"{}", "application/json"), 415, *BUSY)

    def early(self, _: httpx.Client, rng: random.Random) -> None:
        """An upload that ends in the middle."""
        data = rng.choice(self.pictures)[0]
        head = f"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=60) as opened:
            opened.sendall(head.encode() + data[: len(data) // 2])
            time.sleep(rng.random())
        self.statuses["ended early"] += 1

    def status(self, session: httpx.Client, rng: random.Random) -> None:
        self.note("status", session.get(rng.choice(("/ready", "/health", "/metrics", "/v1/classes", "/"))), 200)


def resident(process: subprocess.Popen) -> float:
    """MB."""
    return int(Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1000


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--minutes", type=float, default=10)
    asked.add_argument("--clients", type=int, default=32)
    asked.add_argument("--seed", type=int, default=0)
    chosen = asked.parse_args()
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        save_model(small_segmenter(), model)
        made = pictures(model, np.random.default_rng(chosen.seed))
        process = subprocess.Popen(
            [sys.executable, "-m", "clouds", "serve", str(model), "--port", "0", "--json", "--threads", "1"],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            url = json.loads(process.stdout.readline())["url"]
            load_ = Load(url, made, time.monotonic() + 60 * chosen.minutes, chosen.seed)
            clients = [threading.Thread(target=load_.client, args=(k,)) for k in range(chosen.clients)]
            for each in clients:
                each.start()
            memory = []
            while any(each.is_alive() for each in clients):
                memory.append(resident(process))
                time.sleep(1)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    quarter = max(len(memory) // 4, 1)
    early, late = mean(memory[quarter : 2 * quarter]), mean(memory[-quarter:])
    cuts = quantiles(load_.took, n=100)
    print(f"{chosen.clients} clients, {chosen.minutes:g} minutes, seed {chosen.seed}, {versions()}")
    print("answers: " + ", ".join(f"{what}: {count}" for what, count in sorted(load_.statuses.items())))
    print(f"seconds to a right answer: median {cuts[49]:.2f}, 99th percentile {cuts[98]:.2f}")
    print(f"memory, MB: second quarter {early:.0f}, last quarter {late:.0f}, peak {max(memory):.0f}; exit code {code}")
    print(f"{sum(load_.statuses.values())} tried, {len(load_.lost)} lost")
    for text in load_.lost[:10]:
        print(f"    {text}")
    sys.exit(1 if load_.lost or late > 1.1 * early or code else 0)


if __name__ == "__main__":
    main()
