"""A recipe is tried out without data, weights or hub: what it costs here, what stood in, and nothing left behind."""

import json
import tempfile

import pytest

import tiny_vit
from clouds.check import dry_run as module
from clouds.check.dry_run import dry_run
from clouds.cli import run as cli
from clouds.config.load import load_recipe
from clouds.selftrain.pseudo import PseudoLabeller

SMALL = ["augment.crop=[64,64]", "generate.size=[64,64]", "model.hidden=32", "model.ffn=32", "model.pixel_ffn=32",
         "model.layers=1", "model.pixel_layers=1", "loss.points=32", "evaluate.shorter_side=64"]  # fmt: skip
PAPERS = [*SMALL, "model.vision=efficientnet-lite0", "model.text=all-minilm-l6-v2", "model.weights=null"]
KEYS = {"recipe", "images_per_step_measured", "seconds_per_step", "peak_memory_gb", "hours", "stand_ins"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and an empty folder for what is temporary."""
    temporary, work = tmp_path / "temporary", tmp_path / "work"
    temporary.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield tmp_path
    assert [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")] == []  # torch's own
    assert list(work.iterdir()) == []


def test_the_papers_recipe_is_tried_out_on_a_bare_machine(here, capsys):
    assert cli(["train", "gta-rn50", *PAPERS, "--dry-run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record.keys() >= KEYS
    assert (record["recipe"], record["batch_size"], record["images_per_step_measured"]) == ("gta-rn50", 8, 2)
    assert record["steps"] == {"warmup": 40000, "joint": 40000}
    assert record["seconds_per_step"] == pytest.approx(4 * record["seconds_per_step_measured"], rel=0.02)
    joint = 40000 * record["seconds_per_step"] / 3600
    warmup = joint - 40000 * 4 * record["seconds_of_pseudo_labels"] / 3600
    assert record["hours"] == pytest.approx(joint + warmup, rel=0.05)
    assert 0 < record["seconds_of_pseudo_labels"] < record["seconds_per_step_measured"]
    assert record["peak_memory_gb"] > 0.1
    for what in ("random weights in place of efficientnet-lite0's", "in place of gta5", "superpixels in place of "
                 "mobile-sam/mobile_sam.pt, which is not a local file", "in place of the teacher's"):  # fmt: skip
        assert any(what in each for each in record["stand_ins"]), what
    assert any("8/2 of the measured one" in each for each in record["extrapolated"])


@pytest.mark.parametrize("name", ["gsu-soma-dinov2-l", "cityscapes16-rein-dinov2-l", "gta-soma-dinov2-l-joint"])
def test_recipes_of_publications_are_tried_out_without_data_weights_or_hub(name, here):
    tiny_vit.register()
    words = [*SMALL, "model.vision=timm/tiny_dinov2", "train.batch_size=2", "train.device=cpu", "generate.device=cpu"]
    record = dry_run(load_recipe(name, words))
    assert record["steps"]["warmup"] == (4000 if "16" in name else 40000)
    assert ("joint" in record["steps"]) == name.endswith("joint")
    assert record["hours"] > 0


def test_everything_that_stood_in_is_said_to_a_person_too(here, capsys):
    assert cli(["train", "demo", *SMALL, "train.batch_size=2", "train.stage=warmup", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "stand-in: random weights" in said
    assert "330 warmup" in said
    assert "joint" not in said
    assert "superpixels" not in said


def test_refinement_is_done_in_a_step(here, monkeypatch):
    seen = []
    real = PseudoLabeller.__call__
    monkeypatch.setattr(PseudoLabeller, "__call__", lambda *args: seen.append(real(*args)) or seen[-1])
    dry_run(load_recipe("demo", SMALL))
    assert [round(lesson.numbers["components"]) for lesson in seen] == [36, 36]


def test_regions_are_tried_out_too(here):
    record = dry_run(load_recipe("demo", [*SMALL, "selftrain.refinement=regions"]))
    assert record["seconds_of_pseudo_labels"] > 0


@pytest.mark.parametrize("words", [["--out", "x"], ["--resume"], ["--allow-change"]])
def test_what_a_dry_run_does_not_take_is_refused(here, capsys, words):
    assert cli(["train", "demo", "--dry-run", *words]) == 2
    assert "--dry-run writes nothing and resumes nothing: leave out --" in capsys.readouterr().err


def test_several_processes_are_refused(here, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli(["train", "demo", "--dry-run"]) == 2
    assert "runs in one process" in capsys.readouterr().err


def test_a_failure_leaves_nothing_behind(here, monkeypatch):
    monkeypatch.setattr(module, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dry_run(load_recipe("demo", SMALL))


def test_photographs_are_shown_or_stood_in_for(here, capsys, root):
    words = ["train", "demo", *SMALL, "train.batch_size=2", "generate.count=0", "--dry-run"]
    photos = root / "camvid" / "test"
    assert cli([*words, f"data.unlabelled={photos}"]) == 0
    said = capsys.readouterr().out
    assert f"photos   {photos}: 9 pictures, 0 videos; smallest looked at " in said
    assert cli([*words, "data.unlabelled=/none/such", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["photographs"] == []
    assert any("in place of the photos of /none/such (data.unlabelled.0: " in each for each in record["stand_ins"])
