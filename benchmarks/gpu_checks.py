"""What has to hold on a GPU, one function a claim: the same numbers as on a CPU, or those of single precision.

Each takes the device and a folder of its own and returns in words what it found; AssertionError is a failure, Skipped a
part that this machine does not have. All but those marked ``cuda_only`` run on a CPU too, which is how they are tested.
"""

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from clouds.config.drawing import Generate
from clouds.config.label_sets import COLORS
from clouds.config.load import load_recipe
from clouds.data.batches.batches import Batches
from clouds.data.datasets import open_dataset
from clouds.data.encodings import read_indices
from clouds.data.images import write_png
from clouds.data.source import Source
from clouds.foundation.generator import build_generator
from clouds.foundation.segmenter import load_segmenter
from clouds.model.folder import save_model
from clouds.model.segmenter import Segmenter
from clouds.predict.loading import load
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.teacher import make_teacher
from clouds.train import loop
from clouds.train.loop import train_stage
from clouds.train.state import latest_checkpoint

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for the tiny SAM and Stable Diffusion

LOSS, NORM = 1e-3, 2e-2  # relative: a point that is drawn elsewhere by rounding moves a gradient more than a loss
HALF = 5e-2  # relative, of losses in half precision
CLASSES = ["road", "sky", "car", "tree"]
SEED = 0


class Skipped(Exception):  # noqa: N818 - no fault
    """Why a check was not made."""


