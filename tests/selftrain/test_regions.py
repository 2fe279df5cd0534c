"""Regions found ahead: what they are, how they are voted, kept as files, and used by training."""

import json
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tiny
import tiny_sam
from clouds import cli, streets
from clouds.base.shards import Shard
from clouds.config.label_sets import IGNORE
from clouds.config.recipe import SelfTrain
from clouds.data.batches.batches import Batches
from clouds.data.images import decode_image
from clouds.errors import CloudsError, DataError, UsageError
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.superpixels import Superpixels
from clouds.selftrain import find_regions as everything
from clouds.selftrain.find_regions import find_regions, grid_points
from clouds.selftrain.points import components
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.region_files import (
    identity_of,
    make_regions,
    mean_regions,
    read_regions,
    regions_of_set,
    save_regions,
)
from clouds.selftrain.regions import nested, overlay, smooth, vote
from clouds.selftrain.teacher import Teacher
from clouds.train.loop import train_stage
from foundation.test_superpixels import scene

MAPS = arrays(np.uint8, (6, 9), elements=st.sampled_from([0, 1, 7, IGNORE]))
MASKS = arrays(np.bool_, (5, 6, 9)).filter(lambda masks: masks.any(axis=(1, 2)).all())


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    return tiny.picture(tiny.label_map(*size, seed=seed), seed)


# -- what regions are


@given(masks=MASKS)
def test_overlaid_masks_come_back(masks):
    regions = overlay((6, 9), list(masks), [0.5] * 5)
    assert len(regions) == 5
    assert all(np.array_equal(regions.mask(i), mask) for i, mask in enumerate(masks))
    assert np.array_equal(regions.atoms == 0, ~masks.any(axis=0))
    codes = (masks * 2 ** np.arange(5)[:, None, None]).sum(axis=0)
    needed = len(np.unique(codes[codes > 0]))
    assert set(np.unique(regions.atoms)) - {0} == set(range(1, needed + 1)), "no more atoms than needed, and no gaps"


def test_nested_partitions_are_regions_at_every_level_once():
    fine = np.array([[0, 0, 1, 2], [3, 3, 1, 2]])
    middle = np.array([[0, 0, 1, 1], [2, 2, 1, 1]])  # 0 and 3 stay what they are
    coarse = np.zeros_like(fine)
    regions = nested(np.stack([fine, middle, coarse]) + 1)  # names are any integers
    wanted = [fine == 0, fine == 1, fine == 2, fine == 3, middle == 1, coarse == 0]
    assert len(regions) == len(wanted)
    for mask in wanted:
        assert any(np.array_equal(regions.mask(i), mask) for i in range(len(regions)))
    assert sorted(regions.quality.tolist()) == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0]


def test_superpixels_are_their_own_regions():
    segmenter, image = Superpixels(), picture()
    levels = segmenter.encode(image)
    regions = find_regions(image, segmenter, grid=1, quality=2.0, stability=1.0)
    masks = {regions.mask(i).tobytes() for i in range(len(regions))}
    assert masks == {(level == name).tobytes() for level in levels for name in np.unique(level)}
    assert len(masks) == len(regions)


# -- the vote


def counted(labels, masks, classes, floor, max_swallow):
    """The definition, pixel by pixel and mask by mask."""
    claims = [[set() for _ in range(labels.shape[1])] for _ in range(labels.shape[0])]
    for mask, of in zip(masks, classes, strict=True):
        under = [c for c in labels[mask].tolist() if c != IGNORE]
        chosen = of if of != IGNORE else max(sorted(set(under)), key=under.count) if under else None
        others = sum(c != chosen for c in under)
        if chosen is None or (max_swallow is not None and others > max_swallow * len(under)):
            continue
        for y, x in np.argwhere(mask):
            claims[y][x].add(chosen)
    voted = np.array([[next(iter(c)) if len(c) == 1 else IGNORE for c in row] for row in claims], np.uint8)
    voted[components(voted, floor).ids == 0] = IGNORE
    return voted, np.array([[len(c) > 1 for c in row] for row in claims])


