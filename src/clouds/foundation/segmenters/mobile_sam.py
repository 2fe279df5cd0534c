"""MobileSAM, the paper's default segmenter, from its published checkpoint (mobile_sam.pt): SAM with a small encoder.

The checkpoint holds a TinyViT-5M with SAM's neck, and SAM's own prompt encoder and mask decoder, all under the names
of their original code (github.com/ChaoningZhang/MobileSAM). timm has the trunk and transformers the rest: here they are
put together, and the table below translates the names. The trunk's last stage keeps its resolution, so that 1024 pixels
become a map of 64 x 64, as SAM's decoder expects. With random weights the whole equals the original code.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clouds.config.backends import Backend
from clouds.errors import DataError, UsageError
from clouds.foundation.segmenters.sam import SAM, TransformersSegmenter
from clouds.foundation.weights import load_strictly, read_weights, tensors_in

BACKEND = Backend("segmenter", "mobile-sam/MODEL", "mobile-sam ({model})", takes=("points", "masks"), build="load")
SIDE, PATCH = 1024, 16  # pixels of the input and of an output cell
TINY_VIT_5M: dict[str, Any] = {
    "embed_dims": (64, 128, 160, 320), "depths": (2, 2, 6, 2), "num_heads": (2, 4, 5, 10), "window_sizes": (7, 7, 14, 7)
}

# Left out: an ImageNet head that nothing runs, and an index that timm computes.
UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.|.*\.attention_bias_idxs$|pixel_(mean|std)$")

# Published name -> ours: patterns applied in order, each to the whole name.
NAMES = (
    # trunk: the original counts a downsampling to the stage before it, timm to the stage after it
    (r"^image_encoder\.patch_embed\.seq\.0\.", "vision_encoder.patch_embed.conv1."),
    (r"^image_encoder\.patch_embed\.seq\.2\.", "vision_encoder.patch_embed.conv2."),
    (r"^image_encoder\.layers\.0\.downsample\.", "vision_encoder.stages.1.downsample."),
    (r"^image_encoder\.layers\.1\.downsample\.", "vision_encoder.stages.2.downsample."),
    (r"^image_encoder\.layers\.2\.downsample\.", "vision_encoder.stages.3.downsample."),
    (r"^image_encoder\.layers\.(\d)\.blocks\.", r"vision_encoder.stages.\1.blocks."),
    (r"^(vision_encoder\..*)\.c\.weight$", r"\1.conv.weight"),
    # neck
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    # prompt encoder
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    # mask decoder
    (r"\.transformer\.(.*)\.norm(\d)\.", r".transformer.\1.layer_norm\2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.0\.", r".\1.proj_in."),
    (r"\.(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.1\.", r".\1.layers.0."),
    (r"\.(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.2\.", r".\1.proj_out."),
)
SHARED = "prompt_encoder.shared_embedding.positional_embedding"  # transformers also keeps it beside the prompt encoder


def place(name: str, _source: str | None, revision: str | None) -> Path:
    """The published checkpoint; UsageError where it is not there."""
    path = Path(name.partition("/")[2]).expanduser()
    if revision is not None and path.exists():
        raise UsageError(f"selftrain.segmenter_revision: got {revision!r}, but {path} is local; leave it out")
    if not path.is_file():
        raise UsageError(
            f"selftrain.segmenter: got {name!r}; expected mobile-sam/PATH of the published checkpoint mobile_sam.pt"
        )
    return path


def load(
    name: str, shown: str, device: str, dtype: str, revision: str | None, second_pass: bool, _synonyms: object
) -> object:
    """The segmenter of the checkpoint that ``name`` names."""
    return load_mobile_sam(place(name, None, revision), shown, device, dtype, second_pass=second_pass)


def load_mobile_sam(
    path: Path, name: str, device: str, dtype: str, side: int = SIDE, second_pass: bool = False
) -> TransformersSegmenter:
    """The segmenter of a checkpoint in the published format; ``side``: pixels of the model's square input.

    Runs no code of the file. Raises DataError listing the tensors that are missing, unexpected or of another shape.
    """
    tensors = tensors_in(read_weights(path), str(path))
    if not any(each.startswith("image_encoder.") for each in tensors):
        kinds = ", ".join(sorted({f"{each.partition('.')[0]}.*" for each in tensors})[:6])
        raise DataError(f"{path}: expected MobileSAM's checkpoint, tensors image_encoder.*; found {kinds}")
    model = build(side)
    load_strictly(model, renamed(tensors), str(path))
    return TransformersSegmenter(model.to(device, getattr(torch, dtype)), SAM, name, [path], second_pass=second_pass)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names -> those of the network that ``build`` makes; a name of neither stays what it is."""
    ours = {}
    for published, tensor in tensors.items():
        if UNUSED.match(published):
            continue
        name = published
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    if SHARED in ours:
        ours["shared_image_embedding.positional_embedding"] = ours[SHARED]
    return ours


def build(side: int = SIDE) -> Any:
    """MobileSAM's network with random weights: transformers' SamModel around timm's TinyViT-5M."""
    from transformers import SamConfig, SamModel

    config = SamConfig(
        # no layers: of SAM's own image encoder only the neck is used
        vision_config={"hidden_size": 320, "num_hidden_layers": 0, "num_attention_heads": 10, "image_size": side},
        prompt_encoder_config={"image_size": side, "patch_size": PATCH},
        mask_decoder_config={"layer_norm_eps": 1e-5},  # the original's; transformers has 1e-6
    )
    model = SamModel(config)
    model.vision_encoder = Encoder(model.vision_encoder.neck)
    return model.eval()


class Encoder(nn.Module):
    """TinyViT-5M at stride 16, and SAM's neck: pixels (B, 3, S, S) -> maps (B, 256, S / 16, S / 16), in a tuple as
    transformers' encoders give them."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        from timm.models.tiny_vit import TinyVit

        trunk = TinyVit(**TINY_VIT_5M, drop_path_rate=0.0, num_classes=0)
        trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.patch_embed, self.stages, self.neck = trunk.patch_embed, trunk.stages, neck

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        features = self.stages(self.patch_embed(pixels))  # (B, 320, h, w)
        return (self.neck(features.permute(0, 2, 3, 1)),)  # SAM's neck takes channels last
