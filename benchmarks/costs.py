"""What each stage of the paper's settings costs: FLOPs counted on the meta device, bytes from shapes. Nothing is run.

    python benchmarks/costs.py [--tflops 20] [--half-tflops 60]

Multiplications and additions count as two; matrix products, convolutions and attention are counted, element-wise work
is not. Training: the frozen backbone forward, the decoder forward and backward, the teacher forward on half the images;
the losses' points are left out. Hours are paper ones: FLOPs over an assumed, sustained rate, in fp32 (tf32 off) and
half precision. A GPU's data sheet promises more than it sustains.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from clouds.check.dry_run import random_model
from clouds.config.load import load_recipe
from clouds.foundation.segmenters.mobile_sam import build

RECIPES = ("gta-rn50", "gta-rn101", "gta-convnext-l")
CROP, BATCH, IMAGES, STEPS, VALIDATION = 768, 8, 5000, 40000, (1024, 2048)
LLM, PROMPT_TOKENS = 70e9, 100 * 60
# Stable Diffusion 2 (768): what its published configuration says beside diffusers' defaults
UNET = {
    "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
    "block_out_channels": (320, 640, 1280, 1280), "use_linear_projection": True,
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
    parser.add_argument("--bandwidth", type=float, default=1.5, help="Of the memory, 10^12 bytes a second.")
    options = parser.parse_args()
    full, half = options.tflops * 1e12 * 3600, options.half_tflops * 1e12 * 3600
    print(f"torch {torch.__version__}; assumed {options.tflops:g} TFLOP/s in fp32, {options.half_tflops:g} in half\n")
    print("| an image, GFLOP | backbone | decoder | + its backward | map of 1024 x 2048 | a step of 8, TFLOP | "
          "80000 steps, hours | trained, M |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    networks = {name: network(name) for name in RECIPES}
    for name, one in networks.items():
        warm = BATCH * (one["backbone"] + one["decoder and its backward"])
        joint = warm + BATCH / 2 * (one["backbone"] + one["decoder"])
        cells = [f"{one[key] / 1e9:.0f}" for key in ("backbone", "decoder", "decoder and its backward", "map")]
        cells += [f"{warm / 1e12:.1f}, joint {joint / 1e12:.1f}", f"{STEPS * (warm + joint) / full:.0f}"]
        cells.append(f"{one['trained M']:.1f} of {one['trained M'] + one['backbone M']:.1f}")
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| a process holds, MB in fp32 | frozen backbone | trained weights | + gradients, two moments, teacher | "
          "sent to the others each step |\n|---|---|---|---|---|")
    for name, one in networks.items():
        cells = [4 * one["backbone M"], 4 * one["trained M"], 5 * 4 * one["trained M"], 4 * one["trained M"]]
        print(f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} |")
    embedding = 256 * 64 * 64 * 2
    print(f"\n{IMAGES} images of {CROP} x {CROP}: {IMAGES * CROP * CROP * 3 / 2**30:.1f} GB unpacked; MobileSAM's "
          f"embedding of one {embedding / 2**20:.0f} MB in half precision, of all {IMAGES * embedding / 2**30:.1f} GB")
    image, parameters = diffusion()
    with torch.device("meta"):
        sam = build()
    seen = flops(lambda: sam.vision_encoder(torch.zeros(1, 3, 1024, 1024)))
    print("\n| stage | FLOP | GPU-hours | weights, fp16 |\n|---|---|---|---|")
    words, read = 2 * LLM * PROMPT_TOKENS, 2 * LLM * PROMPT_TOKENS / (options.bandwidth * 1e12 * 3600)
    print(f"| 100 prompts of 60 tokens, 70e9 parameters | {words:.1e} | {read:.2f}, bound by reading the weights at "
          f"{options.bandwidth:g} TB/s for each token | {LLM * 2 / 2**30:.0f} GB |")
    print(f"| {IMAGES} images of {CROP} x {CROP}, Stable Diffusion 2 | {IMAGES * image:.1e} "
          f"({image / 1e12:.0f} TFLOP each) | {IMAGES * image / half:.1f} | "
          f"{parameters * 2e6 / 2**30:.1f} GB without text tower |")  # fmt: skip
    print(f"| MobileSAM's encoder, once an image | {IMAGES * seen:.1e} ({seen / 1e9:.0f} GFLOP each) | "
          f"{IMAGES * seen / full:.2f} | {millions(sam) * 2e6 / 2**30:.2f} GB |")  # fmt: skip


if __name__ == "__main__":
    main()
