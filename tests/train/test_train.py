"""The training loop: resumed equals uninterrupted, broken steps change nothing, schedules and groups as set."""

import copy
import json
import math

import pytest
import torch

import tiny
from clouds.data.batches.batches import Batches
from clouds.errors import CloudsError
from clouds.foundation.segmenter import load_segmenter
from clouds.model.loss import criterion
from clouds.selftrain.pseudo import PseudoLabeller
from clouds.selftrain.teacher import Teacher
from clouds.train import loop as train_module
from clouds.train.log import MetricsLog, Panels
from clouds.train.loop import build_optimizer, learning_rate, train_stage
from clouds.train.state import latest_checkpoint

STEPS = 10
NORMS = ("LayerNorm", "GroupNorm", "BatchNorm2d", "BatchNormAct2d")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return tiny.source_set(folder / "source"), tiny.generated_set(folder / "generated")


def joint(sets, run, recipe, steps=STEPS):
    """A joint stage from scratch, as a new process would start it: student, teacher, work."""
    run.mkdir(exist_ok=True)
    model = tiny.segmenter()
    pseudo = PseudoLabeller(Teacher(model, recipe.selftrain.decay), load_segmenter("superpixels"), recipe.selftrain, 0)
    data = Batches(*sets, recipe, steps, seed=1)
    work = train_stage(model, "joint", recipe, data, run, pseudo)
    return model, pseudo.teacher.model, work


def rows(run):
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read]


@pytest.fixture
def interrupted(monkeypatch):
    """interrupted(at, start): Ctrl-C from inside the step after ``at`` whole ones of what ``start()`` trains."""

    def run(at, start):
        calls = []

        def failing(*arguments):
            calls.append(1)
            if len(calls) > at:
                raise KeyboardInterrupt
            return criterion(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(train_module, "criterion", failing)
            with pytest.raises(KeyboardInterrupt):
                start()

    return run


@pytest.fixture(scope="module")
def whole(sets, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    return run, *joint(sets, run, tiny.recipe())


def same_end(run, model, teacher, work, whole):
    whole_run, whole_model, whole_teacher, whole_work = whole
    for mine, theirs in ((model, whole_model), (teacher, whole_teacher)):
        wanted = theirs.state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in mine.state_dict().items())
    assert work == whole_work
    assert rows(run) == rows(whole_run)
    mine, theirs = (latest_checkpoint(folder / "checkpoints", "joint") for folder in (run, whole_run))
    assert mine.step == theirs.step == STEPS
    assert mine.counts == theirs.counts
    for group, tensors in theirs.tensors.items():
        assert all(torch.equal(mine.tensors[group][name], tensor) for name, tensor in tensors.items()), group


def test_joint_training_trains_and_counts_its_work(whole):
    run, model, teacher, work = whole
    start = tiny.segmenter()
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True)]
    trained = [p.requires_grad for p in model.parameters()]
    assert moved == trained
    own = dict(teacher.named_parameters())
    apart = [(p - own[name]).abs().max().item() for name, p in model.named_parameters() if p.requires_grad]
    assert 0 < max(apart) < 0.1
    assert work.images > 3
    assert work.seen == {0, 1, 2}
    assert work.pixels == work.images * 64 * 64
    assert 0 < work.pixels_decided <= work.pixels
    assert [row["step"] for row in rows(run)] == [2, 4, 6, 8, 10]
    keys = {"loss", "loss_ce", "loss_mask", "loss_dice", "lr", "gradient_norm"}
    assert all(keys <= row.keys() for row in rows(run))
    assert any("teacher_confidence" in row for row in rows(run))
    assert not model.training
    checkpoint = latest_checkpoint(run / "checkpoints", "joint")
    assert set(checkpoint.tensors) == {"student", "teacher", "optimizer", "process-0"}
    assert checkpoint.counts["updates"] == STEPS


@pytest.mark.parametrize("at", [4, 8])
def test_an_interrupted_stage_ends_as_an_uninterrupted_one(sets, tmp_path, interrupted, whole, at):
    """Checkpoints at 3, 6, 9 and rows at 2, 4, ...: the third step waits in a row that is not full."""
    recipe, run = tiny.recipe(), tmp_path / "run"
    interrupted(at, lambda: joint(sets, run, recipe))
    assert latest_checkpoint(run / "checkpoints", "joint").step == at // 3 * 3
    same_end(run, *joint(sets, run, recipe), whole)


def test_a_stage_interrupted_twice_with_a_damaged_checkpoint_ends_the_same(sets, tmp_path, interrupted, whole):
    recipe, run = tiny.recipe(), tmp_path / "run"
    for at in (2, 7):
        interrupted(at, lambda: joint(sets, run, recipe))
    teacher = run / "checkpoints" / "joint-000006" / "teacher.safetensors"
    data = teacher.read_bytes()
    teacher.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    same_end(run, *joint(sets, run, recipe), whole)


