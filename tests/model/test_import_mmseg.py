"""Rein's and SoMA's released files: fabricated from their public names and shapes, imported, compared."""

import json

import pytest
import torch
import torch.nn.functional as F

import clouds
import tiny_vit
from clouds.cli import run
from clouds.config.label_sets import COLORS, NAMES, SYNONYMS
from clouds.model import published_mmseg, vocabulary
from clouds.model.folder import load_model
from clouds.model.segmenter import Segmenter

SOMA = {"kind": "soma", "rank": 3, "frozen_share": 1 / 3, "layers": ["qkv", "proj", "fc1", "fc2"]}
REIN = {"kind": "rein", "tokens": 7, "rank": 3, "link": True}
SIZES = {"hidden": 32, "queries": 7, "heads": 8, "pixel_layers": 2, "pixel_ffn": 48, "layers": 2, "ffn": 40}
PIXEL, DECODER = "decode_head.pixel_decoder.", "decode_head.transformer_decoder."


@pytest.fixture(autouse=True)
def small(monkeypatch):
    tiny_vit.register()
    monkeypatch.setattr(published_mmseg, "BACKBONES", {(48, 6): "timm/tiny_dinov2"})
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])


def model(adapter):
    torch.manual_seed(1)
    made = Segmenter(vision="timm/tiny_dinov2", text="all-minilm-l6-v2", text_dim=384, adapt=adapter, head="linear",
                     classes=list(NAMES), synonyms=[list(group) for group in SYNONYMS],
                     colors=[list(c) for c in COLORS], **SIZES)  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return made


def head(tensors):
    """Our decoder's tensors under the names that mmsegmentation's Mask2Former gives them, part by part."""
    found = {}
    for i in range(3):
        for ours, theirs in (("0", "conv"), ("1", "gn")):
            for kind in ("weight", "bias"):
                name = f"head.pixel_decoder.input_proj.{i}.{ours}.{kind}"
                found[f"{PIXEL}input_convs.{i}.{theirs}.{kind}"] = tensors[name]
    for ours, theirs in (("lateral", "lateral_convs.0"), ("output", "output_convs.0")):
        found[f"{PIXEL}{theirs}.conv.weight"] = tensors[f"head.pixel_decoder.{ours}.0.weight"]
        for kind in ("weight", "bias"):
            found[f"{PIXEL}{theirs}.gn.{kind}"] = tensors[f"head.pixel_decoder.{ours}.1.{kind}"]
    found[f"{PIXEL}level_encoding.weight"] = tensors["head.pixel_decoder.level_embed"]
    for name in ("query_embed", "query_feat", "level_embed"):
        if f"head.decoder.{name}.weight" in tensors:
            found[f"decode_head.{name}.weight"] = tensors[f"head.decoder.{name}.weight"]
    for kind in ("weight", "bias"):
        found[f"{PIXEL}mask_feature.{kind}"] = tensors[f"head.pixel_decoder.mask_features.{kind}"]
        found[f"{DECODER}post_norm.{kind}"] = tensors[f"head.decoder.norm.{kind}"]
        found[f"decode_head.cls_embed.{kind}"] = tensors[f"head.decoder.class_head.linear.{kind}"]
        for k in (0, 2, 4):
            found[f"decode_head.mask_embed.{k}.{kind}"] = tensors[f"head.decoder.mask_embed.{k}.{kind}"]
        for i in range(2):
            ours, theirs = f"head.pixel_decoder.layers.{i}.", f"{PIXEL}encoder.layers.{i}."
            for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"):
                found[f"{theirs}self_attn.{part}.{kind}"] = tensors[f"{ours}self_attn.{part}.{kind}"]
            for a, b in (("norms.0", "norm1"), ("norms.1", "norm2"), ("ffn.layers.0.0", "linear1"),
                         ("ffn.layers.1", "linear2")):  # fmt: skip
                found[f"{theirs}{a}.{kind}"] = tensors[f"{ours}{b}.{kind}"]
            ours, theirs = f"head.decoder.layers.{i}.", f"{DECODER}layers.{i}."
            for part in ("self_attn", "cross_attn"):
                found[f"{theirs}{part}.attn.in_proj_{kind}"] = tensors[f"{ours}{part}.in_proj_{kind}"]
                found[f"{theirs}{part}.attn.out_proj.{kind}"] = tensors[f"{ours}{part}.out_proj.{kind}"]
            for a, b in (("norms.0", "cross_norm"), ("norms.1", "self_norm"), ("norms.2", "ffn_norm"),
                         ("ffn.layers.0.0", "linear1"), ("ffn.layers.1", "linear2")):  # fmt: skip
                found[f"{theirs}{a}.{kind}"] = tensors[f"{ours}{b}.{kind}"]
    return found


