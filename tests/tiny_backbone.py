"""The smallest backbone there is: four strided convolutions. The runs of ``tests/before`` were trained on it."""

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    channels = {4: 8, 8: 8, 16: 8, 32: 8}  # noqa: RUF012 - of each stride's features
    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 2, 2) for _ in range(3))
        for parameter in self.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * (3 / parameter[0].numel()) ** 0.5)
        self.eval()

    def features(self, images: Tensor) -> dict[int, Tensor]:
        found = {4: self.stem(images).relu()}
        for stride, layer in zip((8, 16, 32), self.down, strict=True):
            found[stride] = layer(found[stride // 2]).relu()
        return found
