"""What a user would pick instead: networks of segmentation_models_pytorch and transformers' Mask2Former, fine-tuned.

They start from the very encoder weights that the demo's recipe uses, see the same crops, and are scored by the same
protocol. ``segmentation_models_pytorch`` must be installed.
"""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from clouds.config.label_sets import IGNORE, LabelSet
from clouds.data.batches.batches import Batches, batches
from clouds.data.batches.unlabelled import Unlabelled
from clouds.foundation.backbone import build_vision

MEAN, STD = 127.0, 128.0
SMP = {"unet": "Unet", "deeplabv3+": "DeepLabV3Plus", "fpn": "FPN", "segformer": "Segformer"}
MASK2FORMER = "mask2former"
STRONG = v2.Compose([  # SimCLR's colour distortion at full strength, as it is commonly used for synthetic sources
    v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
    v2.RandomGrayscale(0.2),
    v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=0.5),
])  # fmt: skip


class Alternative(nn.Module):
    """A network behind the calls that ``clouds.Predictor`` makes; ``scores(x)`` -> (B, C, H, W) of a batch."""

    def __init__(self, name: str, sizes: dict[str, Any], shorter_side: int, classes: LabelSet) -> None:
        super().__init__()
        self.settings = {"shorter_side": shorter_side}
        self.classes, self.colors = list(classes.classes), [list(color) for color in classes.colors]
        self.mask2former = name == MASK2FORMER
        count = len(self.classes)
        self.network = _mask2former(sizes, count) if self.mask2former else _smp(SMP[name], count)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images uint8 (B, 3, H, W), labels (B, H, W) -> the loss their own documentation trains with."""
        x = (images.float() - MEAN) / STD
        if not self.mask2former:
            return F.cross_entropy(self.network(x), labels.long(), ignore_index=IGNORE)
        present = [label.unique().long() for label in labels]
        present = [classes[classes != IGNORE] for classes in present]
        masks = [(label == own[:, None, None]).float() for label, own in zip(labels, present, strict=True)]
        loss: Tensor = self.network(pixel_values=x, mask_labels=masks, class_labels=present).loss
        return loss

    @torch.no_grad()
    def semantic(self, images: Tensor, _ensemble: bool = False) -> Tensor:
        """uint8 (B, 3, H, W) -> class probabilities, or Mask2Former's summed scores, (B, C, H, W)."""
        height, width = images.shape[-2:]
        x = F.pad((images.float() - MEAN) / STD, (0, -width % 32, 0, -height % 32))
        if not self.mask2former:
            return self.network(x)[..., :height, :width].softmax(1)
        out = self.network(pixel_values=x)
        masks = F.interpolate(out.masks_queries_logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
        classes = out.class_queries_logits.softmax(-1)[..., :-1]
        return torch.einsum("bqc,bqhw->bchw", classes, masks.sigmoid())[..., :height, :width]


def _smp(name: str, classes: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    network: nn.Module = getattr(smp, name)("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes)
    stored = build_vision("efficientnet-lite0").network.state_dict()
    encoder = network.encoder.model  # type: ignore[union-attr]
    encoder.load_state_dict({key: stored[key] for key in encoder.state_dict()})
    return network


def _mask2former(sizes: dict[str, Any], classes: int) -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, TimmBackboneConfig

    config = Mask2FormerConfig(
        backbone_config=TimmBackboneConfig(backbone="tf_efficientnet_lite0", out_indices=[1, 2, 3, 4]),
        num_labels=classes,
        num_queries=sizes["queries"],
        hidden_dim=sizes["hidden"],
        feature_size=sizes["hidden"],
        mask_feature_size=sizes["hidden"],
        encoder_layers=sizes["pixel_layers"],
        encoder_feedforward_dim=sizes["pixel_ffn"],
        dim_feedforward=sizes["ffn"],
        decoder_layers=sizes["layers"] + 1,
        train_num_points=sizes["points"],
    )
    network = Mask2FormerForUniversalSegmentation(config)
    backbone = network.model.pixel_level_module.encoder._backbone
    stored = build_vision("efficientnet-lite0").network.state_dict()
    backbone.load_state_dict({key: stored[key] for key in backbone.state_dict()})
    return network


class Looks:
    """Photographs without labels, drawn at random for a mean teacher: ``looks(count)`` -> uint8 (count, 3, h, w)."""

    def __init__(self, images: Unlabelled, seed: int) -> None:
        self.images, self.rng = images, np.random.default_rng((seed, 0xC1A55))

    def __call__(self, count: int) -> Tensor:
        drawn = [
            self.images.pixels(self.images.draw(int(self.rng.integers(len(self.images))), self.rng))
            for _ in range(count)
        ]
        turned = [image[:, ::-1] if self.rng.random() < 0.5 else image for image in drawn]
        return torch.from_numpy(np.stack(turned)).permute(0, 3, 1, 2).contiguous()


class MeanTeacher:
    """Mean teacher with ClassMix, as DACS has it (arXiv 2007.08702): half of the classes of a labelled image are pasted
    onto a photograph, whose other pixels have the teacher's labels; their loss weighs as much as the share of pixels
    that the teacher is sure of."""

    DECAY, SURE = 0.99, 0.968

    def __init__(self, student: Alternative) -> None:
        self.student, self.teacher = student, copy.deepcopy(student).eval().requires_grad_(False)
        self.updates = 0

    def loss(self, photographs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """photographs and labelled images uint8 (B, 3, H, W), labels (B, H, W) -> the loss of the mixed images."""
        sure, theirs = self.teacher.semantic(photographs).max(1)
        mixed, targets = photographs.clone(), theirs.to(labels.dtype)
        for k, label in enumerate(labels):
            present = label.unique()
            present = present[present != IGNORE]
            chosen = present[torch.randperm(len(present))[: (len(present) + 1) // 2]]
            pasted = torch.isin(label, chosen)
            mixed[k] = torch.where(pasted, images[k], mixed[k])
            targets[k] = torch.where(pasted, label, targets[k])
        weight = (sure > self.SURE).float().mean()
        return weight * self.student.loss(torch.stack([STRONG(image) for image in mixed]), targets)

    @torch.no_grad()
    def update(self) -> None:
        """Follow the student; the statistics of its normalisation are taken over as they are."""
        self.updates += 1
        decay = min(self.DECAY, 1 - 1 / (self.updates + 1))
        for mine, theirs in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            mine.copy_(theirs)


def fit(
    model: Alternative, data: Batches, seconds: float, learning_rate: float, strong: bool, workers: int,
    looks: Looks | None = None, clock: Callable[[], float] = time.process_time,
) -> int:  # fmt: skip
    """Fine-tune everything for so many CPU seconds with AdamW and polynomial decay by the time used; -> steps.

    With ``looks`` a mean teacher learns from as many photographs a step as there are labelled images.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    teacher = MeanTeacher(model) if looks else None
    began, step = clock(), 0
    for step, batch in enumerate(batches(data, 0, workers), 1):
        used = (clock() - began) / seconds
        if used >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / 20) * (1 - used) ** 0.9
        images = torch.stack([STRONG(image) for image in batch["images"]]) if strong else batch["images"]
        optimizer.zero_grad(set_to_none=True)
        model.loss(images, batch["labels"]).backward()
        if looks and teacher:
            teacher.loss(looks(len(images)), batch["images"], batch["labels"]).backward()
        if model.mask2former:
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        if teacher:
            teacher.update()
    model.eval()
    return step