def soma_file(tensors):
    """What tools/extract_soma_weights.py keeps: head, factors, biases, the mask token."""
    found = {**head(tensors), "backbone.model.mask_token": torch.zeros(1, 48)}
    for i in range(2, 6):
        for theirs, ours in (("attn.q", "attn.qkv.q"), ("attn.k", "attn.qkv.k"), ("attn.v", "attn.qkv.v"),
                             ("attn.proj", "attn.proj"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):  # fmt: skip
            place, name = f"backbone.network.blocks.{i}.{ours}.", f"backbone.model.blocks.{i}.{theirs}."
            found[f"{name}lora_A.weight"] = tensors[f"{place}lora_A.default.weight"]
            found[f"{name}lora_B.weight"] = tensors[f"{place}lora_B.default.weight"]
            found[f"{name}bias"] = tensors[f"{place}base_layer.bias"]
        found[f"backbone.model.blocks.{i}.norm1.bias"] = tensors[f"backbone.network.blocks.{i}.norm1.bias"]
    return found


def imported(file, tmp_path, capsys, *words):
    weights = tiny_vit.save("tiny_dinov2", tmp_path, seed=3)
    out = str(tmp_path / "model")
    assert run(["import", str(file), "--out", out, "--weights", str(weights), "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    return load_model(tmp_path / "model"), found, tiny_vit.network("tiny_dinov2", 3)


@pytest.mark.parametrize("averaged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_somas_release_is_dinov2_with_its_factors_beside(averaged, tmp_path, capsys):
    source = model(SOMA).state_dict()
    theirs = soma_file(source)
    stored = {"state_dict": theirs}
    if averaged:  # mmengine's EMA hook; the plain weights are then not the ones that were scored
        mean = {"steps": torch.tensor(3)} | {f"module.{name}": tensor for name, tensor in theirs.items()}
        stored = {"state_dict": {name: tensor + 1 for name, tensor in theirs.items()}, "ema_state_dict": mean}
    torch.save(stored, tmp_path / "soma.pth")
    made, found, plain = imported(tmp_path / "soma.pth", tmp_path, capsys)
    assert (found["adapter"], found["vision"], found["queries"]) == ("soma", "timm/tiny_dinov2", 7)
    assert found["licence"].startswith("MIT")
    ours, frozen = made.state_dict(), plain.state_dict()
    for name, tensor in source.items():
        if name.startswith("head.") or ".lora_" in name or name.endswith(".base_layer.bias"):
            assert torch.equal(ours[name], tensor), name
    for i in range(6):  # the released factors are added to DINOv2's own weights, as the published merge does
        wanted = frozen[f"blocks.{i}.attn.qkv.weight"]
        place = f"backbone.network.blocks.{i}.attn.qkv."
        parts = [f"{place}{part}.base_layer.weight" for part in "qkv"] if i >= 2 else [f"{place}weight"]
        assert torch.equal(torch.cat([ours[name] for name in parts]), wanted)
        assert torch.equal(ours[f"backbone.network.blocks.{i}.mlp.fc1.{'base_layer.' * (i >= 2)}weight"],
                           frozen[f"blocks.{i}.mlp.fc1.weight"])  # fmt: skip
    patch = F.interpolate(frozen["patch_embed.proj.weight"], (16, 16), mode="bicubic")
    assert torch.equal(ours["backbone.network.patch_embed.proj.weight"], patch)
    assert clouds.load(tmp_path / "model").predict(torch.zeros(3, 64, 96, dtype=torch.uint8)).labels.shape == (64, 96)


def rein_file(source):
    """Random tensors under the names of reins.py and rein_mask2former.py."""
    g = torch.Generator().manual_seed(5)

    def drawn(*shape):
        return torch.randn(*shape, generator=g) * 0.2

    found = {name: tensor for name, tensor in head(source).items() if not name.startswith("decode_head.query_")}
    found |= {"backbone.reins.learnable_tokens_a": drawn(6, 7, 3), "backbone.reins.learnable_tokens_b": drawn(6, 3, 48),
              "backbone.reins.scale": torch.tensor(0.02), "backbone.reins.merge.weight": drawn(32, 96)}  # fmt: skip
    for name, out, inner in (("mlp_token2feat", 48, 48), ("mlp_delta_f", 48, 48), ("transform", 32, 48)):
        found |= {f"backbone.reins.{name}.weight": drawn(out, inner), f"backbone.reins.{name}.bias": drawn(out)}
    found |= {"backbone.reins.merge.bias": drawn(32), "decode_head.querys2feat.weight": drawn(32, 32),
              "decode_head.querys2feat.bias": drawn(32)}  # fmt: skip
    return found


@torch.no_grad()
def test_reins_release_gives_the_decoder_the_queries_and_positions_of_its_code(tmp_path, capsys):
    source = model(REIN).state_dict()
    theirs = rein_file(source)
    torch.save({"state_dict": theirs}, tmp_path / "rein.pth")
    made, found, plain = imported(tmp_path / "rein.pth", tmp_path, capsys)
    assert found["licence"].startswith("GPL-3.0")
    t = {name.removeprefix("backbone.reins."): tensor for name, tensor in theirs.items()}
    tokens = F.linear(t["learnable_tokens_a"] @ t["learnable_tokens_b"], t["transform.weight"], t["transform.bias"])
    tokens = tokens.permute(1, 2, 0)  # (m, hidden, blocks), pooled over the blocks as there
    pooled = torch.cat((F.max_pool1d(tokens, 6), F.avg_pool1d(tokens, 6), tokens[:, :, -1:]), -1)
    asked = F.linear(pooled.flatten(-2, -1), t["merge.weight"], t["merge.bias"])
    feat = F.linear(asked, theirs["decode_head.querys2feat.weight"], theirs["decode_head.querys2feat.bias"])
    assert torch.allclose(made.head.decoder.query_embed.weight, asked, atol=1e-5)
    assert torch.allclose(made.backbone.rein.queries(), feat, atol=1e-5)
    ours = made.state_dict()
    for name in ("head.pixel_decoder.layers.1.norm2.bias", "head.decoder.layers.1.linear2.weight"):
        assert torch.equal(ours[name], source[name])
    assert torch.equal(ours["backbone.rein.value.weight"], t["mlp_token2feat.weight"])
    assert torch.equal(ours["backbone.rein.refine.bias"], t["mlp_delta_f.bias"])
    assert ours["backbone.rein.scale"] == 0.02
    qkv = "blocks.0.attn.qkv.weight"
    assert torch.equal(ours[f"backbone.network.{qkv}"], plain.state_dict()[qkv])


def without(name):
    return lambda tensors: tensors.pop(name)


def more(**given):
    return lambda tensors: tensors.update({name.replace("__", "."): torch.zeros(1) for name in given})


@pytest.mark.parametrize(("change", "words", "said"), [
    (without("decode_head.mask_embed.2.bias"), [], "1 missing, under our names: head.decoder.mask_embed.2.bias"),
    (without("decode_head.pixel_decoder.mask_feature.weight"), [], "1 or more missing: decode_head.pixel_decoder.mask"),
    (without("backbone.model.blocks.3.attn.k.lora_A.weight"), [], "SoMA tunes every linear layer from one block on"),
    (without("decode_head.cls_embed.weight"), [], "but neither Rein's"),
    (more(decode_head__conv_seg__weight=1), [], "1 unexpected: decode_head.conv_seg.weight"),
    (more(query_head__cls_branches=1), [], "refused: a detector's (SoMA's Co-DETR)"),
    (more(text_encoder__x=1), [], "refused: of tqdm or MFuser: its decoder asks with text queries"),
    (None, ["--classes", "road,sky"], "has 19 classes, 2 are named; name them with --classes"),
    (None, ["--clip", "RN50"], "--clip: "),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(change, words, said, tmp_path, capsys):
    theirs = soma_file(model(SOMA).state_dict())
    if change:
        change(theirs)
    torch.save({"state_dict": theirs}, tmp_path / "soma.pth")
    weights = tiny_vit.save("tiny_dinov2", tmp_path)
    given = ["--out", str(tmp_path / "m"), "--weights", str(weights), *words]
    assert run(["import", str(tmp_path / "soma.pth"), *given]) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_backbone_that_is_none_of_dinov2s_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(published_mmseg, "BACKBONES", {(1024, 24): "timm/vit_large_patch14_dinov2.lvd142m"})
    torch.save({"state_dict": rein_file(model(REIN).state_dict())}, tmp_path / "rein.pth")
    assert run(["import", str(tmp_path / "rein.pth"), "--out", str(tmp_path / "m")]) != 0
    assert "its backbone has 6 blocks of width 48, which is none of DINOv2's (timm/vit_large" in capsys.readouterr().err
    full = {**head(model(REIN).state_dict()), "backbone.reins.learnable_tokens": torch.zeros(6, 7, 48)}
    torch.save({"state_dict": full}, tmp_path / "full.pth")
    assert run(["import", str(tmp_path / "full.pth"), "--out", str(tmp_path / "m")]) != 0
    assert "refused: of Rein without low-rank tokens" in capsys.readouterr().err
