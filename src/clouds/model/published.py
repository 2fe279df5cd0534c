"""A checkpoint of the published implementation -> a model folder; ``published_mmseg`` reads Rein's and SoMA's.

Its file is ``torch.save({"model": state_dict})``. The names are translated by a table, sizes are read off the tensors'
shapes, and the vocabulary is computed with the checkpoint's own CLIP text tower.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from clouds.base.files import sha256
from clouds.config.label_sets import SYNONYMS, colors_of
from clouds.errors import DataError, UsageError
from clouds.foundation.backbone import weight_file, weights_record
from clouds.foundation.backbones.clip import CLIP, clip_config, published
from clouds.foundation.backbones.openclip import NOT_WEIGHTS, REFERENCE, OpenClipText, clip_tensors
from clouds.foundation.weights import listed, load_strictly, read_weights, tensors_in
from clouds.model.folder import save_model
from clouds.model.place import CONFIG
from clouds.model.published_mmseg import mmseg_tensors, model_of
from clouds.model.segmenter import Segmenter
from clouds.model.vocabulary import text_classifier

PIXEL, QUERY = r"sem_seg_head\.pixel_decoder\.", r"sem_seg_head\.predictor\."
HEAD = "head.decoder.class_head."
# theirs -> ours; the first row that fits a name's beginning is taken
TABLE = (
    (PIXEL + r"transformer\.encoder\.layers\.", "head.pixel_decoder.layers."),
    (PIXEL + r"transformer\.level_embed", "head.pixel_decoder.level_embed"),
    (PIXEL + r"adapter_1\.norm\.", "head.pixel_decoder.lateral.1."),
    (PIXEL + r"adapter_1\.", "head.pixel_decoder.lateral.0."),
    (PIXEL + r"layer_1\.norm\.", "head.pixel_decoder.output.1."),
    (PIXEL + r"layer_1\.", "head.pixel_decoder.output.0."),
    (PIXEL, "head.pixel_decoder."),
    (QUERY + r"transformer_self_attention_layers\.(\d+)\.self_attn\.", r"head.decoder.layers.\1.self_attn."),
    (QUERY + r"transformer_self_attention_layers\.(\d+)\.norm\.", r"head.decoder.layers.\1.self_norm."),
    (QUERY + r"transformer_cross_attention_layers\.(\d+)\.multihead_attn\.", r"head.decoder.layers.\1.cross_attn."),
    (QUERY + r"transformer_cross_attention_layers\.(\d+)\.norm\.", r"head.decoder.layers.\1.cross_norm."),
    (QUERY + r"transformer_ffn_layers\.(\d+)\.norm\.", r"head.decoder.layers.\1.ffn_norm."),
    (QUERY + r"transformer_ffn_layers\.(\d+)\.", r"head.decoder.layers.\1."),
    (QUERY + r"decoder_norm\.", "head.decoder.norm."),
    (QUERY + r"mask_embed\.layers\.0\.", "head.decoder.mask_embed.0."),  # between ours stand the ReLUs
    (QUERY + r"mask_embed\.layers\.1\.", "head.decoder.mask_embed.2."),
    (QUERY + r"mask_embed\.layers\.2\.", "head.decoder.mask_embed.4."),
    (QUERY + r"class_embed\.layers\.0\.", HEAD + "embed.0."),
    (QUERY + r"class_embed\.layers\.1\.", HEAD + "embed.2."),
    (QUERY + r"class_embed\.layers\.2\.", HEAD + "embed.4."),
    (QUERY + r"class_embed\.", HEAD + "linear."),
    (QUERY + r"_mask_pooling_proj\.", HEAD + "pool_proj."),
    (QUERY + r"logit_scale$", HEAD + "logit_scale"),
    (QUERY, "head.decoder."),
    (r"void_embedding\.weight$", HEAD + "void"),
    (r"backbone\.clip_model\.visual\.", "backbone.visual."),
    (r"backbone\.clip_model\.logit_scale$", "backbone.logit_scale"),
)
# what the paper's three CLIPs are known by: text dimension, blocks in the third stage, channels at stride 32
CLIPS = {
    "RN50-quickgelu": (1024, 6, 2048),
    "RN101-quickgelu": (512, 23, 2048),
    "convnext_large_d_320": (768, 27, 1536),
}
LEVELS_TIMES_POINTS = 3 * 4  # what one head's attention weights count, in every published model


def import_checkpoint(
    checkpoint: Path,
    out: Path,
    clip: str | None = None,
    weights: str | None = None,
    synonyms: Sequence[Sequence[str]] = SYNONYMS,
) -> dict[str, Any]:
    """Write the model folder ``out`` from ``checkpoint``; returns what was found in it.

    Adapters and heads that Rein and SoMA released are read too (``published_mmseg``).

    clip: open_clip's model name, where the tensors do not tell. weights: CLIP's, for a checkpoint without its frozen
    backbone, or DINOv2's. synonyms: C groups of names, the first of each is the class's. Raises DataError for a file
    that is none or does not fit, UsageError for a request that cannot be, BackendError where the hub is needed and does
    not answer.
    """
    if out.exists() and not (out / CONFIG).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already and is not a model folder; choose another --out")
    stored = read_weights(checkpoint)
    if (released := mmseg_tensors(stored, checkpoint)) is not None:
        if clip:
            raise UsageError(f"--clip: {checkpoint} is for DINOv2; leave the option out")
        model, found = model_of(released, checkpoint, weights, synonyms)
        save_model(model, out)
        return {"model": str(out.resolve()), **found, "head": "linear", "classes": len(synonyms),
                "queries": model.head.decoder.query_embed.num_embeddings, "sha256": sha256(checkpoint)}  # fmt: skip
    theirs = _read(stored, checkpoint)
    name = CLIP + (clip.removeprefix(CLIP) if clip else _recognise(theirs, checkpoint))
    config = clip_config(name, "--clip")
    published(name)  # refuses RN50 for RN50-quickgelu: equal shapes, but other towers
    tensors, record = _clip(theirs, name, checkpoint, weights)
    text = OpenClipText(name, config, tensors, record["source"])
    names = [group[0] for group in synonyms]
    model = Segmenter(
        vision=name, text=name, text_dim=text.dim, weights=record, **_sizes(theirs, len(synonyms), checkpoint),
        classes=names, synonyms=[list(group) for group in synonyms], colors=colors_of(names),
    )  # fmt: skip
    ours = _translated({**theirs, **{REFERENCE + key: t for key, t in tensors.items()}}, text.clip.state_dict())
    if model.settings["head"] == "linear":
        ours.pop(HEAD + "void", None)  # part of every checkpoint, of use to the text head only
    load_strictly(model, {**ours, "vocabulary": model.vocabulary}, str(checkpoint))
    model.vocabulary.copy_(text_classifier(text, synonyms))
    save_model(model, out)
    return {
        "model": str(out.resolve()),
        "clip": name.removeprefix(CLIP),
        "weights": record,
        "head": model.settings["head"],
        "classes": len(synonyms),
        "queries": model.head.decoder.query_feat.num_embeddings,
        "sha256": sha256(checkpoint),
    }


def _clip(
    theirs: Mapping[str, Tensor], name: str, checkpoint: Path, weights: str | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of the frozen CLIP and the record of where they are: the checkpoint, or a file of CLIP's own."""
    if not any(key.startswith(REFERENCE) for key in theirs):
        file = cast(Path, weight_file(name, weights))  # open_clip's never come in a package
        return clip_tensors(read_weights(file), str(file)), cast(dict[str, Any], weights_record(name, weights))
    if weights:
        raise UsageError(f"--weights: {checkpoint} holds its own CLIP; leave the option out")
    record = {"source": str(checkpoint.resolve()), "revision": None, "sha256": sha256(checkpoint)}
    return clip_tensors(theirs, str(checkpoint)), record


