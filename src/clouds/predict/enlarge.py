"""A semantic map at an image's own size, a band at a time: winners and scores, without the whole map where that can be.

Bilinear resizing mixes the four cells around a pixel. Where one class wins in all four, it wins in every mix of them,
so only pixels between different winners, which are few, need the scores of all classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from clouds.model.inference import Size

Found = tuple[Tensor, Tensor, Tensor]  # winners, their scores, sums of all scores, each of a band (r, c)
WORTH = 4  # pixels of the image for one of the map, from which on looking at winners first is faster
AT_A_TIME = 2**17  # pixels between different winners whose scores of all classes are in memory


class Enlarged:
    """Raw semantic maps (C, h, w) of one image, one a scale, that bands of size (H, W) are asked of.

    The sum over the scales has their mean's winner and shares.
    """

    def __init__(self, maps: list[Tensor], size: Size) -> None:
        self.maps, self.size = maps, size
        self.mixed = len(maps) == 1 and size[0] * size[1] >= WORTH * maps[0][0].numel()
        if self.mixed:
            (scores,) = maps
            best, winners = scores.max(0)
            self.sums, self.winners = torch.stack((best, scores.sum(0))), winners.to(torch.uint8)  # (2, h, w), (h, w)
            self.cells = scores.flatten(1).t().contiguous()  # (h w, C)

    def band(self, rows: slice, columns: slice) -> Found:
        """Of a band of the image."""
        if self.mixed:
            return self._mix(rows, columns)
        total = enlarge(self.maps[0], self.size, rows, columns)
        for each in self.maps[1:]:
            total += enlarge(each, self.size, rows, columns)
        best, winners = total.max(0)
        return winners.to(torch.uint8), best, total.sum(0)

    def _mix(self, rows: slice, columns: slice) -> Found:
        height, width = self.winners.shape
        above, below, down = _neighbours(height, self.size[0], rows, self.sums)
        before, behind, right = _neighbours(width, self.size[1], columns, self.sums)
        near = slice(int(above[0]), int(below[-1]) + 1)  # the map's rows that are looked at
        first, second = (self.winners[near][:, each] for each in (before, behind))  # (., c)
        level, up, low = first == second, above - near.start, below - near.start
        winners = first[up]
        one = level[up] & level[low] & (winners == first[low])
        best, total = enlarge(self.sums, self.size, rows, columns).unbind(0)
        y, x = (~one).nonzero(as_tuple=True)
        for start in range(0, len(y), AT_A_TIME):
            r, c = y[start : start + AT_A_TIME], x[start : start + AT_A_TIME]
            top, bottom, share = above[r] * width, below[r] * width, right[c, None]
            mixed = torch.lerp(
                torch.lerp(self.cells[top + before[c]], self.cells[top + behind[c]], share),
                torch.lerp(self.cells[bottom + before[c]], self.cells[bottom + behind[c]], share),
                down[r, None],
            )
            best[r, c], found = mixed.max(1)
            winners[r, c] = found.to(torch.uint8)
        return winners, best, total


def enlarge(scores: Tensor, size: Size, rows: slice, columns: slice) -> Tensor:
    """(C, h, w) -> ``rows`` and ``columns`` of its bilinear (C, H, W); the map itself where it has that size, sparing a
    copy."""
    if scores.shape[1:] == size:
        return scores[:, rows, columns]
    # bilinear is a mix of two rows, then of two columns
    if (rows.start, rows.stop) != (0, size[0]):
        above, below, share = _neighbours(scores.shape[1], size[0], rows, scores)
        scores = torch.lerp(scores[:, above], scores[:, below], share[:, None])
    if (columns.start, columns.stop) != (0, size[1]):
        before, behind, share = _neighbours(scores.shape[2], size[1], columns, scores)
        scores = torch.lerp(scores[:, :, before], scores[:, :, behind], share)
    size = (rows.stop - rows.start, columns.stop - columns.start)
    return F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]


def _neighbours(length: int, size: int, band: slice, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of a band's places along a side resized from ``length`` to ``size``: its two neighbours, and the second
    one's share."""
    where = (torch.arange(band.start, band.stop, device=like.device) + 0.5) * (length / size) - 0.5
    where = where.clamp(0, length - 1)
    first = where.floor().long()
    return first, (first + 1).clamp(max=length - 1), (where - first).to(like.dtype)
