"""Mask classification loss: Hungarian matching, then class, mask and dice losses at every output (Mask2Former).

A target is one binary mask per class present in a label map. No mask is ever built for it: a map read at a point is
the bilinear mix of its four neighbours' one-hot labels. Pixels of the ignore index take no part, neither in matching
nor in the losses; ``ignore_is_negative`` reproduces the reference, where they count against every mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from clouds.config.label_sets import IGNORE
from clouds.config.recipe import Loss as LossSettings
from clouds.model.decoder import Prediction

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0  # of the parts of a loss, and of a matching's cost
NO_OBJECT = 0.1  # weight of the void class, which most queries have
OVERSAMPLE = 3  # candidates for a point of the loss
IMPORTANCE = 0.75  # share of the points that go to the most uncertain candidates
BLOCK = 8  # masks whose points are looked at together: a processor's cache holds them, and memory stays bounded


def read_labels(labels: Tensor, points: Tensor, classes: Tensor, ignore_is_negative: bool) -> tuple[Tensor, Tensor]:
    """Binary class masks of one label map, read at points by bilinear interpolation.

    labels uint8 (H, W); points (M, P, 2) as x, y in 0..1; classes long (M,), the class row m asks for
    -> values (M, P), weights (M, P): the shares of the class and of labelled pixels under the point, value <= weight.
    """
    value, weight = (torch.zeros(points.shape[:2], dtype=points.dtype, device=points.device) for _ in range(2))
    edged = F.pad(labels, (1, 1, 1, 1), value=IGNORE)  # what lies outside is of no class, and not labelled
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        _read(edged, points[block], classes[block, None], value[block], weight[block])
    return value, torch.ones_like(weight) if ignore_is_negative else weight


def _read(edged: Tensor, points: Tensor, classes: Tensor, value: Tensor, weight: Tensor) -> None:
    """Add to ``value`` and ``weight`` what ``read_labels`` gives, of a label map with a border of one pixel."""
    height, width = edged.shape
    x, y = points[..., 0] * (width - 2) - 0.5, points[..., 1] * (height - 2) - 0.5
    x0, y0 = x.floor(), y.floor()
    across = [1 - (x - (x0 + dx)).abs_() for dx in (0, 1)]
    down = [1 - (y - (y0 + dy)).abs_() for dy in (0, 1)]
    cell = (y0.int().add_(1).mul_(width) + x0.int().add_(1)).flatten()
    for dy in (0, 1):
        for dx in (0, 1):
            share = across[dx] * down[dy]
            label = edged.flatten().index_select(0, cell + (dy * width + dx)).view_as(share)
            value += share.masked_fill(label != classes, 0)
            weight += share.masked_fill_(label == IGNORE, 0)


def matching_costs(masks: Tensor, logits: Tensor, classes: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Costs of giving target k to query q, for one output or several of one image.

    masks (..., Q, P) mask logits at shared points; logits (..., Q, C + 1); classes (K,); target (K, P) and weight (P,)
    from ``read_labels`` -> (..., Q, K).
    """
    w, total = weight, weight.sum().clamp(min=1e-6)
    # BCE: softplus(-x) t + softplus(x) (1 - t) = softplus(x) - x t, so one product serves both signs
    mask = (F.softplus(masks).mul_(w).sum(-1, keepdim=True) - masks @ target.T) / total
    probability = masks.sigmoid()
    dice = 1 - (2 * probability @ target.T + 1) / ((probability @ w)[..., None] + target.sum(-1) + 1)
    class_ = -logits.softmax(-1)[..., classes]
    return CLASS_WEIGHT * class_ + MASK_WEIGHT * mask + DICE_WEIGHT * dice


