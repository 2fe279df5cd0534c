"""Images per second and core for 768 x 768 training crops, beside the straightforward pipeline, in one process.

Straightforward: decode with Pillow, resize the whole image and label, crop, jitter with Pillow, flip. Ours: the same
steps as training takes them, cold (files decoded) and from the cache of decoded images. Both read the same files, from
the page cache; one thread each; the repeats take turns and the fastest pass of each counts.

    python benchmarks/loading.py [--images 6] [--repeats 5]
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from PIL import Image, ImageEnhance
from torchvision.transforms import v2

from clouds import streets
from clouds.base.files import whole_file
from clouds.config.recipe import Recipe
from clouds.data.batches.augment import jitter, scale_crop
from clouds.data.cache import DecodedCache
from clouds.data.datasets import open_dataset
from clouds.data.source import Source

CROP, SCALE = (768, 768), (0.5, 2.0)
SETS = {"1914x1052 (GTA5)": ((1052, 1914), 2.0), "2048x1024 (Cityscapes)": ((1024, 2048), 1.7)}
CACHED = 5.0
BLUR, NOISE = 1.0, 0.5
DRAWS = 4  # crops of each image in a pass


def write_set(folder: Path, size: tuple[int, int], count: int) -> float:
    """Rendered scenes, as sharp and noisy as makes their PNG files as large as the real ones (2.3 MB); returns MB."""
    total = 0
    for k in range(count):
        image, label = streets.render(streets.sample("source", 900 + k), size)
        noise = np.random.default_rng(k).normal(0, NOISE, image.shape)
        noisy = np.clip(cv2.GaussianBlur(image, (0, 0), BLUR) + noise, 0, 255).astype(np.uint8)
        for name, picture in (("images", noisy), ("labels", label)):
            buffer = BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            with whole_file(folder / name / f"{k:03d}.png") as path:
                path.write_bytes(buffer.getvalue())
            total += len(buffer.getvalue())
    return total / count / 1e6


def straightforward(image_path: Path, label_path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What most training code does: whole image, Pillow throughout."""
    image, label = Image.open(image_path).convert("RGB"), Image.open(label_path)
    factor = rng.uniform(*SCALE)
    width, height = round(image.width * factor), round(image.height * factor)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    label = label.resize((width, height), Image.Resampling.NEAREST)
    h, w = CROP
    left, top = int(rng.integers(max(width - w, 0) + 1)), int(rng.integers(max(height - h, 0) + 1))
    image = image.crop((left, top, left + w, top + h))  # Pillow pads with 0
    label = label.crop((left, top, left + w, top + h))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if rng.random() < 0.5:
            image = enhance(image).enhance(rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        hue, saturation, value = image.convert("HSV").split()
        turn = int(rng.integers(-25, 26))
        hue = hue.point([(i + turn) % 256 for i in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if rng.random() < 0.5:
        image, label = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (image, label))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)), np.array(label)


def ours(source: Source, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One source sample as ``Batches`` makes it."""
    image, label = scale_crop(*source[index], CROP, SCALE, rng)
    image = jitter(image, rng)
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image.transpose(2, 0, 1)), np.ascontiguousarray(label)


def race(passes: dict[str, Callable[[int], object]], count: int, repeats: int) -> dict[str, float]:
    """Seconds an image of the fastest of ``repeats`` passes over ``count`` images; the contestants take turns."""
    best = dict.fromkeys(passes, float("inf"))
    for _ in range(repeats):
        for name, sample in passes.items():
            began = time.process_time()
            for k in range(count):
                sample(k)
            best[name] = min(best[name], (time.process_time() - began) / count)
    return best


def profile(source: Source, count: int, repeats: int) -> dict[str, float]:
    """Seconds of each part of ours."""
    images = [np.asarray(source.image(k)) for k in range(count)]
    labels = [source.label(k) for k in range(count)]
    crops = [scale_crop(images[k], labels[k], CROP, SCALE, np.random.default_rng(k))[0] for k in range(count)]
    return race(
        {
            "decode whole image": lambda k: np.asarray(source.image(k)),
            "decode label": source.label,
            "scale and crop": lambda k: scale_crop(images[k], labels[k], CROP, SCALE, np.random.default_rng(k)),
            "jitter": lambda k: jitter(crops[k], np.random.default_rng(k)),
        },
        count,
        repeats,
    )


def jitters(source: Source, count: int, repeats: int) -> dict[str, float]:
    """The paper's colour jitter on one crop: ours, and torchvision's transform of the same kind on uint8 tensors."""
    crops = [np.ascontiguousarray(source.image(k)[: CROP[0], : CROP[1]]) for k in range(count)]
    tensors = [torch.from_numpy(crop.transpose(2, 0, 1).copy()) for crop in crops]
    distort = v2.RandomPhotometricDistort((0.875, 1.125), (0.5, 1.5), (0.5, 1.5), (-0.1, 0.1), p=0.5)
    torch.manual_seed(0)
    return race(
        {
            "ours": lambda k: [jitter(crops[k], np.random.default_rng(8 * k + i)) for i in range(8)],
            "torchvision": lambda k: [distort(tensors[k]) for _ in range(8)],
        },
        count,
        repeats,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, 1 thread; Python {platform.python_version()}, Pillow {PIL.__version__}, "
        f"OpenCV {cv2.__version__}, torch {torch.__version__}; {asked.images} images x {DRAWS} crops, fastest of "
        f"{asked.repeats} passes, seeds 0..{asked.images * DRAWS - 1}"
    )
    print("\n| source | pipeline | images/s a core | ratio | bound |\n|---|---|---|---|---|")
    notes = []
    for name, (size, bound) in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            megabytes = write_set(root, size, asked.images)
            data = open_dataset("folder", root)
            cold = Source([data])
            warm = Source([data], DecodedCache(root / "cache", 2**32))
            for k in range(asked.images):
                warm[k]
            files = [(Path(str(s.image)), Path(str(s.label))) for s in data.samples]
            n = asked.images
            seconds = race(
                {
                    "straightforward": lambda k, f=files, n=n: straightforward(*f[k % n], np.random.default_rng(k)),
                    "ours, cold": lambda k, s=cold, n=n: ours(s, k % n, np.random.default_rng(k)),
                    "ours, cached": lambda k, s=warm, n=n: ours(s, k % n, np.random.default_rng(k)),
                },
                n * DRAWS,
                asked.repeats,
            )
            base = seconds["straightforward"]
            for which, least in (("straightforward", None), ("ours, cold", bound), ("ours, cached", CACHED)):
                met = "" if least is None else f"{least:g}x: {'met' if base / seconds[which] >= least else 'MISSED'}"
                print(f"| {name} | {which} | {1 / seconds[which]:.1f} | {base / seconds[which]:.2f} | {met} |")
            parts = profile(cold, asked.images, asked.repeats)
            listed = ", ".join(f"{part} {1e3 * value:.1f} ms" for part, value in parts.items())
            notes.append(f"{name}: {megabytes:.1f} MB a pair; ours, cold: {listed}")
            if name == next(iter(SETS)):
                pair = jitters(cold, asked.images, asked.repeats)
                notes.append(
                    f"jitter of one 768x768 crop: ours {1e3 * pair['ours'] / 8:.1f} ms, torchvision "
                    f"{1e3 * pair['torchvision'] / 8:.1f} ms, ratio {pair['torchvision'] / pair['ours']:.1f}"
                )
    print("\n" + "\n".join(notes))


assert Recipe().augment.crop == CROP
assert Recipe().augment.scale == SCALE

if __name__ == "__main__":
    main()
