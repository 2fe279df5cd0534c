"""Point prompts on true components: the IoU of the mask a segmenter chooses, and of the best of its three.

    python benchmarks/segmenter.py --data PATH
    python benchmarks/segmenter.py --fit              # fit the grouped superpixels' network to rendered scenes anew

Photos with truth (evenly spaced: 60 of IDD-Lite train, 40 of CamVid train, 16 of BDD100K train) at a shorter side of
256, and 40 rendered scenes that nothing else uses. A prompt is the demo's: 10 central points in a connected component
of the truth of at least 0.2 % of the image; ``--points 5 --strategy random`` is the paper's. Void pixels do not count.
Times are milliseconds an image on one thread, the best of several turns for the whole set.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from clouds import streets
from clouds.base.arrays import Labels, Pixels
from clouds.base.pick import evenly
from clouds.config.label_sets import IGNORE
from clouds.data.datasets import open_dataset
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.grouped_superpixels import WEIGHTS, GroupedSuperpixels, inputs
from clouds.selftrain.points import Components, Strategy, components, draw

PHOTOS = (("idd-lite", "idd20k_lite", 60), ("camvid", "camvid", 40), ("bdd100k", "bdd100k", 16))  # of train
DRAWN, SIDE, FLOOR = 40, 256, 0.002
DRAWN_SEED, FIT_SEED = 3_100_000, 3_200_000  # of scenes that neither training nor any table of results uses
WORLDS = ("town", "night", "fog", "rain")
FIT_SIZES = ((256, 384), (256, 256), (256, 512), (384, 384), (512, 512))
FIT_SCENES, HIDDEN, EPOCHS, LOOKS = 150, 16, 14, 150
BACKGROUND = 20.0  # a prompt counts less where the rest of the image is more than this many times its object


def photos(data: Path) -> Iterator[tuple[str, list[tuple[Pixels, Labels]]]]:
    """(name, images with their labels in the set's own classes), at the shorter side of the benchmark."""
    for name, folder, count in PHOTOS:
        opened = open_dataset(name, data / folder, "train")
        found = [(opened.image(i), opened.label(i)) for i in evenly(len(opened), count)]
        yield name, [_resized(*pair) for pair in found]


def _resized(image: Pixels, label: Labels) -> tuple[Pixels, Labels]:
    factor = SIDE / min(image.shape[:2])
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=how), cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)


def rendered() -> list[tuple[Pixels, Labels]]:
    scenes = (streets.sample(WORLDS[k % len(WORLDS)], DRAWN_SEED + k) for k in range(DRAWN))
    return [streets.render(scene, (SIDE, SIDE)) for scene in scenes]


def overlaps(masks: NDArray[np.bool_], found: Components, label: Labels) -> NDArray[np.float64]:
    """IoU (P, 3) of masks (P, 3, H, W) with the component that each prompt was drawn from."""
    rows = []
    for p, candidates in enumerate(masks & (label != IGNORE)):
        mine = found.ids == p + 1
        both = (candidates & mine).sum((1, 2))
        rows.append(both / (candidates.sum((1, 2)) + mine.sum() - both))
    return np.array(rows).reshape(-1, 3)


def scored(name: str, pairs: list[tuple[Pixels, Labels]], points: int, strategy: Strategy) -> str:
    segmenter = load_segmenter(name)
    chosen, best, encoding, asking = [], [], [], []
    for i, (image, label) in enumerate(pairs):
        found = components(label, FLOOR)
        prompts = draw(found, points, strategy, i)
        embedding, spent = timed(lambda: segmenter.encode(image))  # noqa: B023
        encoding.append(spent)
        (masks, quality), spent = timed(lambda: segmenter.masks(embedding, prompts.points))  # noqa: B023
        asking.append(spent)
        each = overlaps(masks, found, label)
        chosen += each[np.arange(len(each)), quality.argmax(axis=1)].tolist()
        best += each.max(axis=1).tolist()
    return (
        f"{len(chosen)} | {100 * np.mean(chosen):.1f} | {100 * np.mean(best):.1f} | {np.mean(encoding):.0f} | "
        f"{np.mean(asking):.0f}"
    )


def timed(work):  # type: ignore[no-untyped-def]
    """What ``work`` gives, and its milliseconds, the best of three."""
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        result = work()
        spent.append(1000 * (time.perf_counter() - began))
    return result, min(spent)


