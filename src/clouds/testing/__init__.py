"""What every backend and dataset must do, as test classes to inherit: name yours in a subclass, run pytest.

    class TestMine(SegmenterContract):
        segmenter_name = "my_module:MySegmenter"

The package's own backends go through the same classes. Needs pytest; everything is made up, small and on the CPU.
"""

from clouds.testing.backbones import BackboneContract as BackboneContract
from clouds.testing.datasets import DatasetContract as DatasetContract
from clouds.testing.drawing import GeneratorContract as GeneratorContract
from clouds.testing.models import ModelContract as ModelContract
from clouds.testing.segmenters import SegmenterContract as SegmenterContract
from clouds.testing.words import TextContract as TextContract
from clouds.testing.words import WriterContract as WriterContract
