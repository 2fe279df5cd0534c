"""Scoring: confusion, IoU, intervals, label sets, domains, and the RESULTS object."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from clouds.base.processes import Processes
from clouds.config.label_sets import IGNORE, NAMES
from clouds.config.records import as_json
from clouds.data.labels import LABEL_SETS, LabelSet, find_label_set, make_label_set
from clouds.errors import DataError, UsageError
from clouds.evaluate.domains import Domain
from clouds.evaluate.scores import evaluate, results
from clouds.evaluate.tables import results_table
from clouds.model.inference import Inference

RESULTS = {"model", "commit", "seed", "protocol", "backends", "domains", "missing", "mean_miou"}
ROW = {
    "name", "images", "label_set", "miou", "ci95", "iou", "fwiou", "accuracy", "boundary_iou", "ece", "seconds",
}  # fmt: skip


@dataclass
class Oracle:
    """A predictor that returns what it is asked to, as train ids."""

    answers: list[np.ndarray]
    classes: tuple[str, ...] = NAMES
    asked: int = 0
    confidence: float = 0.9

    def predict(self, image):
        self.labels = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        self.scores = np.full(self.labels.shape, self.confidence, np.float32)
        return self


def made_domain(label_set: str | LabelSet, truths: list[np.ndarray], monkeypatch, name: str = "made") -> Domain:
    domain = Domain(name, find_label_set(label_set), len(truths))
    samples = [(f"{k}", np.zeros((*t.shape, 3), np.uint8), t) for k, t in enumerate(truths)]
    monkeypatch.setattr(Domain, "sample", lambda self, i: samples[i])
    return domain


# -- folding into the label set of a domain


@pytest.mark.parametrize("label_set", ["cityscapes19", "camvid11", "idd-lite7", "synthia16"])
def test_a_perfect_19_class_prediction_scores_one_on_every_label_set(label_set, monkeypatch):
    target = LABEL_SETS[label_set]
    shown = np.repeat(np.arange(19, dtype=np.uint8), 4).reshape(4, 19)
    truth = np.full_like(shown, IGNORE)
    for index, members in enumerate(target.members):
        for member in members:
            truth[shown == NAMES.index(member)] = index
    made = made_domain(label_set, [truth], monkeypatch)
    (scored,) = evaluate(Oracle([shown]), [made], "x")
    assert scored.row.miou == 1
    assert scored.row.iou == dict.fromkeys(target.classes, 1.0)


def test_classes_that_fold_together_may_be_taken_for_each_other(monkeypatch):
    truck, bus, person = (np.full((2, 2), NAMES.index(name), np.uint8) for name in ("truck", "bus", "person"))
    vehicle = np.full((2, 2), LABEL_SETS["camvid11"].classes.index("car"), np.uint8)
    made = made_domain("camvid11", [vehicle] * 3, monkeypatch)
    (scored,) = evaluate(Oracle([truck, bus, person]), [made], "x")
    assert [image.miou for image in scored.images] == [1, 1, 0]


def test_a_class_that_the_domain_lacks_counts_as_a_miss(monkeypatch):
    half = np.array([[NAMES.index("sky"), NAMES.index("terrain")]], np.uint8)
    sky = LABEL_SETS["synthia16"].classes.index("sky")
    made = made_domain("synthia16", [np.full((1, 2), sky, np.uint8)], monkeypatch)
    (scored,) = evaluate(Oracle([half]), [made], "x")
    assert scored.row.iou["sky"] == pytest.approx(1 / 2)


def test_an_absent_class_is_null_and_outside_the_mean(monkeypatch):
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    made = made_domain("cityscapes19", [truth], monkeypatch)
    (scored,) = evaluate(Oracle([np.array([[0, 0, 1, 0]], np.uint8)]), [made], "x")
    assert scored.row.iou["road"] == pytest.approx(2 / 3)
    assert scored.row.iou["sidewalk"] == pytest.approx(1 / 2)
    assert [scored.row.iou[name] for name in NAMES[2:]] == [None] * 17
    assert scored.row.miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    json.dumps(as_json(scored.row), allow_nan=False)


def test_a_domains_row_sums_its_images_before_dividing(monkeypatch):
    truths = [np.array([[0] * 9 + [1]], np.uint8), np.array([[1] * 5], np.uint8)]
    made = made_domain(make_label_set("two", {"a": ["road"], "b": ["sky"]}), truths, monkeypatch)
    sky = NAMES.index("sky")
    answers = [np.zeros((1, 10), np.uint8), np.full((1, 5), sky, np.uint8)]
    (scored,) = evaluate(Oracle(answers), [made], "x")
    assert scored.row.miou == pytest.approx((9 / 10 + 5 / 6) / 2)
    assert scored.counts.tolist() == [[9, 0, 0], [1, 5, 0]]
    assert (scored.row.images, scored.row.label_set) == (2, "two")
    assert scored.row.accuracy == pytest.approx(14 / 15)
    assert scored.row.fwiou == pytest.approx(9 / 15 * 9 / 10 + 6 / 15 * 5 / 6)
    assert scored.row.ece == pytest.approx(14 / 15 - 0.9)
    assert [as_json(image) for image in scored.images] == [
        {"name": "0", "miou": pytest.approx(9 / 10 / 2), "accuracy": pytest.approx(9 / 10)},
        {"name": "1", "miou": 1, "accuracy": 1},
    ]


def test_a_model_of_other_classes_is_not_scored(monkeypatch):
    made = made_domain("cityscapes19", [np.zeros((2, 2), np.uint8)], monkeypatch)
    expected = "made: no class of cityscapes19 (road, sidewalk, building, wall, fence, pole and 13 more) holds one of "
    with pytest.raises(UsageError, match=re.escape(expected + "this model's 1 (lane)")):
        evaluate(Oracle([np.zeros((2, 2), np.uint8)], classes=("lane",)), [made], "x")


def test_a_model_without_a_class_of_the_domain_is_not_scored(monkeypatch):
    made = made_domain(make_label_set("kites", {"kite": []}), [np.zeros((2, 2), np.uint8)], monkeypatch)
    with pytest.raises(UsageError, match=r"made: no class of kites \(kite\) holds one of this model's 19 "):
        evaluate(Oracle([np.zeros((2, 2), np.uint8)]), [made], "x")


def test_a_domain_without_images_is_refused_before_any_is_scored(monkeypatch):
    made = made_domain("cityscapes19", [np.zeros((2, 2), np.uint8)], monkeypatch)
    oracle = Oracle([np.zeros((2, 2), np.uint8)])
    with pytest.raises(DataError, match="bare: holds no image to score"):
        evaluate(oracle, [made, Domain("bare", made.label_set, 0)], "x")
    assert oracle.asked == 0


def test_a_domain_of_which_nothing_is_labelled_is_named(monkeypatch):
    made = made_domain("cityscapes19", [np.full((2, 2), IGNORE, np.uint8)] * 2, monkeypatch)
    with pytest.raises(DataError, match="made: no pixel of its 2 labels is of a class; nothing to score"):
        evaluate(Oracle([np.zeros((2, 2), np.uint8)]), [made], "x")


def test_a_label_out_of_range_names_domain_image_and_value(monkeypatch):
    made = made_domain("camvid11", [np.zeros((2, 2), np.uint8), np.full((2, 2), 12, np.uint8)], monkeypatch)
    with pytest.raises(DataError, match="made: 1: label value 12; expected 0 to 10, or 255 where ignored"):
        evaluate(Oracle([np.zeros((2, 2), np.uint8)]), [made], "x")


# -- several processes


@dataclass(frozen=True)
class Threads(Processes):
    """Threads in processes' place."""

    found: tuple[list, ...] = ()
    barrier: threading.Barrier | None = None

    def gather(self, value):
        self.found[self.rank].append(value)
        self.barrier.wait(30)
        return [each[0] for each in self.found]


