"""How a model looks at an image: whole or through overlapping windows, at one scale or several, mirrored or not.

Every view gives a *raw* semantic map, and raw maps are averaged with equal weight, as Mask2Former's own test-time
augmentation does: a view that is unsure of a pixel scores it low and so says less. One view is passed on untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from clouds.config.recipe import Evaluate
from clouds.errors import UsageError

if TYPE_CHECKING:  # a protocol is checked before torch is imported
    from torch import Tensor

    See = Callable[[Tensor], Tensor]  # images (B, 3, h, w) -> raw semantic maps (B, C, h, w)

Size = tuple[int, int]  # height, width

LONGEST = 8192  # pixels: a 10 x 10000 strip brought to a shorter side of 1024 would be a million pixels wide
LEAST_SIDE = 32  # the network's coarsest stride
SCALES = (0.1, 4.0)
OWN_SIZE = "the label's own size"


@dataclass(frozen=True)
class Inference:
    """The protocol; raises UsageError naming every value that cannot be.

    shorter_side: pixels the image's shorter side is brought to (less where the longer side would pass ``LONGEST``);
        0 keeps the image's own size, however large.
    window, stride: of the sliding window on the resized image, a side or (height, width) in pixels. No window: the
        whole image at once. The stride is 2/3 of the window unless given.
    scales: factors of the shorter side; their maps are averaged at the image's own size.
    flip: look at the mirror image of every view too.
    ensemble: weigh in frozen CLIP's own opinion of each mask, where the backbone is one.
    within: longer and shorter side of a box that the image is made as large as fits into, in place of ``shorter_side``.
    smooth: resize by Pillow's bilinear filter, which smooths as it shrinks; False is OpenCV's, which does not.
    """

    shorter_side: int = 1024
    window: int | Size | None = None
    stride: int | Size | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    ensemble: bool = False
    within: Size | None = None
    smooth: bool = True

    def __post_init__(self) -> None:
        window, stride = _pair(self.window), _pair(self.stride)
        faults = []
        if self.shorter_side and self.shorter_side < LEAST_SIDE:
            faults.append(f"shorter_side: got {self.shorter_side}; expected at least {LEAST_SIDE}, or 0 for own size")
        if self.shorter_side > LONGEST:
            faults.append(f"shorter_side: got {self.shorter_side}; expected at most {LONGEST}, or 0 for own size")
        if window and min(window) < LEAST_SIDE:
            faults.append(f"window: got {self.window}; expected at least {LEAST_SIDE} pixels")
        if stride and not window:
            faults.append(f"stride: got {self.stride} without a window; set the window too, or leave both out")
        elif stride and window and not all(0 < s <= w for s, w in zip(stride, window, strict=True)):
            faults.append(f"stride: got {self.stride}; expected 1 to the window's {self.window}, or pixels are lost")
        if not self.scales or not all(SCALES[0] <= scale <= SCALES[1] for scale in self.scales):
            faults.append(f"scales: got {list(self.scales)}; expected numbers from {SCALES[0]} to {SCALES[1]}")
        if faults:
            raise UsageError("\n  ".join(faults))

    @classmethod
    def of(cls, settings: Evaluate) -> Inference:
        """The protocol of a recipe's ``evaluate``."""
        return cls(**settings.model_dump(include={field.name for field in fields(cls)}))

    def tiling(self) -> tuple[Size, Size] | None:
        """Window and stride in force, both (height, width); None where the image is seen whole."""
        window = _pair(self.window)
        return window and (window, _pair(self.stride) or (window[0] * 2 // 3, window[1] * 2 // 3))

    def sizes(self, size: Size) -> list[Size]:
        """What an image of ``size`` (height, width) is resized to, scale by scale."""
        if self.within:
            factor = min(self.within[0] / max(size), self.within[1] / min(size))
            return [
                (max(int(size[0] * factor * scale + 0.5), 1), max(int(size[1] * factor * scale + 0.5), 1))
                for scale in self.scales
            ]
        side, limit = self.shorter_side or min(size), LONGEST if self.shorter_side else None
        return [resized(size, round(side * scale), limit) for scale in self.scales]

    def as_record(self) -> dict[str, Any]:
        """Plain data for ``results.json``; window and stride are one number where they are square, null where none, and
        ``ensemble`` stands there where it is on."""
        window, stride = self.tiling() or (None, None)
        return {
            "shorter_side": self.shorter_side,
            "window": _plain(window),
            "stride": _plain(stride),
            "scales": list(self.scales),
            "flip": self.flip,
            **({"ensemble": True} if self.ensemble else {}),
            **({"within": list(self.within)} if self.within else {}),
            **({} if self.smooth else {"filter": "OpenCV's bilinear"}),
        }


def protocol_text(protocol: dict[str, Any]) -> str:
    """The ``protocol`` of a RESULTS object in words; a publication's name, then each way of seeing with its domains."""
    if "name" not in protocol:
        return _text(protocol)
    ways: dict[str, list[str]] = {}
    for domain, view in protocol["domains"].items():
        ways.setdefault(_text(view), []).append(domain)
    return "; ".join([f"protocol {protocol['name']}", *(f"{', '.join(names)}: {way}" for way, names in ways.items())])


def _text(protocol: dict[str, Any]) -> str:
    """One way of seeing; older runs name no scales and no flip."""
    window, scales = protocol["window"], protocol.get("scales", [1.0])
    side, box = protocol["shorter_side"], protocol.get("within")
    words = [f"within {box[0]} x {box[1]}" if box else f"shorter side {side}" if side else "own size"]
    words.append(f"window {window}, stride {protocol['stride']}" if window else "whole image")
    if scales != [1.0]:
        words.append("scales " + " ".join(f"{scale:g}" for scale in scales))
    if protocol.get("flip"):
        words.append("mirrored too")
    if protocol.get("ensemble"):
        words.append("geometric ensemble with CLIP")
    if "filter" in protocol:
        words.append(f"{protocol['filter']} filter")
    words.append(f"scored at {protocol.get('scored_at', OWN_SIZE)}")
    if "absent_classes" in protocol:
        words.append(f"absent classes {protocol['absent_classes']}")
    return ", ".join(words)


def resized(size: Size, side: int, limit: int | None = LONGEST) -> Size:
    """(height, width) brought to a shorter side, or to a longer side of ``limit`` where it would be longer."""
    factor = side / min(size)
    if limit:
        factor = min(factor, limit / max(size))
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


def look(see: See, images: Tensor, how: Inference) -> Tensor:
    """Images at one scale (B, 3, H, W) -> raw semantic maps (B, C, H, W), by the window and flip of ``how``.

    Where windows overlap, a score is the mean over the windows that hold the pixel. In memory at a time are this map
    and what one window needs, however large the image.
    """
    import torch

    height, width = images.shape[-2:]
    tiling = how.tiling()
    if not tiling or (tiling[0][0] >= height and tiling[0][1] >= width):
        return _seen(see, images, how.flip)
    window, stride = tiling
    total, count = torch.empty(0), torch.zeros(height, width)
    for rows in places(height, window[0], stride[0]):
        for columns in places(width, window[1], stride[1]):
            part = _seen(see, images[..., rows, columns], how.flip)
            if not total.numel():  # the number of classes is the model's to say
                total, count = part.new_zeros(*part.shape[:2], height, width), count.to(part.device)
            total[..., rows, columns] += part
            count[rows, columns] += 1
    return total.div_(count)


def places(length: int, window: int, stride: int) -> list[slice]:
    """Windows along one side: every ``stride`` pixels from 0, the last one moved back to end at the border."""
    last = max(length - window, 0)
    return [slice(start, min(start + window, length)) for start in [*range(0, last, stride), last]]


def _seen(see: See, images: Tensor, flip: bool) -> Tensor:
    maps = see(images)
    return maps.add(see(images.flip(-1)).flip(-1)).div_(2) if flip else maps


def _pair(size: int | Size | None) -> Size | None:
    return (size, size) if isinstance(size, int) else size


def _plain(size: Size | None) -> int | list[int] | None:
    return size[0] if size and size[0] == size[1] else list(size) if size else None
