"""What was broken on purpose and what held: kills, archives, model folders, checkpoints, manifests, recipes, requests.

    python benchmarks/hardening.py [--seed 0] [--scale 1]      about eight minutes on two cores that do nothing else

Everything broken is drawn from the seed. It held where the answer is an error of the product or a right result;
a traceback, another result or a server error is counted as lost and shown. Kills: a tiny run is killed by SIGKILL at
random moments, then left to end, and its weights must be those of a run that was left alone; likewise a finished run
while it is scored and reported, and its scores.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from clouds.base.strict_yaml import parse_yaml
from clouds.config.load import load_recipe
from clouds.config.records import Step, read_rows
from clouds.data.archives import Archive
from clouds.data.images import encode_image
from clouds.errors import CloudsError
from clouds.foundation.weights import read_weights, tensors_in
from clouds.generate.manifest import read_manifest
from clouds.model.folder import load_model, save_model
from clouds.testing.model_contract import small_segmenter

TINY = """extends: demo
prompts: {count: 4}
data: {source_count: 4, source_size: [64, 128]}
generate: {count: 4, size: [64, 64]}
augment: {crop: [64, 64]}
loss: {points: 64}
model: {hidden: 32, queries: 20, heads: 4, pixel_layers: 1, layers: 2, pixel_ffn: 32, ffn: 32}
train: {steps: 40, warmup_share: 0.5, batch_size: 2, checkpoint_every: 2, log_every: 1}
selftrain: {floor: 0.001, confidence: 0, max_swallow: null}
"""
SMALL = ("augment.crop=[128,128]", "generate.size=[128,128]", "evaluate.shorter_side=128")
HERE = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Count:
    """Tried and held of one kind; what did not hold is kept to be shown."""

    def __init__(self, name: str) -> None:
        self.name, self.tried, self.refused, self.lost = name, 0, 0, list[str]()
        self.began = time.monotonic()

    def attempt(self, what: str, work: Callable[[], object], *allowed: type[Exception]) -> None:
        """Run it: a result or an allowed error holds."""
        self.tried += 1
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                work()
        except (CloudsError, *allowed):
            self.refused += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.lost.append(f"{what}: {type(error).__name__}: {str(error)[:150]}")

    def show(self) -> bool:
        held, seconds = self.tried - len(self.lost), time.monotonic() - self.began
        counts = f"{self.tried:>6} tried {held:>6} held {self.refused:>6} refused"
        print(f"{self.name:<14} {counts} {seconds:>6.0f} s", flush=True)
        for text in self.lost[:5]:
            print(f"    {text}")
        return not self.lost


def broken(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four wounds: flipped, cut, doubled, left out, or zeros."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found) + 1)
        size = rng.choice((1, 1, 4, 64, 1024))
        how = rng.randrange(5)
        if how == 0 and at < len(found):
            found[at] ^= rng.randint(1, 255)
        elif how == 1:
            del found[at:]
        elif how == 2:
            found[at:at] = found[at : at + size]
        elif how == 3:
            del found[at : at + size]
        else:
            found[at : at + size] = bytes(len(found[at : at + size]))
    return bytes(found)


def archives(count: int, rng: random.Random, folder: Path) -> Count:
    found = Count("archives")
    picture = encode_image(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8), "a picture")
    wholes: dict[str, bytes] = {}
    for suffix in (".zip", ".tar", ".tar.gz"):
        path = folder / f"whole{suffix}"
        if suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for k in range(3):
                    archive.writestr(f"images/{k}.png", picture)
        else:
            with tarfile.open(path, "w:gz" if suffix == ".tar.gz" else "w") as tar:
                for k in range(3):
                    info = tarfile.TarInfo(f"images/{k}.png")
                    info.size = len(picture)
                    tar.addfile(info, io.BytesIO(picture))
        wholes[suffix] = path.read_bytes()

    def read(path: Path) -> None:
        archive = Archive(path)
        for name in archive.names():
            if archive.read(name) != picture and path.name.endswith(".zip"):
                raise AssertionError("other bytes than were packed")  # a zip has checksums, a tar has none

    for k in range(count):
        suffix = rng.choice(sorted(wholes))
        path = folder / f"{k}{suffix}"
        path.write_bytes(broken(wholes[suffix], rng))
        found.attempt(f"{path.name}", lambda path=path: read(path))
        path.unlink()
    return found


def models(count: int, rng: random.Random, folder: Path) -> Count:
    found = Count("model folders")
    torch.manual_seed(0)
    save_model(small_segmenter(), folder / "model")
    whole = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    bare = {key: value for key, value in json.loads(whole["config.json"]).items() if key != "sha256"}
    reference = load_model(folder / "model").state_dict()

    def load(digest: bool) -> None:
        loaded = load_model(folder / "model").state_dict()
        if digest and any(not torch.equal(loaded[name], tensor) for name, tensor in reference.items()):
            raise AssertionError("other weights than were saved")

    for _ in range(count):
        digest, name = rng.random() < 0.5, rng.choice(sorted(whole))
        files = whole if digest else {**whole, "config.json": json.dumps(bare).encode()}
        for each, data in files.items():
            (folder / "model" / each).write_bytes(broken(data, rng) if each == name else data)
        found.attempt(f"{name}, {'with' if digest else 'no'} digest", lambda digest=digest: load(digest))
    return found


def checkpoints(count: int, rng: random.Random, folder: Path) -> Count:
    """Files of tensors from elsewhere, as ``clouds import`` and ``model.weights`` read them."""
    found = Count("checkpoints")
    tensors = {f"layer.{k}.weight": torch.randn(8, 9) for k in range(20)}
    torch.save({"model": tensors, "iteration": 1}, folder / "whole.pth")
    save_file(tensors, folder / "whole.safetensors")
    wholes = {suffix: (folder / f"whole{suffix}").read_bytes() for suffix in (".pth", ".safetensors")}

    def read(path: Path) -> None:
        stored = read_weights(path)
        tensors_in(stored.get("model", stored) if isinstance(stored, dict) else stored, str(path))

    for k in range(count):
        path = folder / f"checkpoint{rng.choice(sorted(wholes))}"
        path.write_bytes(broken(wholes[path.suffix], rng))
        found.attempt(f"{path.name} {k}", lambda path=path: read(path))
    return found


def texts(count: int, rng: random.Random, folder: Path) -> list[Count]:
    manifests, recipes = Count("manifests"), Count("recipes")
    row = {"file_name": "000000.png", "prompt": "a street", "seed": 1, "generator": "x", "sha256": "0" * 64}
    odd = [None, [], {}, 5, -1.5, 2**70, "", "../x.png", "/x.png", "\ud800", "a\0b", True, "x" * 5000, [[[]]]]
    for _ in range(count):
        rows = [dict(row, file_name=f"{k:06d}.png") for k in range(3)]
        rng.choice(rows)[rng.choice(list(row))] = rng.choice(odd)
        data = "".join(json.dumps(each) + "\n" for each in rows).encode()
        (folder / "metadata.jsonl").write_bytes(broken(data, rng) if rng.random() < 0.5 else data)
        manifests.attempt("manifest", lambda: read_manifest(folder))
        (folder / "metrics.jsonl").write_bytes(broken(data.replace(b"file_name", b"stage"), rng))
        manifests.attempt("metrics", lambda: read_rows(folder / "metrics.jsonl", Step, grows=True))
        (folder / "recipe.yaml").write_bytes(broken(TINY.encode(), rng))
        recipes.attempt("recipe", lambda: load_recipe(str(folder / "recipe.yaml")))
        recipes.attempt("yaml", lambda: parse_yaml((folder / "recipe.yaml").read_bytes()), ValueError)
    return [manifests, recipes]


def requests(count: int, rng: random.Random, folder: Path) -> Count:
    import httpx

    save_model(small_segmenter(), folder / "served")
    command = [sys.executable, "-m", "clouds", "serve", str(folder / "served"), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=HERE)
    url = json.loads(server.stdout.readline())["url"]  # type: ignore[union-attr]
    found = Count("requests")
    pictures = [encode_image(np.random.default_rng(1).integers(0, 255, (48, 80, 3), np.uint8), "a picture", ending)
                for ending in (".png", ".jpg")]  # fmt: skip

    def ask(data: bytes, query: str) -> None:
        answer = httpx.post(f"{url}/v1/segment{query}", content=data, headers={"Content-Type": "image/png"}, timeout=60)
        if answer.status_code >= 500:
            raise AssertionError(f"{answer.status_code} {answer.text[:100]}")
        if answer.status_code >= 400:
            raise CloudsError(answer.text)

    try:
        for _ in range(count):
            data = rng.choice(pictures)
            data = data if rng.random() < 0.2 else broken(data, rng)
            query = rng.choice(("", "?format=overlay", "?maps=true", "?format=labels", "?format=none", "?opacity=nan"))
            found.attempt("request", lambda data=data, query=query: ask(data, query))
        found.attempt("alive", lambda: ask(pictures[0], ""))
    finally:
        server.send_signal(signal.SIGTERM)
        found.attempt("the end", lambda: server.wait(60))
    return found


def kills(count: int, rng: random.Random, folder: Path) -> Count:
    found = Count("kills")
    (folder / "tiny.yaml").write_text(TINY)

    def train(run: Path, seconds: float | None) -> int:
        command = [sys.executable, "-m", "clouds", "train", str(folder / "tiny.yaml"), "--out", str(run)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=HERE)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    began = time.monotonic()
    wanted = train(folder / "whole", None)
    alone = time.monotonic() - began

    def killed() -> None:
        for _ in range(count):
            found.tried += 1
            train(folder / "killed", rng.uniform(0.2, 0.9) * alone)
        if train(folder / "killed", None) != wanted:
            raise AssertionError("it ended otherwise")
        for name in ("warmup", "model"):
            if len({(folder / run / name / "model.safetensors").read_bytes() for run in ("whole", "killed")}) > 1:
                raise AssertionError(f"{name}: other weights than without the kills")
        if left := list((folder / "killed").rglob(".*")):
            raise AssertionError(f"left behind: {left[0]}")

    found.attempt("the run", killed)
    found.tried -= 1
    return found


def scorings(count: int, rng: random.Random, folder: Path) -> Count:
    """A finished run whose scores and report are made again, and killed meanwhile."""
    found, run = Count("scorings"), folder / "scored"
    command = [sys.executable, "-m", "clouds", "demo", "--out", str(run), "--minutes", "0.2", *SMALL]

    def score(seconds: float | None) -> float:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=HERE)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return time.monotonic() - began

    def forget() -> None:
        for name in ("results.json", "results-warmup.json"):
            (run / name).unlink(missing_ok=True)
        for name in ("evaluation", "report"):
            shutil.rmtree(run / name, ignore_errors=True)

    def scores() -> object:
        rows = [json.loads((run / name).read_bytes())["domains"] for name in ("results-warmup.json", "results.json")]
        return [[{**row, "seconds": None} for row in each] for each in rows], [
            path.read_bytes() for path in sorted((run / "evaluation").rglob("*")) if path.is_file()
        ]

    def killed() -> None:
        score(None)
        if not (run / "results.json").is_file():
            raise AssertionError("the demo did not end well")
        wanted = scores()
        forget()
        alone = score(None)
        for _ in range(count):
            found.tried += 1
            forget()
            score(rng.uniform(0.3, 0.98) * alone)
        score(None)
        if scores() != wanted:
            raise AssertionError("other scores than without the kills")
        if not (run / "report" / "index.html").is_file():
            raise AssertionError("no report")
        if left := list(run.rglob(".*")):
            raise AssertionError(f"left behind: {left[0]}")

    found.attempt("the scores", killed)
    found.tried -= 1
    return found


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--scale", type=float, default=1.0)
    chosen = asked.parse_args()

    def times(count: int) -> int:
        return max(round(count * chosen.scale), 1)

    kept = True
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        jobs: list[Callable[[random.Random], list[Count]]] = [
            lambda rng: [archives(times(4000), rng, folder)],
            lambda rng: [models(times(1000), rng, folder)],
            lambda rng: texts(times(2000), rng, folder),
            lambda rng: [requests(times(1000), rng, folder)],
            lambda rng: [kills(times(10), rng, folder)],
            lambda rng: [checkpoints(times(4000), rng, folder)],
            lambda rng: [scorings(times(10), rng, folder)],
        ]
        for k, job in enumerate(jobs):
            for found in job(random.Random(chosen.seed * 100 + k)):
                kept = found.show() and kept
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