def test_more_workers_end_the_same(sets, tmp_path, whole):
    run = tmp_path / "run"
    same_end(run, *joint(sets, run, tiny.recipe("train.workers=0")), whole)


def test_a_finished_stage_is_loaded_and_not_trained_again(sets, tmp_path, monkeypatch, whole):
    recipe, run = tiny.recipe(), tmp_path / "run"
    joint(sets, run, recipe)
    monkeypatch.setattr(train_module, "criterion", lambda *arguments: pytest.fail("trained again"))
    same_end(run, *joint(sets, run, recipe), whole)


def test_a_warm_up_resumes_and_leaves_other_stages_rows_alone(sets, tmp_path, interrupted):
    recipe = tiny.recipe("train.log_every=4")

    def warm_up(run):
        run.mkdir(exist_ok=True)
        (run / "metrics.jsonl").touch()
        model = tiny.segmenter()
        data = Batches(sets[0], [], recipe, 8, seed=0)
        assert train_stage(model, "warmup", recipe, data, run).images == 0
        return model

    wanted = warm_up(tmp_path / "whole")
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"stage": "other", "step": 99}\n')
    interrupted(7, lambda: warm_up(run))
    found = warm_up(run)
    assert all(torch.equal(p, q) for p, q in zip(found.parameters(), wanted.parameters(), strict=True))
    assert rows(run) == [{"stage": "other", "step": 99}, *rows(tmp_path / "whole")]
    assert not list(run.glob("checkpoints/joint-*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_optimiser_step(sets, tmp_path, monkeypatch, value):
    recipe, seen = tiny.recipe("train.checkpoint_every=2"), {}
    model = tiny.segmenter()
    teacher = Teacher(model, 0.9)
    pseudo = PseudoLabeller(teacher, load_segmenter("superpixels"), recipe.selftrain, 0)

    def broken(*arguments):
        losses = criterion(*arguments)
        seen["step"] = seen.get("step", -1) + 1
        if seen["step"] == 3:
            seen["student"], seen["teacher"] = (copy.deepcopy(m.state_dict()) for m in (model, teacher.model))
            losses["loss"] = losses["loss"] * value
        return losses

    monkeypatch.setattr(train_module, "criterion", broken)
    data = Batches(*sets, recipe, 6, seed=1)
    with pytest.raises(CloudsError, match=r"joint step 3.*learning_rate"):
        train_stage(model, "joint", recipe, data, tmp_path, pseudo)
    for mine, kept in ((model, seen["student"]), (teacher.model, seen["teacher"])):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in mine.state_dict().items())
    assert latest_checkpoint(tmp_path / "checkpoints", "joint").step == 2


def test_a_gradient_that_is_not_finite_stops_too(sets, tmp_path, monkeypatch):
    model = tiny.segmenter()
    before = copy.deepcopy(model.state_dict())
    model.head.decoder.query_feat.weight.register_hook(lambda gradient: gradient * float("inf"))
    recipe = tiny.recipe()
    with pytest.raises(CloudsError, match="warmup step 0"):
        train_stage(model, "warmup", recipe, Batches(sets[0], [], recipe, 3, seed=0), tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_gradient_is_clipped_and_the_rate_is_the_schedules(sets, tmp_path, monkeypatch):
    recipe = tiny.recipe("train.clip=0.001", "train.log_every=1", "train.checkpoint_every=1")
    used, model = [], tiny.segmenter()
    step = torch.optim.AdamW.step

    def watch(self, *arguments):
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None))
        used.append((norm, {group["lr"] for group in self.param_groups}))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    train_stage(model, "warmup", recipe, Batches(sets[0], [], recipe, 4, seed=0), tmp_path)
    wanted = [learning_rate(recipe, recipe.train.learning_rate, step, 4) for step in range(4)]
    assert [rate for _, rate in used] == [{rate} for rate in wanted]
    assert all(math.isclose(norm, 0.001, rel_tol=1e-3) for norm, _ in used)
    assert [row["lr"] for row in rows(tmp_path)] == wanted
    assert all(row["gradient_norm"] > 0.001 for row in rows(tmp_path))


