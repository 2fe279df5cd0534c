"""Checkpoints that Rein and SoMA released, adapter and decoder, -> the parts of a model folder.

Their files are ``torch.save({"state_dict": tensors})`` of mmsegmentation, without the frozen backbone, which is
DINOv2's as timm has it. What is read from the public code: w1oves/Rein (GPL-3.0) rein/models/backbones/reins.py and
rein/models/heads/rein_mask2former.py; ysj9909/SoMA (MIT) rein/peft/sora.py and tools/merge_soma_weights.py.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clouds.config.label_sets import colors_of
from clouds.config.network import LINEAR
from clouds.errors import DataError, UsageError
from clouds.foundation.backbone import build_text, weight_file, weights_record
from clouds.foundation.backbones.timm_pyramid import timm_tensors
from clouds.foundation.weights import listed, load_strictly, tensors_in
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import text_classifier

HEAD, REINS, LORA = "decode_head.", "backbone.reins.", "backbone.model."
PIXEL, DECODER = HEAD + "pixel_decoder.", HEAD + "transformer_decoder."
LEVELS_TIMES_POINTS = 3 * 4  # what one head's attention weights count
# width and blocks of a backbone -> its name
BACKBONES = {
    (1024, 24): "timm/vit_large_patch14_dinov2.lvd142m", (768, 12): "timm/vit_base_patch14_dinov2.lvd142m",
    (384, 12): "timm/vit_small_patch14_dinov2.lvd142m",
}  # fmt: skip
LICENCES = {"rein": "GPL-3.0, of w1oves/Rein; the backbone's is Apache-2.0",
            "soma": "MIT, of ysj9909/SoMA; the backbone's is Apache-2.0"}  # fmt: skip
SIDES = {"rein": 512, "soma": 1024}  # pixels that their images are seen at; evaluate.protocol has the rest
PATTERN = r"decode_head\.pixel_decoder\."
ENCODER, LAYERS = PATTERN + r"encoder\.layers\.", r"decode_head\.transformer_decoder\.layers\."
# theirs -> ours; the first row that fits is taken
TABLE = (
    (PATTERN + r"input_convs\.(\d)\.conv\.", r"head.pixel_decoder.input_proj.\1.0."),
    (PATTERN + r"input_convs\.(\d)\.gn\.", r"head.pixel_decoder.input_proj.\1.1."),
    (PATTERN + r"lateral_convs\.0\.conv\.", "head.pixel_decoder.lateral.0."),
    (PATTERN + r"lateral_convs\.0\.gn\.", "head.pixel_decoder.lateral.1."),
    (PATTERN + r"output_convs\.0\.conv\.", "head.pixel_decoder.output.0."),
    (PATTERN + r"output_convs\.0\.gn\.", "head.pixel_decoder.output.1."),
    (PATTERN + r"level_encoding\.weight", "head.pixel_decoder.level_embed"),
    (PATTERN + r"mask_feature\.", "head.pixel_decoder.mask_features."),
    (ENCODER + r"(\d+)\.self_attn\.", r"head.pixel_decoder.layers.\1.self_attn."),
    (ENCODER + r"(\d+)\.norms\.0\.", r"head.pixel_decoder.layers.\1.norm1."),
    (ENCODER + r"(\d+)\.norms\.1\.", r"head.pixel_decoder.layers.\1.norm2."),
    (ENCODER + r"(\d+)\.ffn\.layers\.0\.0\.", r"head.pixel_decoder.layers.\1.linear1."),
    (ENCODER + r"(\d+)\.ffn\.layers\.1\.", r"head.pixel_decoder.layers.\1.linear2."),
    (LAYERS + r"(\d+)\.(self|cross)_attn\.attn\.", r"head.decoder.layers.\1.\2_attn."),
    (LAYERS + r"(\d+)\.norms\.0\.", r"head.decoder.layers.\1.cross_norm."),
    (LAYERS + r"(\d+)\.norms\.1\.", r"head.decoder.layers.\1.self_norm."),
    (LAYERS + r"(\d+)\.norms\.2\.", r"head.decoder.layers.\1.ffn_norm."),
    (LAYERS + r"(\d+)\.ffn\.layers\.0\.0\.", r"head.decoder.layers.\1.linear1."),
    (LAYERS + r"(\d+)\.ffn\.layers\.1\.", r"head.decoder.layers.\1.linear2."),
    (r"decode_head\.transformer_decoder\.post_norm\.", "head.decoder.norm."),
    (r"decode_head\.cls_embed\.", "head.decoder.class_head.linear."),
    (r"decode_head\.(mask_embed|query_embed|query_feat|level_embed)\.", r"head.decoder.\1."),
    (r"backbone\.reins\.learnable_tokens_([ab])$", r"backbone.rein.tokens_\1"),
    (r"backbone\.reins\.scale$", "backbone.rein.scale"),
    (r"backbone\.reins\.mlp_token2feat\.", "backbone.rein.value."),
    (r"backbone\.reins\.mlp_delta_f\.", "backbone.rein.refine."),
    (r"backbone\.model\.(.*\.attn)\.([qkv])\.lora_([AB])\.weight$",
     r"backbone.network.\1.qkv.\2.lora_\3.default.weight"),
    (r"backbone\.model\.(.*)\.lora_([AB])\.weight$", r"backbone.network.\1.lora_\2.default.weight"),
)  # fmt: skip
REFUSED = (  # a beginning of a tensor's name -> what such a file is
    ("text_encoder.", "of tqdm or MFuser: its decoder asks with text queries, ours does not"),
    ("context_decoder.", "of tqdm: its decoder asks with text queries, ours does not"),
    ("query_head.", "a detector's (SoMA's Co-DETR): boxes are not segmented here"),
    ("backbone.reins.learnable_tokens", "of Rein without low-rank tokens, which ours has not"),
)  # fmt: skip


def mmseg_tensors(stored: Any, path: Path) -> dict[str, Tensor] | None:
    """The tensors of such a file, averaged ones where it has some; None for a file of another kind."""
    if not isinstance(stored, dict) or not isinstance(stored.get("state_dict"), dict):
        return None
    chosen = "ema_state_dict" if isinstance(stored.get("ema_state_dict"), dict) else "state_dict"
    found = tensors_in(stored[chosen], f'{path}, under "{chosen}"')
    return {name.removeprefix("module."): tensor for name, tensor in found.items() if name != "steps"}


def model_of(
    theirs: Mapping[str, Tensor], path: Path, weights: str | None, synonyms: Sequence[Sequence[str]]
) -> tuple[Segmenter, dict[str, Any]]:
    """The model, and what was found: {"adapter", "vision", "weights", "licence"}. ``weights``: DINOv2's, null is timm's
    own.

    DataError for a file of another method or one that does not fit, UsageError for other classes than are named,
    BackendError where the hub is needed and does not answer.
    """
    kind = "rein" if f"{REINS}learnable_tokens_a" in theirs else "soma" if _tuned(theirs) else ""
    for start, what in REFUSED:
        if any(name.startswith(start) for name in theirs) and (kind == "" or not start.startswith(REINS)):
            raise DataError(f"{path}: refused: {what}; Rein's and SoMA's on DINOv2 with Mask2Former can be read")
    if not kind or f"{HEAD}cls_embed.weight" not in theirs:
        raise DataError(
            f"{path}: refused: mmsegmentation's, but neither Rein's ({REINS}learnable_tokens_a) nor SoMA's "
            f"({LORA}blocks.N.attn.q.lora_A.weight) with a Mask2Former head; found {listed(list(theirs))}"
        )
    if (classes := len(theirs[f"{HEAD}cls_embed.weight"]) - 1) != len(synonyms):
        raise UsageError(f"{path}: has {classes} classes, {len(synonyms)} are named; name them with --classes")
    vision, adapter = _backbone(theirs, path, kind)
    record = weights_record(vision, weights)
    text, names = build_text("all-minilm-l6-v2"), [group[0] for group in synonyms]
    model = Segmenter(
        vision=vision, text="all-minilm-l6-v2", text_dim=text.dim, weights=record, adapt=adapter, head="linear",
        classes=names, synonyms=[list(group) for group in synonyms], colors=colors_of(names), pretrained=True,
        shorter_side=SIDES[kind], **_sizes(theirs, path),
    )  # fmt: skip
    source = timm_tensors(weight_file(vision, weights) or Path())
    ours = _translated(theirs, path, kind, model)
    ours["backbone.network.patch_embed.proj.weight"] = _patches(source["patch_embed.proj.weight"], model)
    load_strictly(model, {**model.state_dict(), **ours}, str(path))
    model.vocabulary.copy_(text_classifier(text, synonyms))
    found = {"adapter": kind, "vision": vision, "weights": record, "licence": LICENCES[kind]}
    return model, found


def _tuned(theirs: Mapping[str, Tensor]) -> list[str]:
    """The layers that SoMA tunes, as "blocks.8.attn.q"."""
    end = ".lora_A.weight"
    return [n[len(LORA) : -len(end)] for n in theirs if n.startswith(f"{LORA}blocks.") and n.endswith(end)]


def _backbone(theirs: Mapping[str, Tensor], path: Path, kind: str) -> tuple[str, dict[str, Any]]:
    """The backbone's name and the adapter's settings, read off the tensors."""
    if kind == "rein":
        a, b = (theirs[f"{REINS}learnable_tokens_{part}"] for part in "ab")
        size, rank = (b.shape[-1], len(a)), a.shape[-1]
        adapter: dict[str, Any] = {"kind": "rein", "tokens": a.shape[1], "rank": rank, "link": True}
        if f"{HEAD}querys2feat.weight" not in theirs:
            raise DataError(f"{path}: refused: its tokens are not the decoder's queries, which no release has")
    else:
        tuned = _tuned(theirs)
        blocks = sorted({int(name.split(".")[1]) for name in tuned})
        down = theirs[f"{LORA}{tuned[0]}.lora_A.weight"]
        size, rank = (theirs[f"{LORA}blocks.{blocks[0]}.attn.q.lora_A.weight"].shape[1], blocks[-1] + 1), len(down)
        wanted = {f"blocks.{i}.{part}" for i in range(blocks[0], blocks[-1] + 1)
                  for part in ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")}  # fmt: skip
        if wanted != set(tuned):
            odd = sorted(wanted ^ set(tuned))
            raise DataError(f"{path}: refused: SoMA tunes every linear layer from one block on, and here "
                            f"{listed(odd)} differ")  # fmt: skip
        adapter = {"kind": "soma", "rank": rank, "frozen_share": blocks[0] / size[1], "layers": list(LINEAR)}
    if size not in BACKBONES:
        raise DataError(f"{path}: refused: its backbone has {size[1]} blocks of width {size[0]}, which is none of "
                        f"DINOv2's ({', '.join(BACKBONES.values())})")  # fmt: skip
    return BACKBONES[size], adapter


def _sizes(theirs: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The decoder's settings, read off the tensors."""
    try:
        tokens = theirs.get(f"{REINS}learnable_tokens_a")
        queries = theirs[f"{HEAD}query_feat.weight"] if tokens is None else tokens[0]
        first = f"{PIXEL}encoder.layers.0."
        return {
            "hidden": len(theirs[f"{PIXEL}mask_feature.weight"]),
            "queries": len(queries),
            "heads": len(theirs[f"{first}self_attn.attention_weights.weight"]) // LEVELS_TIMES_POINTS,
            "pixel_layers": _count(theirs, f"{PIXEL}encoder.layers."),
            "pixel_ffn": len(theirs[f"{first}ffn.layers.0.0.weight"]),
            "layers": _count(theirs, f"{DECODER}layers."),
            "ffn": len(theirs[f"{DECODER}layers.0.ffn.layers.0.0.weight"]),
        }
    except KeyError as error:
        raise DataError(f"{path}: its tensors do not fit. 1 or more missing: {error.args[0]}") from error