def hungarian(costs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Costs (L, Q, K) -> per output (queries, targets) of the cheapest one-to-one assignment.

    Non-finite costs (an overflow early in training) become large finite ones, so that a long run goes on.
    """
    finite = torch.nan_to_num(costs.float(), nan=1e6, posinf=1e6, neginf=-1e6).cpu().numpy()
    return [tuple(torch.from_numpy(part) for part in linear_sum_assignment(cost)) for cost in finite]  # type: ignore[misc]


def sample(planes: Tensor, points: Tensor) -> Tensor:
    """Planes (M, C, h, w) read at points (M, P, 2) as x, y in 0..1 -> (M, C, P); zeros outside."""
    grid = (2 * points[:, :, None]).sub_(1)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[..., 0]


@torch.no_grad()
def uncertain_points(masks: Tensor, candidates: Tensor, valid: Tensor, fill: Tensor, keep: int) -> Tensor:
    """PointRend's importance sampling: the ``keep`` candidates whose logits are nearest 0, then the random ``fill``.

    masks (M, h, w); candidates (M, R, 2); valid (M, R), unlabelled candidates are chosen last; fill (M, F, 2)
    -> (M, keep + F, 2).
    """
    logits = sample(masks[:, None], candidates)[:, 0]
    uncertainty = logits.abs_().neg_() - 1e6 * (valid < 0.5)
    index = uncertainty.topk(keep, dim=1, sorted=False).indices  # a sum follows: their order is nothing to it
    return torch.cat((candidates.gather(1, index[..., None].expand(-1, -1, 2)), fill), dim=1)


def mask_losses(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Point-wise mask BCE and dice of M matched masks: logits, target, weight (M, P) -> two losses (M,).

    ``target`` is a share of the point, not of its labelled part: it carries ``weight`` already.
    """
    bce = F.softplus(logits) * weight - logits * target
    bce = bce.sum(1) / weight.sum(1).clamp(min=1e-6)
    probability = logits.sigmoid()
    dice = 1 - (2 * (probability * target).sum(1) + 1) / ((probability * weight).sum(1) + target.sum(1) + 1)
    return bce, dice


@dataclass
class Matched:
    """M matched (query, target) pairs of all outputs, image by image: index tensors (M,)."""

    output: Tensor
    image: Tensor
    query: Tensor
    class_: Tensor

    def to(self, device: torch.device) -> "Matched":
        return Matched(*torch.stack((self.output, self.image, self.query, self.class_)).to(device, non_blocking=True))


class Totals(NamedTuple):
    """What the losses of a batch are divided by: its number of targets, and the weights of its queries' classes."""

    targets: float
    classes: float


class Apart(NamedTuple):
    """Images of a batch whose loss is wanted on its own too: their places, long (N,), and the totals of all such
    images, also in the other parts of the batch."""

    images: Tensor
    whole: Totals


def targets_in(labels: Tensor) -> list[int]:
    """The number of classes that each of labels uint8 (B, H, W) shows."""
    return [len(classes) for classes in classes_in(labels)]


def classes_in(labels: Tensor) -> list[Tensor]:
    """The classes that each of labels uint8 (B, H, W) shows, long, on the CPU."""
    found = [label.unique().long().cpu() for label in labels]
    return [classes[classes != IGNORE] for classes in found]


def totals(targets: Sequence[int], queries: int) -> Totals:
    """Of images with so many targets each, known before any prediction: so the parts of a batch, on several processes
    or one after the other, can be divided by the totals of the whole and add up to its loss."""
    matched = sum(min(each, queries) for each in targets)
    return Totals(sum(targets), matched + NO_OBJECT * (len(targets) * queries - matched))


@torch.no_grad()
def match(
    prediction: Prediction, labels: Tensor, points: Tensor, settings: LossSettings,
    shown: Sequence[Tensor] | None = None,
) -> tuple[Matched, Tensor]:  # fmt: skip
    """Match every output of every image of a batch.

    labels uint8 (B, H, W); points (B, P, 2) shared by the queries and outputs of an image; shown: the classes of each
    label, on the CPU, if known -> matched pairs, image by image, on the CPU; labelled share (L, B, Q) of each query's
    mask. Costs go to the CPU in one copy.

    The points are shared per image, so the *features* are read there once and the dot product with the queries
    follows (Q x P products instead of Q full-size masks).
    """
    shown = classes_in(labels) if shown is None else shown
    embeddings = torch.stack(prediction.mask_embeddings)  # (L, B, Q, D)
    logits = torch.stack(prediction.logits)  # (L, B, Q, C + 1)
    features = sample(prediction.mask_features, points)  # (B, D, P)
    tables: list[Tensor] = []
    labelled = torch.ones(embeddings.shape[:3], device=labels.device)
    for b, label in enumerate(labels):
        classes = shown[b].to(label.device, non_blocking=True)
        query_points = points[b].expand(max(len(classes), 1), -1, -1)
        asked = classes if len(classes) else classes.new_zeros(1)
        target, weight = read_labels(label, query_points, asked, settings.ignore_is_negative)
        every = []
        for output in range(len(embeddings)):  # one at a time: all outputs' masks are the step's largest tensors
            masks = embeddings[output, b] @ features[b]  # (Q, P)
            probability = masks.sigmoid()
            labelled[output, b] = (probability @ weight[0]) / probability.sum(-1).clamp(min=1e-6)
            every.append(matching_costs(masks, logits[output, b], classes, target, weight[0]))
        tables.append(torch.stack(every))  # (L, Q, K)
    numbers = torch.cat([table.flatten() for table in tables]).cpu().split([table.numel() for table in tables])
    rows: list[Tensor] = []
    for b, (table, costs) in enumerate(zip(tables, numbers, strict=True)):
        for output, (query, column) in enumerate(hungarian(costs.view(table.shape)) if costs.numel() else ()):
            index = torch.stack((torch.full_like(query, output), torch.full_like(query, b), query))
            rows.append(torch.cat((index, shown[b][column][None])))
    pairs = torch.cat(rows, dim=1) if rows else torch.zeros((4, 0), dtype=torch.long)
    return Matched(*pairs), labelled


def without(logits: Tensor, lacks: Tensor) -> Tensor:
    """Class logits (B, Q, C + 1) with those of the classes ``lacks`` bool (B, C) at minus infinity; void stays."""
    return logits.masked_fill(F.pad(lacks, (0, 1))[:, None], float("-inf"))


def class_losses(logits: Tensor, matched: Matched, labelled: Tensor) -> Tensor:
    """Weighted cross-entropy of each query: logits (L, B, Q, C + 1) -> (L, B, Q).

    An unmatched query's target is void with weight ``NO_OBJECT``, times the labelled share of
    its mask: a query that lies on undecided pixels learns nothing.
    """
    void = logits.shape[-1] - 1
    target = torch.full(logits.shape[:3], void, device=logits.device)
    weight = NO_OBJECT * labelled
    where = (matched.output, matched.image, matched.query)
    target[where] = matched.class_
    weight[where] = 1.0
    losses = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view_as(weight)
    return losses * weight


def criterion(
    prediction: Prediction,
    labels: Tensor,
    settings: LossSettings,
    generators: Sequence[torch.Generator],
    whole: Totals | None = None,
    apart: Apart | None = None,
    lacks: Tensor | None = None,
) -> dict[str, Tensor]:
    """Losses of a batch: labels uint8 (B, H, W), 255 ignored -> {"loss", "loss_ce", "loss_mask", "loss_dice"}.

    Labels may lie on the CPU while the prediction is on a GPU: then only the matching's costs are waited for, as what
    goes to the GPU from here goes without a wait.
    ``generators`` fix every random point, one an image: its points do not depend on the images beside it. ``whole``:
    the totals of the batch that this one is a part of. The parts of the loss are unweighted sums over the L outputs;
    "loss" weighs them.
    With ``apart`` there is "loss_apart" too: those images' part of the loss that they had as a batch of their own.
    ``lacks`` bool (B, C): the classes that an image's label set does not have. Nothing is known of them there, so they
    are left out of each softmax: no query is taught that it is none of them.
    """
    if lacks is not None:
        lacks = lacks.to(prediction.logits[0].device, non_blocking=True)
        prediction = replace(prediction, logits=[without(each, lacks) for each in prediction.logits])
    device, p = prediction.logits[0].device, settings.points
    shown, labels = classes_in(labels), labels.to(device, non_blocking=True)
    whole = whole or totals([len(classes) for classes in shown], prediction.logits[0].shape[1])

    def random_points(counts: Sequence[int], n: int) -> Tensor:
        drawn = torch.empty(sum(counts), n, 2)
        for part, generator in zip(drawn.split(list(counts)), generators, strict=True):
            part.uniform_(generator=generator)
        return drawn.to(device, non_blocking=True)

    found, labelled = match(prediction, labels, random_points([1] * len(labels), p), settings, shown)
    pairs = torch.bincount(found.image, minlength=len(labels)).tolist()
    matched = found.to(device)
    classes = class_losses(torch.stack(prediction.logits), matched, labelled)
    keep = int(IMPORTANCE * p)
    candidates, fill = random_points(pairs, OVERSAMPLE * p), random_points(pairs, p - keep)
    count = max(whole.targets, 1)
    masks, dices = matched_losses(prediction, labels, matched, candidates, fill, keep, settings, pairs)

    def weighed(ce: Tensor, mask: Tensor, dice: Tensor) -> Tensor:
        return CLASS_WEIGHT * ce + MASK_WEIGHT * mask + DICE_WEIGHT * dice

    ce, mask, dice = classes.sum() / whole.classes, masks.sum() / count, dices.sum() / count
    losses = {"loss": weighed(ce, mask, dice), "loss_ce": ce.detach(), "loss_mask": mask.detach(),
              "loss_dice": dice.detach()}  # fmt: skip
    if apart:
        chosen = torch.isin(matched.image, apart.images.to(device, non_blocking=True))
        own = [(each.detach() * chosen).sum() / max(apart.whole.targets, 1) for each in (masks, dices)]
        losses["loss_apart"] = weighed(classes.detach()[:, apart.images].sum() / apart.whole.classes, *own)
    return losses


def matched_losses(
    prediction: Prediction, labels: Tensor, matched: Matched, candidates: Tensor, fill: Tensor, keep: int,
    settings: LossSettings, counts: list[int] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Mask and dice loss (M,) of the matched pairs; only their masks are ever made.

    candidates (M, R, 2), fill (M, F, 2): random points in 0..1, in the order of ``matched``. counts: pairs of each
    image, if known: a GPU is then not waited for.
    """
    if not len(matched.query):
        # nothing to learn here, but every parameter gets its gradient, which other processes wait for
        zero = prediction.mask_features.sum() * 0 + torch.stack(prediction.mask_embeddings).sum() * 0
        return zero.expand(0), zero.expand(0)
    counts = torch.bincount(matched.image, minlength=len(labels)).tolist() if counts is None else counts
    embeddings = torch.stack(prediction.mask_embeddings)[matched.output, matched.image, matched.query]  # (M, D)
    pairs = [each.split(counts) for each in (embeddings, matched.class_, candidates, fill)]
    parts = zip(labels, prediction.mask_features.unbind(), *pairs, strict=True)
    negative = settings.ignore_is_negative
    losses = [_of_an_image(keep, negative, *part) for part, m in zip(parts, counts, strict=True) if m]
    mask, dice = torch.cat(losses, dim=1)
    return mask, dice


def _of_an_image(
    keep: int, negative: bool,
    label: Tensor, features: Tensor, embeddings: Tensor, classes: Tensor, candidates: Tensor, fill: Tensor,
) -> Tensor:  # fmt: skip
    """Mask and dice losses (2, m) of an image's m pairs: label (H, W), features (D, h, w), embeddings (m, D)."""
    masks = torch.einsum("md,dhw->mhw", embeddings, features)
    # of the candidates, three times the points, only the labelled share is asked: one plane holds it
    known = (label != IGNORE).to(masks.dtype)[None, None]
    points = []
    blocks = (each.split(BLOCK) for each in (masks.detach(), candidates, fill))
    for block, asked, more in zip(*blocks, strict=True):
        valid = asked.new_ones(asked.shape[:2])
        if not negative:
            valid = sample(known, asked.view(1, -1, 2)).view_as(valid)
        points.append(uncertain_points(block, asked, valid, more, keep))
    chosen = torch.cat(points)
    target, weight = read_labels(label, chosen, classes, negative)
    return torch.stack(mask_losses(sample(masks[:, None], chosen)[:, 0], target, weight))
