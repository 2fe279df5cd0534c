"""The embedded world: labelled street scenes as a car's camera sees them, drawn with numpy and OpenCV alone.

``render(sample("fog", seed=3))`` gives a picture and its label; ``from_prompt`` makes the scene a sentence describes.
Start with ``render``.
"""

from clouds.streets.render import render
from clouds.streets.scene import DISTRIBUTIONS, Scene, sample
from clouds.streets.words import VOCABULARY, attributes, from_prompt

__all__ = ["DISTRIBUTIONS", "VOCABULARY", "Scene", "attributes", "from_prompt", "render", "sample"]
