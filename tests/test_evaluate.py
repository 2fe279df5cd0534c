"""Scoring: confusion, IoU, intervals, label sets, domains, and the RESULTS object."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import fabricate
from clouds.classes import IGNORE, NAMES
from clouds.config import load_recipe
from clouds.data.labels import LABEL_SETS, find_label_set, make_label_set
from clouds.errors import DataError, UsageError
from clouds.evaluate import (
    RENDERED,
    Domain,
    bootstrap_interval,
    confusion,
    evaluate,
    evaluate_model,
    find_domains,
    iou,
    mean_iou,
    photo_domain,
    rendered_domain,
    results,
    results_table,
    score,
    summarise,
    unseen_domains,
)
from clouds.model.inference import Inference

RESULTS = {"model", "commit", "seed", "protocol", "backends", "domains", "mean_miou"}
ROW = {"name", "images", "label_set", "miou", "ci95", "iou"}


@dataclass
class Oracle:
    """A predictor that returns what it is told to, as train ids."""

    answers: list[np.ndarray]
    classes: tuple[str, ...] = NAMES
    asked: int = 0

    def predict(self, image):
        self.labels = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        return self


def counts_of(truth, prediction, classes: int = 3) -> np.ndarray:
    return confusion(np.array(truth, np.uint8), np.array(prediction, np.uint8), classes)


def made_domain(label_set: str, truths: list[np.ndarray], monkeypatch, name: str = "made") -> Domain:
    domain = Domain(name, find_label_set(label_set), len(truths))
    samples = [(f"{k}", np.zeros((*t.shape, 3), np.uint8), t) for k, t in enumerate(truths)]
    monkeypatch.setattr(Domain, "sample", lambda self, i: samples[i])
    return domain


# -- the numbers


labels = arrays.arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))


@given(truth=labels, prediction=arrays.arrays(np.uint8, (4, 5)))
def test_confusion_is_what_a_loop_counts(truth, prediction):
    expected = np.zeros((4, 5), np.int64)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t != IGNORE:
            expected[t, p if p < 4 else 4] += 1
    assert np.array_equal(confusion(truth, prediction, 4), expected)


def test_iou_of_a_case_done_by_hand():
    counts = counts_of([0, 0, 0, 0, 1, 1, IGNORE], [0, 0, 1, 2, 1, 0, 1])
    # class 0: 2 hits, 4 true, 3 predicted; class 1: 1 hit, 2 true, 2 predicted; class 2 never shown
    assert iou(counts)[:2] == pytest.approx([2 / 5, 1 / 3])
    assert np.isnan(iou(counts)[2])
    assert mean_iou(counts) == pytest.approx((2 / 5 + 1 / 3) / 2)


def test_a_prediction_outside_the_label_set_is_a_miss_of_its_true_class_only():
    counts = counts_of([0, 0, 1, 1], [0, IGNORE, 1, 1])
    assert iou(counts)[:2] == pytest.approx([1 / 2, 1])
    assert mean_iou(counts) == pytest.approx(3 / 4)


def test_a_class_shown_but_never_found_is_zero_and_in_the_mean():
    counts = counts_of([0, 0, 1, 1], [0, 0, 0, 0])
    assert iou(counts)[:2] == pytest.approx([1 / 2, 0])
    assert mean_iou(counts) == pytest.approx(1 / 4)


def test_where_nothing_is_labelled_the_mean_is_zero_and_no_warning_is_raised(recwarn):
    assert mean_iou(counts_of([IGNORE], [0])) == 0
    assert len(recwarn) == 0


def test_scores_of_many_matrices_are_those_of_each():
    rng = np.random.default_rng(0)
    many = rng.integers(0, 9, (5, 3, 4))
    assert np.array_equal(iou(many), [iou(one) for one in many])
    assert np.array_equal(mean_iou(many), [mean_iou(one) for one in many])


def images_of(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([counts_of(truth := rng.integers(0, 3, 400), np.where(rng.random(400) < rng.uniform(0.3, 0.9),
                                                                         truth, rng.integers(0, 3, 400)))
                     for _ in range(n)])  # fmt: skip


@pytest.mark.parametrize("n", [2, 10, 60])
def test_the_interval_holds_the_mean(n):
    images = images_of(n)
    low, high = bootstrap_interval(images)
    assert low < mean_iou(images.sum(0)) < high


def test_the_interval_shrinks_with_more_images():
    def width(n: int) -> float:
        low, high = bootstrap_interval(images_of(n))
        return high - low

    assert width(10) > 1.5 * width(40) > 2 * width(160)


def test_the_interval_follows_from_its_seed():
    images = images_of(8)
    assert bootstrap_interval(images, seed=1) == bootstrap_interval(images, seed=1)
    assert bootstrap_interval(images, seed=1) != bootstrap_interval(images, seed=2)


def test_one_image_has_an_interval_of_no_width():
    images = images_of(1)
    assert bootstrap_interval(images) == pytest.approx([mean_iou(images[0])] * 2)


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
    assert scored.row["miou"] == 1
    assert scored.row["iou"] == dict.fromkeys(target.classes, 1.0)


def test_classes_that_fold_together_may_be_taken_for_each_other(monkeypatch):
    truck, bus, person = (np.full((2, 2), NAMES.index(name), np.uint8) for name in ("truck", "bus", "person"))
    vehicle = np.full((2, 2), LABEL_SETS["camvid11"].classes.index("car"), np.uint8)
    made = made_domain("camvid11", [vehicle] * 3, monkeypatch)
    per_image = [mean_iou(counts) for _, _, counts in score(Oracle([truck, bus, person]), made)]
    assert per_image == [1, 1, 0]


def test_a_class_that_the_domain_lacks_counts_as_a_miss(monkeypatch):
    half = np.array([[NAMES.index("sky"), NAMES.index("terrain")]], np.uint8)
    sky = LABEL_SETS["synthia16"].classes.index("sky")
    made = made_domain("synthia16", [np.full((1, 2), sky, np.uint8)], monkeypatch)
    (scored,) = evaluate(Oracle([half]), [made], "x")
    assert scored.row["iou"]["sky"] == pytest.approx(1 / 2)


def test_an_absent_class_is_null_and_outside_the_mean(monkeypatch):
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    made = made_domain("cityscapes19", [truth], monkeypatch)
    (scored,) = evaluate(Oracle([np.array([[0, 0, 1, 0]], np.uint8)]), [made], "x")
    assert scored.row["iou"]["road"] == pytest.approx(2 / 3)
    assert scored.row["iou"]["sidewalk"] == pytest.approx(1 / 2)
    assert [scored.row["iou"][name] for name in NAMES[2:]] == [None] * 17
    assert scored.row["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    json.dumps(scored.row, allow_nan=False)


def test_a_domains_row_sums_its_images_before_dividing():
    made = Domain("x", make_label_set("two", {"a": ["road"], "b": ["sky"]}), 2)
    first, second = counts_of([0] * 9 + [1], [0] * 10, 2), counts_of([1] * 5, [1] * 5, 2)
    scored = summarise(made, np.stack([first, second]))
    assert scored.row["miou"] == pytest.approx((9 / 10 + 5 / 6) / 2)
    assert np.array_equal(scored.counts, first + second)
    assert (scored.row["images"], scored.row["label_set"]) == (2, "two")


def test_a_model_of_other_classes_is_not_scored(monkeypatch):
    made = made_domain("cityscapes19", [np.zeros((2, 2), np.uint8)], monkeypatch)
    with pytest.raises(UsageError, match="not the 19 Cityscapes classes"):
        evaluate(Oracle([np.zeros((2, 2), np.uint8)], classes=("road",)), [made], "x")


def test_every_prediction_is_shown_to_the_keeper_in_the_domains_classes(monkeypatch):
    seen = []
    truths = [np.full((1, 2), k, np.uint8) for k in (0, 1)]
    made = made_domain("camvid11", truths, monkeypatch)
    sky = np.full((1, 2), NAMES.index("sky"), np.uint8)
    evaluate(Oracle([sky]), [made], "x", lambda domain, i, sample, p: seen.append((domain.name, i, p.tolist())))
    assert seen == [("made", 0, [[0, 0]]), ("made", 1, [[0, 0]])]


def test_results_hold_the_contracts_keys(monkeypatch):
    made = made_domain("cityscapes19", [np.zeros((2, 2), np.uint8)], monkeypatch)
    scores = evaluate(Oracle([np.zeros((2, 2), np.uint8)]), [made, made], "x")
    row = results(scores, model="m", commit=None, seed=3, inference=Inference(64), backends={"vision": "v"})
    assert row.keys() >= RESULTS
    assert row["protocol"].keys() >= {"shorter_side", "window", "stride"}
    assert all(domain.keys() >= ROW for domain in row["domains"])
    assert row["mean_miou"] == 1
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert "made" in results_table(row)
    assert results_table(row).endswith("mean 100.0; shorter side 64, whole image, scored at the label's own size")


# -- domains


@pytest.fixture
def root(tmp_path) -> Path:
    fabricate.as_folder(fabricate.make("idd-lite").files, tmp_path / "idd20k_lite")
    files = {}
    for k in range(9):
        files |= {f"test/Seq05VD_f{k:05}.png": fabricate.png(fabricate.picture(k)),
                  f"testannot/Seq05VD_f{k:05}.png": fabricate.png(fabricate.pick(k, [0, 3, 11]).astype(np.uint8))}
    fabricate.as_folder(files, tmp_path / "camvid")
    return tmp_path


def recipe(*overrides: str):
    return load_recipe("demo", list(overrides))


def test_rendered_domains_are_fixed_by_name_and_number():
    one, two = rendered_domain("fog", 2), rendered_domain("night", 2)
    (name, image, label), again = one.sample(1), one.sample(1)
    assert name == "fog-001"
    assert image.shape == (*label.shape, 3)
    assert np.array_equal(image, again[1])
    assert np.array_equal(label, again[2])
    assert not np.array_equal(image, one.sample(0)[1])
    assert not np.array_equal(image, two.sample(1)[1])


def test_without_photos_the_unseen_domains_are_the_rendered_ones():
    assert [d.name for d in unseen_domains(recipe())] == list(RENDERED) == ["town", "fog", "night", "rain", "snow"]
    assert {d.length for d in unseen_domains(recipe("evaluate.rendered_count=7"))} == {7}


def test_photos_that_are_there_join_the_unseen_domains(root):
    fabricate.as_folder({"testannot/0001TP_f0.png": fabricate.png(np.zeros(fabricate.SIZE, np.uint8)),
                         "test/0001TP_f0.png": fabricate.png(fabricate.picture(0))}, root / "camvid")
    found = unseen_domains(recipe(f"data.root={root}"))[len(RENDERED):]
    assert [(d.name, d.length, d.label_set.name) for d in found] == [
        ("camvid-day", 9, "camvid11"), ("camvid-dusk", 1, "camvid11"), ("idd-lite", 2, "idd-lite7"),
    ]  # fmt: skip


def test_at_most_max_images_are_taken_evenly_from_first_to_last(root):
    assert photo_domain("camvid-day", root, 3).indices == (0, 4, 8)
    assert photo_domain("camvid-day", root, 5).indices == (0, 2, 4, 6, 8)
    assert photo_domain("camvid-day", root, 1).indices == (0,)
    assert photo_domain("camvid-day", root, 50).indices == tuple(range(9))
    names = [photo_domain("camvid-day", root, 3).sample(i)[0] for i in range(3)]
    assert [name[-4:] for name in names] == ["0000", "0004", "0008"]


def test_a_photo_and_its_truth_are_read_as_the_dataset_stores_them(root):
    _, image, label = photo_domain("camvid-day", root).sample(2)
    expected = fabricate.pick(2, [0, 3, 11]).astype(np.uint8)
    assert np.array_equal(image, fabricate.picture(2))
    assert np.array_equal(label, np.where(expected == 11, IGNORE, expected))


def test_a_label_of_another_size_than_its_photo_is_named(root):
    path = root / "camvid/testannot/Seq05VD_f00002.png"
    path.write_bytes(fabricate.png(np.zeros((3, 3), np.uint8)))
    with pytest.raises(DataError, match="Seq05VD_f00002"):
        photo_domain("camvid-day", root).sample(2)


@pytest.mark.parametrize(("name", "overrides", "said"), [
    ("mars", (), "unknown domain 'mars'; rendered: town, fog, night, rain, snow; photos: "),
    ("camvid-day", (), "camvid-day: needs data.root=PATH, the folder that holds camvid/"),
    ("camvid-day", ("data.root=/nowhere",), "camvid-day: data.root=/nowhere holds no camvid/"),
])  # fmt: skip
def test_a_domain_that_cannot_be_had_is_refused_saying_what_to_do(name, overrides, said):
    with pytest.raises(UsageError) as caught:
        find_domains([name], recipe(*overrides))
    assert said in str(caught.value)


def test_a_root_that_is_no_folder_of_datasets_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"data\.root: /nowhere is no folder"):
        unseen_domains(recipe("data.root=/nowhere"))
    with pytest.raises(UsageError, match="holds none of bdd100k, camvid, idd20k_lite; point it at"):
        unseen_domains(recipe(f"data.root={tmp_path}"))


def test_an_unpaired_dataset_is_refused_before_scoring(root):
    (root / "camvid/testannot/Seq05VD_f00002.png").unlink()
    with pytest.raises(DataError, match="Seq05VD_f00002"):
        find_domains(["camvid-day"], recipe(f"data.root={root}"))


# -- clouds evaluate


def test_a_model_is_scored_on_rendered_and_photo_domains(model_folder, root, tmp_path):
    words = ["town", "camvid-day", "evaluate.rendered_count=1", f"data.root={root}", "evaluate.max_images=2"]
    row = evaluate_model(model_folder, words, tmp_path / "out")
    assert row.keys() >= RESULTS
    assert [(d["name"], d["images"], d["label_set"]) for d in row["domains"]] == [
        ("town", 1, "cityscapes19"), ("camvid-day", 2, "camvid11"),
    ]  # fmt: skip
    assert all(0 <= d["ci95"][0] <= d["miou"] <= d["ci95"][1] <= 1 for d in row["domains"])
    assert row["protocol"]["shorter_side"] == 64
    assert row["backends"] == {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2"}
    assert json.loads((tmp_path / "out/results.json").read_text()) == row


def test_the_shorter_side_asked_for_is_the_one_used_and_reported(model_folder, monkeypatch):
    sides = []
    real = evaluate

    def spy(predictor, domains, what, keep=None):
        sides.append(predictor.inference.shorter_side)
        return real(predictor, domains, what, keep)

    monkeypatch.setattr("clouds.evaluate.evaluate", spy)
    row = evaluate_model(model_folder, ["town", "evaluate.rendered_count=1", "evaluate.shorter_side=96"], None)
    assert sides == [96]
    assert row["protocol"]["shorter_side"] == 96


def test_windows_scales_and_flip_are_used_and_written_down(model_folder, monkeypatch):
    used = []
    real = evaluate

    def spy(predictor, domains, what, keep=None):
        used.append(predictor.inference)
        return real(predictor, domains, what, keep)

    monkeypatch.setattr("clouds.evaluate.evaluate", spy)
    words = ["evaluate.window=48", "evaluate.scales=[1, 1.5]", "evaluate.flip=true"]
    row = evaluate_model(model_folder, ["town", "evaluate.rendered_count=1", *words], None)
    assert used == [Inference(64, window=48, scales=(1, 1.5), flip=True)]
    protocol = {"shorter_side": 64, "window": 48, "stride": 32, "scales": [1, 1.5], "flip": True}
    assert row["protocol"] == {**protocol, "scored_at": "the label's own size"}
    assert "shorter side 64, window 48, stride 32, scales 1 1.5, mirrored too, scored" in results_table(row)


def test_results_of_older_runs_still_make_a_table():
    row = {"domains": [], "mean_miou": 0.5, "protocol": {"shorter_side": 64, "window": None, "stride": None}}
    assert results_table(row).endswith("mean 50.0; shorter side 64, whole image, scored at the label's own size")


@pytest.mark.parametrize("words", [[], ["seed=3"]])
def test_no_domain_is_refused(model_folder, words):
    with pytest.raises(UsageError, match="name at least one domain"):
        evaluate_model(model_folder, words, None)


def test_a_device_that_is_not_here_is_refused(model_folder):
    with pytest.raises(UsageError, match=r"train\.device: cuda:99 cannot be used here"):
        evaluate_model(model_folder, ["town", "train.device=cuda:99"], None)
