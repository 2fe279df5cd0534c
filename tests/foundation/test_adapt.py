"""Adapters inside frozen backbones: what LoRA, SoMA and Rein compute and train, how they are kept, what the
teacher has."""

import importlib.util
import json
import math

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import tiny
import tiny_clip
import tiny_vit
from clouds.config.load import load_recipe
from clouds.config.recipe import Model
from clouds.data.batches.batches import Batches
from clouds.errors import BackendError, DataError, UsageError
from clouds.foundation.backbone import check_adapter
from clouds.foundation.backbones.adapters import Rein, adapter_parameters, merge_adapters, start_adapter
from clouds.foundation.segmenter import load_segmenter
from clouds.model import vocabulary
from clouds.model.build import build_model
from clouds.model.folder import load_model, save_model
from clouds.model.loss import criterion
from clouds.pipeline import train
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.teacher import Teacher
from clouds.train import loop as train_module
from clouds.train.loop import build_optimizer, train_stage
from clouds.train.state import latest_checkpoint

REIN = {"kind": "rein", "tokens": 6, "rank": 4, "link": True}
LORA = {"kind": "lora", "rank": 4, "alpha": 8.0, "layers": list(Model().lora.layers)}
SOMA = {"kind": "soma", "rank": 4, "frozen_share": 1 / 3, "layers": list(Model().soma.layers)}
ADAPTERS = {"lora": LORA, "soma": SOMA, "rein": REIN, "unlinked": {**REIN, "tokens": 9, "link": False}}
VITS = ["tiny_dinov2_reg4", "tiny_dinov3", "tiny_eva02", "tiny_siglip2", "tiny_mixed", "tiny_pe_spatial"]
ONE_FAST = [VITS[0], *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long]) for name in VITS[1:])]


@pytest.fixture(scope="module", autouse=True)
def known():
    tiny_vit.register()


@pytest.fixture(params=ADAPTERS.values(), ids=ADAPTERS.keys())
def adapter(request):
    return request.param


def segmenter(adapter, vision="timm/tiny_dinov2_reg4", **given):
    model = tiny.segmenter(vision=vision, adapt=adapter, **given)
    if adapter:
        start_adapter(model.backbone, adapter)
    return model


def picture(seed=0):
    return torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def shake(model, seed=0):
    """As training might: an adapter's start changes nothing or next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(model.backbone):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


# -- what they compute


@torch.no_grad()
def test_rein_is_the_publications_equations():
    torch.manual_seed(0)
    rein = Rein(width=8, layers=3, tokens=5, rank=2, hidden=4)
    features = torch.randn(2, 7, 8)
    found = rein(features, 1, prefix=3)
    assert torch.equal(found[:, :3], features[:, :3])
    tokens = rein.tokens_a[1] @ rein.tokens_b[1]
    for b in range(2):
        for n in range(3, 7):
            f = features[b, n]
            share = (tokens @ f / 8**0.5).softmax(0)
            added = sum(share[m] * rein.value(tokens[m]) for m in range(1, 5))
            assert torch.allclose(found[b, n], f + 0.001 * rein.refine(added + f), atol=1e-6)
    each = torch.stack([rein.query(rein.tokens_a[i] @ rein.tokens_b[i]) for i in range(3)])
    wanted = rein.merge(torch.cat((each.max(0).values, each.mean(0), each[2]), dim=1))
    assert rein.queries().shape == (5, 4)
    assert torch.allclose(rein.queries(), wanted, atol=1e-6)
    assert Rein(8, 3, 5, 2).queries() is None


@torch.no_grad()
def test_what_a_block_sees_is_refined_behind_the_one_before():
    plain, refined = (segmenter(a).backbone for a in (None, {**REIN, "link": False}))
    refined.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    assert all(torch.allclose(a, b, atol=0.1) for a, b in zip(plain.features(x).values(), refined.features(x).values(),
                                                              strict=True))  # fmt: skip
    refined.rein.scale.fill_(0.5)
    seen = []
    for block in refined.network.blocks:
        block.register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    refined.features(x)
    for i in range(1, 6):
        assert torch.equal(seen[i][0], refined.rein(seen[i - 1][1], i - 1, refined.prefix))
        assert not torch.allclose(seen[i][0], seen[i - 1][1], atol=1e-3)


@torch.no_grad()
def test_lora_starts_at_nothing_and_adds_a_product_of_low_rank():
    plain, adapted = (segmenter(a).backbone for a in (None, LORA))
    pairs = {name.replace(".base_layer", ""): tensor for name, tensor in adapted.state_dict().items()}
    plain.load_state_dict({name: pairs[name] for name in plain.state_dict()})
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(plain.features(x).values(), adapted.features(x).values(), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0, 0.1)
            a = adapted.get_parameter(name.replace("lora_B", "lora_A"))
            plain.get_parameter(name.replace("lora_B.default", "@").replace(".@", "")).add_(8 / 4 * parameter @ a)
    for a, b in zip(plain.features(x).values(), adapted.features(x).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def fused(tensors):
    """A tuned backbone's own weights by their plain names: q, k and v in one again."""
    found = {name.replace(".base_layer", ""): tensor for name, tensor in tensors.items() if ".lora_" not in name}
    for name in [name for name in found if ".qkv.q." in name]:
        parts = [found.pop(name.replace(".qkv.q.", f".qkv.{part}.")) for part in "qkv"]
        found[name.replace(".qkv.q.", ".qkv.")] = torch.cat(parts)
    return found