@settings(max_examples=150)
@given(
    labels=MAPS, masks=MASKS, proposed=st.booleans(), floor=st.sampled_from([0.0, 0.1]),
    max_swallow=st.sampled_from([None, 0.0, 0.3, 0.5]),
)  # fmt: skip
def test_a_vote_is_what_its_definition_says(labels, masks, proposed, floor, max_swallow):
    classes = [0, 1, 7, 9, IGNORE] if proposed else [IGNORE] * 5
    regions = overlay((6, 9), list(masks), np.linspace(0, 1, 5), classes)
    result = vote(labels, regions, floor=floor, max_swallow=max_swallow)
    wanted, disputed = counted(labels, masks, classes, floor, max_swallow)
    assert np.array_equal(result.labels, wanted)
    assert result.disputed == disputed.mean()
    assert result.decided == (wanted != IGNORE).mean()
    assert result.changed == ((wanted != IGNORE) & (wanted != labels)).mean()
    assert result.components == len(components(wanted, floor))
    assert result.points.shape == (5, 0, 2)
    assert len(result.classes) == len(result.quality) == len(result.rejected) == 5


def test_the_teacher_may_contradict_a_proposal():
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 7:] = 3
    whole = [np.ones((10, 10), np.bool_)]
    assert (vote(labels, overlay((10, 10), whole, [0.9], [3]), max_swallow=0.3).labels == IGNORE).all()
    assert (vote(labels, overlay((10, 10), whole, [0.9], [3]), max_swallow=0.7).labels == 3).all()
    assert (vote(labels, overlay((10, 10), whole, [0.9]), max_swallow=0.3).labels == 0).all()


def test_a_map_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"labels are \(5, 6\) but the regions are of an image of \(10, 10\)"):
        vote(np.zeros((5, 6), np.uint8), overlay((10, 10), [], []))
    with pytest.raises(DataError, match="labels must be integers"):
        vote(np.zeros((10, 10)), overlay((10, 10), [], []))


def test_voted_superpixels_beat_a_blurred_teacher():
    image, truth = scene(3)
    noise = np.random.default_rng(3).normal(0, 1, (2, *truth.shape))
    y, x = np.indices(truth.shape) + np.stack([cv2.GaussianBlur(n, (0, 0), 8) * 100 for n in noise]).astype(int)
    teacher = truth[np.clip(y, 0, truth.shape[0] - 1), np.clip(x, 0, truth.shape[1] - 1)]
    result = vote(teacher, find_regions(image, Superpixels(), 1, 0.0, 0.0))
    decided = result.labels != IGNORE
    assert result.decided > 0.6
    assert (result.labels != truth)[decided].mean() < 0.6 * (teacher != truth)[decided].mean()


# -- finding them


class Answers:
    """Masks and quality by the cell of the grid that is asked; stability where it is given."""

    name = "answers"

    def __init__(self, masks, quality, stability=None):
        self.answers, self.quality, self.asked = np.asarray(masks), np.asarray(quality, np.float32), []
        if stability is not None:
            stable = np.asarray(stability, np.float32)
            self.stable_masks = lambda e, p: (*self.masks(e, p), stable[self.asked[-len(p) :]])

    def encode(self, image):
        return None

    def masks(self, embedding, points):
        which = (points[:, 0, 0] > 10).astype(int) + 2 * (points[:, 0, 1] > 10)
        self.asked += which.tolist()
        return self.answers[which], self.quality[which]


