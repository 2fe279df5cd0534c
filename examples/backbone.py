"""torchvision's ResNet-18 as the backbone: ``clouds train demo model.vision=backbone:ResNet18``.

Put torchvision's ``resnet18-f37072fd.pth`` beside this file; without it the network starts at random, which says so. A
model folder holds all weights, so loading one needs neither.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from clouds.base.progress import say

WEIGHTS = Path(__file__).with_name("resnet18-f37072fd.pth")


class ResNet18(nn.Module):
    channels = {4: 64, 8: 128, 16: 256, 32: 512}  # noqa: RUF012 - of each stride's features
    mean = (123.675, 116.28, 103.53)  # of pixels 0..255
    std = (58.395, 57.12, 57.375)

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        network = resnet18()
        if pretrained and WEIGHTS.exists():
            network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
        elif pretrained:
            say(f"{WEIGHTS} is not there: ResNet18 starts at random")
        layers = {f"layer{k}": str(stride) for k, stride in enumerate(self.channels, start=1)}
        self.network = create_feature_extractor(network, layers, suppress_diff_warning=True)
        self.eval()

    def train(self, mode: bool = True) -> "ResNet18":  # noqa: ARG002 - batch statistics stay those of pre-training
        return super().train(False)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Normalised images (B, 3, H, W) -> {stride: (B, C, H/stride, W/stride)}."""
        return {int(stride): found for stride, found in self.network(images).items()}
