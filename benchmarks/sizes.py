"""Parameters of backbones and of what is trained, as docs/models.md shows them; built without memory for weights.

python benchmarks/sizes.py [NAME ...]     with the paper's decoder: 256 channels, 100 queries, 6 + 9 layers, linear head
"""

import sys

import torch

from clouds.config.label_sets import COLORS, NAMES, SYNONYMS
from clouds.config.recipe import Model
from clouds.errors import UsageError
from clouds.model.segmenter import Segmenter

BACKBONES = (
    "efficientnet-lite0",
    "open_clip/RN50-quickgelu",
    "open_clip/RN101-quickgelu",
    "open_clip/convnext_large_d_320",
    "open_clip/EVA02-L-14-336",
    "open_clip/ViT-B-16-SigLIP2-512",
    "open_clip/ViT-L-16-SigLIP2-512",
    "timm/vit_base_patch14_dinov2",
    "timm/vit_large_patch14_dinov2",
    "timm/vit_large_patch14_reg4_dinov2",
    "timm/vit_base_patch16_dinov3",
    "timm/vit_large_patch16_dinov3",
    "timm/convnext_base.dinov3_lvd1689m",
    "timm/convnext_large.dinov3_lvd1689m",
)


def built(vision: str, adapt: str) -> Segmenter:
    settings = Model(vision=vision, text=vision if vision.startswith("open_clip/") else "all-minilm-l6-v2", adapt=adapt)
    plain = settings.model_dump(exclude={"weights", "revision", "adapt", "lora", "soma", "rein", "classes"})
    with torch.device("meta"):
        return Segmenter(**plain, adapt=settings.adapter, text_dim=384, classes=list(NAMES),
                         synonyms=[list(group) for group in SYNONYMS], colors=[list(c) for c in COLORS])  # fmt: skip


def millions(vision: str, adapt: str) -> tuple[float, float]:
    """The whole backbone's parameters, and those of it that are trained."""
    parameters = list(built(vision, adapt).backbone.parameters())
    return sum(p.numel() for p in parameters) / 1e6, sum(p.numel() for p in parameters if p.requires_grad) / 1e6


def main(names: list[str]) -> None:
    print(f"{'backbone':<40}{'parameters':>12}{'decoder':>10}{'lora':>9}{'soma':>9}{'rein':>9}   millions")
    for vision in names or BACKBONES:
        decoder = sum(p.numel() for p in built(vision, "none").head.parameters()) / 1e6
        cells = [f"{millions(vision, 'none')[0]:>12.2f}", f"{decoder:>10.2f}"]
        for adapt in ("lora", "soma", "rein"):
            try:
                cells.append(f"{millions(vision, adapt)[1]:>9.2f}")
            except UsageError:
                cells.append(f"{'no':>9}")
        print(f"{vision:<40}{''.join(cells)}")


if __name__ == "__main__":
    main(sys.argv[1:])
