"""What each stage of the paper's settings costs: FLOPs counted on the meta device, bytes from shapes. Nothing is run.

    python benchmarks/costs.py [--tflops 20] [--half-tflops 60]

Multiplications and additions count as two; matrix products, convolutions and attention are counted, element-wise work
is not. Training: the frozen backbone forward, the decoder forward and backward, the teacher forward on half the images;
the losses' points are left out. Hours are paper ones: FLOPs over an assumed, sustained rate, in fp32 (tf32 off) and half
precision. A GPU's data sheet promises more than it sustains.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from clouds.config import load_recipe
from clouds.dry_run import random_model
from clouds.foundation.mobile_sam import build

RECIPES = ("gta-rn50", "gta-rn101", "gta-convnext-l")
CROP, BATCH, IMAGES, STEPS, VALIDATION = 768, 8, 5000, 40000, (1024, 2048)
LLM, PROMPT_TOKENS = 70e9, 100 * 60
# Stable Diffusion 2 (768): what its published configuration says beside diffusers' defaults
UNET = {
    "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True,
    "block_out_channels": (320, 640, 1280, 1280),
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip


def flops(run: object) -> float:
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        run()
    return float(counter.get_total_flops())


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def network(name: str) -> dict[str, float]:
    """FLOPs of one image: backbone, decoder with its backward pass, whole forward at the crop and at scoring."""
    with torch.device("meta"):
        model = random_model(load_recipe(name))
    image = torch.zeros(1, 3, CROP, CROP, device="meta")
    features = model.features(image)
    backbone = flops(lambda: model.features(image))
    decoder = flops(lambda: model.decode(features))

    def learn() -> None:
        found = model.decode(features)
        (sum(each.sum() for each in found.logits) + found.masks().sum()).backward()

    return {
        "backbone": backbone,
        "decoder": decoder,
        "decoder and its backward": flops(learn),
        "map": flops(lambda: model(torch.zeros(1, 3, *VALIDATION), auxiliary=False)),
        "backbone M": millions(model.backbone),
        "trained M": sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6,
    }


def diffusion() -> tuple[float, float]:
    """FLOPs of an image by Stable Diffusion 2: 50 steps with guidance, two passes each, and decoding; parameters."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
    side = CROP // 8
    step = flops(lambda: unet(torch.zeros(2, 4, side, side), torch.zeros(()), torch.zeros(2, 77, 1024)))
    return 50 * step + flops(lambda: vae.decode(torch.zeros(1, 4, side, side))), millions(unet) + millions(vae)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflops", type=float, default=20, help="Sustained in fp32, 10^12 a second.")
    parser.add_argument("--half-tflops", type=float, default=60, help="Sustained in half precision.")
    options = parser.parse_args()
    full, half = options.tflops * 1e12 * 3600, options.half_tflops * 1e12 * 3600
    print(f"torch {torch.__version__}; assumed {options.tflops:g} TFLOP/s in fp32, {options.half_tflops:g} in half\n")
    print("| an image, GFLOP | backbone | decoder | + its backward | map of 1024 x 2048 | a step of 8, TFLOP | 80000 steps, hours | "
          "trained, M |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in RECIPES:
        one = network(name)
        warm = BATCH * (one["backbone"] + one["decoder and its backward"])
        joint = warm + BATCH / 2 * (one["backbone"] + one["decoder"])
        cells = [f"{one[key] / 1e9:.0f}" for key in ("backbone", "decoder", "decoder and its backward", "map")]
        cells += [f"{warm / 1e12:.1f}, joint {joint / 1e12:.1f}", f"{STEPS * (warm + joint) / full:.0f}"]
        print(f"| {name} | {' | '.join(cells)} | {one['trained M']:.1f} of {one['trained M'] + one['backbone M']:.1f} |")
    image, parameters = diffusion()
    with torch.device("meta"):
        sam = build()
    seen = flops(lambda: sam.vision_encoder(torch.zeros(1, 3, 1024, 1024)))
    print("\n| stage | FLOP | GPU-hours | weights, fp16 |\n|---|---|---|---|")
    words = 2 * LLM * PROMPT_TOKENS
    print(f"| 100 prompts of 60 tokens, 70e9 parameters | {words:.1e} | {words / half:.2f} | {LLM * 2 / 2**30:.0f} GB |")
    print(f"| {IMAGES} images of {CROP} x {CROP}, Stable Diffusion 2 | {IMAGES * image:.1e} ({image / 1e12:.0f} TFLOP each) | "
          f"{IMAGES * image / half:.1f} | {parameters * 2e6 / 2**30:.1f} GB without text tower |")  # fmt: skip
    print(f"| MobileSAM's encoder, once an image | {IMAGES * seen:.1e} ({seen / 1e9:.0f} GFLOP each) | "
          f"{IMAGES * seen / full:.2f} | {millions(sam) * 2e6 / 2**30:.2f} GB |")  # fmt: skip


if __name__ == "__main__":
    main()
