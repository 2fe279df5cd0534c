"""The worked examples of examples/, by the tests that every backend inherits; what becomes of names that are wrong; and
that a model folder imports nothing."""

import sys
from pathlib import Path
from typing import ClassVar

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from clouds.testing import BackboneContract, DatasetContract, GeneratorContract, SegmenterContract


class TestResNet18(BackboneContract):
    vision = "backbone:ResNet18"


class TestBlocks(GeneratorContract):
    generator_name = "generator:Blocks"


class TestFelzenszwalb(SegmenterContract):
    segmenter_name = "segmenter:Felzenszwalb"


class TestKitti(DatasetContract):
    dataset = "dataset:KITTI"
    samples: ClassVar = {
        f"{split}/{key}": (f"training/image_2/{key}.png", f"training/semantic/{key}.png")
        for split, key in (("train", "000001_10"), ("train", "000199_10"), ("val", "000000_10"), ("val", "000010_10"))
    }
    meaning: ClassVar = {7: "road", 26: "car", 24: "person", 0: "", 29: ""}