@torch.no_grad()
@pytest.mark.parametrize("vision", [*VITS[:4], "test_convnext"])
def test_soma_trains_the_smallest_singular_components_of_the_last_blocks(vision, tmp_path):
    vision = f"timm/{vision}"
    bare = tiny.segmenter(vision=vision, adapt=SOMA).backbone
    weights = {name: tensor.clone() for name, tensor in fused(bare.state_dict()).items()}
    plain = tiny.segmenter(vision=vision).backbone
    plain.load_state_dict(weights)
    start_adapter(bare, SOMA)
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(plain.features(x).values(), bare.features(x).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)  # the network is unchanged at the start
    modules = dict(bare.named_modules())
    tuned = {name: module for name, module in modules.items() if hasattr(module, "lora_A")}
    for name, module in tuned.items():
        up, down = module.lora_B["default"].weight, module.lora_A["default"].weight
        residual = module.base_layer.weight
        whole = residual + up @ down
        values = torch.linalg.svdvals(whole.double())
        assert torch.allclose(torch.linalg.svdvals((up @ down).double())[:4], values[-4:], atol=1e-5), name
        assert torch.allclose(torch.linalg.svdvals(residual.double())[:-4], values[:-4], atol=1e-5), name
        assert (residual @ down.T).abs().max() < 1e-5  # the trained subspace is orthogonal to the major one
        assert (up.T @ residual).abs().max() < 1e-5
        assert torch.allclose(up.T @ up, down @ down.T, atol=1e-6)  # each takes the root of a singular value
    parts = [name for name in tuned if ".qkv." in name]
    assert len(parts) % 3 == 0
    blocks = list(dict.fromkeys(name[: name.index(".", name.index("blocks.") + 7)] for name in modules
                                if "blocks." in name and "." in name[name.index("blocks.") + 7 :]))  # fmt: skip
    found = [block for block in blocks if any(name.startswith(f"{block}.") for name in tuned)]
    assert found == blocks[round(len(blocks) / 3) :]
    ours = {id(p) for p in adapter_parameters(bare)}
    biases = {id(module.base_layer.bias) for module in tuned.values() if module.base_layer.bias is not None}
    factors = {id(part["default"].weight) for module in tuned.values() for part in (module.lora_A, module.lora_B)}
    assert ours == biases | factors
    assert biases


@torch.no_grad()
@pytest.mark.parametrize("vision", VITS)
def test_merged_it_is_the_plain_network_again(adapter, vision):
    model = shake(segmenter(adapter, f"timm/{vision}"))
    wanted, names = model.features(picture()), tiny.segmenter(vision=f"timm/{vision}").backbone.state_dict().keys()
    merge_adapters(model.backbone)
    for a, b in zip(model.features(picture()).values(), wanted.values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()))
    assert {name for name in model.backbone.state_dict() if not name.startswith("rein.")} == set(names)


