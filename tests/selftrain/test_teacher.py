"""The teacher's moving average, and the pseudo-labels it gives."""

import numpy as np
import pytest
import torch

import tiny
from clouds.config.load import load_recipe
from clouds.selftrain import pseudo as pseudo_module
from clouds.selftrain.pseudo import PseudoLabeller, panel_points
from clouds.selftrain.refine import Refinement
from clouds.selftrain.teacher import Teacher, make_teacher


def shaken(student, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in student.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))


def test_the_references_teacher_moves_each_nth_step_and_has_no_ramp():
    """As a recipe says it; a step between moves changes nothing, and the count of steps is what a checkpoint keeps."""
    settings = load_recipe("gta-rn50-reference", ["selftrain.teacher_every=3", "selftrain.decay=0.75"]).selftrain
    student = tiny.segmenter().double()
    teacher = make_teacher(student, settings)
    name, own = next(iter(teacher.model.head.named_parameters()))
    theirs = dict(student.head.named_parameters())[name]
    for step in range(1, 8):
        if step == 4:  # a run that goes on
            again = make_teacher(student, settings)
            again.model.load_state_dict(teacher.model.state_dict())
            again.updates, teacher = teacher.updates, again
            own = dict(teacher.model.head.named_parameters())[name]
        before = own.clone()
        shaken(student, step)
        teacher.update()
        wanted = 0.75 * before + 0.25 * theirs if step % 3 == 0 else before
        assert torch.allclose(own, wanted, atol=1e-12), step
    assert teacher.updates == 7


def test_a_slow_teacher_may_have_its_ramp_over_moves():
    student = tiny.segmenter().double()
    teacher = Teacher(student, 0.999, every=2)
    name, own = next(iter(teacher.model.head.named_parameters()))
    theirs = dict(student.head.named_parameters())[name]
    for kept in (1 / 10, 2 / 11):
        before = own.clone()
        shaken(student, 1)
        teacher.update()
        teacher.update()
        assert torch.allclose(own, kept * before + (1 - kept) * theirs, atol=1e-12)


@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_the_average_follows_the_formula_with_its_ramp(decay):
    student = tiny.segmenter().double()
    teacher = Teacher(student, decay)
    wanted = {name: p.detach().clone() for name, p in student.named_parameters() if p.requires_grad}
    used = []
    for t in range(6):
        shaken(student, t)
        teacher.update()
        used.append(min(decay, (1 + t) / (10 + t)))
        for name, p in student.named_parameters():
            if name in wanted:
                wanted[name] = used[-1] * wanted[name] + (1 - used[-1]) * p.detach()
    assert used[:3] == [0.1, 2 / 11, 3 / 12 if decay > 0.3 else 0.25]
    assert used[-1] == (6 / 15 if decay > 0.4 else 0.3)
    assert teacher.updates == 6
    own = dict(teacher.model.named_parameters())
    assert len(wanted) > 50
    for name, value in wanted.items():
        assert torch.allclose(own[name], value, atol=1e-12)


def test_the_ramp_ends_at_the_decay():
    student = tiny.segmenter()
    teacher = Teacher(student, 0.999)
    teacher.updates = 100_000
    name, own = next(iter(teacher.model.head.named_parameters()))
    before = own.clone()
    shaken(student, 0)
    teacher.update()
    step = dict(student.head.named_parameters())[name].detach() - before
    assert torch.allclose(own - before, 0.001 * step, atol=1e-6)


def test_before_any_update_the_teacher_predicts_what_the_student_does():
    student = tiny.segmenter().train()
    x = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    labels, confidence = Teacher(student, 0.99).predict(x)
    scores = student.eval().semantic(x)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, scores.argmax(1).to(torch.uint8))
    assert torch.allclose(confidence, scores.amax(1) / scores.sum(1))
    assert confidence.min() >= 1 / len(tiny.CLASSES)
    assert confidence.max() <= 1


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_tensors_are_shared_and_trained_ones_are_not(freeze):
    student = tiny.segmenter(freeze=freeze)
    teacher = Teacher(student, 0.99)
    theirs = dict(teacher.model.named_parameters())
    for name, p in student.named_parameters():
        assert (theirs[name].data_ptr() == p.data_ptr()) == (not p.requires_grad), name
        assert p.requires_grad == (name.startswith("head.") or not freeze)
    buffers = dict(teacher.model.named_buffers())
    assert all(buffers[name].data_ptr() == b.data_ptr() for name, b in student.named_buffers())


