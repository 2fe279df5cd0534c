"""A run folder with every part a report shows, made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from clouds.data.classes import NAMES
from clouds.data.labels import LABEL_SETS

HOSTILE = "<script>alert('x')</script> \"q\" & {{ 7*7 }} </style></title> \u202eevil " + "long" * 60


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def results(shift: float, **more: Any) -> dict[str, Any]:
    """Two rendered worlds and two sets of photos; ``shift`` is added where a domain should gain."""
    domains = []
    for name, label_set, miou in (("town", "cityscapes19", 0.4 + shift), ("fog", "cityscapes19", 0.3 + shift / 2),
                                  ("camvid-dusk", "camvid11", 0.25 - shift), ("<b>odd</b>", "my own", 0.2)):
        classes = LABEL_SETS[label_set].classes if label_set in LABEL_SETS else ("road", "<i>lava</i>")
        iou = dict.fromkeys(classes, miou) | ({"train": None} if "train" in classes else {})
        more_of = {"fwiou": 0.6, "accuracy": 0.7 + shift, "boundary_iou": 0.2, "ece": 0.1 - shift / 2}
        domains.append({"name": name, "images": 12, "label_set": label_set, "miou": miou,
                        "ci95": [miou - 0.01, miou + 0.01], "iou": iou} | (more_of if name == "town" else {}))
    return {
        "model": "model", "commit": None, "seed": 3, "domains": domains,
        "protocol": {"shorter_side": 256, "window": None, "stride": None, "scales": [0.75, 1.0],
                     "flip": True},
        "backends": {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2", "prompts": "grammar",
                     "images": "streets renderer", "segmenter": "superpixels"},
        "mean_miou": sum(domain["miou"] for domain in domains) / len(domains),
        "work": {"prompts_written": 3, "images_drawn": 3, "images_trained_on": 3, "components_refined": 21234,
                 "pixels_seen": 4_000_000, "pixels_decided": 3_000_000, "pixels_changed": 400_000},
        "seconds": {"warmup": 100, "joint": 83.2}, **more,
    }


def make_run(run: Path, seed: int = 3) -> Path:
    """A run with every part in it."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (64, 128, 3), np.uint8)
    label = np.repeat(np.repeat(rng.integers(0, 19, (8, 16)), 8, 0), 8, 1).astype(np.uint8)
    refined = np.where(rng.random(label.shape) < 0.2, 255, label).astype(np.uint8)
    recipe = {"recipe": "demo", "seed": seed, "commit": "abc123", "versions": {"torch": "2.9"},
              "settings": {"train": {"steps": 60}}, "hardware": {"cores": 2}}
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    lines(run / "prompts.jsonl", [{"prompt": text, "attributes": {"place": ["bay"], HOSTILE[:9]: "one"},
                                   "writer": "grammar"} for text in ("A bay in rain.", HOSTILE, "A bay.")])
    rows = [{"file_name": f"{k}.png", "prompt": text, "seed": k, "generator": "streets renderer", "keep": k != 1,
             "why": ["too <dark>"] if k == 1 else ""} for k, text in enumerate(("A bay in rain.", HOSTILE, "A bay."))]
    lines(run / "generated" / "metadata.jsonl", rows)
    for k in range(3):
        save(run / "generated" / f"{k}.png", photo)
    save(run / "source" / "000000.png", photo)
    save(run / "source" / "000000_label.png", label)
    lines(run / "metrics.jsonl", [
        {"stage": stage, "step": step, "loss": 50 / (step + 1), "loss_ce": 1, "loss_mask": 2, "loss_dice": 3}
        | ({"teacher_confidence": 0.6, "decided": 0.9, "changed": 0.1, "components": 7} if stage == "joint" else {})
        for stage in ("warmup", "joint") for step in range(10, 610, 10)])
    save(run / "pseudo" / "000090-0" / "image.png", photo)
    save(run / "pseudo" / "000090-0" / "teacher.png", label)
    save(run / "pseudo" / "000090-0" / "refined.png", refined)
    (run / "pseudo" / "000090-0" / "points.json").write_text(json.dumps([[0, [[3.5, 4], [5, 6]]], [18, [[7, 8]]]]))
    save(run / "pseudo" / "000090-0" / "masks.png", label)
    fate = {"pixels": 300, "kept": 0.61, "changed": 0.07, "ignored": 0.32, "confidence": 0.83}
    (run / "work.json").write_text(json.dumps({"classes": {"road": fate, "<sky>": {**fate, "pixels": 100}}}))
    (run / "results-warmup.json").write_text(json.dumps(results(0.0)))
    (run / "results.json").write_text(json.dumps(results(0.05)))
    (run / "evaluation").mkdir()
    counts = np.eye(19, dtype=int) * 70 + np.eye(19, k=1, dtype=int) * 30
    counts[0, [0, 2]] = 65, 5
    square = counts.tolist()
    for stage, right in (("warmup", 0.5), ("joint", 0.75)):
        town = {"label_set": "cityscapes19", "classes": list(NAMES), "confusion": square,
                "calibration": {"pixels": [0] * 13 + [100, 300], "confidence": [0] * 13 + [90, 300],
                                "correct": [0] * 13 + [100 * right, 300 * right]},
                "per_image": [{"name": f"town-{k:03d}", "miou": None if k == 3 else right - k / 40, "accuracy": 0.5}
                              for k in range(12)]}
        old = {"label_set": "cityscapes19", "classes": list(NAMES), "confusion": square}  # as older versions wrote it
        (run / "evaluation" / f"{stage}.json").write_text(json.dumps({"domains": {"town": town, "fog": old}}))
    for domain, example in (("town", "worst-0"), ("town", "best-0"), ("camvid-dusk", "0")):
        folder = run / "evaluation" / "examples" / domain / example
        truth = np.zeros_like(label) if example == "worst-0" else label % 11
        for name in ("truth", "warmup", "joint"):
            save(folder / f"{name}.png", truth)
        if example == "worst-0":
            wrong = truth.copy()
            wrong[:, :32] = 1  # a quarter of the road becomes sidewalk
            wrong[:, 32:40] = 2  # and a sixteenth building
            save(folder / "joint.png", wrong)
            (folder / "example.json").write_text(json.dumps({"name": "town-011", "warmup": 0.225, "joint": 0.475}))
        save(folder / ("photo.jpg" if domain == "town" else "photo.png"), photo)
    return run


def sweep(folder: Path, keys: tuple[str, ...] = ("train.learning_rate",)) -> Path:
    """Two rates, two seeds each; the second rate gains 2 points on every domain, its last run failed."""
    jobs = []
    for rate, shift in ((0.001, 0.0), (0.003, 0.02)):
        for seed in (0, 1):
            failed = (rate, seed) == (0.003, 1)
            jobs.append({
                "name": f"rate-{rate}-seed-{seed}", "settings": {"train.learning_rate": rate}, "seed": seed,
                "run": f"runs/{rate}-{seed}", "state": "failed" if failed else "done",
                "error": "out of memory" if failed else None,
                "results": None if failed else {"warmup": results(0.0), "joint": results(shift + seed / 100)},
            })
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"recipe": "demo", "keys": keys, "seeds": [0, 1], "jobs": jobs}))
    return folder
