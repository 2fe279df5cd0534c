"""Speed of ``predict`` by exported files, ONNX in onnxruntime and OpenVINO, against PyTorch's, in one process.

Usage: python benchmarks/export.py [--model FOLDER | --rn50] [--file FILE ...] [--threads N]
           [--repeats N] [--image HxW ...]

Without a model folder: the demo's network (EfficientNet-Lite0, shorter side 256), or with --rn50 the paper's RN50 sizes
at a shorter side of 512, both with random weights: speed does not depend on them. --file takes files that ``clouds
export`` wrote of the same model instead of exporting again. The sides take turns on the same image and have the
same number of threads; seconds are the least of the repeats, wall time and processor time (what to read on a busy
machine). Labels must agree.
"""

import argparse
import platform
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

import clouds
from clouds import streets
from clouds.config.label_sets import COLORS, NAMES, SYNONYMS
from clouds.deploy.export.export_file import write
from clouds.deploy.export.export_request import ExportRequest
from clouds.model.segmenter import Segmenter
from clouds.predict.exported import ExportedPredictor
from clouds.predict.predictor import Predictor

SEED = 0
DEMO = {"vision": "efficientnet-lite0", "text_dim": 384, "hidden": 128, "queries": 50, "pixel_layers": 2, "layers": 3,
        "pixel_ffn": 512, "ffn": 512, "shorter_side": 256}  # fmt: skip
RN50 = {"vision": "open_clip/RN50-quickgelu", "text_dim": 1024, "shorter_side": 512}


def fabricated(settings: dict) -> Predictor:
    torch.manual_seed(SEED)
    synonyms, colors = [list(group) for group in SYNONYMS], [list(color) for color in COLORS]
    about = {"text": "all-minilm-l6-v2", "classes": list(NAMES), "synonyms": synonyms, "colors": colors}
    model = Segmenter(**about, head="text", **settings)
    model.vocabulary.copy_(torch.nn.functional.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return Predictor(model)


def timed(call) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def written(predictor: Predictor, folder: Path) -> list[Path]:
    """The model as an ONNX file and as an OpenVINO file, unchecked."""
    files = [folder / "model.onnx", folder / "model.xml"]
    for format_, file in zip(("onnx", "openvino"), files, strict=True):
        write(predictor, ExportRequest(format_, file), file, [])
    return files


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rn50", action="store_true")
    parser.add_argument("--file", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--image", nargs="+", default=["360x480", "720x1280"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(given.threads)
    predictor = clouds.load(given.model) if given.model else fabricated(RN50 if given.rn50 else DEMO)
    print(
        f"{platform.machine()}, {given.threads} threads a side, Python {platform.python_version()}, torch "
        f"{torch.__version__}, seed {SEED}, {given.repeats} repeats"
    )
    with tempfile.TemporaryDirectory() as folder:
        files = given.file or written(predictor, Path(folder))
        others = [ExportedPredictor(file, threads=given.threads) for file in files]
        print(f"model: {given.model or predictor.model.settings['vision']}, "
              f"shorter side {predictor.inference.shorter_side}")  # fmt: skip
        scene = streets.render(streets.sample("town", SEED))[0]
        for words in given.image:
            height, width = map(int, words.split("x"))
            image = cv2.resize(scene, (width, height), interpolation=cv2.INTER_CUBIC)
            sides = [predictor, *others]
            labels = [each.predict(image).labels for each in sides]
            turns = [[timed(partial(each.predict, image)) for each in sides] for _ in range(given.repeats)]
            times = np.array(turns).min(0)
            print(f"{words:>10}: PyTorch {times[0, 0]:.3f} s wall, {times[0, 1]:.3f} s cpu")
            for other, seconds, found in zip(others, times[1:], labels[1:], strict=True):
                ratio, same = times[0] / seconds, 100 * float(np.mean(found == labels[0]))
                print(
                    f"{words:>10}: {other.opened.runtime} {seconds[0]:.3f}, {seconds[1]:.3f}; ratio {ratio[0]:.2f} "
                    f"wall, {ratio[1]:.2f} cpu; labels {same:.3f} %"
                )
            best = (times[0] / times[1:].min(0)).tolist()
            print(f"{words:>10}: best runtime: ratio {best[0]:.2f} wall, {best[1]:.2f} cpu", flush=True)


if __name__ == "__main__":
    main()
