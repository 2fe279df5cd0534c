"""What every backend and dataset must do, as test classes to inherit: name yours in a subclass, run pytest.

    class TestMine(SegmenterContract):
        segmenter_name = "my_module:MySegmenter"

The package's own backends go through the same classes. Needs pytest; everything is made up, small and on the CPU.
"""

from clouds.testing.backbone_contract import BackboneContract as BackboneContract
from clouds.testing.dataset_contract import DatasetContract as DatasetContract
from clouds.testing.generator_contract import GeneratorContract as GeneratorContract
from clouds.testing.model_contract import ModelContract as ModelContract
from clouds.testing.segmenter_contract import SegmenterContract as SegmenterContract
from clouds.testing.writer_contract import TextContract as TextContract
from clouds.testing.writer_contract import WriterContract as WriterContract