def examples() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Of rendered scenes: inputs (M, 19) of superpixel and prompt, the share (M,) of it that is the object, weights."""
    segmenter, rng = GroupedSuperpixels(), np.random.default_rng(0)
    asked, truth, weights = [], [], []
    for k in range(FIT_SCENES):
        world = "source" if k % 2 else (*WORLDS, "snow")[k // 2 % 5]
        image, label = streets.render(streets.sample(world, FIT_SEED + k), FIT_SIZES[k % len(FIT_SIZES)])
        found, embedding = components(label, FLOOR), segmenter.encode(image)
        ids = embedding["levels"][0].numpy().ravel().astype(np.intp)
        leaves = int(ids.max()) + 1
        known = np.bincount(ids, (label != IGNORE).ravel())
        owned = np.bincount(found.ids.ravel().astype(np.intp) * leaves + ids, minlength=(len(found) + 1) * leaves)
        owned = owned.reshape(-1, leaves)[1:] / np.bincount(ids)  # (P, N)
        ways: tuple[tuple[int, Strategy], ...] = ((10, "central"), (5, "random"))
        for count, strategy in ways:
            pair, prompt, leaf, _ = inputs(embedding, draw(found, count, strategy, k).points)
            for p, area in enumerate(found.areas):
                weight = known / area
                weight = weight * min(1, BACKGROUND / max((weight * (1 - owned[p])).sum(), 1e-6))
                mine = np.where(owned[p] > 0.5, weight, 0)
                chance = 0.4 * mine / max(mine.sum(), 1e-6) + 0.6 * np.sqrt(known) / np.sqrt(known).sum()
                chance /= chance.sum()
                looked = rng.choice(leaves, LOOKS, p=chance)
                parts = (pair[p, looked], np.repeat(prompt[p : p + 1], LOOKS, axis=0), leaf[looked])
                asked.append(np.concatenate(parts, axis=1))
                truth.append(owned[p, looked])
                weights.append(weight[looked] / chance[looked])
    x, y, w = (np.concatenate(each).astype(np.float32) for each in (asked, truth, weights))
    return x, y, w / w.mean()


def fit() -> None:
    """Fit the network to ``examples`` and write its file."""
    torch.manual_seed(0)
    asked, truth, weights = examples()
    mean, deviation = asked.mean(axis=0), asked.std(axis=0) + 1e-6
    x, y, w = (torch.from_numpy(each) for each in ((asked - mean) / deviation, truth[:, None], weights[:, None]))
    net = torch.nn.Sequential(torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
    batch, optimizer = 4096, torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=1e-4)
    steps = EPOCHS * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        total = 0.0
        for picked in torch.randperm(len(x)).split(batch):
            apart = torch.nn.functional.binary_cross_entropy_with_logits(net(x[picked]), y[picked], reduction="none")
            loss = (w[picked] * apart).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(picked) / len(x)
    print(f"{len(x)} pairs of {FIT_SCENES} rendered scenes, loss {total:.4f}")
    first = net[0].weight.detach().numpy().T / deviation[:, None]
    bias = net[0].bias.detach().numpy() - mean @ first
    stored = {
        "pair": first[:12], "prompt": first[12:18], "leaf": first[18:], "bias": bias,
        "out": net[2].weight.detach().numpy()[0],
    }  # fmt: skip
    record = {name: np.round(value.astype(float), 4).tolist() for name, value in stored.items()}
    lines = [f'"{name}": {json.dumps(value)}' for name, value in record.items()]
    lines.append(f'"shift": {float(net[2].bias.detach()):.4f}')
    WEIGHTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="The folder that holds idd20k_lite/, camvid/ and bdd100k/.")
    parser.add_argument("--segmenters", nargs="+", default=["superpixels", "grouped-superpixels"])
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--strategy", default="central", choices=["central", "random", "eroded"])
    parser.add_argument("--fit", action="store_true", help="Fit the grouped superpixels' network and stop.")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if arguments.fit:
        fit()
        return
    sets = [*(photos(arguments.data) if arguments.data else ()), ("rendered", rendered())]
    print("| set | segmenter | prompts | chosen | best of three | encode, ms | masks, ms |")
    print("|---|---|---|---|---|---|---|")
    for what, pairs in sets:
        for name in arguments.segmenters:
            print(f"| {what} | {name} | {scored(name, pairs, arguments.points, arguments.strategy)} |", flush=True)


if __name__ == "__main__":
    main()
