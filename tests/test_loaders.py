"""Training batches: fixed by seed and step, labels on their pixels, broken files named."""

import threading
import time
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import tiny
from clouds.config import Augment
from clouds.data.augment import jitter, scale_crop
from clouds.data.loaders import Batches, batches, read_image, read_label
from clouds.errors import DataError
from clouds.generate.images import write_png

AUGMENT = Augment(crop=tiny.CROP)
PLAIN = Augment(crop=tiny.CROP, jitter=False)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return tiny.source_set(folder / "source"), tiny.generated_set(folder / "generated")


def make(sets, augment=AUGMENT, batch_size=3, steps=6, seed=0, **more):
    return Batches(*sets, augment, batch_size, steps, seed, **more)


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_batch_depends_on_seed_and_step_only(sets, workers):
    wanted = {step: make(sets)[step] for step in (4, 0, 5, 2, 1, 3)}
    found = list(batches(make(sets), 0, workers))
    assert len(found) == 6
    assert all(equal(found[step], wanted[step]) for step in range(6))
    late = list(batches(make(sets), 4, workers))
    assert len(late) == 2
    assert equal(late[0], wanted[4])
    assert equal(late[1], wanted[5])
    assert not list(batches(make(sets), 6, workers))


def test_another_seed_and_another_step_give_other_batches(sets):
    first = make(sets)[0]
    assert not torch.equal(first["images"], make(sets, seed=1)[0]["images"])
    assert not torch.equal(first["images"], make(sets)[1]["images"])


def test_loading_leaves_the_global_random_state_alone(sets):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    make(sets)[0]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_a_batch_has_the_promised_shapes_and_marks_its_generated_samples(sets):
    dataset = make(sets, batch_size=40)
    batch = dataset[0]
    made = len(batch["slots"])
    assert 0 < made < 40
    assert batch["images"].shape == (40, 3, 64, 64)
    assert batch["labels"].shape == (40, 64, 64)
    assert batch["clean"].shape == (made, 3, 64, 64)
    assert batch["images"].dtype == batch["labels"].dtype == batch["clean"].dtype == torch.uint8
    assert batch["ids"].shape == batch["flipped"].shape == (made,)
    assert set(batch["ids"].tolist()) == {0, 1, 2}
    ignored = (batch["labels"] == 255).flatten(1).all(1)
    assert ignored.nonzero()[:, 0].tolist() == batch["slots"].tolist()


def test_the_teachers_image_is_the_file_and_the_students_is_its_flipped_jittered_view(sets):
    clean = [torch.from_numpy(read_image(path)).permute(2, 0, 1) for path in sets[1]]
    for augment in (AUGMENT, PLAIN):
        batch = make(sets, augment, batch_size=60)[0]
        assert 0 < batch["flipped"].sum() < len(batch["flipped"])
        jittered = 0
        for g, (slot, index) in enumerate(zip(batch["slots"], batch["ids"], strict=True)):
            assert torch.equal(batch["clean"][g], clean[index])
            view = batch["images"][slot]
            view = view.flip(-1) if batch["flipped"][g] else view
            jittered += not torch.equal(view, clean[index])
        assert jittered > len(batch["slots"]) / 2 if augment is AUGMENT else jittered == 0


def test_a_batch_of_source_images_only_has_no_generated_ones(sets):
    batch = make((sets[0], []))[0]
    assert batch["slots"].shape == (0,)
    assert batch["clean"].shape == (0, 3, 64, 64)
    assert (batch["labels"] < 4).any()


def indices(dataset, count):
    return [dataset._index(position) for position in range(count)]


@pytest.mark.parametrize("repeat", [1.0, 2.0, 3.0])
def test_generated_samples_come_so_many_times_as_often_in_every_epoch(sets, repeat):
    epoch = 4 + int(3 * repeat)
    order = indices(make(sets, repeat=repeat), 3 * epoch)
    for start in range(0, 3 * epoch, epoch):
        wanted = {k: 1 if k < 4 else int(repeat) for k in range(7)}
        assert Counter(order[start : start + epoch]) == wanted
    assert order[:epoch] != order[epoch : 2 * epoch]


