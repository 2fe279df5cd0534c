"""The text classifier: class names and their synonyms through the frozen text tower (paper section 3.1).

Each synonym fills the 14 ViLD templates; the embeddings are normalised, averaged over the templates and normalised
again. At scoring a class takes the maximum over its synonyms.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clouds.foundation.backbone import Text

TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)


def text_classifier(text: Text, synonyms: Sequence[Sequence[str]]) -> Tensor:
    """Names of C classes, N synonyms in all -> float32 (N, D), rows in order, each of unit length."""
    names = [name for group in synonyms for name in group]
    sentences = [template.format(name) for name in names for template in TEMPLATES]
    embedded = text.embed(sentences).view(len(names), len(TEMPLATES), -1)
    return F.normalize(embedded.mean(1), dim=-1)


def synonym_index(sizes: Sequence[int]) -> Tensor:
    """Sizes of the C synonym groups -> long (C, max size): columns of each class, the last one repeated as padding."""
    widest, start, rows = max(sizes), 0, []
    for size in sizes:
        rows.append([start + min(i, size - 1) for i in range(widest)])
        start += size
    return torch.tensor(rows)


def max_over_synonyms(scores: Tensor, index: Tensor) -> Tensor:
    """Scores (..., N) of all synonyms and ``synonym_index`` (C, S) -> (..., C)."""
    return scores[..., index].amax(-1)
