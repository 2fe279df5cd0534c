"""A run folder with every part a report shows: made-up numbers, written by what writes them in a true run."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clouds.base.files import write_jsonl
from clouds.base.shards import MANIFEST
from clouds.config import records, runs
from clouds.config import score_records as scores
from clouds.config.label_sets import COLORS, NAMES
from clouds.config.load import load_recipe
from clouds.data.images import write_png
from clouds.data.labels import LABEL_SETS
from clouds.data.rendered import render_source
from clouds.model.inference import Inference
from clouds.selftrain.pseudo import Panel
from clouds.selftrain.refine import Refinement
from clouds.train.log import MetricsLog, save_panel

HOSTILE = "<script>alert('x')</script> \"q\" & {{ 7*7 }} </style></title> \u202eevil " + "long" * 60
WORK = records.WorkSummary(prompts_written=3, images_drawn=3, images_trained_on=3, components_refined=21234,
                   pixels_seen=4_000_000, pixels_decided=3_000_000, pixels_changed=400_000)  # fmt: skip


def lines(path: Path, rows: list[records.Record]) -> None:
    write_jsonl(path, [records.as_json(row) for row in rows])


def results(shift: float, **more: Any) -> scores.Results:
    """Two rendered worlds and two sets of photos; ``shift`` is added where a domain should gain."""
    domains = []
    for name, label_set, miou in (("town", "cityscapes19", 0.4 + shift), ("fog", "cityscapes19", 0.3 + shift / 2),
                                  ("camvid-dusk", "camvid11", 0.25 - shift), ("<b>odd</b>", "my own", 0.2)):
        classes = LABEL_SETS[label_set].classes if label_set in LABEL_SETS else ("road", "<i>lava</i>")
        more_of = {"fwiou": 0.6, "accuracy": 0.7 + shift, "boundary_iou": 0.2, "ece": 0.1 - shift / 2}
        domains.append(scores.DomainScore(
            name=name, images=12, label_set=label_set, miou=miou, ci95=(miou - 0.01, miou + 0.01),
            iou=dict.fromkeys(classes, miou) | ({"train": None} if "train" in classes else {}),
            **(more_of if name == "town" else {}),
        ))  # fmt: skip
    made: dict[str, Any] = {
        "protocol": Inference(256, scales=(0.75, 1.0), flip=True).as_record(),
        "backends": {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2", "prompts": "grammar",
                     "images": "streets renderer", "segmenter": "superpixels"},
        "work": records.as_json(WORK), "seconds": {"warmup": 100, "joint": 83.2},
    }  # fmt: skip
    mean = sum(domain.miou or 0 for domain in domains) / len(domains)
    return scores.Results(model="model", commit=None, seed=3, domains=domains, mean_miou=mean, **{**made, **more})


def make_run(run: Path, seed: int = 3) -> Path:
    """A run with every part in it."""
    shutil.copytree(_whole_run(), run, dirs_exist_ok=True)
    records.write_record(run / runs.RECIPE, records.Provenance(
        recipe="demo", seed=seed, commit="abc123", versions={"torch": "2.9"}, hardware={"cores": 2},
        settings={"train": {"steps": 60}},
    ))  # fmt: skip
    return run


@cache
def _whole_run() -> Path:
    """All of it but recipe.yaml, made once."""
    run = Path(tempfile.mkdtemp(prefix="clouds-run-"))
    atexit.register(shutil.rmtree, run)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (64, 128, 3), np.uint8)
    label = np.repeat(np.repeat(rng.integers(0, 19, (8, 16)), 8, 0), 8, 1).astype(np.uint8)
    texts = ("A bay in rain.", HOSTILE, "A bay.")
    about = {"place": ["bay"], HOSTILE[:9]: "one"}
    lines(run / runs.PROMPTS, [records.Prompt(prompt=text, attributes=about, writer="grammar") for text in texts])
    lines(run / runs.GENERATED / MANIFEST, [
        records.Drawn(file_name=f"{k}.png", prompt=text, seed=k, generator="streets renderer", keep=k != 1,
              why=["too <dark>"] if k == 1 else []) for k, text in enumerate(texts)])  # fmt: skip
    for k in range(3):
        write_png(run / runs.GENERATED / f"{k}.png", photo)
    render_source(load_recipe("demo", ["data.source_count=1", "data.source_size=[64,128]"]), run / runs.SOURCE)
    for stage in ("warmup", "joint"):
        log = MetricsLog(run / runs.METRICS, stage, 0, 10**6, 10)
        own = {"generated_loss": 20.0, "teacher_confidence": 0.6, "decided": 0.9, "changed": 0.1, "components": 7.0}
        for step in range(10, 610, 10):
            parts = {"loss": 50 / (step + 1), "loss_ce": 1.0, "loss_mask": 2.0, "loss_dice": 3.0}
            log.note(step - 1, parts | (own if stage == "joint" else {}))
        log.flush()
    save_panel(_panel(photo, label, rng), run / runs.PSEUDO / "000090-0", COLORS)
    fate = records.Fate(pixels=300, kept=0.61, changed=0.07, ignored=0.32, confidence=0.83)
    fates = {"road": fate, "<sky>": fate.model_copy(update={"pixels": 100})}
    records.write_record(run / runs.WORK, WORK.model_copy(update={"classes": fates}))
    for stage, right, shift in (("warmup", 0.5, 0.0), ("joint", 0.75, 0.05)):
        records.write_record(run / runs.RESULTS[stage], results(shift))
        records.write_record(run / runs.EVALUATION / f"{stage}.json", _evaluation(right))
    for domain, example in (("town", "worst-0"), ("town", "best-0"), ("camvid-dusk", "0")):
        folder = run / runs.EXAMPLES / domain / example
        truth = np.zeros_like(label) if example == "worst-0" else label % 11
        for name in ("truth", "warmup", "joint"):
            write_png(folder / f"{name}.png", truth)
        if example == "worst-0":
            wrong = truth.copy()
            wrong[:, :32] = 1  # a quarter of the road becomes sidewalk
            wrong[:, 32:40] = 2  # and a sixteenth building
            write_png(folder / "joint.png", wrong)
            records.write_record(folder / runs.EXAMPLE, scores.Example(name="town-011", warmup=0.225, joint=0.475))
        write_png(folder / "photo.png", photo)
    return run


def _panel(photo: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Panel:
    refined = np.where(rng.random(label.shape) < 0.2, 255, label).astype(np.uint8)
    points = np.array([[[3.5, 4], [5, 6]], [[7, 8], [9, 9]]], np.float32)
    none = np.zeros(2)
    refinement = Refinement(refined, 2, points, np.array([0, 18], np.uint8), none.astype(np.float32),
                            none.astype(bool), label.astype(np.int32), 0.1, 0.8, 0.0)  # fmt: skip
    return Panel(torch.from_numpy(photo).permute(2, 0, 1), label, refined, refinement)


def _evaluation(right: float) -> scores.Evaluation:
    counts = np.eye(19, dtype=int) * 70 + np.eye(19, k=1, dtype=int) * 30
    counts[0, [0, 2]] = 65, 5
    # as an older version wrote it
    old = scores.Confusion(label_set="cityscapes19", classes=list(NAMES), confusion=counts.tolist())
    more = {
        "calibration": scores.Calibration(pixels=[0] * 13 + [100, 300], confidence=[0] * 13 + [90, 300],
                                   correct=[0] * 13 + [100 * right, 300 * right]),
        "per_image": [scores.ImageScore(name=f"town-{k:03d}", miou=None if k == 3 else right - k / 40, accuracy=0.5)
                      for k in range(12)],
    }  # fmt: skip
    return scores.Evaluation(domains={"town": old.model_copy(update=more), "fog": old})


def sweep(folder: Path, keys: tuple[str, ...] = ("train.learning_rate",)) -> Path:
    """Two rates, two seeds each; the second rate gains 2 points on every domain, its last run failed."""
    jobs = []
    for rate, shift in ((0.001, 0.0), (0.003, 0.02)):
        for seed in (0, 1):
            failed = (rate, seed) == (0.003, 1)
            both = scores.BothResults(warmup=results(0.0), joint=results(shift + seed / 100))
            jobs.append(scores.SweepJob(
                name=f"rate-{rate}-seed-{seed}", settings={"train.learning_rate": rate}, seed=seed,
                run=f"runs/{rate}-{seed}", state="failed" if failed else "done",
                error="out of memory" if failed else None, results=scores.BothResults() if failed else both,
            ))  # fmt: skip
    records.write_record(folder / runs.SWEEP, scores.Sweep(recipe="demo", keys=list(keys), seeds=[0, 1], jobs=jobs))
    return folder
