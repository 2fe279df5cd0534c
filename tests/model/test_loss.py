"""Mask classification loss: what a map says at a point, who is matched with whom, what counts and what does not."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from clouds.model import loss as L
from clouds.model.decoder import Prediction


def predict(masks, logits):
    """A prediction of one output whose mask logits are ``masks`` (B, Q, h, w): queries pick channels."""
    queries = masks.shape[1]
    return Prediction([logits], [torch.eye(queries, dtype=masks.dtype).expand(len(masks), -1, -1)], masks)


def run(prediction, labels, seed=0, **settings_):
    generators = tiny.generators(len(labels), 1000 * seed)
    return L.criterion(prediction, labels, L.LossSettings(**{"points": 200, **settings_}), generators)


@settings(deadline=None)
@given(
    data=st.data(),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 999),
)
def test_reading_labels_equals_grid_sampling_one_hot_masks(data, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    table = torch.tensor([0, 3, 18, 255], dtype=torch.uint8)
    labels = table[torch.randint(0, 4, (height, width), generator=generator)]
    classes = torch.tensor([0, 3, 18, 7])
    points = torch.rand(4, 20, 2, generator=generator, dtype=torch.float64)
    points[:, :4] = torch.tensor([[0, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype=torch.float64)
    value, weight = L.read_labels(labels, points, classes, ignore_is_negative=False)
    grid = 2 * points[:, :, None] - 1

    def sampled(planes):
        planes = planes.double().expand(4, -1, -1)[:, None]
        return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0, :, 0]

    assert torch.allclose(value, sampled(labels[None] == classes[:, None, None]), atol=1e-9)
    assert torch.allclose(weight, sampled((labels != 255)[None]), atol=1e-9)
    negative_value, ones = L.read_labels(labels, points, classes, ignore_is_negative=True)
    assert torch.equal(negative_value, value)
    assert (ones == 1).all()


def half_ignored():
    labels = torch.zeros(2, 64, 64, dtype=torch.uint8)
    labels[:, 20:] = 1
    labels[:, 40:, 10:] = 2
    labels[:, :, 32:] = 255
    torch.manual_seed(0)
    return labels, torch.randn(2, 5, 16, 16), torch.randn(2, 5, 4)


def test_predictions_under_ignored_pixels_do_not_change_the_mask_losses():
    labels, masks, logits = half_ignored()
    changed = masks.clone()
    changed[..., 10:] = 30 * torch.randn(2, 5, 16, 6)  # reaches from label column 38 on; ignored from 32 on
    for name in ("loss_mask", "loss_dice"):
        before, after = (run(predict(m, logits), labels)[name] for m in (masks, changed))
        assert torch.allclose(before, after, rtol=1e-6)
        before, after = (run(predict(m, logits), labels, ignore_is_negative=True)[name] for m in (masks, changed))
        assert not torch.allclose(before, after, rtol=1e-2)


def test_predictions_under_labelled_pixels_do_change_the_mask_losses():
    labels, masks, logits = half_ignored()
    changed = masks.clone()
    changed[..., :4] = 30 * torch.randn(2, 5, 16, 4)
    for name in ("loss_mask", "loss_dice"):
        before, after = (run(predict(m, logits), labels)[name] for m in (masks, changed))
        assert not torch.allclose(before, after, rtol=1e-2)


def test_the_ignored_part_of_a_point_is_not_a_negative():
    labels = torch.tensor([[4, 255]], dtype=torch.uint8)
    points = torch.tensor([[[0.5, 0.5]], [[0.4, 0.5]]])
    target, weight = L.read_labels(labels, points, torch.tensor([4, 4]), ignore_is_negative=False)
    assert target[0].item() == weight[0].item() == 0.5
    for losses in L.mask_losses(torch.full((2, 1), 30.0), target, weight):
        assert (losses < 1e-6).all()
    costs = L.matching_costs(
        torch.tensor([[[30.0], [-30.0]]]),
        torch.zeros(1, 2, 6),
        torch.tensor([4]),
        target[:1],
        weight[0],
    ) + L.CLASS_WEIGHT / 6  # what both queries' even logits cost
    assert costs[0, 0].item() < 1e-5
    assert costs[0, 1].item() > 5


@pytest.mark.parametrize("ignored", [[0], [0, 1]])
def test_images_without_a_labelled_pixel_give_a_finite_loss_with_gradients(ignored):
    labels, masks, logits = half_ignored()
    labels[ignored] = 255
    masks.requires_grad_()
    logits.requires_grad_()
    losses = run(predict(masks, logits), labels)
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    for gradient in (masks.grad, logits.grad):
        assert gradient.isfinite().all()
        assert not gradient[ignored].any()
        assert bool(gradient.any()) == (len(ignored) == 1)


def test_more_targets_than_queries_give_a_finite_loss():
    labels = torch.arange(16, dtype=torch.uint8).repeat_interleave(16).view(1, 16, 16)
    torch.manual_seed(0)
    losses = run(predict(torch.randn(1, 3, 4, 4), torch.randn(1, 3, 20)), labels)
    assert all(value.isfinite() for value in losses.values())


def test_hungarian_survives_non_finite_costs():
    costs = torch.tensor([[[1.0, 9.0], [9.0, 1.0], [0.0, 0.0]]]).repeat(4, 1, 1)
    costs[1] = float("nan")
    costs[2, 0] = float("inf")
    costs[3, 2] = float("-inf")
    assigned = L.hungarian(costs)
    assert len(assigned) == 4
    for queries, targets in assigned:
        assert len(set(queries.tolist())) == 2
        assert sorted(targets.tolist()) == [0, 1]
    assert 0 not in assigned[2][0]
    assert 2 in assigned[3][0]


def slow_cost(mask, logits, class_, value, weight, weights=(2, 5, 5)):
    """The definition, one query and one target."""
    bce = F.binary_cross_entropy_with_logits(mask, value, reduction="none")
    probability = mask.sigmoid()
    dice = 1 - (2 * (weight * probability * value).sum() + 1) / (
        (weight * probability).sum() + (weight * value).sum() + 1
    )
    mean = (weight * bce).sum() / weight.sum()
    return weights[0] * -logits.softmax(-1)[class_] + weights[1] * mean + weights[2] * dice


def test_matching_equals_brute_force_over_permutations():
    torch.manual_seed(2)
    labels = torch.zeros(1, 12, 12, dtype=torch.uint8)
    labels[:, 6:] = 3
    labels[:, :, 8:] = 7
    labels[:, 10:] = 255
    masks, logits = 4 * torch.randn(1, 4, 3, 3), 2 * torch.randn(1, 4, 9)
    pixels = torch.stack(torch.meshgrid(torch.arange(12), torch.arange(12), indexing="xy"), -1).view(1, -1, 2)
    points = (pixels + 0.5) / 12
    s = L.LossSettings()
    matched, _ = L.match(predict(masks, logits), labels, points, s)
    targets = sum(L.targets_in(labels))
    assert targets == 3
    read = L.sample(masks, points)[0]
    classes, flat = [0, 3, 7], labels.flatten()
    weight = (flat != 255).float()
    table = [[slow_cost(read[q], logits[0, q], c, (flat == c).float(), weight) for c in classes] for q in range(4)]
    best = min(itertools.permutations(range(4), 3), key=lambda qs: sum(table[q][k] for k, q in enumerate(qs)))
    found = dict(zip(matched.class_.tolist(), matched.query.tolist(), strict=True))
    assert [found[c] for c in classes] == list(best)
    value, share = L.read_labels(labels[0], points.expand(3, -1, -1), torch.tensor(classes), False)
    costs = L.matching_costs(read[None], logits, torch.tensor(classes), value, share[0])
    assert torch.allclose(costs[0], torch.tensor(table), atol=1e-4)


def test_mask_losses_equal_their_definition():
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(4, 9, generator=generator)
    weight = (torch.rand(4, 9, generator=generator) < 0.7).float()
    target = weight * (torch.rand(4, 9, generator=generator) < 0.5)
    for k, weights in enumerate(((0, 1, 0), (0, 0, 1))):
        each = [slow_cost(m, torch.zeros(2), 0, t, w, weights) for m, t, w in zip(logits, target, weight, strict=True)]
        assert torch.allclose(L.mask_losses(logits, target, weight)[k], torch.stack(each))


def test_a_loss_is_divided_by_targets_and_by_the_weights_of_its_queries_classes():
    labels = torch.full((3, 4, 4), 255, dtype=torch.uint8)
    labels[0, :3] = torch.tensor([[0], [4], [9]])
    labels[2] = torch.arange(16).view(4, 4) // 3  # six classes for four queries
    assert L.totals(L.targets_in(labels), 4) == pytest.approx((3 + 6, 3 + 4 + 0.1 * 5))


def test_of_three_times_the_points_the_most_uncertain_make_three_quarters(monkeypatch):
    seen, real = [], L.uncertain_points

    def spy(masks, candidates, valid, fill, keep):
        seen.append((candidates.shape[1], keep, fill.shape[1]))
        return real(masks, candidates, valid, fill, keep)

    monkeypatch.setattr(L, "uncertain_points", spy)
    labels, masks, logits = half_ignored()
    run(predict(masks, logits), labels, points=200)
    assert set(seen) == {(600, 150, 50)}


def test_a_perfect_prediction_has_nearly_no_mask_loss():
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, :, 32:] = 5
    logits = torch.zeros(1, 2, 7)
    logits[0, 0, 0] = logits[0, 1, 5] = 20
    perfect = torch.stack([60.0 * (2 * (labels[0] == c) - 1) for c in (0, 5)])[None]
    good = run(predict(perfect, logits), labels)
    bad = run(predict(torch.full_like(perfect, -60), logits), labels)
    assert good["loss_ce"] < 1e-3
    assert good["loss_dice"] < 0.05 < 0.9 < bad["loss_dice"]
    assert good["loss_mask"] < 0.5 < 20 < bad["loss_mask"]
    whole = run(predict(torch.full((1, 1, 16, 16), 60.0), logits[:, :1]), torch.zeros(1, 64, 64, dtype=torch.uint8))
    assert whole["loss_mask"] < 1e-3
    assert whole["loss_dice"] < 1e-3


def uncertainty_case():
    generator = torch.Generator().manual_seed(4)
    masks = torch.randn(3, 8, 8, generator=generator)
    candidates = torch.rand(3, 40, 2, generator=generator)
    valid = (torch.rand(3, 40, generator=generator) < 0.6).float()
    return masks, candidates, valid, torch.full((3, 5, 2), 0.123)


def test_uncertain_points_are_the_labelled_ones_nearest_zero_and_then_the_fill():
    masks, candidates, valid, fill = uncertainty_case()
    points = L.uncertain_points(masks, candidates, valid, fill, keep=10)
    assert points.shape == (3, 15, 2)
    assert torch.equal(points[:, 10:], fill)
    for m in range(3):
        distance = L.sample(masks[m : m + 1, None], candidates[m : m + 1])[0, 0].abs()
        labelled = [r for r in range(40) if valid[m, r] > 0]
        wanted = sorted(labelled, key=lambda r: distance[r])[:10]
        assert sorted(points[m, :10].tolist()) == sorted(candidates[m, wanted].tolist())


def test_unlabelled_points_are_drawn_only_when_the_labelled_ones_run_out():
    masks, candidates, valid, fill = uncertainty_case()
    count = int(valid[0].sum())
    points = L.uncertain_points(masks[:1], candidates[:1], valid[:1], fill[:1], keep=count + 3)
    chosen = points[0, : count + 3].tolist()
    assert all(point in chosen for point in candidates[0, valid[0] > 0].tolist())


def class_case():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 5)
    nobody = L.Matched(*torch.tensor([[0, 1], [0, 1], [2, 0], [1, 3]]))
    return logits, nobody


def test_class_loss_equals_weighted_cross_entropy_per_output():
    logits, matched = class_case()
    target = torch.full((2, 2, 3), 4)
    target[0, 0, 2], target[1, 1, 0] = 1, 3
    weight = torch.tensor([1, 1, 1, 1, 0.1])
    wanted = sum(F.cross_entropy(logits[i].flatten(0, 1), target[i].flatten(), weight=weight) for i in range(2))
    assert torch.allclose(L.class_losses(logits, matched, torch.ones(2, 2, 3)).sum() / (1 + 0.1 * 5), wanted)


def test_a_query_on_undecided_pixels_learns_nothing():
    logits, matched = class_case()
    labelled = torch.ones(2, 2, 3)
    labelled[0, 1, 1] = 0
    labelled[0, 0, 2] = 0
    logits.requires_grad_()
    L.class_losses(logits, matched, labelled).sum().backward()
    assert not logits.grad[0, 1, 1].any()
    assert logits.grad[0, 0, 2].any(), "a matched query keeps its class"
    assert logits.grad[0, 1, 0].any()


def test_the_labelled_share_of_a_query_is_where_its_mask_lies():
    labels = torch.full((1, 32, 32), 255, dtype=torch.uint8)
    labels[..., :16] = 2
    masks = torch.full((1, 3, 32, 32), -40.0)
    masks[0, 0, :, :14] = masks[0, 1, :, 18:] = masks[0, 2] = 40.0
    points = torch.rand(1, 2000, 2, generator=torch.Generator().manual_seed(0))
    for negative, wanted in ((False, (1, 0, 0.5)), (True, (1, 1, 1))):
        s = L.LossSettings(ignore_is_negative=negative)
        _, labelled = L.match(predict(masks, torch.zeros(1, 3, 4)), labels, points, s)
        assert torch.allclose(labelled[0, 0], torch.tensor(wanted, dtype=torch.float32), atol=0.04)


def test_every_pair_is_compared_with_its_own_mask_points_and_labels():
    labels, masks, _ = half_ignored()
    labels = torch.stack((labels[0], labels[0].flip(0)))
    pairs = [(0, 0, 1, 0), (1, 0, 3, 1), (0, 1, 4, 2), (1, 1, 0, 0), (1, 1, 2, 1)]  # output, image, query, class
    matched = L.Matched(*torch.tensor(pairs).T)
    embeddings = [torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    prediction = Prediction([], embeddings, masks)
    candidates, fill = torch.rand(5, 60, 2), torch.rand(5, 5, 2)
    found = L.matched_losses(prediction, labels, matched, candidates, fill, 15, L.LossSettings())
    wanted: list[list[torch.Tensor]] = [[], []]
    for row, (output, image, query, class_) in enumerate(pairs):
        plane = prediction.masks(output)[image, query][None]
        one, classes = slice(row, row + 1), torch.tensor([class_])
        _, valid = L.read_labels(labels[image], candidates[one], classes, False)
        points = L.uncertain_points(plane, candidates[one], valid, fill[one], 15)
        value, weight = L.read_labels(labels[image], points, classes, False)
        logits = L.sample(plane[:, None], points)[:, 0]
        for losses, loss in zip(wanted, L.mask_losses(logits, value, weight), strict=True):
            losses.append(loss)
    assert torch.allclose(torch.stack(found), torch.stack([torch.cat(losses) for losses in wanted]))


def test_the_generator_fixes_every_draw():
    labels, masks, logits = half_ignored()
    torch.manual_seed(1)
    first = run(predict(masks, logits), labels, seed=7)
    torch.manual_seed(2)
    again, other = (run(predict(masks, logits), labels, seed=seed) for seed in (7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["loss_mask"], other["loss_mask"])


def test_the_loss_weighs_its_parts_and_sums_over_outputs():
    labels, masks, logits = half_ignored()
    masks.requires_grad_()
    losses = run(predict(masks, logits), labels)
    parts = 2 * losses["loss_ce"] + 5 * losses["loss_mask"] + 5 * losses["loss_dice"]
    assert torch.allclose(losses["loss"], parts)
    assert [key for key, value in losses.items() if value.requires_grad] == ["loss"]
    one = predict(masks, logits)
    twice = Prediction(one.logits * 2, one.mask_embeddings * 2, masks)
    assert torch.allclose(run(twice, labels)["loss_ce"], 2 * run(one, labels)["loss_ce"])
    doubled, single = (run(p, labels, points=20000)["loss_dice"] for p in (twice, one))
    assert torch.allclose(doubled, 2 * single, rtol=0.02)


@pytest.mark.parametrize("ignored", [False, True])
def test_the_parts_of_a_batch_add_up_to_its_loss(ignored):
    labels, masks, logits = half_ignored()
    if not ignored:
        labels = torch.where(labels == 255, torch.tensor(3, dtype=torch.uint8), labels)
    settings_ = L.LossSettings(points=48)
    generators = tiny.generators(2)
    whole = L.criterion(predict(masks, logits), labels, settings_, generators)
    targets = L.targets_in(labels)
    total = L.totals(targets, masks.shape[1])
    parts = [
        L.criterion(predict(masks[one], logits[one]), labels[one], settings_, tiny.generators(1, b), total)
        for b, one in enumerate((slice(0, 1), slice(1, 2)))
    ]
    for key, value in whole.items():
        assert torch.allclose(value, parts[0][key] + parts[1][key], rtol=1e-6), key
    second = L.totals(targets[1:], masks.shape[1])
    alone = L.criterion(predict(masks[1:], logits[1:]), labels[1:], settings_, tiny.generators(1, 1), second)
    both = L.criterion(predict(masks, logits), labels, settings_, tiny.generators(2),
                       apart=L.Apart(torch.tensor([1]), second))
    assert torch.allclose(both.pop("loss_apart"), alone["loss"], rtol=1e-6)
    assert both == whole, "what is looked at apart changes nothing"


# -- sources of different label sets


def two_images():
    """A prediction of four queries and three classes of two images, and labels that show classes 0 and 1."""
    torch.manual_seed(3)
    masks, logits = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 4, requires_grad=True)
    labels = torch.zeros(2, 32, 32, dtype=torch.uint8)
    labels[:, 16:] = 1
    return predict(masks, logits), logits, labels


def test_a_class_that_an_images_label_set_lacks_is_neither_taught_nor_denied():
    prediction, logits, labels = two_images()
    lacks = torch.tensor([[False, False, True], [False, False, False]])
    losses = L.criterion(prediction, labels, L.LossSettings(points=50), tiny.generators(2), lacks=lacks)
    losses["loss"].backward()
    assert (logits.grad[0, :, 2] == 0).all(), "the first image says nothing of class 2"
    assert (logits.grad[1, :, 2] > 0).all(), "the second one shows that it is not there"
    assert (logits.grad[0, :, [0, 1, 3]] != 0).all()


def test_the_losses_are_those_of_before_where_all_label_sets_have_all_classes():
    prediction, _, labels = two_images()
    settings_, nothing = L.LossSettings(points=50), torch.zeros(2, 3, dtype=torch.bool)
    plain = L.criterion(prediction, labels, settings_, tiny.generators(2))
    known = L.criterion(prediction, labels, settings_, tiny.generators(2), lacks=nothing)
    assert all(torch.equal(plain[key], known[key]) for key in plain)
