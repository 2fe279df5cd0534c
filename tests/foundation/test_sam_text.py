"""SAM 3 by class names: a tiny detector of the true class with its tokenizer, loaded as the published one is."""

import json

import numpy as np
import pytest
import torch

import clouds
import tiny
import tiny_sam
from clouds.config.label_sets import SYNONYMS
from clouds.config.recipe import SelfTrain
from clouds.errors import DataError, UsageError
from clouds.foundation.segmenter import check_segmenter, load_segmenter
from clouds.foundation.segmenters import sam_text
from clouds.foundation.segmenters.sam_text import load_sam_text
from clouds.selftrain.find_regions import find_regions
from clouds.selftrain.region_files import identity_of, regions_of_set


def picture(seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 255, (45, 83, 3), np.uint8)
    image[10:30, 20:60] = 200
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_sam.save_text(tmp_path_factory.mktemp("sam") / "text")


@pytest.fixture(scope="module")
def segmenter(folder):
    return load_segmenter(f"sam3-text/{folder}")


def test_proposals_are_those_of_the_models_own_processor(folder, segmenter):
    import transformers

    square = {"height": 56, "width": 56}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.Sam3Processor(transformers.Sam3ImageProcessor(size=square), tokenizer)
    wanted = []
    for index, group in enumerate(SYNONYMS):
        for text in group:
            inputs = processor(images=picture(), text=text, return_tensors="pt", input_data_format="channels_last")
            with torch.no_grad():
                out = segmenter.model(
                    pixel_values=inputs["pixel_values"], input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                )  # fmt: skip
            (found,) = processor.post_process_instance_segmentation(
                out, threshold=0.5, mask_threshold=0.5, target_sizes=[(45, 83)]
            )
            masks, scores = found["masks"].bool().numpy(), found["scores"].tolist()
            wanted += [(mask, score, index) for mask, score in zip(masks, scores, strict=True)]
    proposals = list(segmenter.propose(picture()))
    assert len(proposals) == len(wanted) > 3
    assert len({of for _, _, of in proposals}) > 1
    for (mask, score, of), (true, rating, index) in zip(proposals, wanted, strict=True):
        assert (of, mask.dtype, mask.shape) == (index, np.bool_, (45, 83))
        assert (mask != true).mean() < 1e-3
        assert score == pytest.approx(rating, abs=1e-5)


def test_regions_carry_the_class_they_are_proposed_for(segmenter, monkeypatch):
    a, b = np.zeros((2, 45, 83), np.bool_)
    a[:20], b[10:] = True, True
    proposals = [(a, 0.6, 3), (a, 0.9, 3), (b, 0.8, 0), (a, 0.7, 5)]
    monkeypatch.setattr(segmenter, "propose", lambda image: iter(proposals))
    regions = find_regions(picture(), segmenter, 1, 2.0, 1.0)
    assert regions.classes.tolist() == [3, 0, 5], "one mask of two synonyms counts once, of two classes twice"
    assert np.allclose(regions.quality, [0.9, 0.8, 0.7])
    assert np.array_equal(regions.mask(0), a)
    assert np.array_equal(regions.mask(1), b)


def test_the_image_is_encoded_once(segmenter, monkeypatch):
    calls, encode = [], segmenter.model.get_vision_features
    monkeypatch.setattr(segmenter.model, "get_vision_features", lambda **k: calls.append(1) or encode(**k))
    list(segmenter.propose(picture()))
    assert calls == [1]


def test_points_are_refused_wherever_they_would_be_asked(folder, segmenter):
    with pytest.raises(UsageError, match=r"takes class names and no points; use it with selftrain\.refinement=regions"):
        clouds.refine(picture(), np.zeros((45, 83), np.uint8), segmenter)
    with pytest.raises(UsageError, match="takes class names and no points"):
        segmenter.masks(None, np.zeros((1, 1, 2), np.float32))
    with pytest.raises(UsageError, match=r"needs selftrain\.refinement=regions"):
        tiny.recipe(f"selftrain.segmenter=sam3-text/{folder}")
    with pytest.raises(UsageError, match=r"sam3-text.* takes no mask as a prompt"):
        load_segmenter(f"sam3-text/{folder}", second_pass=True)
    assert tiny.recipe(f"selftrain.segmenter=sam3-text/{folder}", "selftrain.refinement=regions")


def test_regions_of_a_set_are_found_with_it(folder, tmp_path):
    images = tiny.generated_set(tmp_path / "set", 2)
    made = tiny.recipe(f"selftrain.segmenter=sam3-text/{folder}", "selftrain.refinement=regions")
    regions = regions_of_set(made, images.__getitem__, range(2), tmp_path)
    assert len(regions(0)) > 0
    assert (regions(0).classes < 19).all()


def test_it_is_taken_out_of_the_published_video_model(tmp_path, segmenter):
    from safetensors.torch import load_file, save_file

    folder = tiny_sam.save_text(tmp_path / "video")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    tensors = load_file(folder / "model.safetensors")
    published = {f"detector_model.{name}": tensor for name, tensor in tensors.items()}
    published["tracker_model.some.weight"] = torch.zeros(3)
    save_file(published, folder / "model.safetensors", {"format": "pt"})
    check_segmenter(f"sam3-text/{folder}")
    found = load_segmenter(f"sam3-text/{folder}").model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in segmenter.model.state_dict().items())


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(UsageError, match=r"expected one of sam3_tracker.* for sam3; use sam3-text/"):
        check_segmenter(f"sam3/{folder}")
    bare = tiny_sam.save_text(tmp_path / "bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    for ask in (load_segmenter, lambda name: check_segmenter(name, fetch=True)):
        with pytest.raises(DataError, match=r"bare: holds no tokenizer; expected tokenizer\.json"):
            ask(f"sam3-text/{bare}")
    (bare / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="its tokenizer cannot be loaded"):
        load_segmenter(f"sam3-text/{bare}")


def test_identity_follows_weights_names_and_thresholds(folder, segmenter, tmp_path, monkeypatch):
    plain = identity_of(segmenter, SelfTrain())
    assert plain == identity_of(load_segmenter(f"sam3-text/{folder}"), SelfTrain(regions_grid=3))
    others = [
        load_sam_text(folder, "x", "cpu", "float32", [["road"], ["sky"]]),
        load_sam_text(folder, "x", "cpu", "bfloat16", SYNONYMS),
        load_sam_text(tiny_sam.save_text(tmp_path / "b", seed=1), "x", "cpu", "float32", SYNONYMS),
    ]
    assert len({plain, *(identity_of(each, SelfTrain()) for each in others)}) == 4
    monkeypatch.setattr(sam_text, "SCORE", 0.2)
    assert identity_of(load_segmenter(f"sam3-text/{folder}"), SelfTrain()) != plain
