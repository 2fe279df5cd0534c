"""Training batches: fixed by seed and step, labels on their pixels, broken files named."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import tiny
from clouds.data.batches.augment import distort, jitter, paste, resized_window, scale_crop
from clouds.data.batches.batches import Batches, batches
from clouds.data.images import read_image, write_png
from clouds.errors import DataError

AUGMENT = ()
PLAIN = ("augment.jitter=false", "augment.distort=0")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return tiny.source_set(folder / "source"), tiny.generated_set(folder / "generated")


def make(sets, augment=AUGMENT, batch_size=3, steps=6, seed=0, settings=(), **more):
    recipe = tiny.recipe(*augment, f"train.batch_size={batch_size}", *settings)
    return Batches(*sets, recipe, steps, seed, **more)


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


def test_sets_of_different_resolutions_show_things_at_one_size():
    small, large = painted(48, 80), painted(96, 160)
    for shorter_side, expected in ((None, (96, 160)), (48, (48, 80)), (24, (24, 40))):
        image, label = scale_crop(*large, (200, 200), (1.0, 1.0), np.random.default_rng(0), shorter_side)
        assert (label != 255).sum() == expected[0] * expected[1]
        assert not image[expected[0] :].any()
        assert not image[:, expected[1] :].any()
    image, label = scale_crop(*small, (200, 200), (2.0, 2.0), np.random.default_rng(0), 48)
    assert (label != 255).sum() == 96 * 160


def resized(image, scaled):
    return np.asarray(Image.fromarray(image).resize(scaled[::-1], Image.Resampling.BILINEAR)).astype(int)


@settings(deadline=None)
@given(
    height=st.integers(9, 70),
    width=st.integers(9, 70),
    crop=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    factor=st.floats(0.3, 2.5),
    seed=st.integers(0, 99),
)
def test_a_window_resized_alone_is_that_window_of_the_whole_image_resized(height, width, crop, factor, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    scaled = max(round(height * factor), 1), max(round(width * factor), 1)
    size = min(crop[0], scaled[0]), min(crop[1], scaled[1])
    y, x = (int(rng.integers(whole - part + 1)) for whole, part in zip(scaled, size, strict=True))
    found = resized_window(image, scaled, (y, x), size)
    wanted = resized(image, scaled)[y : y + size[0], x : x + size[1]]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2, "two passes, each rounds; Pillow takes the cheaper one first"
    assert abs((found - wanted).mean()) < 0.3


@settings(deadline=None)
@given(height=st.integers(9, 70), width=st.integers(9, 70), factor=st.floats(0.3, 2.5), seed=st.integers(0, 99))
def test_a_crop_is_cut_from_the_scaled_image_and_label(height, width, factor, seed):
    """The whole pipeline beside the plain one: scale everything, then cut."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    label = rng.integers(0, 19, (height, width), np.uint8)
    found = scale_crop(image, label, (32, 24), (factor, factor), np.random.default_rng(seed))
    again = np.random.default_rng(seed)
    again.uniform(factor, factor)
    scaled = max(round(height * factor), 1), max(round(width * factor), 1)
    y, x = (int(again.integers(max(s - c, 0) + 1)) for s, c in zip(scaled, (32, 24), strict=True))
    whole, labels = resized(image, scaled), cv2.resize(label, scaled[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    ties = np.logical_or.outer(
        *((2 * np.arange(part) + 1) * own % (2 * part) == 0 for part, own in zip(scaled, label.shape, strict=True))
    )  # centres that fall between two pixels: either will do
    h, w = min(scaled[0], 32), min(scaled[1], 24)
    assert np.abs(found[0][:h, :w] - whole[y : y + h, x : x + w]).max() <= 2
    assert ((found[1][:h, :w] == labels[y : y + h, x : x + w]) | ties[y : y + h, x : x + w]).all()
    assert (found[1][h:] == 255).all()
    assert (found[1][:, w:] == 255).all()


def test_labels_of_a_whole_batch_stay_on_their_pixels(sets):
    small = (*PLAIN, "augment.scale=[0.3,0.8]")
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
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 500),
    change=st.sampled_from([jitter, distort]),
)
def test_a_change_of_look_keeps_shape_type_and_input(height, width, seed, change):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    before = image.copy()
    found = change(image, np.random.default_rng(seed))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(found, change(image, np.random.default_rng(seed)))


def test_distortion_changes_the_share_of_samples_asked_for_and_nothing_else(sets):
    plain, some, every = (make(sets, batch_size=60, settings=(f"augment.distort={share}",))[0] for share in (0, 0.5, 1))
    for found, low, high in ((some, 0.3, 0.7), (every, 0.99, 1)):
        assert torch.equal(plain["labels"], found["labels"])
        assert torch.equal(plain["flipped"], found["flipped"])
        assert torch.equal(plain["clean"], found["clean"])
        changed = (plain["images"] != found["images"]).flatten(1).any(1)
        assert low <= changed.float().mean() <= high


def test_distortion_keeps_what_is_bright_apart_from_what_is_dark():
    image = np.repeat(np.array([40, 200], np.uint8).repeat(16), 3).reshape(1, 32, 3).repeat(32, 0)
    apart = [np.abs(float(found[:, :12].mean()) - float(found[:, 20:].mean()))
             for found in (distort(image, np.random.default_rng(seed)) for seed in range(100))]  # fmt: skip
    assert np.mean([value > 30 for value in apart]) > 0.9


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