@pytest.mark.parametrize("vision", VITS)
def test_every_adapter_is_reached_and_nothing_else_of_the_backbone_is(adapter, vision):
    model = shake(segmenter(adapter, f"timm/{vision}")).train()
    own = adapter_parameters(model.backbone)
    assert own
    labels = torch.from_numpy(tiny.label_map(64, 64, 0))[None]
    losses = criterion(model(torch.rand(1, 3, 64, 64) * 255), labels, tiny.recipe().loss, tiny.generators(1))
    losses["loss"].backward()
    ids = {id(p) for p in own}
    for name, parameter in model.named_parameters():
        trained = id(parameter) in ids or name.startswith("head.")
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name
        assert not trained or parameter.grad.isfinite().all(), name
    assert all(bool(parameter.grad.any()) for parameter in own)


def test_without_an_adapter_nothing_is_recorded_for_a_backward_pass():
    model = segmenter(None).train()
    assert adapter_parameters(model.backbone) == []
    assert not any(f.requires_grad for f in model.features(picture()).values())
    assert all(f.requires_grad for f in segmenter(LORA).features(picture()).values())


@pytest.mark.parametrize("vision", ["timm/test_convnext", "open_clip/tiny-convnext"])
def test_a_convnext_takes_lora(vision, tmp_path):
    tiny_clip.register(tmp_path)
    model = shake(segmenter(LORA, vision)).train()
    torch.stack(model(picture()).logits).square().sum().backward()
    own = adapter_parameters(model.backbone)
    assert own
    assert all(bool(p.grad.any()) for p in own)
    assert sum(p.grad is not None for p in model.backbone.parameters()) == len(own)
    with pytest.raises(UsageError, match=r"adapted and no longer sees what CLIP saw|has no dense CLIP features"):
        tiny.segmenter(vision=vision, text=vision, adapt=LORA).semantic(picture(), ensemble=True)


# -- how they are kept


@pytest.mark.parametrize("vision", ONE_FAST)
def test_a_model_folder_holds_them(adapter, vision, tmp_path):
    model = shake(segmenter(adapter, f"timm/{vision}")).eval()
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert torch.equal(again.semantic(picture()), model.semantic(picture()))
    assert torch.equal(again.features(picture())[4], model.features(picture())[4])
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    own = {id(p) for p in adapter_parameters(model.backbone)}
    names = [name for name, p in model.named_parameters() if id(p) in own]
    assert set(names) <= tensors.keys()
    del tensors[names[0]]
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "sha256"}))
    with pytest.raises(DataError, match=names[0]):
        load_model(tmp_path / "model")


def test_a_loaded_model_trains_on_as_it_was_built(adapter, tmp_path):
    model = segmenter(adapter)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    for thawed in (again, again):
        wanted = {name for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name, p in thawed.named_parameters() if p.requires_grad} == wanted
        again.requires_grad_(False).thaw()


def test_the_teacher_shares_what_is_frozen_and_averages_the_adapters(adapter):
    student = segmenter(adapter)
    teacher = Teacher(student, 0.5)
    theirs = dict(teacher.model.named_parameters())
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    shake(student)
    assert not torch.equal(student.features(picture())[32], teacher.model.features(picture())[32])
    teacher.update()
    ids = {id(p) for p in adapter_parameters(student.backbone)}
    for name, p in student.named_parameters():
        assert (theirs[name].data_ptr() == p.data_ptr()) == (not p.requires_grad), name
        if id(p) in ids:
            assert torch.allclose(theirs[name], torch.lerp(before[name], p.detach(), 0.9), atol=1e-6), name
            assert not torch.equal(theirs[name], before[name]), name


