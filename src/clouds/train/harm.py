"""Does joint training harm? Judged without a label of the target.

Some images without labels and some source crops are labelled before joint training, in its middle and at its end. A
model that has gone astray answers most of the unlabelled pixels otherwise than the warm-up did, or forgets the source.
docs/design/pseudo-labels.md has the runs that the limits were chosen on, with hits and false alarms.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clouds.base.arrays import Labels
from clouds.base.pick import evenly
from clouds.config.records import Drift
from clouds.data.batches.augment import scale_crop
from clouds.data.batches.batches import Batches, channels_first
from clouds.errors import DataError
from clouds.evaluate.metrics import confusion, mean_iou
from clouds.model.segmenter import Segmenter
from clouds.selftrain.teacher import predictions

IMAGES = 16  # of each kind
AGREES = 0.6  # least share of unlabelled pixels that keep their class
KEEPS = 0.9  # least share of the source's mean IoU that is kept


class Watch:
    """What the warm-up says of some images without labels, and how it scores on some source crops."""

    def __init__(self, warmup: Segmenter, data: Batches) -> None:
        self.classes = warmup.classes
        self.looks = list(_looks(data))
        self.source = list(_source(data))
        self.maps, self.score = self._judge(warmup)

    def __call__(self, model: Segmenter, step: int) -> Drift:
        """How far ``model`` is from the warm-up, after ``step`` steps of joint training."""
        maps, score = self._judge(model)
        pairs = list(zip(self.maps, maps, strict=True))
        agreement = float(np.mean([(before == after).mean() for before, after in pairs])) if pairs else 1.0
        shares = [_shares(each, len(self.classes)) for each in (self.maps, maps)]
        return Drift(
            step=step,
            images=len(pairs),
            agreement=agreement,
            source=(self.score, score),
            shares={
                name: (float(before), float(after))
                for name, before, after in zip(self.classes, *shares, strict=True)
                if before or after
            },
            harm=agreement < AGREES or score < KEEPS * self.score,
        )

    def _judge(self, model: Segmenter) -> tuple[list[Labels], float]:
        """Label maps of the images without labels, and the mean IoU of the source crops, in 0..1."""
        training = model.training
        model.eval()
        maps = [_labels(model, image) for image in self.looks]
        counts = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)
        for image, label in self.source:
            counts += confusion(label, _labels(model, image), len(self.classes))
        model.train(training)
        return maps, float(mean_iou(counts))


def summary(drift: Drift) -> str:
    """What a run says of harm."""
    before, after = (100 * score for score in drift.source)
    return (
        f"{100 * drift.agreement:.0f} % of the pixels of {drift.images} crops of unlabelled images have the class that "
        f"the warm-up gave them; source mIoU was {before:.1f} and is {after:.1f}"
    )


def _looks(data: Batches) -> Iterator[Tensor]:
    looks = data.looks()
    for k in evenly(len(looks), IMAGES):
        try:
            yield channels_first(data.unlabelled.pixels(looks[k])[None])
        except DataError:  # training leaves it out too, and says so
            continue


def _source(data: Batches) -> Iterator[tuple[Tensor, Labels]]:
    augment = data.augment
    for k in evenly(len(data.source), IMAGES):
        try:
            rng = np.random.default_rng((data.seed, 0x3A7C4, k))
            image, label = scale_crop(*data.source[k], augment.crop, augment.scale, rng, augment.shorter_side)
            yield channels_first(image[None]), label
        except DataError:
            continue


def _labels(model: Segmenter, image: Tensor) -> Labels:
    return predictions(model, image.to(model.mean.device))[0][0].cpu().numpy()


def _shares(maps: list[Labels], classes: int) -> NDArray[np.float64]:
    counts = np.bincount(np.concatenate([np.zeros(0, np.uint8), *(each.ravel() for each in maps)]), minlength=classes)
    return counts / max(int(counts.sum()), 1)
