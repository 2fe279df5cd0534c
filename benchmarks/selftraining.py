"""One step of joint training, split into its parts, beside the reference's procedure: one process, fp32.

    python benchmarks/selftraining.py [--quick] [--threads N]

A batch of one source and one generated image of 768 x 768, ResNet-50 backbone (frozen), the paper's decoder, SAM with a
ViT-B encoder (``SamModel(SamConfig())``), all of random weights, the same in both; the teacher's map is replaced by 36
components of 128 x 128, five points each. Ours: the embedding comes from the cache (an image's first draw encodes it;
that is shown apart), or nothing is asked, with 136 regions found ahead. The reference's procedure, with transformers'
Mask2Former: SAM encodes the image each time, its decoder answers all components in one call, every candidate at full
size; the student learns from the best of three by transformers' own loss. Seconds are CPU time of the process; the
sides take turns.
"""

import argparse
import gc
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import transformers
from torch import Tensor

import peer
from clouds.config.recipe import Loss, SelfTrain
from clouds.foundation.segmenters.sam import FAMILIES, TransformersSegmenter
from clouds.model.loss import criterion
from clouds.selftrain.points import components, draw
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.regions import Regions, overlay
from clouds.selftrain.teacher import Teacher

SEED = 0
ENCODER = "SAM's encoder"
BOUNDS = {"points": 1.6, "regions": 2.0}


