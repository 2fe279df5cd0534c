"""Speed of an exported ONNX file under onnxruntime against ``Predictor.predict``, the whole path, in one process.

Usage: python benchmarks/export.py [--model FOLDER | --rn50] [--file FILE] [--threads N] [--repeats N] [--image HxW ...]

Without a model folder: the demo's network (EfficientNet-Lite0, shorter side 256), or with --rn50 the paper's RN50 sizes
at a shorter side of 512, both with random weights: speed does not depend on them. --file takes a file that ``clouds
export`` wrote of the same model instead of exporting again. The two sides take turns on the same image and have the
same number of threads; seconds are the least of the repeats, wall time and processor time (what to read on a busy
machine). Labels must agree.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

import clouds
from clouds import streets
from clouds.config.label_sets import COLORS, NAMES, SYNONYMS
from clouds.deploy.export.onnx_file import onnx_model
from clouds.deploy.export.runtimes import open_file
from clouds.model.segmenter import Segmenter
from clouds.predict.predictor import Predictor

SEED = 0
DEMO = {"vision": "efficientnet-lite0", "text_dim": 384, "hidden": 128, "queries": 50, "pixel_layers": 2, "layers": 3,
        "pixel_ffn": 512, "ffn": 512, "shorter_side": 256}  # fmt: skip
RN50 = {"vision": "open_clip/RN50-quickgelu", "text_dim": 1024, "shorter_side": 512}


def fabricated(settings: dict) -> Predictor:
    torch.manual_seed(SEED)
    synonyms, colors = [list(group) for group in SYNONYMS], [list(color) for color in COLORS]
    model = Segmenter(text="none", classes=list(NAMES), synonyms=synonyms, colors=colors, head="text", **settings)
    model.vocabulary.copy_(torch.nn.functional.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return Predictor(model)


def timed(call) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rn50", action="store_true")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--image", nargs="+", default=["360x480", "720x1280"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(given.threads)
    predictor = clouds.load(given.model) if given.model else fabricated(RN50 if given.rn50 else DEMO)
    print(
        f"{platform.machine()}, {given.threads} threads a side, Python {platform.python_version()}, torch "
        f"{torch.__version__}, onnxruntime {onnxruntime.__version__}, seed {SEED}, {given.repeats} repeats"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = given.file or Path(folder) / "model.onnx"
        if not given.file:
            import onnx

            onnx.save(onnx_model(predictor.model, None), file)
        label, _ = open_file("onnx", file)
        print(
            f"model: {given.model or predictor.model.settings['vision']}, "
            f"shorter side {predictor.inference.shorter_side}, {file.stat().st_size / 1e6:.1f} MB"
        )
        scene = streets.render(streets.sample("town", SEED))[0]
        for words in given.image:
            height, width = map(int, words.split("x"))
            image = cv2.resize(scene, (width, height), interpolation=cv2.INTER_CUBIC)
            same = float(np.mean(predictor.predict(image).labels == label(image)))
            sides = [lambda image=image: predictor.predict(image), lambda image=image: label(image)]
            times = np.array([[timed(side) for side in sides] for _ in range(given.repeats)]).min(0)
            ratio = times[0] / times[1]
            print(
                f"{words:>10}: PyTorch {times[0, 0]:.3f} s wall, {times[0, 1]:.3f} s cpu; ONNX {times[1, 0]:.3f}, "
                f"{times[1, 1]:.3f}; ratio {ratio[0]:.2f} wall, {ratio[1]:.2f} cpu; labels {100 * same:.3f} %"
            )


if __name__ == "__main__":
    main()
