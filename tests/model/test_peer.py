"""The head is Mask2Former's: with the same weights, every output and every gradient equals those of transformers.

The two sides are those of ``benchmarks/model.py``, made small.
"""

import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def peer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2] / "benchmarks")])
        import peer

        yield peer


def test_outputs_and_gradients_equal_those_of_transformers(peer):
    ours, theirs = peer.pair("efficientnet_lite0", queries=7, classes=4, seed=1, hidden=32, layers=(2, 4))
    theirs.config.output_auxiliary_logits = True
    with torch.no_grad():  # both start these at zero or one, where an exchange shows nothing
        for name, parameter in theirs.named_parameters():
            if parameter.ndim == 1 and "_backbone" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    ours.head.load_state_dict(peer.renamed(theirs.state_dict()))
    images, _ = peer.scene(2, 96, 160, classes=4)
    mine, other = ours(images), theirs(pixel_values=(images.float() - peer.MEAN) / peer.STD)
    outputs = [(a["class_queries_logits"], a["masks_queries_logits"]) for a in other.auxiliary_logits]
    outputs.append((other.class_queries_logits, other.masks_queries_logits))
    assert len(mine.logits) == len(outputs) == 5
    loss = 0
    for k, (logits, masks) in enumerate(outputs):
        for found, wanted in ((mine.logits[k], logits), (mine.masks(k), masks)):
            assert found.shape == wanted.shape
            assert (found - wanted).abs().max() < 1e-4 * wanted.std(), k
            loss = loss + (found.sin().mean() - 2 * wanted.sin().mean())
    loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    gradients = peer.renamed({name: gradients.get(name, torch.zeros_like(p)) for name, p in theirs.named_parameters()})
    for name, parameter in ours.head.named_parameters():
        assert torch.allclose(parameter.grad, -gradients[name] / 2, rtol=1e-3, atol=1e-6), name
