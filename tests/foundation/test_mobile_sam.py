"""MobileSAM from a checkpoint with the published names, against numbers of its original code."""

import pickle

import numpy as np
import pytest
import torch

import tiny_mobile
from clouds.errors import DataError, UsageError
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.mobile_sam import build, load_mobile_sam, renamed
from clouds.selftrain.refine import refine


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_mobile.save(tmp_path_factory.mktemp("mobile") / "mobile_sam.pt")


@pytest.fixture(scope="module")
def small(path):
    """The same network for 256 pixels."""
    return load_mobile_sam(path, "mobile-sam", "cpu", "float32", side=256)


def test_every_published_name_has_its_place():
    published = tiny_mobile.shapes()
    assert len(published) == 439
    found = renamed({name: torch.zeros(shape) for name, shape in published.items()})
    wanted = {name: tensor.shape for name, tensor in build(256).state_dict().items()}
    assert {name: tensor.shape for name, tensor in found.items()} == wanted


def test_numbers_are_those_of_the_original_code(small):
    """Made by github.com/ChaoningZhang/MobileSAM from this checkpoint, its resolutions set to 256 pixels."""
    pixels = torch.tensor(np.random.RandomState(0).standard_normal((1, 3, 256, 256)), dtype=torch.float32)
    points = torch.tensor([[[20.0, 30.0], [200.0, 100.0], [128.0, 250.0]], [[5.0, 240.0], [6.0, 200.0], [7.0, 190.0]]])
    with torch.no_grad():
        embedding = small.model.get_image_embeddings(pixels)
        out = small.model(image_embeddings=embedding, input_points=points[None], multimask_output=True)
    some = embedding[0, [0, 100, 255], [0, 7, 15], [3, 8, 15]]
    masks, quality = out.pred_masks[0], out.iou_scores[0]
    torch.testing.assert_close(some, torch.tensor([0.356509, -1.398467, 1.157346]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        masks[:, :, 10, 20],
        torch.tensor([[0.284547, -0.612446, -0.456347], [0.245888, -0.699107, -0.380823]]), atol=1e-4, rtol=0,
    )  # fmt: skip
    torch.testing.assert_close(
        quality, torch.tensor([[0.480992, -0.299986, -0.268820], [0.352374, -0.342314, -0.193729]]), atol=1e-4, rtol=0
    )
    areas = (masks > 0).float().mean((2, 3))
    wanted = torch.tensor([[0.602539, 0.416504, 0.416016], [0.649658, 0.337158, 0.471680]])
    torch.testing.assert_close(areas, wanted, atol=1e-3, rtol=0)


def test_it_loads_by_name_at_1024_pixels_and_refines(path, small):
    segmenter = load_segmenter(f"mobile-sam/{path}")
    assert segmenter.name == f"mobile-sam architecture ({path})"
    assert segmenter.side == 1024
    assert segmenter.identity == small.identity
    assert not segmenter.model.training
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    labels = np.zeros((50, 90), np.uint8)
    labels[:, 40:] = 10
    refined = refine(image, labels, small)
    assert refined.shape == labels.shape
    assert set(np.unique(refined)) <= {0, 10, 255}


def changed(path, tmp_path, change):
    tensors = dict(torch.load(path, weights_only=True))
    change(tensors)
    torch.save(tensors, tmp_path / "changed.pt")
    with pytest.raises(DataError) as error:
        load_segmenter(f"mobile-sam/{tmp_path / 'changed.pt'}")
    return str(error.value)


def test_tensors_that_do_not_fit_are_listed(path, tmp_path):
    said = changed(path, tmp_path, lambda t: t.pop("image_encoder.layers.2.blocks.5.attn.qkv.weight"))
    assert "changed.pt: its tensors do not fit. 1 missing: vision_encoder.stages.2.blocks.5.attn.qkv.weight" in said
    said = changed(path, tmp_path, lambda t: t.update({"image_encoder.pos_embed": torch.zeros(1)}))
    assert "1 unexpected: image_encoder.pos_embed" in said
    said = changed(path, tmp_path, lambda t: t.update({"mask_decoder.mask_tokens.weight": torch.zeros(3, 256)}))
    assert "1 of another shape: mask_decoder.mask_tokens.weight (3, 256) instead of (4, 256)" in said
    said = changed(path, tmp_path, lambda t: [t.pop(name) for name in list(t) if name.startswith("image_encoder.")])
    assert "expected MobileSAM's checkpoint, tensors image_encoder.*; found mask_decoder.*, prompt_encoder.*" in said


def test_other_files_are_refused(tmp_path):
    evil = tmp_path / "evil.pt"
    evil.write_bytes(pickle.dumps(print))
    with pytest.raises(DataError, match=r"evil\.pt: refused: not a file of plain tensors"):
        load_segmenter(f"mobile-sam/{evil}")
    with pytest.raises(UsageError, match=r"expected mobile-sam/PATH of the published checkpoint mobile_sam\.pt"):
        load_segmenter(f"mobile-sam/{tmp_path / 'none.pt'}")
