"""What the server costs beside the bare model, and what overload does to its answers.

    python benchmarks/serving.py [MODEL] [--exported [FILE]] [--seconds S] [--rounds N]

One thread computes in both. Bare: `predict_batch` on decoded images, in this process. Served: `clouds serve` in
another process, asked by 16 clients over loopback with a JPEG each (1280 x 720 of a rendered street) for label maps.
The two take turns, so that other work on the machine slows both. Printed are images a second by the clock and images
a second of processor time, the server's with its decoding, encoding and HTTP: on a busy machine that is the steadier
comparison. With --exported, a server of an exported file takes turns with one of the folder; without FILE, of an ONNX
file that is written now. Then 64 clients at once against a queue of 8. Without MODEL, the demo's network with
untrained heads: its time does not depend on them.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import torch

from clouds import streets
from clouds.config.load import load_recipe
from clouds.deploy.export.export_file import write
from clouds.deploy.export.export_request import ExportRequest
from clouds.model.build import build_model
from clouds.model.folder import save_model
from clouds.predict.predictor import Predictor, load

SIZE = (720, 1280)
BATCH, CLIENTS, CROWD, QUEUE = 4, 16, 64, 8


@contextmanager
def server(model: Path, queue: int):
    """The command with one thread; its address and process."""
    limits = ["--threads", "1", "--batch", str(BATCH), "--queue", str(queue), "--timeout", "120"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clouds", "serve", str(model), "--port", "0", "--json", *limits],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield json.loads(process.stdout.readline())["url"], process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def ask(url: str, data: bytes, clients: int, seconds: float, patient: bool) -> tuple[Counter, list[float], float]:
    """Clients that ask again and again -> statuses (0: no answer), seconds of the 200s, seconds in all."""
    codes, took, start = Counter(), [], time.perf_counter()

    def client(_: int) -> None:
        with httpx.Client(timeout=300) as session:
            while time.perf_counter() - start < seconds:
                begin = time.perf_counter()
                try:
                    answer = session.post(
                        f"{url}/v1/segment?format=labels", content=data, headers={"Content-Type": "image/jpeg"}
                    )
                except httpx.HTTPError:
                    codes[0] += 1
                    continue
                codes[answer.status_code] += 1
                if answer.status_code == 200:
                    took.append(time.perf_counter() - begin)
                elif patient:
                    time.sleep(0.1)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return codes, took, time.perf_counter() - start


def bare(predictor: Predictor, image: np.ndarray, seconds: float) -> tuple[float, float]:
    """Images a second, images a second of processor time."""
    count, start, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        predictor.predict_batch([image] * BATCH, BATCH)
        count += BATCH
    return count / (time.perf_counter() - start), count / (time.process_time() - spent)


def processor(process: subprocess.Popen) -> float:
    """Seconds it has computed."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: subprocess.Popen) -> float:
    """Peak resident MB."""
    return int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000


def race(model: Path, exported: Path, data: bytes, seconds: float, rounds: int) -> None:
    """Images a second of a server of an exported file against one of the folder, turn by turn."""
    ratios = []
    with server(model, 32) as folder, server(exported, 32) as file:
        for url, _ in (folder, file):
            ask(url, data, CLIENTS, 1, True)
        for _ in range(rounds):
            rates = []
            for url, process in (folder, file):
                before = processor(process)
                codes, _, took = ask(url, data, CLIENTS, seconds, True)
                rates.append((codes[200] / took, codes[200] / (processor(process) - before)))
            ratios.append([two / one for one, two in zip(*rates, strict=True)])
    clock, spent = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"{exported.suffix} served: {clock:.2f} times the folder's images/s, of processor time {spent:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--exported", nargs="?", const="", help="a file that clouds export wrote of MODEL")
    parser.add_argument("--seconds", type=float, default=20, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    image, _ = streets.render(streets.sample("town", 1), SIZE)
    data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            model = Path(folder) / "model"
            save_model(build_model(load_recipe("demo", [])), model)
        predictor = load(model)
        predictor.predict_batch([image] * BATCH, BATCH)
        with server(model, 32) as (url, process):
            ask(url, data, CLIENTS, 1, True)
            ratios = []
            for _ in range(options.rounds):
                one = bare(predictor, image, options.seconds)
                before = processor(process)
                codes, _, seconds = ask(url, data, CLIENTS, options.seconds, True)
                served = codes[200] / seconds, codes[200] / (processor(process) - before)
                ratios.append([two / first for two, first in zip(served, one, strict=True)])
                clock, spent = (
                    f"{first:.2f} bare, {two:.2f} served, ratio {two / first:.2f}"
                    for first, two in zip(one, served, strict=True)
                )
                print(f"  images/s {clock}; of processor time {spent}; statuses {dict(codes)}", flush=True)
            clock, spent = (statistics.median(column) for column in zip(*ratios, strict=True))
            print(f"median ratio {clock:.2f}, of processor time {spent:.2f}; peak memory {memory(process):.0f} MB")
        if options.exported is not None:
            file = Path(options.exported) if options.exported else Path(folder) / "model.onnx"
            if not options.exported:
                write(predictor, ExportRequest("onnx", file), file, [])
            race(model, file, data, options.seconds, options.rounds)
        with server(model, QUEUE) as (url, process):
            codes, took, seconds = ask(url, data, CROWD, 2 * options.seconds, True)
            pace = codes[200] / seconds
            bound = (QUEUE + 2 * BATCH) / pace  # the batch that runs, however few are in it, and all places
            print(
                f"{CROWD} clients, queue {QUEUE}: {codes.total()} requests, {codes[200]} answered at {pace:.2f} "
                f"images/s, {codes[503]} asked to come again, {codes.total() - codes[200] - codes[503]} others; "
                f"p50 {np.percentile(took, 50):.2f} s, p99 {np.percentile(took, 99):.2f} s, bound {bound:.2f} s; "
                f"peak memory {memory(process):.0f} MB"
            )


if __name__ == "__main__":
    main()