def rectangle(x0, x1, y0=0, y1=20):
    mask = np.zeros((20, 20), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


IMAGE = np.zeros((20, 20, 3), np.uint8)
LEFT, ALMOST, RIGHT, NONE = rectangle(0, 10), rectangle(0, 9), rectangle(10, 20), rectangle(0, 0)
SPECK = rectangle(3, 4, 3, 4)


def found(segmenter, **options):
    regions = find_regions(IMAGE, segmenter, **{"grid": 2, "quality": 0.5, "stability": 0.5, **options})
    return [(regions.mask(i), round(float(regions.quality[i]), 3)) for i in range(len(regions))]


def same(these, those):
    pairs = zip(these, those, strict=False)
    return len(these) == len(those) and all(np.array_equal(a, b) and p == q for (a, p), (b, q) in pairs)


def test_candidates_are_filtered_and_duplicates_go(monkeypatch):
    masks = [[LEFT, ALMOST, NONE], [RIGHT, LEFT, NONE], [RIGHT, SPECK, NONE], [ALMOST, RIGHT, NONE]]
    quality = [[0.7, 0.9, 1.0], [0.8, 0.4, 1.0], [0.6, 0.99, np.nan], [0.2, 0.8, 1.0]]
    assert same(found(Answers(masks, quality)), [(SPECK, 0.99), (ALMOST, 0.9), (RIGHT, 0.8)])
    assert same(found(Answers(masks, quality), quality=0.85), [(SPECK, 0.99), (ALMOST, 0.9)])
    stability = [[0.9, 0.1, 1], [0.9, 0.9, 1], [0.9, 0.2, 1], [0.9, 0.9, 1]]
    assert same(found(Answers(masks, quality, stability)), [(RIGHT, 0.8), (LEFT, 0.7)])
    monkeypatch.setattr(everything, "LEAST", 0.01)
    assert same(found(Answers(masks, quality)), [(ALMOST, 0.9), (RIGHT, 0.8)])
    monkeypatch.setattr(everything, "SAME", 0.95)
    assert same(found(Answers(masks, quality)), [(ALMOST, 0.9), (RIGHT, 0.8), (LEFT, 0.7)])
    assert found(Answers(masks, quality), quality=1.5) == []
    for thin in (rectangle(4, 5), rectangle(0, 20, 4, 5)):
        assert same(found(Answers([[thin, thin, NONE]] * 4, [[0.9, 0.8, 0.7]] * 4)), [(thin, 0.9)])


def test_the_grid_is_even_and_every_point_is_asked_once():
    points = grid_points((30, 60), 3)
    assert points.shape == (9, 1, 2)
    assert points[:, 0].tolist() == [[x, y] for y in (4.5, 14.5, 24.5) for x in (9.5, 29.5, 49.5)]
    segmenter = Answers([[LEFT] * 3] * 4, [[0.9] * 3] * 4)
    found(segmenter, grid=5, mask_bytes=7 * 3 * 400)
    assert len(segmenter.asked) == 25


def test_masks_on_hold_are_bounded(monkeypatch):
    monkeypatch.setattr(everything, "HELD_BYTES", 1)  # 16 masks then
    rng = np.random.default_rng(0)
    masks = rng.random((4, 3, 20, 20)) < 0.5
    quality = rng.uniform(0.5, 1, (4, 3))
    most = []
    distinct = everything._distinct
    monkeypatch.setattr(everything, "_distinct", lambda masks: most.append(len(masks)) or distinct(masks))
    kept = found(Answers(masks, quality), grid=8)
    assert max(most) == 16
    assert 8 <= len(kept) <= 12
    assert kept[0][1] == round(float(quality.max()), 3)


@pytest.mark.parametrize("family", ["sam", "sam2"])
def test_regions_of_a_sam_come_from_its_own_candidates(tmp_path, family):
    """Random weights are sure of nothing: the thresholds are open."""
    segmenter = load_segmenter(f"{family}/{tiny_sam.save(family, tmp_path / family)}")
    image = picture()
    masks, quality, stability = segmenter.stable_masks(segmenter.encode(image), grid_points((64, 64), 4))
    plain, same_quality = segmenter.masks(segmenter.encode(image), grid_points((64, 64), 4))
    assert np.array_equal(masks, plain)
    assert np.array_equal(quality, same_quality)
    assert ((stability >= 0) & (stability <= 1)).all()
    regions = find_regions(image, segmenter, 4, -10.0, 0.0)
    assert len(regions) > 1
    asked = {mask.tobytes() for mask in masks.reshape(-1, 64, 64)}
    assert {regions.mask(i).tobytes() for i in range(len(regions))} <= asked
    assert regions.quality[0] == quality.max()


# -- files


@given(masks=MASKS)
def test_files_hold_what_was_saved(tmp_path_factory, masks):
    regions = overlay((6, 9), list(masks), [0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 3, 4, IGNORE])
    path = tmp_path_factory.mktemp("regions") / "a.npz"
    save_regions(path, regions)
    back = read_regions(path)
    for name in ("atoms", "members", "starts", "quality", "classes"):
        assert np.array_equal(getattr(back, name), getattr(regions, name)), name
        assert getattr(back, name).dtype == getattr(regions, name).dtype, name


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-30], lambda b: b"", lambda b: b"\0" * len(b), lambda b: b[:200] + b"x" + b[201:]]
)
def test_a_damaged_file_is_named_and_made_anew(tmp_path, damage):
    images = tiny.generated_set(tmp_path / "set", 2)
    files, made = make_regions(images, Superpixels(), SelfTrain(), tmp_path / "kept")
    assert made == 2
    whole = files[0].read_bytes()
    files[0].write_bytes(damage(whole))
    with pytest.raises(DataError, match=r"\.npz: cannot be read .*; run the same command again"):
        read_regions(files[0])
    assert make_regions(images, Superpixels(), SelfTrain(), tmp_path / "kept") == (files, 1)
    assert files[0].read_bytes() == whole, "the same bytes as before"