def _count(theirs: Mapping[str, Tensor], start: str) -> int:
    """How many layers there are below a name."""
    return len({name[len(start) :].partition(".")[0] for name in theirs if name.startswith(start)})


def _translated(theirs: Mapping[str, Tensor], path: Path, kind: str, model: Segmenter) -> dict[str, Tensor]:
    """Tensors under our names; DataError where one is missing. Of the backbone come the adapter and its biases."""
    ours, left = {}, []
    for name, tensor in theirs.items():
        rows = ((pattern, new) for pattern, new in TABLE if re.match(pattern, name))
        if row := next(rows, None):
            ours[re.sub(row[0], row[1], name, count=1)] = tensor
        elif name.startswith(HEAD) and not name.startswith(f"{HEAD}querys2feat."):
            left.append(name)
    if left:
        raise DataError(f"{path}: its tensors do not fit. {len(left)} unexpected: {listed(left)}")
    if kind == "rein":
        ours |= _queries(theirs)
    else:
        for name in _tuned(theirs):  # the weight beside is DINOv2's own, as the published merge has it
            place = re.sub(r"attn\.([qkv])$", r"attn.qkv.\1", name)
            ours[f"backbone.network.{place}.base_layer.bias"] = theirs[f"{LORA}{name}.bias"]
    own = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if missing := sorted(own - ours.keys()):
        raise DataError(f"{path}: its tensors do not fit. {len(missing)} missing, under our names: {listed(missing)}")
    return ours