def small(shorter_side: int = 64) -> Segmenter:
    """The real architecture on four classes, small, with random weights."""
    torch.manual_seed(SEED)
    model = Segmenter(
        vision="efficientnet-lite0", text="all-minilm-l6-v2", text_dim=16, classes=CLASSES,
        synonyms=[[name] for name in CLASSES], colors=[list(COLORS[k]) for k in (0, 10, 13, 8)], hidden=32, queries=6,
        heads=4, pixel_layers=1, pixel_ffn=32, layers=2, ffn=32, shorter_side=shorter_side,
    )  # fmt: skip
    model.vocabulary.copy_(F.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return model


def picture(seed: int, size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """Coloured blocks with noise, and their labels."""
    rng = np.random.default_rng(seed)
    label = cv2.resize(rng.integers(0, 4, (4, 4), np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    colors = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142), (107, 142, 35)])
    return np.clip(colors[label] + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8), label


def trained(folder: Path, device: str, stage: str = "joint", steps: int = 2, *overrides: str) -> list[dict[str, float]]:
    """The log's rows of a stage that goes on from the folder's checkpoint, if it has one."""
    for k in range(4):
        image, label = picture(k)
        write_png(folder / "source" / "images" / f"{k}.png", image)
        write_png(folder / "source" / "labels" / f"{k}.png", label)
        write_png(folder / "drawn" / f"{k}.png", picture(10 + k, (64, 64))[0])
    recipe = load_recipe("demo", [
        "generate.size=[64,64]", "augment.crop=[64,64]", "loss.points=48", "selftrain.floor=0.01", "train.batch_size=4",
        "selftrain.confidence=0", "train.ramp_steps=0", "train.checkpoint_every=2", "train.log_every=1",
        "selftrain.panels=0", "train.workers=0", "train.clip=1", f"train.device={device}", *overrides,
    ])  # fmt: skip
    model = small().to(device)
    source = Source([open_dataset("folder", folder / "source")])
    made = sorted((folder / "drawn").glob("*.png")) if stage == "joint" else []
    pseudo = None
    if stage == "joint":
        teacher = make_teacher(model, recipe.selftrain)
        pseudo = PseudoLabeller(teacher, load_segmenter("superpixels"), recipe.selftrain, 0)
    train_stage(model, stage, recipe, Batches(source, made, recipe, steps, seed=1), folder, pseudo)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def furthest(mine: list[dict[str, float]], theirs: list[dict[str, float]], key: str) -> float:
    """The largest relative difference of a column."""
    assert len(mine) == len(theirs), f"{len(mine)} rows and {len(theirs)}"
    return max(abs(a[key] - b[key]) / max(abs(b[key]), 1e-9) for a, b in zip(mine, theirs, strict=True))


def near(mine: list[dict[str, float]], theirs: list[dict[str, float]], loss: float = LOSS, norm: float = NORM) -> str:
    apart = furthest(mine, theirs, "loss"), furthest(mine, theirs, "gradient_norm")
    said = f"losses within {apart[0]:.1e} (at most {loss:g}), gradient norms within {apart[1]:.1e} (at most {norm:g})"
    assert apart[0] <= loss, said
    assert apart[1] <= norm, said
    return said


def warm_up_step(device: str, folder: Path) -> str:
    return near(trained(folder / "here", device, "warmup"), trained(folder / "cpu", "cpu", "warmup"))


def joint_step(device: str, folder: Path) -> str:
    return near(trained(folder / "here", device), trained(folder / "cpu", "cpu"))


def accumulation(device: str, folder: Path) -> str:
    return near(trained(folder / "parts", device, "joint", 2, "train.accumulate=2"), trained(folder / "whole", device))


def fp16(device: str, folder: Path) -> str:
    """With the loss scaler, whose first steps may overflow and be left out: losses are compared, and are finite."""
    return near(trained(folder / "half", device, "joint", 2, "train.precision=fp16", "train.on_nonfinite=skip"),
                trained(folder / "whole", device), HALF, float("inf"))  # fmt: skip


def bf16(device: str, folder: Path) -> str:
    rows = trained(folder / "half", device, "joint", 2, "train.precision=bf16")
    return near(rows, trained(folder / "whole", device), HALF, float("inf"))


def compiled(device: str, folder: Path) -> str:
    rows = trained(folder / "compiled", device, "joint", 2, "train.compile=true")
    return near(rows, trained(folder / "whole", device), 1e-2, 1e-1)


def resumed(device: str, folder: Path) -> str:
    """A stage that was interrupted ends as one that was not: on a CPU bit for bit. On a GPU the sums of a backward pass
    have no fixed order, so what is loaded is compared bit for bit, and the steps after it within the tolerances."""
    whole = trained(folder / "whole", device, "joint", 4)
    criterion, calls = loop.criterion, []

    def failing(*arguments: object) -> object:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return criterion(*arguments)

    with mock.patch.object(loop, "criterion", failing), suppress(KeyboardInterrupt):
        trained(folder / "parts", device, "joint", 4)
    kept = latest_checkpoint(folder / "parts" / "checkpoints", "joint")
    assert kept is not None
    loaded: list[dict[str, torch.Tensor]] = []
    load_state = loop.load_state

    def noted(*arguments: object) -> object:
        progress = load_state(*arguments)
        loaded.append({name: tensor.detach().cpu().clone() for name, tensor in arguments[2].state_dict().items()})
        return progress

    with mock.patch.object(loop, "load_state", noted):
        parts = trained(folder / "parts", device, "joint", 4)
    saved = kept.tensors["student"]
    assert all(torch.equal(loaded[0][name], tensor.cpu()) for name, tensor in saved.items()), "loaded otherwise"
    exact = all(a["loss"] == b["loss"] for a, b in zip(parts, whole, strict=True))
    assert exact or device != "cpu", "not bit for bit"
    return ("bit for bit; " if exact else "not bit for bit, as its sums have no fixed order; ") + near(parts, whole)


def one_process(device: str, folder: Path) -> str:
    """A gradient by DistributedDataParallel of one process (NCCL on CUDA) is the plain one."""
    import torch.distributed as dist

    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder.resolve()}/meet", rank=0, world_size=1)
    try:
        layer, x = torch.nn.Linear(8, 8).to(device), torch.randn(4, 8, device=device)
        layer(x).square().sum().backward()
        plain = layer.weight.grad.clone()
        layer.zero_grad()
        torch.nn.parallel.DistributedDataParallel(layer)(x).square().sum().backward()
        assert torch.allclose(layer.weight.grad, plain, rtol=1e-5), "gradients differ"
        total = torch.ones(1, device=device)
        dist.all_reduce(total)
        assert total.item() == 1
    finally:
        dist.destroy_process_group()
    return f"{backend}: equal gradients"


def saved_model(folder: Path) -> Path:
    save_model(small().eval(), folder / "model")
    return folder / "model"


def share(mine: np.ndarray, theirs: np.ndarray, least: float = 0.999) -> str:
    same = float((mine == theirs).mean())
    assert same >= least, f"{100 * same:.2f} % of the labels are equal, {100 * least:g} % must be"
    return f"{100 * same:.3f} % of the labels equal the CPU's"


def predicts(device: str, folder: Path) -> str:
    model, images = saved_model(folder), [picture(k)[0] for k in range(4)]
    expected = np.stack([load(model).predict(image).labels for image in images])
    found = load(model, device).predict_batch(images, 4)
    return share(np.stack([each.labels for each in found]), expected)