def names(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_entries_follow_from_image_segmenter_and_settings(tmp_path):
    images = tiny.generated_set(tmp_path / "set", 3)
    folder = tmp_path / "kept"
    first, made = make_regions(images, Superpixels(), SelfTrain(), folder)
    assert (len(set(first)), made) == (3, 3)
    (tmp_path / "set" / "2.png").rename(tmp_path / "set" / "other.png")
    moved = [*images[:2], tmp_path / "set" / "other.png"]
    assert make_regions(moved, Superpixels(), SelfTrain(regions_grid=5), folder) == (first, 0)
    images[0].write_bytes(images[1].read_bytes())
    assert make_regions(moved, Superpixels(), SelfTrain(), folder)[0] == [first[1], first[1], first[2]]
    sam = load_segmenter(f"sam/{tiny_sam.save('sam', tmp_path / 'sam')}")
    ways = ({}, {"regions_grid": 5}, {"regions_quality": 0.5}, {"regions_stability": 0.5})
    asked = {identity_of(sam, SelfTrain(**how)) for how in ways}
    assert len(asked) == 4
    assert len({identity_of(Superpixels(), SelfTrain()), *asked}) == 5


def test_shards_together_are_one_run_byte_for_byte(tmp_path):
    images = tiny.generated_set(tmp_path / "set", 5)
    whole, _ = make_regions(images, Superpixels(), SelfTrain(), tmp_path / "whole")
    parts = [make_regions(images, Superpixels(), SelfTrain(), tmp_path / "parts", Shard(i, 2)) for i in (1, 0)]
    assert [made for _, made in parts] == [2, 3]
    assert names(tmp_path / "whole") == names(tmp_path / "parts")
    assert [file.name for file in parts[1][0]] == [file.name for file in whole[::2]]


def make(images, folder):
    make_regions(images, Superpixels(), SelfTrain(), folder)


@pytest.mark.slow
def test_processes_share_the_work(tmp_path):
    images = tiny.generated_set(tmp_path / "set", 8)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=make, args=(images, tmp_path / "shared")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    make(images, tmp_path / "alone")
    assert names(tmp_path / "shared") == names(tmp_path / "alone"), "no lock and no half file stays"


def test_interrupted_work_goes_on(tmp_path, monkeypatch):
    images = tiny.generated_set(tmp_path / "set", 4)
    segmenter, encode, calls = Superpixels(), Superpixels.encode, []

    def failing(image):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(segmenter, image)

    monkeypatch.setattr(segmenter, "encode", failing)
    with pytest.raises(KeyboardInterrupt):
        make_regions(images, segmenter, SelfTrain(), tmp_path / "kept")
    assert len(names(tmp_path / "kept")) == 2
    assert make_regions(images, segmenter, SelfTrain(), tmp_path / "kept")[1] == 2
    assert len(calls) == 5


def test_an_image_that_cannot_be_read_is_said_and_left_out(tmp_path, capsys):
    images = tiny.generated_set(tmp_path / "set", 3)
    images[1].write_bytes(b"no picture")
    files, made = make_regions(images, Superpixels(), SelfTrain(), tmp_path / "kept")
    assert (files[1], made) == (None, 2)
    assert f"no regions found: {images[1]}" in capsys.readouterr().err


# -- in training and on the command line


def test_training_with_regions_calls_no_segmenter(tmp_path, monkeypatch):
    sets = tiny.source_set(tmp_path / "source"), tiny.generated_set(tmp_path / "generated")
    made = tiny.recipe("selftrain.refinement=regions", "selftrain.max_swallow=null", f"generate.folder={tmp_path}")
    regions = regions_of_set(made, sets[1].__getitem__, range(len(sets[1])), tmp_path / "run")
    monkeypatch.setattr(Superpixels, "encode", None)
    monkeypatch.setattr(Superpixels, "masks", None)
    model = tiny.segmenter()
    pseudo = PseudoLabeller(Teacher(model, made.selftrain.decay), None, made.selftrain, 0, regions)
    (tmp_path / "run").mkdir(exist_ok=True)
    work = train_stage(model, "joint", made, Batches(*sets, made, 4, seed=1), tmp_path / "run", pseudo)
    assert work.images > 0
    assert work.pixels_decided > 0
    assert json.loads(next((tmp_path / "run" / "pseudo").rglob("points.json")).read_text()) == []


def test_a_segmenter_that_is_sure_of_nothing_stops_the_run(tmp_path):
    images = tiny.generated_set(tmp_path / "set", 1)
    sam = f"selftrain.segmenter=sam/{tiny_sam.save('sam', tmp_path / 'sam')}"
    made = tiny.recipe(sam, "selftrain.refinement=regions", "selftrain.regions_grid=2", "selftrain.regions_quality=9")
    with pytest.raises(CloudsError, match=r"no regions were found in 1 images by sam/.*regions_quality \(9\)"):
        regions_of_set(made, images.__getitem__, range(len(images)), tmp_path)


def test_the_labeller_votes_with_the_regions_of_the_image(tmp_path):
    images = tiny.generated_set(tmp_path / "set", 2)
    made = tiny.recipe("selftrain.refinement=regions", "selftrain.undecided=ignore", "selftrain.floor=0.02")
    regions = regions_of_set(made, images.__getitem__, range(len(images)), tmp_path)

    class Fixed:
        model = tiny.segmenter()

        def predict(self, seen):
            return torch.from_numpy(np.stack([tiny.label_map(64, 64, 100 + k) for k in (1, 0)])), torch.ones(2, 64, 64)

    pseudo = PseudoLabeller(Fixed(), None, made.selftrain, 0, regions)
    clean = torch.stack([torch.from_numpy(decode_image(images[k].read_bytes(), "")).permute(2, 0, 1) for k in (1, 0)])
    batch = {
        "images": clean, "labels": torch.full((2, 64, 64), 255, dtype=torch.uint8), "clean": clean,
        "places": torch.arange(2),
        "slots": torch.tensor([0, 1]), "ids": torch.tensor([1, 0]), "flipped": torch.tensor([False, True]),
    }  # fmt: skip
    labels, record, panel = pseudo(batch, 0)
    for slot, index in enumerate((1, 0)):
        teacher = tiny.label_map(64, 64, 100 + index)
        wanted = vote(teacher, regions(index), floor=0.02, max_swallow=made.selftrain.max_swallow)
        assert np.array_equal(labels[slot].numpy(), wanted.labels[:, ::-1] if slot else wanted.labels)
    assert record["decided"] > 0.5
    assert panel.refinement.points.shape[1] == 0
    images[0].write_bytes(b"")  # bad files among good ones are training's to count
    broken = regions_of_set(made, images.__getitem__, range(len(images)), tmp_path)
    with pytest.raises(DataError, match=r"0\.png: has no regions"):
        broken(0)


def test_the_labeller_smooths_by_the_regions_of_the_image():
    image, truth = streets.render(streets.sample("town", 3), (64, 96))
    made = tiny.recipe("selftrain.refinement=smooth", "selftrain.confidence=0.3")
    regions = nested(Superpixels().encode(image))
    labels = truth % 4  # the tiny model has four classes
    sure = np.random.default_rng(0).random(truth.shape, np.float32)

    class Fixed:
        model = tiny.segmenter()

        def predict(self, seen):
            return torch.from_numpy(labels)[None], torch.from_numpy(sure)[None]

    pseudo = PseudoLabeller(Fixed(), None, made.selftrain, 0, lambda index: regions)
    clean = torch.from_numpy(image).permute(2, 0, 1)[None]
    batch = {
        "images": clean, "labels": torch.full((1, 64, 96), 255, dtype=torch.uint8), "clean": clean,
        "places": torch.arange(1), "slots": torch.tensor([0]), "ids": torch.tensor([4]),
        "flipped": torch.tensor([False]),
    }  # fmt: skip
    learned, numbers, _ = pseudo(batch, 0)
    trusted = np.where(sure >= 0.3, labels, np.uint8(IGNORE))
    assert np.array_equal(learned[0].numpy(), smooth(trusted, regions).labels)
    assert numbers["decided"] > 0.99
    assert 0 < numbers["changed"] < 0.5


def run(capsys, *words):
    code = cli.run([str(word) for word in words])
    return code, *capsys.readouterr()


def test_the_verb_finds_them_for_a_set_or_a_recipe_that_names_one(capsys, tmp_path):
    drawn, out = tmp_path / "set", tmp_path / "regions"
    small = ("generate.size=[32,48]", "augment.crop=[32,48]", "generate.count=3")
    assert run(capsys, "generate", "demo", *small, "--out", drawn)[0] == 0
    code, text, err = run(capsys, "regions", drawn, "--shard", "0/2", "--out", out, "--json")
    record = json.loads(text)
    assert code == 0
    assert (record["images"], record["made"], record["failed"], record["segmenter"]) == (2, 2, 0, "superpixels")
    assert record["bytes"] > 0
    assert record["regions"] > 1
    assert "regions of shard 0/2: 2/2" in err
    code, text, _ = run(capsys, "regions", "demo", f"generate.folder={drawn}", "--out", out)
    assert code == 0
    assert text == f"3 images in {out}, 1 of them done now, {mean_regions(list(out.rglob('*.npz'))):.1f} regions each\n"


def test_what_cannot_be_is_refused_before_work(capsys, tmp_path):
    for words, said in (
        (("regions", "demo"), "generate.folder: not set in demo"),
        (("regions", tmp_path), "holds no metadata.jsonl"),
        (("regions", "demo", "selftrain.regions_grid=0"), "selftrain.regions_grid: got 0"),
        (("regions", "demo", "--shard", "2/2", "generate.folder=x"), "--shard: got '2/2'"),
        (("train", "demo", "selftrain.segmenter=sam3-text/a/b"), "needs selftrain.refinement=regions"),
        (("train", "demo", "selftrain.second_pass=true"), "selftrain.second_pass: superpixels takes no mask"),
    ):
        code, _, err = run(capsys, *words, "--out", tmp_path / "out")
        assert (code, said in err) == (2, True), err
    assert not os.path.lexists(tmp_path / "out")
    with pytest.raises(UsageError, match="second pass: superpixels takes no mask"):
        load_segmenter("superpixels", second_pass=True)


def test_smoothing_weighs_a_label_against_those_of_its_regions() -> None:
    fine = np.repeat(np.arange(4, dtype=np.uint16), 4)[None].repeat(4, axis=0)  # columns of 4 x 4 pixels
    regions = nested(np.stack([fine, fine // 2]))
    labels = np.zeros((4, 16), np.uint8)
    labels[:, 8:] = 1
    labels[0, 0] = labels[3, 15] = 7  # specks: 1/16 of their regions
    labels[:2, 4:6] = IGNORE
    smoothed = smooth(labels, regions)
    assert (smoothed.labels[:, :8] == 0).all()
    assert (smoothed.labels[:, 8:] == 1).all()
    assert smoothed.classes.tolist() == [0, 0, 1, 1, 0, 1]
    assert (smoothed.decided, smoothed.disputed, smoothed.components) == (1, 0, 6)
    known = labels != IGNORE
    assert np.array_equal(smooth(labels, regions, own=0.6).labels[known], labels[known])


def test_smoothing_leaves_undecided_what_no_label_speaks_for() -> None:
    masks = [np.zeros((4, 16), np.bool_) for _ in range(2)]
    masks[0][:, :4] = masks[1][:, 5:] = True
    regions = overlay((4, 16), masks, [1.0, 1.0])
    labels = np.full((4, 16), IGNORE, np.uint8)
    assert (smooth(labels, regions).labels == IGNORE).all()
    labels[0, 0], labels[2, 4] = 3, 5
    smoothed = smooth(labels, regions)
    assert (smoothed.labels[:, :4] == 3).all()
    assert smoothed.labels[2, 4] == 5
    assert (smoothed.labels[:, 5:] == IGNORE).all()
    assert smoothed.classes.tolist() == [3, IGNORE]


def test_smoothing_mends_damaged_truths() -> None:
    for seed in range(3):
        image, truth = streets.render(streets.sample("town", 720 + seed), (128, 256))
        y, x = np.indices(truth.shape) + np.random.default_rng(seed).integers(-2, 3, (2, *truth.shape))
        labels = truth[np.clip(y, 0, 127), np.clip(x, 0, 255)]
        known = truth != IGNORE
        smoothed = smooth(labels, nested(Superpixels().encode(image))).labels
        assert (smoothed != truth)[known].mean() < 0.9 * (labels != truth)[known].mean()


def test_labels_of_another_size_are_refused_by_smoothing() -> None:
    with pytest.raises(DataError, match="smooth: labels are"):
        smooth(np.zeros((3, 3), np.uint8), nested(np.zeros((1, 4, 4), np.uint16)))
