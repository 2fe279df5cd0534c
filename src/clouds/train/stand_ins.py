"""What stands in for a recipe's weights, teacher and segmenter where it is only tried out: the same work, made up."""

import time

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clouds.classes import COLORS, NAMES, SYNONYMS
from clouds.data.loaders import Batch
from clouds.errors import UsageError
from clouds.foundation.sam import PromptableSegmenter, load_segmenter, segmenter_place
from clouds.foundation.sources import CLIP, clip_config
from clouds.model.segmenter import Segmenter
from clouds.selftrain.pseudo import Lesson, PseudoLabeller
from clouds.settings import Recipe

SQUARES = 6  # a side, each a component of the stand-in for the teacher's map
MINILM = 384  # numbers of an embedding of the text tower that is no CLIP's


class TimedLabeller(PseudoLabeller):
    """Pseudo-labels as always, by a teacher whose map is replaced by squares: a random one sees no component."""

    def prepare(self, squares: NDArray[np.uint8]) -> None:
        self.seconds: list[float] = []
        predict, fixed = self.teacher.predict, torch.from_numpy(squares)

        def see(images: Tensor) -> tuple[Tensor, Tensor]:
            maps, sure = predict(images)
            return fixed.to(maps.device).expand_as(maps), sure

        self.teacher.predict = see  # type: ignore[method-assign]

    def __call__(self, batch: Batch, step: int) -> Lesson:
        began = time.monotonic()
        lesson = super().__call__(batch, step)
        self.seconds.append(time.monotonic() - began)
        return lesson


def random_model(recipe: Recipe) -> Segmenter:
    """The recipe's network at a random start; its class names are random vectors."""
    chosen = recipe.model
    text_dim = clip_config(chosen.text)["embed_dim"] if chosen.text.startswith(CLIP) else MINILM
    model = Segmenter(
        **chosen.model_dump(exclude={"weights", "revision", "adapt", "lora", "rein"}),
        adapt=chosen.adapter,
        text_dim=text_dim,
        classes=list(NAMES),
        synonyms=[list(group) for group in SYNONYMS],
        colors=[list(color) for color in COLORS],
        shorter_side=recipe.evaluate.shorter_side,
    )
    model.vocabulary.copy_(F.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return model


def local_segmenter(recipe: Recipe, stand_ins: list[str]) -> PromptableSegmenter:
    """The recipe's own if it is a local file, or needs none; else superpixels."""
    chosen = recipe.selftrain
    try:
        place = segmenter_place(chosen.segmenter, chosen.segmenter_revision)
    except UsageError:
        place = "nowhere"
    if not isinstance(place, str):
        return load_segmenter(chosen.segmenter, recipe.train.device, chosen.segmenter_dtype,
                              second_pass=chosen.second_pass)  # fmt: skip
    stand_ins.append(f"superpixels in place of {chosen.segmenter}, which is no local file")
    return load_segmenter("superpixels")


def label_squares(size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) uint8: squares of which neighbours have different classes."""
    rows, columns = (np.arange(side) * SQUARES // side for side in size)
    return ((rows[:, None] * 5 + columns * 2) % len(NAMES)).astype(np.uint8)
