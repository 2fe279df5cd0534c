"""Matching and losses equal the reference implementation's, with its own random points."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clouds.model import loss as L
from clouds.model.decoder import Prediction

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "official_loss.npz"


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"GOLDEN CASES MISSING: {GOLDEN}")
def test_losses_and_gradients_match_the_reference():
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items() if value.ndim}
    masks = golden["pred_masks"].float().requires_grad_()
    logits = golden["pred_logits"].float().requires_grad_()
    labels = golden["labels"]
    settings = L.LossSettings(points=512, ignore_is_negative=True)
    identity = torch.eye(20).expand(2, -1, -1)  # queries pick channels, so the mask features are the masks themselves
    prediction = Prediction([logits], [identity], masks)

    points = torch.stack([golden["match_points_0"].view(-1, 2), golden["match_points_1"].view(-1, 2)])
    matched, labelled = L.match(prediction, labels, points, settings)
    targets, total = L.totals(labels, prediction.logits[0].shape[1])
    assert targets == 34
    assert torch.allclose(labelled, torch.ones_like(labelled))
    for image in (0, 1):
        mine = matched.image == image
        present = labels[image].unique()
        present = present[present != 255]
        assert matched.query[mine].tolist() == golden[f"match_rows_{image}"].tolist()
        assert matched.class_[mine].tolist() == present[golden[f"match_cols_{image}"]].tolist()

    ce = L.class_loss(torch.stack(prediction.logits), matched, labelled, total)
    mask, dice = L.matched_losses(
        prediction, labels, matched, golden["loss_random_points"], golden["loss_fill_points"], 384, targets, settings
    )
    for name, value in (("ce", ce), ("mask", mask), ("dice", dice)):
        assert abs(value.item() - float(np.load(GOLDEN)[f"loss_{name}"])) < 1e-5, name
    (2 * ce + 5 * mask + 5 * dice).backward()
    assert (logits.grad - golden["grad_logits"]).abs().max() < 1e-6
    assert (masks.grad - golden["grad_masks"]).abs().max() < 1e-6