def serves(device: str, folder: Path) -> str:
    if missing := [name for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
                   if importlib.util.find_spec(name) is None]:  # fmt: skip
        raise Skipped(f"{', '.join(missing)} not installed (clouds[serve])")
    model, image = saved_model(folder), picture(5)[0]
    command = [sys.executable, "-m", "clouds", "serve", str(model), "--port", "0", "--json", "--device", device]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        asked = urllib.request.Request(f"{url}/v1/segment?format=labels", data, {"Content-Type": "image/png"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            labels = read_indices(answer.read(), "the server's answer")
    finally:
        process.terminate()
        process.wait(60)
    return share(labels, load(model).predict(image).labels)


def exported(device: str, folder: Path) -> str:
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None:
        raise Skipped("onnxruntime or onnxscript not installed (clouds[export])")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Skipped("this onnxruntime has no CUDA provider (onnxruntime-gpu)")
    from clouds.deploy.export.export_file import write
    from clouds.deploy.export.export_request import ExportRequest
    from clouds.predict.predictor import Predictor

    file = folder / "m.onnx"
    predictor = Predictor(small().eval())
    write(predictor, ExportRequest("onnx", file, size=(96, 128)), file, [])
    image = picture(6)[0]
    return share(load(file, device).predict(image).labels, predictor.predict(image).labels, 0.99)


def sam(device: str, folder: Path) -> str:
    import tiny_sam

    place, kind = tiny_sam.save("sam", folder / "sam"), "float32" if device == "cpu" else "float16"
    image, points = picture(7, (64, 64))[0], np.array([[[20.0, 30.0]], [[50.0, 10.0]]], np.float32)
    masks = []
    for where, dtype in (("cpu", "float32"), (device, kind)):
        segmenter = load_segmenter(f"sam/{place}", where, dtype)
        masks.append(segmenter.masks(segmenter.encode(image), points)[0])
    same = float((masks[0] == masks[1]).mean())
    assert same >= 0.95, f"{100 * same:.1f} % of the masks' pixels are equal, 95 % must be"
    return f"{kind}: {100 * same:.2f} % of the masks' pixels equal the CPU's in float32"


def stable_diffusion(device: str, folder: Path) -> str:
    if importlib.util.find_spec("diffusers") is None:
        raise Skipped("diffusers not installed (clouds[generate])")
    from tiny_diffusion import save_pipeline

    place, kind = save_pipeline(folder / "sd"), "float32" if device == "cpu" else "float16"
    drawn = []
    for where, dtype in (("cpu", "float32"), (device, kind)):
        settings = Generate(generator=f"diffusers/{place}", size=(32, 48), steps=3, device=where, dtype=dtype)
        drawn.append(build_generator(settings).generate(["a street in fog"], [1])[0].astype(float))
    apart = float(np.abs(drawn[0] - drawn[1]).mean())
    assert apart <= 12, f"pictures differ by {apart:.1f} of 255 on average, 12 are let pass"
    return f"{kind}: pictures differ by {apart:.2f} of 255 on average from the CPU's in float32"


def deformable(device: str, folder: Path) -> str:  # noqa: ARG001 - as every check
    """Values and gradients of the deformable reads on this device, against the CPU's in float64."""
    from clouds.model.deformable import deformable_sample

    torch.manual_seed(SEED)
    shapes = [(5, 7), (3, 4)]
    value = torch.randn(2, 5 * 7 + 3 * 4, 2, 16, dtype=torch.float64)
    x, y = (torch.rand(2, 9, 2, 2, 3, dtype=torch.float64) * 9 - 1 for _ in range(2))
    weights = torch.rand(2, 9, 2, 2, 3, dtype=torch.float64)
    results = []
    for where, dtype in (("cpu", torch.float64), (device, torch.float32)):
        given = [t.detach().to(where, dtype).clone().requires_grad_() for t in (value, x, y, weights)]
        out = deformable_sample(*given, shapes)
        out.square().sum().backward()
        results.append([out.detach(), *(each.grad for each in given)])
    apart = max(float((b.cpu().double() - a).abs().max() / a.abs().max()) for a, b in zip(*results, strict=True))
    assert apart <= 1e-4, f"largest relative difference {apart:.1e}, at most 1e-4"
    return f"largest relative difference {apart:.1e}"


Check = Callable[[str, Path], str]
CHECKS: dict[str, tuple[Check, bool]] = {  # claim -> (check, whether it needs CUDA)
    "a warm-up step equals the CPU's, fp32": (warm_up_step, False),
    "a joint step equals the CPU's, fp32": (joint_step, False),
    "deformable reads equal the CPU's": (deformable, False),
    "a batch in parts takes the same step": (accumulation, False),
    "an interrupted stage ends as a whole one": (resumed, False),
    "fp16 with the loss scaler": (fp16, True),
    "bf16": (bf16, True),
    "torch.compile": (compiled, True),
    "one process of a process group": (one_process, False),
    "predict": (predicts, False),
    "the server": (serves, False),
    "onnxruntime's CUDA provider": (exported, True),
    "SAM, tiny": (sam, False),
    "Stable Diffusion, tiny": (stable_diffusion, False),
}