def damaged(tmp_path, which, content, count=1, **more):
    """A source and a generated set of ``count`` each, the first file of one kind damaged."""
    source, generated = tiny.source_set(tmp_path / "s", count), tiny.generated_set(tmp_path / "g", count)
    sample = source.sets[0].samples[0]
    path = Path({"image": str(sample.image), "label": str(sample.label), "generated": generated[0]}[which])
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content(path.read_bytes()))
    return make((source, generated), batch_size=8, **more), path


DAMAGE = [None, lambda b: b"", lambda b: b"no image", lambda b: b[: len(b) // 2]]


@pytest.mark.parametrize("which", ["image", "label", "generated"])
@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_files_end_the_run_and_are_named(tmp_path, which, content, workers):
    dataset, path = damaged(tmp_path, which, content)
    with pytest.raises(DataError, match=rf"(?s)1 of 2 samples.*data\.max_bad.*{path.name}"):
        list(batches(dataset, 0, workers))


@pytest.mark.parametrize("which", ["image", "label", "generated"])
@pytest.mark.parametrize("content", DAMAGE)
def test_a_few_broken_files_are_skipped_named_once_and_counted(tmp_path, which, content, capsys):
    dataset, path = damaged(tmp_path, which, content, count=5, settings=["data.max_bad=0.1"])
    whole = make((dataset.source, dataset.unlabelled), batch_size=8)
    found = list(batches(dataset, 0, 2))
    assert len(found) == 6
    assert len(dataset.bad) == 1
    said = capsys.readouterr().err
    assert said.count(path.name) == 1
    assert "skipped" in said
    again = make((dataset.source, dataset.unlabelled), batch_size=8, settings=["data.max_bad=0.1"])
    assert equal(again[3], found[3]), "what replaces a bad file follows from the seed and the step"
    assert not len(whole.bad)
    for batch in found:
        assert not (batch["labels"] == 255).flatten(1).all(1)[[s for s in range(8) if s not in batch["slots"]]].any()
        if which == "generated":
            assert 0 not in batch["ids"]


def test_bad_files_only_end_the_run_whatever_is_allowed(tmp_path):
    source, generated = tiny.source_set(tmp_path / "s", 2), tiny.generated_set(tmp_path / "g", 2)
    for path in generated:
        path.unlink()
    with pytest.raises(DataError, match=r"in a row.*\.png"):
        list(batches(make((source, generated), settings=["data.max_bad=1"]), 0, 0))


def test_images_of_the_wrong_size_are_named(sets, tmp_path):
    small = tmp_path / "small.png"
    write_png(small, np.zeros((60, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"small\.png.*60.*64"):
        make((sets[0], [small]), batch_size=12)[0]
    source = tiny.source_set(tmp_path / "s", 1)
    write_png(tmp_path / "s" / "images" / "0.png", np.zeros((60, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"labels/0\.png: label is 128x96 but its image .*0\.png is 64x60"):
        make((source, []))[0]


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


def test_the_processes_parts_are_the_whole_batch(sets):
    whole = make(sets, batch_size=5)[2]
    for rank in range(2):
        part = make(sets, batch_size=5, process=(rank, 2))[2]
        places = part["places"].tolist()
        assert places == list(range(rank, 5, 2))
        for key in ("images", "labels"):
            assert torch.equal(part[key], whole[key][places])
        mine = [g for g, slot in enumerate(whole["slots"].tolist()) if slot in places]
        assert [places[slot] for slot in part["slots"]] == whole["slots"][mine].tolist()
        for key in ("ids", "flipped", "clean"):
            assert torch.equal(part[key], whole[key][mine])


def test_pasting_changes_the_generated_views_and_nothing_else(sets):
    plain = make(sets, batch_size=40)[0]
    made = set(plain["slots"].tolist())
    others = [slot for slot in range(40) if slot not in made]
    for mix in (0.5, 1):
        batch = make(sets, batch_size=40, settings=[f"selftrain.mix={mix}"])[0]
        assert torch.equal(batch["images"][others], plain["images"][others])
        assert torch.equal(batch["labels"][others], plain["labels"][others])
        assert torch.equal(batch["clean"], plain["clean"])
        pasted = [bool((batch["labels"][slot] != 255).any()) for slot in sorted(made)]
        assert all(pasted) if mix == 1 else 0 < sum(pasted) < len(made)
        for slot in made:
            where = batch["labels"][slot] != 255
            assert torch.equal(batch["images"][slot][:, ~where], plain["images"][slot][:, ~where])


@pytest.mark.parametrize("present", [0, 1, 2, 5])
def test_half_of_the_sources_classes_are_pasted_with_their_labels(present):
    truth = (np.arange(10 * 20).reshape(10, 20) % max(present, 1)).astype(np.uint8)
    truth[: 10 if present == 0 else 1] = 255
    source, image = np.full((10, 20, 3), 200, np.uint8), np.zeros((10, 20, 3), np.uint8)
    mixed, label = paste(image, np.full((10, 20), 9, np.uint8), source, truth, np.random.default_rng(0))
    pasted = label != 9
    assert len(np.unique(truth[pasted])) == (present + 1) // 2
    assert np.array_equal(label[pasted], truth[pasted])
    assert np.array_equal(mixed[..., 0] == 200, pasted)
    assert np.array_equal(pasted, np.isin(truth, np.unique(truth[pasted])))
    assert not pasted[0].any(), "ignored pixels are never pasted"
