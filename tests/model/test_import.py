"""Checkpoints in the published format: fabricated with its names, imported by the command, compared with the source."""

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch

import clouds
import tiny_clip
from clouds.cli import run
from clouds.config.label_sets import COLORS, NAMES, SYNONYMS
from clouds.errors import DataError, UsageError
from clouds.foundation import weights
from clouds.foundation.backbones.openclip import OpenClipText
from clouds.model import published as imported
from clouds.model import vocabulary
from clouds.model.segmenter import Segmenter

NAMED = "road|street|lane,sky,car|cars,tree|bush"
GROUPS = [group.split("|") for group in NAMED.split(",")]
DIM = {"tiny-resnet": 32, "tiny-convnext": 48}


@pytest.fixture(scope="module", autouse=True)
def known_to_open_clip(tmp_path_factory):
    tiny_clip.register(tmp_path_factory.mktemp("configs"))


@pytest.fixture(autouse=True)
def few_sentences(monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])


# ours -> theirs, written down a second time: the published names in the order a person reads them
BACK = [
    ("head.pixel_decoder.layers.", "sem_seg_head.pixel_decoder.transformer.encoder.layers."),
    ("head.pixel_decoder.level_embed", "sem_seg_head.pixel_decoder.transformer.level_embed"),
    ("head.pixel_decoder.lateral.0", "sem_seg_head.pixel_decoder.adapter_1"),
    ("head.pixel_decoder.lateral.1", "sem_seg_head.pixel_decoder.adapter_1.norm"),
    ("head.pixel_decoder.output.0", "sem_seg_head.pixel_decoder.layer_1"),
    ("head.pixel_decoder.output.1", "sem_seg_head.pixel_decoder.layer_1.norm"),
    ("head.pixel_decoder.", "sem_seg_head.pixel_decoder."),
    ("head.decoder.class_head.linear.", "sem_seg_head.predictor.class_embed."),
    ("head.decoder.class_head.pool_proj.", "sem_seg_head.predictor._mask_pooling_proj."),
    ("head.decoder.class_head.logit_scale", "sem_seg_head.predictor.logit_scale"),
    ("head.decoder.class_head.void", "void_embedding.weight"),
    ("head.decoder.norm.", "sem_seg_head.predictor.decoder_norm."),
]
PARTS = {
    "self_attn": "transformer_self_attention_layers.{}.self_attn",
    "self_norm": "transformer_self_attention_layers.{}.norm",
    "cross_attn": "transformer_cross_attention_layers.{}.multihead_attn",
    "cross_norm": "transformer_cross_attention_layers.{}.norm", "ffn_norm": "transformer_ffn_layers.{}.norm",
    "linear1": "transformer_ffn_layers.{}.linear1", "linear2": "transformer_ffn_layers.{}.linear2",
}  # fmt: skip


def published_name(ours: str) -> str:
    for begin, theirs in BACK:
        if ours.startswith(begin):
            return theirs + ours[len(begin) :]
    if found := re.fullmatch(r"head\.decoder\.layers\.(\d+)\.(\w+?)(\..+|_.+)", ours):
        layer, part, rest = found.groups()
        part, rest = (part, rest) if part in PARTS else next(
            (p, f".{part}{rest}".removeprefix(f".{p}")) for p in PARTS if f"{part}{rest}".startswith(p))
        return f"sem_seg_head.predictor.{PARTS[part].format(layer)}{rest}"
    if found := re.fullmatch(r"head\.decoder\.(?:class_head\.)?(embed|mask_embed)\.(\d)\.(.+)", ours):
        kind, index, rest = found.groups()
        theirs = "class_embed" if kind == "embed" else "mask_embed"
        return f"sem_seg_head.predictor.{theirs}.layers.{int(index) // 2}.{rest}"
    return ours.replace("head.decoder.", "sem_seg_head.predictor.")