def _read(stored: Any, path: Path) -> dict[str, Tensor]:
    """The tensors under "model", but for the loss's; DataError for any other file."""
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        keys = listed(list(map(str, stored))) if isinstance(stored, dict) else ""
        found = f"a dictionary of {keys}" if keys else f"a value of type {type(stored).__name__}"
        raise DataError(f'{path}: not a published checkpoint of CLOUDS: expected {{"model": tensors}}, found {found}')
    tensors = tensors_in(stored["model"], f'{path}, under "model"')
    if not any(name.startswith("sem_seg_head.") for name in tensors):
        raise DataError(
            f"{path}: not a published checkpoint of CLOUDS: expected tensors named sem_seg_head.*, found "
            f"{listed(list(tensors))}"
        )
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("criterion.")}
    if unreal := [name for name, tensor in kept.items() if tensor.is_floating_point() and tensor.isnan().any()]:
        raise DataError(f"{path}: holds weights that are no numbers (NaN) in {listed(unreal)}; take an earlier one")
    return kept


def _recognise(theirs: Mapping[str, Tensor], path: Path) -> str:
    """Which of the paper's CLIPs: all that its tensors tell must agree."""
    void = theirs.get("void_embedding.weight")
    deep = theirs.get("sem_seg_head.pixel_decoder.input_proj.0.0.weight")
    blocks = _count(theirs, r"backbone\.clip_model\.visual\.(?:layer3|trunk\.stages\.2\.blocks)\.(\d+)\.")
    known = (None if void is None else void.shape[-1], blocks or None, None if deep is None else deep.shape[1])
    fit = [n for n, facts in CLIPS.items() if all(t in (None, fact) for t, fact in zip(known, facts, strict=True))]
    if len(fit) != 1:
        facts = zip(("text dimension", "blocks in the third stage", "channels at stride 32"), known, strict=True)
        raise UsageError(
            f"{path}: cannot tell its CLIP ({', '.join(f'{what} {value}' for what, value in facts)}), it could be "
            f"{' or '.join(fit) or 'none of the published ' + ', '.join(CLIPS)}; name open_clip's model with --clip"
        )
    return fit[0]