class Clock:
    """CPU seconds by part; a part inside another is taken out of the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    def wrap(self, owner: object, name: str, part: str) -> None:
        """Time a method of an object from now on."""
        setattr(owner, name, self.timed(part, getattr(owner, name)))

    def timed(self, part: str, function: Callable) -> Callable:
        def run(*arguments: object, **options: object) -> object:
            outside, self._inner = self._inner, 0.0
            start = time.process_time()
            result = function(*arguments, **options)
            spent = time.process_time() - start
            self.seconds[part] += spent - self._inner
            self._inner = outside + spent
            return result

        return run


def label_map(side: int) -> np.ndarray:
    """6 x 6 squares, neighbours of different classes: 36 components."""
    blocks = (np.arange(6)[:, None] * 5 + np.arange(6) * 2) % 19
    return np.kron(blocks, np.ones((side // 6, side // 6), int)).astype(np.uint8)


def optimise(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 0.01)
    optimizer.step()


def discs(side: int) -> Regions:
    """136 regions: the squares, and 100 discs that overlap them and each other."""
    rng, labels = np.random.default_rng(SEED), label_map(side)
    masks = [components(labels, 0.0).ids == i + 1 for i in range(36)]
    for x, y, radius in rng.uniform((0, 0, side / 24), (side, side, side / 5), (100, 3)).astype(int):
        masks.append(cv2.circle(np.zeros((side, side), np.uint8), (x, y), radius, 1, -1).astype(bool))
    return overlay((side, side), masks, [1.0] * len(masks))


class Ours:
    def __init__(
        self, model: torch.nn.Module, sam: torch.nn.Module, side: int, regions: Regions | None = None
    ) -> None:
        self.clock, self.model = Clock(), model
        self.segmenter = TransformersSegmenter(sam, FAMILIES["sam"], "SAM, random weights", [])
        settings = SelfTrain(floor=0.005, max_swallow=None)
        self.teacher = Teacher(model, 0.999)
        found = (lambda _: regions) if regions else None
        self.pseudo = PseudoLabeller(self.teacher, None if regions else self.segmenter, settings, SEED, found)
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        predict, fixed = self.teacher.predict, torch.from_numpy(label_map(side))[None]
        self.teacher.predict = lambda images: (fixed, predict(images)[1])
        wrap = self.clock.wrap
        wrap(self.teacher, "predict", "teacher")
        wrap(self.segmenter, "encode", ENCODER)
        wrap(self.segmenter, "masks", "SAM's decoder")
        wrap(self, "label", "refinement without SAM")
        wrap(self, "forward", "student")
        wrap(self, "loss", "losses")
        wrap(self, "backward", "backward")
        wrap(self, "update", "optimiser and teacher's update")

    def step(self, images: Tensor, labels: Tensor, count: int) -> None:
        self.model.train()
        batch = {
            "images": images, "labels": labels, "places": torch.arange(2), "slots": torch.tensor([1]),
            "ids": torch.tensor([0]),
            "flipped": torch.tensor([False]), "clean": images[1:],
        }  # fmt: skip
        lesson = self.label(batch, count)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.forward(images), lesson.labels)
        self.backward(loss)
        self.update()

    def label(self, batch: dict, count: int) -> object:
        return self.pseudo(batch, count)

    def forward(self, images: Tensor) -> object:
        return self.model(images)

    def loss(self, prediction: object, labels: Tensor) -> Tensor:
        return criterion(prediction, labels, Loss(), peer.points_of(len(labels)))["loss"]

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self) -> None:
        optimise(self.model, self.optimizer)
        self.teacher.update()


class Reference:
    """The published procedure, on transformers' Mask2Former."""

    def __init__(self, model: torch.nn.Module, teacher: torch.nn.Module, sam: torch.nn.Module, side: int) -> None:
        self.clock, self.model, self.teacher, self.sam, self.side = Clock(), model, teacher.eval(), sam, side
        self.segmenter = TransformersSegmenter(sam, FAMILIES["sam"], "SAM, random weights", [], chunk_bytes=2**40)
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        self.clock.wrap(self, "see", "teacher")
        self.clock.wrap(self.segmenter, "encode", ENCODER)
        self.clock.wrap(self.segmenter, "masks", "SAM's decoder")
        self.clock.wrap(self, "refine", "refinement without SAM")
        self.clock.wrap(self, "learn", "student and losses")
        self.clock.wrap(self, "backward", "backward")
        self.clock.wrap(self, "update", "optimiser and teacher's update")

    def step(self, images: Tensor, labels: Tensor, count: int) -> None:
        self.model.train()
        self.model.model.pixel_level_module.encoder.eval()
        self.see(images[1:])
        masks, classes = self.refine(images[1].permute(1, 2, 0).numpy(), label_map(self.side), count)
        self.optimizer.zero_grad(set_to_none=True)
        present = labels[0].unique().long()
        loss = self.learn(images, [(labels[0] == present[:, None, None]).float(), masks], [present, classes])
        self.backward(loss)
        self.update()

    def see(self, images: Tensor) -> Tensor:
        return peer.their_map(self.teacher, images).argmax(1)

    def refine(self, image: np.ndarray, labels: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
        """Best of three by predicted quality, pixels of several components removed, union a class."""
        prompts = draw(components(labels, 0.005), 5, "random", count)
        masks, quality = self.segmenter.masks(self.segmenter.encode(image), prompts.points)
        best = torch.from_numpy(masks)[torch.arange(len(masks)), torch.from_numpy(quality).argmax(1)]
        best = best & ~(best.sum(0) > 1)
        classes = torch.from_numpy(prompts.classes).long()
        present = classes.unique()
        return torch.stack([best[classes == c].any(0) for c in present]).float(), present

    def learn(self, images: Tensor, masks: list[Tensor], classes: list[Tensor]) -> Tensor:
        pixels = (images.float() - peer.MEAN) / peer.STD
        return self.model(pixel_values=pixels, mask_labels=masks, class_labels=classes).loss

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self) -> None:
        optimise(self.model, self.optimizer)
        with torch.no_grad():
            own = [p for p in self.teacher.parameters() if p.requires_grad]
            torch._foreach_lerp_(own, [p for p in self.model.parameters() if p.requires_grad], 0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="384 x 384, one repeat.")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    side, repeats = (384, 1) if options.quick else (768, 2)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    print(f"{processor}, {options.threads} thread(s), seed {SEED}, fp32, Python {platform.python_version()}, "
          f"torch {torch.__version__}, transformers {transformers.__version__}, {side} x {side}")
    torch.manual_seed(SEED)
    sam = transformers.SamModel(transformers.SamConfig()).eval()
    mine, theirs = peer.pair("resnet50", seed=SEED)
    _, their_teacher = peer.pair("resnet50", seed=SEED)
    images, labels = peer.scene(2, side, side, seed=SEED)
    labels[1] = 255
    sides = {
        "reference": Reference(theirs, their_teacher, sam, side),
        "points": Ours(mine, sam, side),
        "regions": Ours(mine, sam, side, discs(side)),
    }
    first = {}
    for name, each in sides.items():  # the first step of ours encodes the image
        each.step(images, labels, 0)
        first[name] = dict(each.clock.seconds)
        each.clock.seconds.clear()
    for count in range(1, repeats + 1):
        for each in sides.values():
            gc.collect()
            each.step(images, labels, count)
    parts = {name: {part: s / repeats for part, s in each.clock.seconds.items()} for name, each in sides.items()}
    order = list(dict.fromkeys(part for found in parts.values() for part in found))
    print(f"\n| part, CPU s | {' | '.join(parts)} |\n|---|{'---|' * len(parts)}")
    for part in order:
        cells = [f"{found[part]:.2f}" if part in found else "" for found in parts.values()]
        print(f"| {part} | {' | '.join(cells)} |")
    totals = {name: sum(found.values()) for name, found in parts.items()}
    print(f"| **all** | {' | '.join(f'{total:.2f}' for total in totals.values())} |")
    print(f"\nEncoding, once an image: {first['points'][ENCODER]:.2f} s")
    for name, bound in BOUNDS.items():
        if name in totals:
            ratio = totals["reference"] / totals[name]
            own = parts[name]["refinement without SAM"] / totals[name]
            print(f"{name}: {ratio:.2f}x faster than the reference's procedure (bound {bound}: "
                  f"{'met' if ratio >= bound else 'MISSED'}); refinement without SAM's network {own:.2%} of the step "
                  f"(bound 1 %: {'met' if own < 0.01 else 'MISSED'})")


if __name__ == "__main__":
    main()