def source(name: str, head: str) -> Segmenter:
    """A model with all weights drawn, its vocabulary from the tiny CLIP's own text tower."""
    clip, config = tiny_clip.clip(name), tiny_clip.CONFIGS[name]
    torch.manual_seed(1)
    model = Segmenter(
        vision=f"open_clip/{name}", text=f"open_clip/{name}", text_dim=DIM[name], classes=[g[0] for g in GROUPS],
        synonyms=GROUPS, colors=[list(c) for c in COLORS[:4]], head=head, hidden=32, queries=6, heads=4, pixel_layers=2,
        pixel_ffn=48, layers=3, ffn=64,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.backbone.visual.load_state_dict(clip.visual.state_dict())
    text = OpenClipText(name, config, clip.state_dict(), name)
    model.vocabulary.copy_(vocabulary.text_classifier(text, GROUPS))
    return model.eval()


def published(name: str, head: str, backbone: bool = True) -> tuple[Segmenter, dict[str, torch.Tensor]]:
    model = source(name, head)
    state = {published_name(n): t.clone() for n, t in model.state_dict().items() if n.startswith("head.")}
    state.setdefault("void_embedding.weight", torch.randn(1, DIM[name]))  # part of linear heads' files too
    state["criterion.empty_weight"] = torch.ones(5)
    if backbone:
        state |= {f"backbone.clip_model.{n}": t for n, t in tiny_clip.clip(name).state_dict().items()}
    return model, state


def command(capsys, *words) -> tuple[int, str, str]:
    code = run(["import", *map(str, words)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("backbone", [True, False])
@pytest.mark.parametrize("head", ["linear", "text"])
@pytest.mark.parametrize("name", tiny_clip.NAMES)
def test_an_imported_model_computes_what_its_source_did(name, head, backbone, tmp_path, capsys):
    wanted, state = published(name, head, backbone)
    assert not any(key.startswith("head.") for key in state)
    torch.save({"model": state, "iteration": 40000}, tmp_path / "published.pth")
    words = [tmp_path / "published.pth", "--out", tmp_path / "model", "--classes", NAMED, "--clip", name, "--json"]
    if not backbone:
        torch.save(tiny_clip.clip(name).state_dict(), tmp_path / "clip.pt")
        words += ["--weights", tmp_path / "clip.pt"]
    code, out, err = command(capsys, *words)
    assert (code, err) == (0, "")
    record = json.loads(out)
    origin = str(tmp_path / ("published.pth" if backbone else "clip.pt"))
    assert (record["clip"], record["head"], record["classes"], record["queries"]) == (name, head, 4, 6)
    assert (record["model"], record["weights"]["source"]) == (str(tmp_path / "model"), origin)
    predictor = clouds.load(tmp_path / "model")
    ours, theirs = predictor.model.state_dict(), wanted.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs if key != "vocabulary")
    assert torch.allclose(ours["vocabulary"], theirs["vocabulary"], atol=1e-6)
    assert (predictor.model.synonyms, predictor.classes) == (GROUPS, ("road", "sky", "car", "tree"))
    assert predictor.model.settings["weights"] == record["weights"]
    if head == "text":  # the recorded weights hold the text tower: inside the checkpoint, or CLIP's own file
        assert predictor.with_classes("scooter,road").classes == ("scooter", "road")
    x = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    for ensemble in (False, True):
        assert torch.allclose(predictor.semantic(x, ensemble), wanted.semantic(x, ensemble), atol=1e-5)


def test_the_19_classes_are_taken_where_none_are_named(tmp_path, capsys):
    _, state = published("tiny-resnet", "text")
    torch.save({"model": state}, tmp_path / "published.pth")
    code, out, _ = command(capsys, tmp_path / "published.pth", "--out", tmp_path / "model", "--clip", "tiny-resnet")
    assert (code, out) == (0, f"{tmp_path / 'model'}: tiny-resnet, text head, 19 classes\n")
    model = clouds.load(tmp_path / "model").model
    assert (model.classes, model.synonyms) == (list(NAMES), [list(group) for group in SYNONYMS])
    assert model.colors == [list(color) for color in COLORS]
    assert model.vocabulary.shape == (60, 32)


# -- which CLIP


@pytest.mark.slow
@pytest.mark.parametrize("name", imported.CLIPS)
def test_the_papers_clips_are_recognised_by_their_tensors(name):
    clip = open_clip.model.CLIP(**open_clip.get_model_config(name))
    state = {f"backbone.clip_model.{n}": t for n, t in clip.state_dict().items()}
    void = torch.zeros(1, clip.text_projection.shape[1])
    assert imported._recognise({**state, "void_embedding.weight": void}, Path("x.pth")) == name


@pytest.mark.parametrize(("dim", "channels", "found"), [
    (1024, 2048, "RN50-quickgelu"), (512, 2048, "RN101-quickgelu"), (768, 1536, "convnext_large_d_320"),
    (None, 1536, "convnext_large_d_320"), (512, None, "RN101-quickgelu"),
    (None, 2048, "it could be RN50-quickgelu or RN101-quickgelu"), (640, 2560, "it could be none of the published"),
])  # fmt: skip
def test_without_a_backbone_the_sizes_around_it_tell(dim, channels, found):
    state = {"void_embedding.weight": torch.zeros(1, dim or 1)} if dim else {}
    if channels:
        state["sem_seg_head.pixel_decoder.input_proj.0.0.weight"] = torch.zeros(8, channels, 1, 1)
    if found in imported.CLIPS:
        assert imported._recognise(state, Path("x.pth")) == found
    else:
        with pytest.raises(UsageError, match=found):
            imported._recognise(state, Path("x.pth"))


# -- what is refused


def refused(capsys, tmp_path, stored, *words, code=1) -> str:
    """The one message of an import that fails and leaves nothing behind."""
    path = tmp_path / "published.pth"
    if isinstance(stored, bytes):
        path.write_bytes(stored)
    elif stored is not None:
        torch.save(stored, path)
    before = sorted(tmp_path.iterdir())
    usual = ("--out", tmp_path / "model", "--clip", "tiny-resnet", "--classes", NAMED)
    found, out, err = command(capsys, path, *usual, *words)
    assert (found, out) == (code, ""), err
    assert err.startswith("clouds: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    return err


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_files_that_are_no_checkpoint_are_refused_with_the_reason(tmp_path, capsys):
    assert "no such file" in refused(capsys, tmp_path, None)
    assert "damaged, cut short" in refused(capsys, tmp_path, b"PK\x03\x04 half a file")
    assert "expected {\"model\": tensors}, found a dictionary of a, b" in refused(capsys, tmp_path, {"a": 1, "b": 2})
    assert "found a value of type list" in refused(capsys, tmp_path, [1])
    assert "expected tensors by name" in refused(capsys, tmp_path, {"model": {"a": 1}})
    assert "expected tensors named sem_seg_head.*, found conv.weight" in refused(
        capsys, tmp_path, {"model": {"conv.weight": torch.zeros(1)}})  # fmt: skip
    evil = Evil()
    evil.path = str(tmp_path / "touched")
    assert "refused: not a file of plain tensors (it wants to run" in refused(capsys, tmp_path, {"model": evil})
    assert not (tmp_path / "touched").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path, capsys):
    torch.save({"model": published("tiny-resnet", "linear")[1]}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for share in (0.01, 0.5, 0.999):
        assert "damaged, cut short" in refused(capsys, tmp_path, whole[: int(len(whole) * share)])


def test_tensors_that_do_not_fit_are_listed(tmp_path, capsys):
    _, state = published("tiny-resnet", "linear")
    query = "sem_seg_head.predictor."
    lacking = {n: t for n, t in state.items() if n != query + "transformer_ffn_layers.1.linear1.weight"}
    assert "1 missing: head.decoder.layers.1.linear1.weight" in refused(capsys, tmp_path, {"model": lacking})
    lacking = {n: t for n, t in state.items() if n != query + "query_feat.weight"}
    assert "missing: sem_seg_head.predictor.query_feat.weight" in refused(capsys, tmp_path, {"model": lacking})
    more = {**state, query + "extra.weight": torch.zeros(1), "other": torch.zeros(1)}
    assert "2 unexpected: head.decoder.extra.weight, other" in refused(capsys, tmp_path, {"model": more})
    bent = {**state, query + "level_embed.weight": torch.zeros(2, 32)}
    assert "1 of another shape: head.decoder.level_embed.weight (2, 32) instead of (3, 32)" in refused(
        capsys, tmp_path, {"model": bent})  # fmt: skip
    for key in ("visual.conv1.weight", "text_projection"):
        lacking = {n: t for n, t in state.items() if n != f"backbone.clip_model.{key}"}
        said = f"1 missing: {'backbone.' * key.startswith('visual')}{key}"
        assert said in refused(capsys, tmp_path, {"model": lacking})
    more = {**state, "backbone.clip_model.extra": torch.zeros(1)}
    assert "1 unexpected: extra" in refused(capsys, tmp_path, {"model": more})


def test_the_third_head_is_refused_by_name(tmp_path, capsys):
    _, state = published("tiny-resnet", "linear")
    state["sem_seg_head.predictor._mask_pooling_proj.0.weight"] = torch.ones(32)
    assert '"Bis...": mask-pooled, then linear' in refused(capsys, tmp_path, {"model": state})


def test_requests_that_cannot_be_are_refused(tmp_path, capsys):
    _, state = published("tiny-resnet", "linear")
    stored = {"model": state}
    assert "has 4 classes, 2 are named" in refused(capsys, tmp_path, stored, "--classes", "road,sky", code=2)
    assert "holds its own CLIP" in refused(capsys, tmp_path, stored, "--weights", "openai", code=2)
    assert "--clip: unknown to open_clip: 'open_clip/tiny-resnot'; did you mean open_clip/tiny-resnet" in refused(
        capsys, tmp_path, stored, "--clip", "tiny-resnot", code=2)  # fmt: skip
    assert "use open_clip/RN50-quickgelu" in refused(capsys, tmp_path, stored, "--clip", "RN50", code=2)
    assert "road named twice" in refused(capsys, tmp_path, stored, "--classes", "road,road", code=2)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "holiday.jpg").write_bytes(b"")
    assert "exists already and is not a model folder" in refused(capsys, tmp_path, stored, code=2)
    assert (tmp_path / "model" / "holiday.jpg").exists()


def test_without_its_backbone_and_a_hub_the_weights_to_fetch_are_named(tmp_path, capsys):
    _, state = published("tiny-resnet", "linear", backbone=False)
    said = refused(capsys, tmp_path, {"model": state}, "--clip", "RN50-quickgelu")
    for words in ("open_clip/RN50-quickgelu (openai)", "timm/resnet50_clip.openai", "hub did not answer"):
        assert words in said


def test_an_older_import_is_replaced(tmp_path, capsys):
    for head in ("linear", "text"):
        torch.save({"model": published("tiny-resnet", head)[1]}, tmp_path / "published.pth")
        words = ("--out", tmp_path / "model", "--clip", "tiny-resnet", "--classes", NAMED)
        assert command(capsys, tmp_path / "published.pth", *words)[0] == 0
        assert clouds.load(tmp_path / "model").model.settings["head"] == head


@pytest.fixture
def dead_hub(tmp_path):
    """Addresses of a hub that takes connections and never answers, and of one that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
        gone.close()
        yield [f"http://127.0.0.1:{port}" for port in (silent.getsockname()[1], address[1])]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("which", [0, 1], ids=["silent", "not there"])
def test_without_a_network_one_message_says_so_soon(tmp_path, dead_hub, which):
    _, state = published("tiny-resnet", "text", backbone=False)
    torch.save({"model": state}, tmp_path / "published.pth")
    words = [sys.executable, "-m", "clouds", "import", tmp_path / "published.pth", "--clip", "RN50-quickgelu"]
    how = {**os.environ, "HF_ENDPOINT": dead_hub[which], "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([*words, "--out", tmp_path / "model"], env=how, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]  # behind "loading ..."
    assert "Traceback" not in done.stderr
    assert f"({dead_hub[which]} does not answer: " in line
    assert "name it: model.weights=PATH (--weights PATH to import" in line


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda state, name: state.update({name: state[name].to_sparse()}), "not a plain tensor of real numbers"),
    (lambda state, name: state.update({name: state[name].to(torch.complex64)}), "not a plain tensor of real numbers"),
    (lambda state, name: state.update({name: state[name].to("meta")}), "not a plain tensor of real numbers"),
    (lambda state, name: state.update({("a", 1): state[name]}), r"a tensor whose name is \"\('a', 1\)\""),
    (lambda state, name: state.update({f"{name}\n": state[name]}), "a tensor whose name is 'sem_seg_head"),
    (lambda state, name: state[name].fill_(float("nan")), r"holds weights that are no numbers \(NaN\) in sem_seg_head"),
])  # fmt: skip
def test_tensors_that_are_none_are_one_message(tmp_path, capsys, spoil, said):
    _, state = published("tiny-resnet", "text", backbone=False)
    spoil(state, "sem_seg_head.pixel_decoder.mask_features.weight")
    torch.save({"model": state}, tmp_path / "published.pth")
    code, _, err = command(capsys, tmp_path / "published.pth", "--classes", NAMED, "--out", tmp_path / "model")
    assert code == 1
    assert re.search(said, err)
    assert len(err.splitlines()) == 1


def test_damaged_files_are_one_message(tmp_path):
    """Bytes that make torch's reader raise an error of its own kind each."""
    torch.save({"model": {"a": torch.arange(2000)}}, tmp_path / "whole.pth")
    data, rng = (tmp_path / "whole.pth").read_bytes(), random.Random(0)
    for _ in range(300):
        found = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(found))
            found[at : at + rng.choice((1, 8, 64))] = rng.randbytes(rng.choice((0, 1, 8)))
        (tmp_path / "a.pth").write_bytes(found)
        with contextlib.suppress(DataError):
            weights.read_weights(tmp_path / "a.pth")
