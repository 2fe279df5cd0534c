"""The training stream: repeats, weights, rare classes; always a function of seed and position."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from clouds.data.batches import rare
from clouds.data.batches.batches import Batches
from clouds.data.batches.order import BLOCK, Order
from clouds.data.batches.rare import RareClasses, class_pixels
from clouds.data.images import write_png
from clouds.data.source import Source
from clouds.errors import UsageError


def stream(order, count, start=0):
    return [order(position) for position in range(start, start + count)]


@pytest.mark.parametrize("repeat", [1.0, 2.0, 3.0])
def test_generated_samples_come_so_many_times_as_often_in_every_epoch(repeat):
    epoch = 4 + int(3 * repeat)
    found = stream(Order([4, 3], 0, [1, repeat]), 3 * epoch)
    for start in range(0, 3 * epoch, epoch):
        wanted = {k: 1 if k < 4 else int(repeat) for k in range(7)}
        assert Counter(found[start : start + epoch]) == wanted
    assert found[:epoch] != found[epoch : 2 * epoch]


def test_a_fractional_repeat_is_met_on_average():
    counts = Counter(stream(Order([4, 60], 0, [1, 0.3]), 2000))
    made = [counts[k] for k in range(4, 64)]
    assert min(made) > 0
    assert abs(np.mean(made) / np.mean([counts[k] for k in range(4)]) - 0.3) < 0.05
    more = Order([4, 60], 0, [1, 1.5])
    once = Counter(stream(more, len(more.epoch(0))))
    assert {once[k] for k in range(4, 64)} == {1, 2}


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    weights=st.lists(st.floats(0.2, 5), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_weights_decide_how_often_a_set_comes(sizes, weights, seed):
    weights = weights[: len(sizes)]
    count = 3000
    found = stream(Order(sizes, seed, [1.0] * len(sizes), weights), count)
    ends = np.cumsum(sizes)
    which = np.searchsorted(ends, found, side="right")
    present = np.array([w if size else 0 for w, size in zip(weights, sizes, strict=True)])
    shares = np.bincount(which, minlength=len(sizes)) / count
    assert np.abs(shares - present / present.sum()).max() < 0.05
    for k, size in enumerate(sizes):
        own = [index for index, set_ in zip(found, which, strict=True) if set_ == k]
        for start in range(0, len(own) - size + 1, max(size, 1)):
            assert len(set(own[start : start + size])) == size, "each set goes through whole epochs of its own"


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_a_stream_entered_anywhere_is_the_stream_gone_through(weights):
    order = Order([5, 7], 3, [1.0, 2.0], weights)
    whole = stream(order, 2 * BLOCK + 10)
    for start in (1, 17, BLOCK - 1, BLOCK, 2 * BLOCK + 3):
        assert stream(Order([5, 7], 3, [1.0, 2.0], weights), 5, start) == whole[start : start + 5]
    assert stream(Order([5, 7], 4, [1.0, 2.0], weights), 40) != whole[:40]


def test_a_recipe_weighs_its_sets(tmp_path):
    one, two = tiny.source_set(tmp_path / "a", 2), tiny.source_set(tmp_path / "b", 6)
    both = Source([*one.sets, *two.sets])
    generated = tiny.generated_set(tmp_path / "g", 4)
    sets = "data.source=[{dataset: folder, weight: 6}, {dataset: folder, weight: 2}]"
    data = Batches(both, generated, tiny.recipe(sets, "train.generated_weight=2"), 1, 0)
    found = np.bincount(np.searchsorted([2, 8, 12], stream(data.order, 4000), side="right"), minlength=3)
    assert np.abs(found / 4000 - [0.6, 0.2, 0.2]).max() < 0.03
    plain = Batches(both, generated, tiny.recipe("data.source=[folder, folder]", "train.generated_repeat=3"), 1, 0)
    assert Counter(stream(plain.order, 20)) == {**dict.fromkeys(range(8), 1), **dict.fromkeys(range(8, 12), 3)}


# -- rare classes


def speckled(tmp_path, count=12):
    """Road everywhere; image 3 shows a small car, images 5 and 7 a tree."""
    for k in range(count):
        label = np.zeros((96, 128), np.uint8)
        if k == 3:
            label[80:90, 100:112] = 13
        if k in (5, 7):
            label[:20, :60] = 8
        write_png(tmp_path / "images" / f"{k:02d}.png", tiny.PALETTE[label % 4])
        write_png(tmp_path / "labels" / f"{k:02d}.png", label)
    return Source([tiny.open_dataset("folder", tmp_path)])


def test_classes_are_counted_once_and_kept(tmp_path, monkeypatch):
    source = speckled(tmp_path / "set")
    pixels = class_pixels(source, tmp_path / "run" / "pixels.npz", 19, 2)
    assert pixels.shape == (12, 19)
    assert pixels.sum() == 12 * 96 * 128
    assert pixels[3, 13] == 120
    assert np.flatnonzero(pixels[:, 8]).tolist() == [5, 7]
    monkeypatch.setattr(Source, "label", lambda *_: pytest.fail("counted again"))
    assert np.array_equal(class_pixels(source, tmp_path / "run" / "pixels.npz", 19, 2), pixels)
    monkeypatch.undo()
    other = speckled(tmp_path / "other", 9)
    assert len(class_pixels(other, tmp_path / "run" / "pixels.npz", 19, 2)) == 9, "another set is counted anew"
    class_pixels(source, tmp_path / "run" / "pixels.npz", 19, 2)
    swapped = Source(source.sets, folds=[{"bus": "car", "car": "bus"}])
    assert np.array_equal(
        class_pixels(swapped, tmp_path / "run" / "pixels.npz", 19, 2)[:, [13, 15]], pixels[:, [15, 13]]
    ), "labels that are read otherwise too"


def test_a_bad_label_counts_as_empty(tmp_path):
    source = speckled(tmp_path / "set")
    (tmp_path / "set" / "labels" / "04.png").write_bytes(b"")
    pixels = class_pixels(source, tmp_path / "pixels.npz", 19, 1)
    assert pixels[4].sum() == 0
    assert pixels[5].sum() > 0


def test_rare_classes_are_drawn_more_often_and_crops_show_them(tmp_path):
    source = speckled(tmp_path / "set")
    recipe = tiny.recipe("train.batch_size=100", "augment.scale=[1,1]", "augment.jitter=false")
    chosen = RareClasses(class_pixels(source, tmp_path / "p.npz", 19, 1), 0.05, recipe.augment.crop)
    classes = Counter(chosen.draw(np.random.default_rng(seed))[0] for seed in range(300))
    assert set(classes) <= {0, 8, 13}
    assert classes[13] > classes[8] > classes[0], "the rarer the more often"
    with_rare = Batches(source, [], recipe, 1, 0, chosen)[0]["labels"]
    without = Batches(source, [], recipe, 1, 0)[0]["labels"]
    share = [(labels == 13).flatten(1).any(1).float().mean() for labels in (with_rare, without)]
    assert share[0] > 0.3 > 5 * share[1]


def test_an_equal_temperature_draws_evenly_and_no_class_is_an_error():
    pixels = np.array([[900, 100], [1000, 0]])
    even = RareClasses(pixels, 1e6, (8, 8))
    assert np.allclose(even.chances, 0.5)
    assert RareClasses(pixels, 1e-3, (8, 8)).chances.tolist() == [0.0, 1.0]
    with pytest.raises(UsageError, match="no class"):
        RareClasses(np.zeros((3, 19), int), 0.01, (8, 8))


def test_an_image_with_a_few_pixels_of_a_class_is_drawn_only_if_no_other_shows_it():
    pixels = np.array([[4000, 3], [4000, 90], [4000, 0]])
    found = RareClasses(pixels, 0.01, (64, 64))
    assert found.enough == pytest.approx(rare.ENOUGH * 64 * 64)
    assert found.images[1].tolist() == [1]
    assert RareClasses(pixels // 40, 0.01, (64, 64)).images[1].tolist() == [1]