def test_an_update_leaves_the_student_alone():
    student = tiny.segmenter()
    teacher = Teacher(student, 0.99)
    shaken(student, 1)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    teacher.update()
    assert all(torch.equal(p, before[name]) for name, p in student.named_parameters())


def test_the_teacher_never_gets_gradients_and_stays_in_eval_mode():
    student = tiny.segmenter().train()
    teacher = Teacher(student, 0.99)
    x = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    _, confidence = teacher.predict(x)
    assert not confidence.requires_grad
    torch.stack(student(x).logits).sum().backward()
    teacher.update()
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert all(p.grad is None for p in teacher.model.parameters())
    assert not any(module.training for module in teacher.model.modules())
    assert all(p.requires_grad for p in student.head.parameters())
    assert student.training


class FixedTeacher:
    """Says what it was asked to say."""

    def __init__(self, maps, confidence):
        self.model, self.maps, self.confidence = tiny.segmenter(), maps, confidence

    def predict(self, images):
        return self.maps, self.confidence


class CountingSegmenter:
    def __init__(self):
        self.encoded = []

    def encode(self, image):
        self.encoded.append(image)
        return len(self.encoded)


def refinement(labels, changed=0.25, decided=0.5, components=3):
    return Refinement(
        labels=labels,
        components=components,
        points=np.array([[[1.04, 2.0], [3.0, 4.0]]], np.float32),
        classes=np.array([2], np.uint8),
        quality=np.ones(1, np.float32),
        rejected=np.zeros(1, np.bool_),
        masks=np.zeros(labels.shape, np.int32),
        changed=changed,
        decided=decided,
        disputed=0.0,
    )


def batch(slots, ids, flipped, size=4):
    total = 3
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (total, size, size), dtype=torch.uint8, generator=generator)
    labels[slots] = 255
    return {
        "images": torch.zeros(total, 3, size, size, dtype=torch.uint8),
        "labels": labels,
        "places": torch.arange(total),
        "slots": torch.tensor(slots, dtype=torch.long),
        "ids": torch.tensor(ids, dtype=torch.long),
        "flipped": torch.tensor(flipped, dtype=torch.bool),
        "clean": torch.arange(len(slots) * 3 * size * size).view(-1, 3, size, size).to(torch.uint8),
    }


def labeller(monkeypatch, refined, maps, sure, **settings):
    calls = []

    def refine_map(labels, embedding, segmenter, **arguments):
        calls.append((labels, embedding, arguments))
        return refinement(refined)

    monkeypatch.setattr(pseudo_module, "refine_map", refine_map)
    s = tiny.recipe(*(f"selftrain.{key}={value}" for key, value in settings.items())).selftrain
    return PseudoLabeller(FixedTeacher(maps, sure), CountingSegmenter(), s, seed=5), calls


REFINED = np.array([[0, 1, 2, 3], [255, 255, 1, 1], [0, 0, 0, 0], [3, 3, 255, 255]], np.uint8)


def test_pseudo_labels_of_flipped_samples_are_flipped(monkeypatch):
    maps, confidence = torch.full((2, 4, 4), 2, dtype=torch.uint8), torch.ones(2, 4, 4)
    make, _ = labeller(monkeypatch, REFINED, maps, confidence, undecided="ignore")
    given = batch([0, 2], [7, 8], [True, False])
    before = given["labels"].clone()
    labels = make(given, 0).labels
    assert np.array_equal(labels[0].numpy(), REFINED[:, ::-1])
    assert np.array_equal(labels[2].numpy(), REFINED)
    assert torch.equal(labels[1], before[1])
    assert torch.equal(given["labels"], before)