class Looker:
    """A predictor whose answer and confidence follow from the image alone."""

    classes = NAMES

    def predict(self, image):
        rng = np.random.default_rng(int(image.sum()))
        seen = Oracle([])
        seen.labels = rng.integers(0, 19, image.shape[:2]).astype(np.uint8)
        seen.scores = rng.random(image.shape[:2]).astype(np.float32)
        return seen


@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_score_as_one_even_where_some_have_no_image(world, monkeypatch):
    rng = np.random.default_rng(0)
    label_set = find_label_set("cityscapes19")
    domains = [Domain("five", label_set, 5), Domain("two", label_set, 2)]
    samples = {(d.name, i): (f"{d.name}-{i}", rng.integers(0, 256, (20, 30, 3), np.uint8),
                             rng.choice([0, 1, 18, IGNORE], (20, 30)).astype(np.uint8))
               for d in domains for i in range(d.length)}  # fmt: skip
    monkeypatch.setattr(Domain, "sample", lambda self, i: samples[self.name, i])
    alone = evaluate(Looker(), domains, "x")
    barrier, found = threading.Barrier(world), tuple([] for _ in range(world))
    with ThreadPoolExecutor(world) as pool:
        ranks = [Threads(rank, world, found, barrier) for rank in range(world)]
        together = list(pool.map(lambda each: evaluate(Looker(), domains, "x", processes=each), ranks))
    for scores in together:
        for mine, theirs in zip(scores, alone, strict=True):
            assert mine.row.model_copy(update={"seconds": 0}) == theirs.row.model_copy(update={"seconds": 0})
            assert mine.images == theirs.images
            assert np.array_equal(mine.counts, theirs.counts)
            assert np.array_equal(mine.calibration, theirs.calibration)
            assert np.array_equal(mine.parts, theirs.parts)


def test_results_hold_the_contracts_keys(monkeypatch):
    made = made_domain("cityscapes19", [np.zeros((2, 2), np.uint8)], monkeypatch)
    scores = evaluate(Oracle([np.zeros((2, 2), np.uint8)]), [made, made], "x")
    row = as_json(results(scores, model="m", seed=3, inference=Inference(64), backends={"vision": "v"}))
    assert row.keys() >= RESULTS
    assert row["protocol"].keys() >= {"shorter_side", "window", "stride"}
    assert all(domain.keys() >= ROW for domain in row["domains"])
    assert row["mean_miou"] == 1
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert "made" in results_table(row)
    last = results_table(row).splitlines()[-1]
    assert last.startswith("per cent; shorter side 64, whole image, scored at the label's own size; at most ")