def test_a_fractional_repeat_is_met_on_average(sets):
    dataset = make((sets[0], sets[1] * 20), repeat=0.3)
    counts = Counter(indices(dataset, 2000))
    source = np.mean([counts[k] for k in range(4)])
    made = [counts[k] for k in range(4, 64)]
    assert min(made) > 0
    assert abs(np.mean(made) / source - 0.3) < 0.05
    more = make((sets[0], sets[1] * 20), repeat=1.5)
    order = Counter(indices(more, len(more._order(0))))
    assert {order[k] for k in range(4, 64)} == {1, 2}


def painted(height, width):
    """A label whose colour on the image says its class: 255 // 7 steps, far apart."""
    label = np.random.default_rng(height * 1000 + width).integers(0, 7, (height // 8 + 1, width // 8 + 1), np.uint8)
    label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(label[..., None] * 36, 3, axis=2), label


@settings(deadline=None)
@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    crop=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    factor=st.floats(0.5, 2.0),
    seed=st.integers(0, 99),
)
def test_labels_stay_on_their_pixels(height, width, crop, factor, seed):
    image, label = painted(height, width)
    rng = np.random.default_rng(seed)
    image, label = scale_crop(image, label, crop, (factor, factor), rng)
    assert image.shape == (*crop, 3)
    assert label.shape == crop
    kept = label != 255
    assert not image[~kept].any()
    around = np.ones((5, 5))  # doubling mixes colours over two pixels on either side of an edge
    flat = cv2.erode(kept.astype(np.uint8), around, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(bool)
    flat &= (cv2.dilate(label, around) == label) & (cv2.erode(label, around) == label)
    assume(flat.any())
    assert np.array_equal(image[flat][:, 0], label[flat] * 36)


def test_labels_of_a_whole_batch_stay_on_their_pixels(sets):
    small = Augment(crop=tiny.CROP, jitter=False, scale=(0.3, 0.8))
    batch = make((sets[0], []), small, batch_size=40)[0]
    colours = torch.from_numpy(tiny.PALETTE).float()[..., None, None]
    near = (batch["images"][:, None].float() - colours).norm(dim=2)
    kept = batch["labels"] != 255
    assert 0.2 < kept.float().mean() < 1
    assert (near.argmin(1) == batch["labels"])[kept].float().mean() > 0.95
    assert not batch["images"].amax(1)[~kept].any()
    left_padded, right_padded = ((~kept[:, 0, x]).sum() for x in (0, -1))
    assert left_padded > 0, "a flip moves the padding to the left"
    assert right_padded > 0


@settings(deadline=None)
@example(height=60, width=100, factor=1.7, seed=0)
@given(height=st.integers(40, 90), width=st.integers(40, 90), factor=st.floats(0.5, 2.0), seed=st.integers(0, 9))
def test_only_what_the_scaled_image_does_not_cover_is_padded(height, width, factor, seed):
    image, label = np.full((height, width, 3), 9, np.uint8), np.full((height, width), 3, np.uint8)
    image, label = scale_crop(image, label, (40, 50), (factor, factor), np.random.default_rng(seed))
    covered = [min(round(size * factor), side) for size, side in ((height, 40), (width, 50))]
    rows, columns = ((label == 3).any(axis) for axis in (1, 0))
    for found, wanted in zip((rows, columns), covered, strict=True):
        assert found[: found.sum()].all()
        assert abs(int(found.sum()) - wanted) <= (wanted < len(found))
    inside = np.outer(rows, columns)
    assert (label[inside] == 3).all()
    assert (image[inside] == 9).all()
    assert (label[~inside] == 255).all()
    assert (image[~inside] == 0).all()


def test_scaling_changes_the_size_of_things_by_the_factor():
    label = np.zeros((200, 200), np.uint8)
    label[90:110, 90:110] = 5
    image = np.repeat(label[..., None], 3, axis=2)
    for factor in (0.5, 1.0, 1.9):
        _, found = scale_crop(image, label, (400, 400), (factor, factor), np.random.default_rng(0))
        assert abs((found == 5).sum() ** 0.5 - 20 * factor) <= 1


def test_crops_and_factors_vary_and_reach_the_whole_image(sets):
    rng = np.random.default_rng(0)
    position = np.arange(100 * 100).reshape(100, 100)
    image = np.stack([position // 100, position % 100, position * 0], axis=-1).astype(np.uint8)
    label = np.zeros((100, 100), np.uint8)
    corners = [scale_crop(image, label, (40, 40), (1.0, 1.0), rng)[0][0, 0, :2] for _ in range(400)]
    assert np.min(corners) == 0
    assert np.max(corners) == 60


@settings(deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 500))
def test_jitter_keeps_shape_type_and_input(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    before = image.copy()
    found = jitter(image, np.random.default_rng(seed))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(found, jitter(image, np.random.default_rng(seed)))


def test_jitter_changes_most_images_and_not_too_much():
    image = tiny.picture(tiny.label_map(32, 32, 0), 0)
    found = [jitter(image, np.random.default_rng(seed)) for seed in range(60)]
    assert 45 < sum(not np.array_equal(one, image) for one in found) < 60
    assert len({one.tobytes() for one in found}) > 40
    grey = np.full((4, 4, 3), 100, np.uint8)
    tones = np.array([jitter(grey, np.random.default_rng(seed)) for seed in range(300)])
    assert np.ptp(tones, axis=-1).max() <= 1, "a grey pixel has no hue to turn"
    assert 34 <= tones.min() < 60
    assert 150 < tones.max() <= 198


def damaged(sets, tmp_path, which, content):
    source, generated = tiny.source_set(tmp_path / "s", 1), tiny.generated_set(tmp_path / "g", 1)
    path = {"image": source[0][0], "label": source[0][1], "generated": generated[0]}[which]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content(path.read_bytes()))
    return make((source, generated), batch_size=8), path


@pytest.mark.parametrize("which", ["image", "label", "generated"])
@pytest.mark.parametrize("content", [None, lambda b: b"", lambda b: b"no image", lambda b: b[: len(b) // 2]])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named(sets, tmp_path, which, content, workers):
    dataset, path = damaged(sets, tmp_path, which, content)
    with pytest.raises(DataError, match=path.name):
        list(batches(dataset, 0, workers))


def test_images_and_labels_of_the_wrong_size_or_kind_are_named(sets, tmp_path):
    colour, small = tmp_path / "colour.png", tmp_path / "small.png"
    write_png(colour, np.zeros((64, 64, 3), np.uint8))
    write_png(small, np.zeros((60, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"colour\.png"):
        read_label(colour)
    with pytest.raises(DataError, match=r"small\.png.*60.*64"):
        make((sets[0], [small]), batch_size=12)[0]
    with pytest.raises(DataError, match=r"0_label\.png.*96.*128"):
        make(([(small, sets[0][0][1])], []))[0]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_threads_stop_when_the_iterator_is_closed_early(sets, monkeypatch):
    made, whole = [], Batches.__getitem__

    def slow(self, step):
        made.append(step)
        time.sleep(0.2 * (step > 0))
        return whole(self, step)

    monkeypatch.setattr(Batches, "__getitem__", slow)
    stream = batches(make(sets, steps=10_000), 0, 2)
    next(stream)
    assert loader_threads()
    stream.close()
    begun = len(made)
    until = time.monotonic() + 10
    while loader_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert not loader_threads()
    assert len(made) <= begun + 1, "waiting steps are dropped"


def test_no_more_than_a_few_batches_are_made_ahead(sets, monkeypatch):
    made = []
    whole = Batches.__getitem__
    monkeypatch.setattr(Batches, "__getitem__", lambda self, step: made.append(step) or whole(self, step))
    stream = batches(make(sets, steps=100), 0, 2)
    next(stream)
    time.sleep(0.3)
    assert len(made) <= 6
    stream.close()