def _sizes(theirs: Mapping[str, Tensor], classes: int, path: Path) -> dict[str, Any]:
    """The decoder's settings, read off the tensors."""
    pixel, query = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    linear = theirs.get(query + "class_embed.weight")
    if linear is not None and any(name.startswith(query + "_mask_pooling_proj.") for name in theirs):
        raise DataError(
            f'{path}: its class head is the published code\'s third one ("Bis...": mask-pooled, then linear), which is '
            "not supported; the linear and the text head are"
        )
    if linear is not None and len(linear) != classes + 1:
        raise UsageError(
            f"{path}: its class head has {len(linear) - 1} classes, {classes} are named; name them with --classes"
        )
    try:
        encoder = pixel + "transformer.encoder.layers.0."
        return {
            "head": "text" if linear is None else "linear",
            "hidden": len(theirs[pixel + "mask_features.weight"]),
            "queries": len(theirs[query + "query_feat.weight"]),
            "heads": len(theirs[encoder + "self_attn.attention_weights.weight"]) // LEVELS_TIMES_POINTS,
            "pixel_layers": _count(theirs, PIXEL + r"transformer\.encoder\.layers\.(\d+)\."),
            "pixel_ffn": len(theirs[encoder + "linear1.weight"]),
            "layers": _count(theirs, QUERY + r"transformer_ffn_layers\.(\d+)\."),
            "ffn": len(theirs[query + "transformer_ffn_layers.0.linear1.weight"]),
        }
    except KeyError as error:
        raise DataError(f"{path}: its tensors do not fit. 1 or more missing: {error.args[0]}") from error


def _count(theirs: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that ``pattern`` finds in the names; 0 where it finds none."""
    return max((int(found[1]) for name in theirs if (found := re.match(pattern, name))), default=-1) + 1


def _translated(theirs: Mapping[str, Tensor], text_tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names; those that no row of the table knows keep theirs; CLIP's text tower stays out."""
    ours = {}
    for name, tensor in theirs.items():
        fits = ((re.match(pattern, name), pattern, new) for pattern, new in TABLE)
        pattern, new = next(((pattern, new) for found, pattern, new in fits if found), ("", ""))
        known_elsewhere = name.removeprefix(REFERENCE) in (*text_tower, *NOT_WEIGHTS)
        if pattern or not known_elsewhere:
            ours[re.sub(pattern, new, name, count=1) if pattern else name] = tensor
    return ours