def test_undecided_pixels_are_ignored_or_keep_the_sure_teachers_label(monkeypatch):
    maps = torch.full((1, 4, 4), 2, dtype=torch.uint8)
    confidence = torch.full((1, 4, 4), 0.9)
    confidence[0, 1, 0] = confidence[0, 3, 3] = 0.4
    given = batch([1], [0], [False])
    ignored, kept, all_kept = (
        labeller(monkeypatch, REFINED, maps, confidence, undecided=what, confidence=least)[0](given, 0).labels
        for what, least in (("ignore", 0), ("teacher", 0.5), ("teacher", 0))
    )
    assert np.array_equal(ignored[1].numpy(), REFINED)
    wanted = np.where(REFINED == 255, 2, REFINED)
    assert np.array_equal(all_kept[1].numpy(), wanted)
    wanted[1, 0] = wanted[3, 3] = 255
    assert np.array_equal(kept[1].numpy(), wanted)


def test_an_image_is_encoded_once_however_often_it_is_drawn(monkeypatch):
    maps, confidence = torch.zeros(2, 4, 4, dtype=torch.uint8), torch.ones(2, 4, 4)
    make, calls = labeller(monkeypatch, REFINED, maps, confidence)
    make(batch([0, 2], [7, 8], [False, False]), 0)
    make(batch([0, 1], [8, 7], [True, False]), 1)
    assert [embedding for _, embedding, _ in calls] == [1, 2, 2, 1]
    first = make.segmenter.encoded[0]
    assert first.shape == (4, 4, 3)
    assert np.array_equal(first, batch([0, 2], [7, 8], [0, 0])["clean"][0].permute(1, 2, 0).numpy())


def test_refinement_gets_the_recipes_settings_and_a_seed_of_seed_step_and_slot(monkeypatch):
    maps, confidence = torch.zeros(2, 4, 4, dtype=torch.uint8), torch.ones(2, 4, 4)
    make, calls = labeller(
        monkeypatch, REFINED, maps, confidence, points=3, floor=0.2, strategy="eroded", max_swallow=0.7,
        overlaps="reference",
    )
    for step in (0, 1, 0):
        make(batch([0, 2], [7, 8], [False, False]), step)
    seeds = [arguments.pop("seed") for _, _, arguments in calls]
    assert seeds[:2] == seeds[4:]
    assert len(set(seeds)) == 4
    wanted = {"points": 3, "floor": 0.2, "strategy": "eroded", "max_swallow": 0.7, "overlaps": "reference"}
    assert calls[0][2] == wanted


def test_work_adds_up_over_steps(monkeypatch):
    maps, confidence = torch.zeros(2, 4, 4, dtype=torch.uint8), torch.full((2, 4, 4), 0.5)
    make, _ = labeller(monkeypatch, REFINED, maps, confidence, undecided="ignore")
    _, numbers, panel = make(batch([0, 2], [7, 8], [False, True]), 0)
    wanted = {"teacher_confidence": 0.5, "changed": 0.4375, "decided": 0.75, "components": 3.0, "kept/road": 0.3125}
    assert numbers == {**wanted, "changed/road": 0.4375, "ignored/road": 0.25}
    assert np.array_equal(panel.refined, REFINED)
    assert panel_points(panel.refinement) == [(2, [[1.0, 2.0], [3.0, 4.0]])]
    make(batch([0, 1], [8, 9], [False, True]), 1)
    work = make.work
    assert (work.images, work.components, work.pixels) == (4, 12, 64)
    assert (work.pixels_decided, work.pixels_changed, work.seen) == (48, 28, {7, 8, 9})


def test_pasted_objects_stay(monkeypatch):
    maps, confidence = torch.full((2, 4, 4), 2, dtype=torch.uint8), torch.full((2, 4, 4), 0.5)
    maps[1] = 3
    make, _ = labeller(monkeypatch, REFINED, maps, confidence, undecided="ignore")
    given = batch([0, 2], [7, 8], [True, False])
    given["labels"][0, 0, [0, 3]] = 2
    labels, numbers, _ = make(given, 0)
    wanted = REFINED[:, ::-1].copy()
    wanted[0, [0, 3]] = 2
    assert np.array_equal(labels[0].numpy(), wanted)
    assert (numbers["kept/car"], numbers["kept/tree"]) == (1 / 16, 3 / 16), "each over the images that show it"


def test_a_batch_without_generated_images_is_left_as_it_is(monkeypatch):
    make, calls = labeller(monkeypatch, REFINED, None, None)
    given = batch([], [], [])
    lesson = make(given, 0)
    assert torch.equal(lesson.labels, given["labels"])
    assert (lesson.numbers, lesson.panel, calls, make.work.images) == ({}, None, [], 0)
