"""How a model looks at an image: windows, scales, mirror images, batches of mixed sizes, strips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clouds.config.load import load_recipe
from clouds.errors import UsageError
from clouds.model.inference import LONGEST, Inference, look, places, resized
from clouds.predict.predictor import Predictor
from conftest import small_model

RNG = np.random.default_rng(5)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def batch(*size: int) -> torch.Tensor:
    return torch.from_numpy(RNG.integers(0, 256, size, np.uint8))


def tint(images: torch.Tensor) -> torch.Tensor:
    """A model whose map at a pixel depends on that pixel alone: the same through any window, and mirrored."""
    return torch.cat([images.float(), images.float().mean(1, keepdim=True)], 1)


def centre(images: torch.Tensor) -> torch.Tensor:
    """A model that sees where in its input a pixel is: different through every window."""
    h, w = images.shape[-2:]
    hill = torch.arange(h)[:, None] * (h - torch.arange(h)[:, None]) + 3 * torch.arange(w)
    return images.float()[:, :2] * hill + hill


# -- windows


@given(length=st.integers(1, 300), window=st.integers(1, 120), data=st.data())
def test_windows_cover_every_pixel_and_the_last_ends_at_the_border(length, window, data):
    stride = data.draw(st.integers(1, window))
    found = places(length, window, stride)
    seen = np.zeros(length, int)
    for place in found:
        assert 0 <= place.start < place.stop <= length
        assert place.stop - place.start == min(window, length)
        seen[place] += 1
    assert seen.min() >= 1
    assert found[-1].stop == length
    assert len({place.start for place in found}) == len(found) == max(-(-(length - window) // stride), 0) + 1


def test_overlapping_windows_are_averaged_by_how_many_saw_the_pixel():
    images = batch(2, 3, 70, 90)
    got = look(centre, images, Inference(0, window=(48, 40), stride=(30, 25)))
    total, count = np.zeros((2, 2, 70, 90)), np.zeros((70, 90))
    for top in (0, 22):
        for left in (0, 25, 50):
            place = (slice(top, top + 48), slice(left, left + 40))
            total[(..., *place)] += centre(images[(..., *place)]).numpy()
            count[place] += 1
    assert count.max() > 1
    assert np.allclose(got.numpy(), total / count, rtol=1e-6)


def test_where_a_window_sees_what_the_whole_sees_the_map_is_the_same():
    images = batch(1, 3, 100, 133)
    got = look(tint, images, Inference(0, window=48))
    assert torch.allclose(got, tint(images))


@pytest.mark.parametrize("window", [64, 65, 500, (64, 96)])
def test_a_window_as_large_as_the_image_is_the_whole_image(window):
    images = batch(1, 3, 64, 64)
    assert torch.equal(look(centre, images, Inference(0, window=window)), centre(images))


def test_an_image_smaller_than_the_window_on_one_side_is_seen_at_its_full_height():
    shapes = []

    def see(images):
        shapes.append(tuple(images.shape[-2:]))
        return tint(images)

    assert look(see, batch(1, 3, 40, 100), Inference(0, window=64)).shape[-2:] == (40, 100)
    assert shapes == [(40, 64)] * 2


def test_the_network_never_sees_more_than_a_window(predictor):
    shapes = []
    spied = predictor.with_inference(shorter_side=150, window=64)
    spied.semantic = lambda images: shapes.append(tuple(images.shape)) or predictor.semantic(images)
    result = spied.predict(picture(80, 120))
    assert result.labels.shape == (80, 120)
    assert set(shapes) == {(1, 3, 64, 64)}
    assert len(shapes) == 4 * 5


def test_the_stride_is_two_thirds_of_the_window_unless_given():
    assert Inference(window=768).tiling() == ((768, 768), (512, 512))
    assert Inference(window=(96, 192)).tiling() == ((96, 192), (64, 128))
    assert Inference(window=96, stride=10).tiling() == ((96, 96), (10, 10))
    assert Inference().tiling() is None


# -- mirror images


def test_a_model_that_does_not_mind_mirroring_gives_the_same_with_flip():
    images = batch(2, 3, 50, 80)
    assert torch.equal(look(tint, images, Inference(0, flip=True)), tint(images))


@pytest.mark.parametrize("window", [None, 48])
def test_flip_is_the_mean_of_both_views(window):
    images = batch(1, 3, 48, 80)
    got = look(centre, images, Inference(0, window=window, stride=window and 32, flip=True))

    def both(part):
        return (centre(part) + centre(part.flip(-1)).flip(-1)) / 2

    parts = [slice(0, 80)] if window is None else [slice(0, 48), slice(32, 80)]
    total, count = torch.zeros(1, 2, 48, 80), torch.zeros(80)
    for columns in parts:
        total[..., columns] += both(images[..., columns])
        count[columns] += 1
    assert torch.allclose(got, total / count)


def test_flip_leaves_the_images_and_the_models_map_as_they_are():
    images = batch(1, 3, 32, 40)
    before = images.clone()
    kept = []

    def see(given):
        kept.append((given.float(), given.float().clone()))
        return kept[-1][0]

    look(see, images, Inference(0, flip=True))
    assert torch.equal(images, before)
    assert all(torch.equal(now, then) for now, then in kept)


def test_a_mirrored_picture_gives_the_mirrored_labels_with_flip(predictor):
    flipping, image = predictor.with_inference(flip=True, shorter_side=64), picture(64, 96)  # 96: no padding on a side
    here, there = flipping.predict(image), flipping.predict(image[:, ::-1])
    assert np.abs(here.scores - there.scores[:, ::-1]).max() < 1e-4
    assert np.abs(here.scores - predictor.predict(image).scores).max() > 1e-4


# -- scales


def test_one_scale_is_the_plain_prediction(predictor):
    image = picture(40, 70)
    scores = predictor.with_inference(scales=(1,)).predict(image).scores
    assert np.array_equal(scores, predictor.predict(image).scores)


def test_scales_are_the_mean_of_raw_maps_at_the_images_own_size(predictor):
    image = picture(40, 70)
    got = predictor.with_inference(scales=(1.0, 1.5)).predict(image)
    maps = []
    for side in (64, 96):
        small = resized((40, 70), side)
        pixels = np.ascontiguousarray(np.moveaxis(_resize(image, small), -1, 0))
        raw = predictor.semantic(torch.from_numpy(pixels)[None])
        maps.append(F.interpolate(raw, size=(40, 70), mode="bilinear", align_corners=False)[0])
    mean = (maps[0] + maps[1]) / 2
    assert np.array_equal(got.labels, mean.argmax(0).numpy())
    assert np.allclose(got.scores, (mean.max(0).values / mean.sum(0)).numpy(), atol=1e-6)
    assert not np.allclose(got.scores, predictor.predict(image).scores, atol=1e-4)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def test_scales_are_relative_to_the_shorter_side_or_to_the_images_own():
    assert Inference(64, scales=(0.5, 1, 1.5)).sizes((128, 256)) == [(32, 64), (64, 128), (96, 192)]
    assert Inference(0, scales=(0.1, 4)).sizes((120, 250)) == [(12, 25), (480, 1000)]


# -- strips


def test_a_strip_is_not_enlarged_past_the_longest_side():
    assert Inference(1024).sizes((10, 10_000)) == [(8, LONGEST)]
    assert Inference(1024).sizes((10_000, 1)) == [(LONGEST, 1)]
    assert Inference(1024).sizes((1024, 2048)) == [(1024, 2048)]
    assert Inference(1024, scales=(1, 2)).sizes((2000, 10_000)) == [(1024, 5120), (1638, LONGEST)]
    assert Inference(0).sizes((100, 10_000)) == [(100, 10_000)]


def test_a_strip_is_segmented_at_its_own_size(predictor):
    assert predictor.with_inference(shorter_side=1024).predict(picture(2, 3000)).labels.shape == (2, 3000)


# -- batches


@pytest.mark.parametrize("changes", [{}, {"window": 48, "scales": (1, 1.5), "flip": True}, {"shorter_side": 0}])
def test_a_batch_of_mixed_sizes_is_what_its_images_give_one_by_one(predictor, changes):
    sizes = [(40, 70), (70, 40), (80, 140), (65, 65), (40, 70)]
    looking, images = predictor.with_inference(**changes), [picture(*size) for size in sizes]
    together = looking.predict_batch(images, batch_size=2)
    assert [result.labels.shape for result in together] == sizes
    for image, result in zip(images, together, strict=True):
        alone = looking.predict(image)
        assert np.array_equal(result.image, image)
        assert np.abs(result.scores - alone.scores).max() < 1e-3
        assert np.mean(result.labels == alone.labels) > 0.999


def test_images_of_equal_resized_size_go_together_and_no_more_than_asked():
    shapes = []
    predictor = Predictor(small_model())
    real = predictor.semantic
    predictor.semantic = lambda images: shapes.append(tuple(images.shape)) or real(images)
    images = [picture(*size) for size in [(40, 80), (64, 64), (80, 160), (64, 128), (20, 40)]]
    predictor.predict_batch(images, batch_size=3)
    assert sorted(shapes) == [(1, 3, 64, 64), (1, 3, 64, 128), (3, 3, 64, 128)]


def test_no_image_is_no_result_and_a_batch_of_none_is_refused(predictor):
    assert predictor.predict_batch([]) == []
    with pytest.raises(UsageError, match="batch_size: got 0; expected at least 1"):
        predictor.predict_batch([picture(4, 4)], batch_size=0)


# -- the protocol


@pytest.mark.parametrize(("values", "said"), [
    ({"shorter_side": 8}, "shorter_side: got 8; expected at least 32, or 0"),
    ({"shorter_side": -64}, "shorter_side: got -64"),
    ({"window": 0}, "window: got 0; expected at least 32"),
    ({"window": (64, 8)}, r"window: got \(64, 8\)"),
    ({"stride": 8}, "stride: got 8 without a window"),
    ({"window": 64, "stride": 65}, "stride: got 65; expected 1 to the window's 64"),
    ({"window": 64, "stride": 0}, "stride: got 0"),
    ({"window": (64, 96), "stride": 80}, "stride: got 80"),
    ({"scales": ()}, r"scales: got \[\]; expected numbers from 0.1 to 4.0"),
    ({"scales": (1.0, 5.0)}, r"scales: got \[1.0, 5.0\]"),
    ({"scales": (float("nan"),)}, r"scales: got \[nan\]"),
])  # fmt: skip
def test_a_protocol_that_cannot_be_is_refused(predictor, values, said):
    with pytest.raises(UsageError, match=said):
        predictor.with_inference(**values)


def test_all_faults_are_named_at_once():
    with pytest.raises(UsageError) as caught:
        Inference(shorter_side=3, window=1, scales=())
    assert [line.strip().partition(":")[0] for line in str(caught.value).splitlines()] == [
        "shorter_side", "window", "scales",
    ]  # fmt: skip


def test_looking_otherwise_leaves_the_predictor_as_it_was(predictor):
    other = predictor.with_inference(window=96)
    assert other.model is predictor.model
    assert other.inference == Inference(64, window=96)
    assert predictor.inference == Inference(64)


def test_other_names_are_looked_for_by_the_same_protocol(monkeypatch):
    monkeypatch.setattr("clouds.predict.predictor.with_classes", lambda model, classes, weights: model)
    predictor, image = Predictor(small_model()), picture(70, 90)
    plain, through = predictor.predict(image), predictor.with_inference(window=48).predict(image)
    assert not np.array_equal(plain.scores, through.scores)
    assert np.array_equal(predictor.predict(image, classes=["a"]).scores, plain.scores)
    assert np.array_equal(predictor.with_inference(window=48).predict(image, classes=["a"]).scores, through.scores)


def test_a_recipes_settings_are_the_protocols():
    settings = load_recipe("demo", ["evaluate.window=96", "evaluate.stride=48", "evaluate.scales=[1,2]"]).evaluate
    assert Inference.of(settings) == Inference(256, 96, 48, (1, 2), False)
    assert Inference.of(load_recipe("demo").evaluate) == Inference(256)


def test_a_window_that_is_not_square_is_recorded_as_height_and_width():
    record = Inference(256, window=(96, 192), flip=True).as_record()
    assert record == {"shorter_side": 256, "window": [96, 192], "stride": [64, 128], "scales": [1.0], "flip": True}