def test_the_learning_rate_ramps_up_then_stays_or_fades():
    constant = tiny.recipe("train.schedule=constant", "train.ramp_steps=3")
    assert [learning_rate(constant, 4.0, step, 100) for step in (0, 1, 2, 3, 4, 99)] == [1, 2, 3, 4, 4, 4]
    poly = tiny.recipe("train.schedule=poly", "train.ramp_steps=0")
    assert learning_rate(poly, 2.0, 0, 100) == 2
    assert math.isclose(learning_rate(poly, 2.0, 50, 100), 2 * 0.5**0.9)
    assert 0 < learning_rate(poly, 2.0, 99, 100) < 0.04
    both = tiny.recipe("train.schedule=poly", "train.ramp_steps=1")
    assert math.isclose(learning_rate(both, 2.0, 0, 10), 1.0)
    assert math.isclose(learning_rate(both, 2.0, 1, 10), 2 * 0.9**0.9)
    behind = tiny.recipe("train.schedule=poly-ramp", "train.ramp_steps=3")
    assert [learning_rate(behind, 4.0, step, 10) for step in range(4)] == [1, 2, 3, 4]
    assert math.isclose(learning_rate(behind, 4.0, 5, 10), 4 * (1 - 2 / 7) ** 0.9)


def test_the_learning_rate_may_fade_over_both_stages_as_one():
    recipe = tiny.recipe("train.schedule=poly-run", "train.ramp_steps=0", "train.steps=10", "train.warmup_share=0.6")
    rates = [learning_rate(recipe, 2.0, step, 6, "warmup") for step in range(6)]
    rates += [learning_rate(recipe, 2.0, step, 4, "joint") for step in range(4)]
    one = tiny.recipe("train.schedule=poly", "train.ramp_steps=0")
    assert rates == pytest.approx([learning_rate(one, 2.0, step, 10) for step in range(10)])


@pytest.mark.parametrize("freeze", [True, False])
def test_norms_and_embeddings_are_not_decayed(freeze):
    model = tiny.segmenter(freeze=freeze)
    optimizer = build_optimizer(model, tiny.recipe("train.weight_decay=0.07"), 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sorted(decay) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    norms = [name for name, module in model.named_modules() if type(module).__name__.endswith(NORMS)]
    assert sum(name.startswith("backbone") for name in norms) > 40
    for name in decay:
        owner, _, own = name.rpartition(".")
        bare = owner in norms or "query_" in owner or own in ("void", "logit_scale") or "level_embed" in name
        assert decay[name] == (0 if bare else 0.07), name


def test_metrics_are_means_of_full_rows_and_survive_a_cut_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, "joint", 0, 99, 2)
    for step, values in enumerate([{"loss": 1.0, "changed": 0.5}, {"loss": 3.0}, {"loss": 5.0}]):
        log.add(step, values)
    log.flush()
    assert rows(tmp_path) == [{"stage": "joint", "step": 2, "changed": 0.5, "loss": 2.0}]
    with path.open("a") as file:
        file.write('{"stage": "joint", "step": 4, "loss": 1.0}\n{"stage": "joint", "st')
    again = MetricsLog(path, "joint", 3, 99, 2, log.unlogged)
    again.add(3, {"loss": 7.0})
    again.flush()
    assert [row["loss"] for row in rows(tmp_path)] == [2.0, 6.0]
    last = MetricsLog(path, "joint", 4, 5, 2)
    last.add(4, {"loss": 9.0})
    last.flush()
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [(2, 2.0), (4, 6.0), (5, 9.0)], "the last step too"
    assert all(json.loads(line)["seconds"] >= 0 for line in path.read_text().splitlines())


@pytest.mark.parametrize(("steps", "most", "kept"), [(11, 6, 6), (100, 6, 6), (7, 3, 3), (3, 6, 3), (5, 0, 0)])
def test_there_are_as_many_panels_as_asked_for_also_after_a_kill(steps, most, kept, tmp_path):
    with_generated = [step for step in range(steps) if steps < 20 or step % 5 == 3]  # batches that hold such an image
    panels = Panels(tmp_path, most, steps, 0)
    for step in with_generated:
        if panels.due(step):
            (tmp_path / f"{step:06d}-0").mkdir()
            panels._parts.add(step // panels.every)
    found = {path.name for path in tmp_path.iterdir()}
    assert len(found) == kept
    again = Panels(tmp_path, most, steps, start := steps // 2)
    assert {f"{step:06d}-0" for step in with_generated if step >= start and again.due(step)} >= {
        name for name in found if int(name[:6]) >= start
    }, "those that come after the checkpoint are made again"
    assert not any(again.due(int(name[:6])) for name in found if int(name[:6]) < start)


def test_panels_hold_the_clean_image_and_both_maps(whole):
    run = whole[0]
    panels = sorted(p.name for p in (run / "pseudo").iterdir())
    assert panels
    for name in panels:
        folder = run / "pseudo" / name
        files = {path.name for path in folder.iterdir()}
        assert files == {"image.png", "points.json", "refined.png", "teacher.png", "masks.png"}