def _queries(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rein's way to the decoder: what its tokens give is where the queries are, and a linear map of that what they are.

    Ours are the other way round: the tokens give what they are. So both linear maps become one, and the positions,
    which no image changes, are computed. Theirs has maximum, mean and last of a channel side by side.
    """
    a, b = (theirs[f"{REINS}learnable_tokens_{part}"] for part in "ab")
    transform, merge = (_linear(theirs, f"{REINS}{name}") for name in ("transform", "merge"))
    tokens = F.linear(a @ b, *transform)  # (blocks, m, hidden)
    seen = torch.stack((tokens.amax(0), tokens.mean(0), tokens[-1]), -1).flatten(1)  # (m, 3 hidden)
    positions = F.linear(seen, *merge)
    weight, bias = _linear(theirs, f"{HEAD}querys2feat")
    side_by_side = merge[0].unflatten(1, (-1, 3)).transpose(1, 2).flatten(1)  # columns: maxima, means, last ones
    return {
        "backbone.rein.query.weight": transform[0], "backbone.rein.query.bias": transform[1],
        "backbone.rein.merge.weight": weight @ side_by_side, "backbone.rein.merge.bias": weight @ merge[1] + bias,
        "head.decoder.query_embed.weight": positions,
    }  # fmt: skip


def _linear(theirs: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return theirs[f"{name}.weight"], theirs[f"{name}.bias"]


def _patches(weight: Tensor, model: Segmenter) -> Tensor:
    """DINOv2's patch kernel brought to 16 pixels as their converters do it: bicubic interpolation."""
    side = model.get_parameter("backbone.network.patch_embed.proj.weight").shape[-1]
    return F.interpolate(weight.float(), size=(side, side), mode="bicubic", align_corners=False)
