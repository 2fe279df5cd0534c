"""The ignore index, and the 19 train classes of Cityscapes by name."""

from clouds.config.label_sets import COLORS, IGNORE, NAMES, SYNONYMS

__all__ = ["COLORS", "IGNORE", "NAMES", "SYNONYMS"]