def test_reins_tokens_and_scale_are_not_decayed():
    model = segmenter(REIN)
    optimizer = build_optimizer(model, tiny.recipe(), 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    free = {names[id(p)] for p in optimizer.param_groups[1]["params"] if "backbone" in names[id(p)]}
    assert free == {f"backbone.rein.{name}" for name in ("tokens_a", "tokens_b", "scale")}


def test_a_backbone_has_a_rate_of_its_own_and_the_weight_decay_fades(tmp_path, sets):
    model = segmenter(SOMA)
    recipe = tiny.recipe("train.backbone_rate=0.5", "train.weight_decay=0.05", "train.weight_decay_end=0.01",
                         "train.learning_rate=0.01", "train.schedule=constant", "train.ramp_steps=0")  # fmt: skip
    ids = {id(p) for p in adapter_parameters(model.backbone)}
    seen = []
    step = torch.optim.AdamW.step

    def noted(self, *given):
        seen.append([(g["lr"], g["weight_decay"], {id(p) in ids for p in g["params"]}) for g in self.param_groups])
        return step(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", noted)
        train_stage(model, "warmup", recipe, Batches(sets[0], [], recipe, 4, seed=1), tmp_path)
    assert len(seen) == 4
    for k, groups in enumerate(seen):
        decay = 0.01 + 0.04 * (1 + math.cos(math.pi * k / 4)) / 2
        found = {(round(rate, 9), round(weight, 9)): own for rate, weight, own in groups}
        assert found == {(0.01, round(decay, 9)): {False}, (0.01, 0): {False}, (0.005, round(decay, 9)): {True}}


# -- training


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return tiny.source_set(folder / "source"), tiny.generated_set(folder / "generated")


def joint(sets, run, adapter):
    run.mkdir(exist_ok=True)
    recipe, model = tiny.recipe(), segmenter(adapter)
    pseudo = PseudoLabeller(Teacher(model, 0.9), load_segmenter("superpixels"), recipe.selftrain, 0)
    train_stage(model, "joint", recipe, Batches(*sets, recipe, 5, seed=1), run, pseudo)
    return model, pseudo.teacher.model


def test_frozen_weights_stay_to_the_bit_and_resumed_equals_uninterrupted(sets, adapter, tmp_path, monkeypatch):
    start = segmenter(adapter)
    whole, whole_teacher = joint(sets, tmp_path / "whole", adapter)
    ids = {id(p) for p in adapter_parameters(whole.backbone)}
    for (name, p), q in zip(whole.backbone.named_parameters(), start.backbone.parameters(), strict=True):
        assert torch.equal(p, q) == (id(p) not in ids), name

    calls = []

    def failing(*given):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return criterion(*given)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "criterion", failing)
        with pytest.raises(KeyboardInterrupt):
            joint(sets, tmp_path / "run", adapter)
    kept = latest_checkpoint(tmp_path / "run" / "checkpoints", "joint")
    assert kept.step == 3
    backbone = [name for name in kept.tensors["student"] if name.startswith("backbone.")]
    assert len(backbone) == len(ids)
    assert kept.tensors["teacher"].keys() == kept.tensors["student"].keys()
    again, again_teacher = joint(sets, tmp_path / "run", adapter)
    for one, other in ((again, whole), (again_teacher, whole_teacher)):
        wanted = other.state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in one.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("words", [["model.adapt=lora", "model.lora.rank=2", "model.lora.layers=[qkv]"],
                                   ["model.adapt=soma", "model.soma.rank=2", "model.soma.frozen_share=0.5"],
                                   ["model.adapt=rein", "model.rein.tokens=6", "model.rein.rank=2"]])  # fmt: skip
def test_a_recipe_trains_an_adapter(words, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
    file = tiny_vit.save("tiny_dinov2", tmp_path)
    small = ["prompts.count=4", "generate.count=4", "generate.size=[64,64]", "augment.crop=[64,64]", "loss.points=64",
             "data.source_count=4", "data.source_size=[64,128]", "train.steps=4", "train.batch_size=2",
             "train.workers=1", "train.stage=warmup"]  # fmt: skip
    chosen = [*tiny_clip.recipe_words("x"), "model.vision=timm/tiny_dinov2", "model.text=all-minilm-l6-v2",
              f"model.weights={file}", *words]  # fmt: skip
    recipe = load_recipe("demo", [*chosen, *small])
    train(recipe, tmp_path / "run")
    model = load_model(tmp_path / "run" / "warmup")
    fresh = build_model(recipe)
    ids = {id(p) for p in adapter_parameters(model.backbone)}
    for (name, p), q in zip(model.backbone.named_parameters(), fresh.backbone.parameters(), strict=True):
        assert torch.equal(p, q) == (id(p) not in ids), name


# -- what cannot be


@pytest.mark.parametrize(("words", "said"), [
    (["model.adapt=dora"], "model.adapt: got 'dora'"),
    (["model.adapt=lora", "model.freeze=false"], "lora adapts a frozen backbone"),
    (["model.adapt=rein", "model.rein.tokens=7"], "must equal model.queries 50 (or model.rein.link=false)"),
    (["model.lora.layers=[]"], "model.lora.layers: got []"),
    (["model.adapt=soma", "model.soma.frozen_share=1"], "model.soma.frozen_share: got 1"),
    (["model.rein.rnk=3"], "model.rein.rnk: unknown key; did you mean model.rein.rank?"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_when_read(words, said):
    with pytest.raises(UsageError) as error:
        load_recipe("demo", words)
    assert said in str(error.value)


@pytest.mark.parametrize(("vision", "adapter", "said"), [
    ("timm/test_convnext", REIN, r"model\.adapt: rein refines the tokens of a plain transformer, which timm/test_conv"),
    ("timm/resnet10t", LORA, r"timm/resnet10t computes its features with no linear layer; take a ViT or a ConvNeXt"),
    ("efficientnet-lite0", LORA, r"computes its features with no linear layer"),
    ("open_clip/RN50-quickgelu", LORA, r"computes its features with no linear layer"),
    ("timm/tiny_eva02", {**LORA, "layers": ["qkv"]}, r"got \['qkv'\]; the linear layers of timm/tiny_eva02 are called "
                                                     r"q_proj, k_proj, v_proj, proj, fc1_g, fc1_x, fc2"),
    ("timm/resnet10t", SOMA, r"computes its features with no linear layer"),
    ("timm/tiny_dinov2", {**SOMA, "rank": 48}, r"model\.soma\.rank: got 48; .*blocks\.2\.attn\.qkv .* has 48 singular"),
    ("timm/tiny_dinov2", {**SOMA, "frozen_share": 0.95}, r"frozen_share: got 0\.95, which freezes all 6 blocks"),
    ("timm/tiny_dinov3_qkvb", SOMA, r"leave them out: model\.soma\.layers=\[proj, fc1, fc2"),
    ("timm/tiny_dinov3_qkvb", LORA, r"reads the weights of its layers qkv without calling them.*=\[proj, fc1, fc2"),
])  # fmt: skip
def test_a_backbone_without_a_place_for_it_is_refused_before_any_work(vision, adapter, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        check_adapter(vision, adapter, 32)
    text = vision if vision.startswith("open_clip") else "all-minilm-l6-v2"
    words = [f"model.vision={vision}", f"model.text={text}", f"model.adapt={adapter['kind']}", "model.rein.link=false",
             f"model.lora.layers=[{','.join(adapter.get('layers', ['qkv']))}]",
             *(f"model.soma.{key}={adapter[key]}" for key in ("rank", "frozen_share") if adapter["kind"] == "soma"),
            ]  # fmt: skip
    with pytest.raises(UsageError, match=said):
        train(load_recipe("demo", words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_peft_it_says_what_to_install(monkeypatch, tmp_path):
    model = segmenter(LORA)
    save_model(model, tmp_path / "model")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    with pytest.raises(BackendError, match=r"pip install 'clouds\[adapt\]'"):
        check_adapter("timm/tiny_dinov2", LORA, 32)
    check_adapter("timm/tiny_dinov2", REIN, 32)
    with pytest.raises(BackendError, match=r"pip install 'clouds\[adapt\]'"):
        load_model(tmp_path / "model")


def test_the_shapes_of_the_large_ones_are_checked_without_their_memory():
    made = []
    create = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda *names, **given: made.append(create(*names, **given)) or made[-1])
        check_adapter("timm/vit_large_patch14_dinov2.lvd142m", {**REIN, "tokens": 100}, 256)
    assert sum(p.numel() for p in made[-1].parameters()) > 3e8
    assert {p.device.type for p in made[-1].parameters()} == {"meta"}
