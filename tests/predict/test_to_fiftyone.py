"""FiftyOne shows what the model sees; its own package and a database of it are needed.

The database is the one FiftyOne is configured for, or FIFTYONE_DATABASE_URI: a mongod on this machine.
"""

import numpy as np
import pytest
from PIL import Image

import clouds
from clouds.errors import BackendError
from clouds.predict.to_fiftyone import add_to_fiftyone


def test_without_the_package_one_message_says_so(monkeypatch, model_folder, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "fiftyone", None)
    with pytest.raises(BackendError, match="pip install fiftyone"):
        add_to_fiftyone([], clouds.load(model_folder), tmp_path)


@pytest.fixture
def dataset(tmp_path):
    fiftyone = pytest.importorskip("fiftyone", reason="NOT TESTED: pip install fiftyone")
    try:
        made = fiftyone.Dataset()
    except Exception as error:
        pytest.skip(f"NOT TESTED: FiftyOne reaches no database ({error})")
    rng = np.random.default_rng(0)
    for name in ("a/x", "b/x"):  # of one name
        (tmp_path / name).parent.mkdir()
        picture = np.kron(rng.integers(0, 255, (4, 6, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.jpg")
    (tmp_path / "b" / "broken.jpg").write_bytes(b"none")
    made.add_images([str(path) for path in sorted(tmp_path.rglob("*.jpg"))])
    yield made
    made.delete()


def test_samples_get_masks_scores_and_names(dataset, model_folder, tmp_path):
    model = clouds.load(model_folder)
    failed = add_to_fiftyone(dataset, model, tmp_path / "out", "seen")
    assert [each["path"] for each in failed] == [str(tmp_path / "b" / "broken.jpg")]
    assert dataset.mask_targets["seen"] == dict(enumerate(model.classes, 1))
    whole = dataset.exists("seen")
    assert len(whole) == 2
    for sample in whole:
        result = model.predict(sample.filepath)
        assert np.array_equal(sample.seen.get_mask(), result.labels + 1), "0 is what FiftyOne does not show"
        assert np.abs(sample.seen_scores.get_map() / 255 - result.scores).max() < 1 / 255
        assert sample.seen_confidence == pytest.approx(result.scores.mean(), abs=1e-6)
    assert whole.sort_by("seen_confidence").first().seen_confidence <= whole.last().seen_confidence


def test_of_a_view_its_samples_alone(dataset, model_folder, tmp_path):
    add_to_fiftyone(dataset.limit(1), clouds.load(model_folder), tmp_path / "out")
    assert len(dataset) == 3
    assert len(dataset.exists("predictions")) == 1
    assert dataset.mask_targets["predictions"][1]
