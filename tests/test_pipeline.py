"""The whole method on a thumb-nail: the run folder, going on after a stop, what may change and what may not."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import fabricate
import tiny
from clouds import api, cli, pipeline
from clouds.base import machine
from clouds.base.files import read_json, read_jsonl
from clouds.check.demo_size import measure, seconds_of
from clouds.config.load import load_recipe
from clouds.config.records import WorkSummary
from clouds.config.runs import add_seconds, load_run, open_run, spent_seconds, timed
from clouds.config.sizing import scaled
from clouds.data.images import write_png
from clouds.data.labelled import make_source, open_sets
from clouds.errors import CloudsError, DataError, UsageError
from clouds.evaluate import run as scoring
from clouds.evaluate.domains import RENDERED, rendered_domain, unseen_domains
from clouds.model import vocabulary
from clouds.model.folder import save_model
from clouds.model.folder_config import has_model
from clouds.selftrain.work import Work
from report.test_report import Page

# Enough training that the teacher tells classes apart (on seeds 0 to 4): else refinement has nothing to change.
SMALL = [
    "prompts.count=4", "generate.count=4", "generate.size=[64,64]", "augment.crop=[64,64]", "data.source_count=4",
    "data.source_size=[64,128]", "model.hidden=32", "model.queries=20", "model.heads=4", "model.pixel_layers=1",
    "model.layers=2", "model.pixel_ffn=32", "model.ffn=32", "loss.points=64", "train.steps=100",
    "train.warmup_share=0.95", "train.batch_size=2", "train.checkpoint_every=2", "train.log_every=5",
    "train.learning_rate=1e-3", "train.clip=1.0", "train.schedule=constant", "selftrain.floor=0.001",
    "selftrain.confidence=0", "selftrain.max_swallow=null", "selftrain.panels=2", "evaluate.rendered_count=1",
    "evaluate.shorter_side=64",
]  # fmt: skip


def recipe(*overrides: str):
    return load_recipe("demo", [*SMALL, *overrides])


def ages(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def timeless(results: dict) -> list[dict]:
    """The rows of RESULTS without how long each took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in results["domains"]]


def weights(run: Path, stage: str = "model") -> bytes:
    return (run / stage / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def few_sentences():
    """One template of 14: the same text tower embeds 60 sentences, not 840."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict]:
    """A whole run, never changed by a test, and what ``demo`` returned."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("runs") / "finished"
    return run, api.demo(SMALL, run)


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def warmed_up(finished: Path, out: Path, *overrides: str):
    """A run of other settings whose warm-up, prompts, images and source are there already."""
    settings = recipe(*overrides)
    open_run(settings, out)
    for name in ("warmup", "generated", "source"):
        shutil.copytree(finished / name, out / name)
    shutil.copy(finished / "prompts.jsonl", out)
    return settings


# -- the run folder


def test_a_demo_returns_the_contracts_object(finished):
    run, result = finished
    assert list(result) == ["run", "report", "seconds", "backends", "warmup", "joint"]
    assert result["run"] == str(run.resolve())
    assert Path(result["report"]) == run / "report" / "index.html"
    assert Path(result["report"]).is_absolute()
    assert result["seconds"] > 0
    assert result["backends"] == {
        "vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2", "prompts": "grammar",
        "images": "streets renderer", "segmenter": "superpixels",
    }  # fmt: skip
    for stage in ("warmup", "joint"):
        assert [row["name"] for row in result[stage]["domains"]] == list(RENDERED)
        assert 0 <= result[stage]["mean_miou"] <= 1
    json.dumps(result, allow_nan=False)


def test_a_run_folder_has_everything_of_the_contract(finished):
    run, result = finished
    assert read_json(run / "results.json") == result["joint"]
    assert read_json(run / "results-warmup.json") == result["warmup"]
    assert len(read_jsonl(run / "prompts.jsonl")) == len(read_jsonl(run / "generated" / "metadata.jsonl")) == 4
    assert [(row["stage"], row["step"]) for row in read_jsonl(run / "metrics.jsonl")] == [
        *(("warmup", step) for step in range(5, 100, 5)), ("joint", 5),
    ]  # fmt: skip
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "joint-000004", "joint-000005", "warmup-000094", "warmup-000095",
    ]  # fmt: skip
    for stage in ("warmup", "model"):
        assert {path.name for path in (run / stage).iterdir()} == {"config.json", "model.safetensors"}
    assert weights(run) != weights(run, "warmup")
    assert not list(run.rglob(".*"))


def test_the_recipe_of_a_run_is_resolved_and_says_where_it_came_from(finished):
    kept = yaml.safe_load((finished[0] / "recipe.yaml").read_text())
    assert kept["settings"] == recipe().model_dump(mode="json")
    assert (kept["recipe"], kept["seed"]) == ("demo", 0)
    assert kept["commit"] == machine.commit()
    assert kept["versions"]["torch"] == metadata.version("torch")
    assert kept["versions"]["python"] == sys.version.split()[0]
    assert kept["hardware"]["cores"] == os.cpu_count()
    assert load_run(finished[0]) == recipe()


def test_results_count_each_roles_real_work(finished):
    run, result = finished
    work = result["joint"]["work"]
    assert (work["prompts_written"], work["images_drawn"]) == (4, 4)
    assert 1 <= work["images_trained_on"] <= 4
    assert work["images_trained_on"] <= work["pseudo_labels_made"] <= 10
    assert work["components_refined"] > 0
    assert work["pixels_seen"] == 64 * 64 * work["pseudo_labels_made"]
    assert 0 < work["pixels_changed"] <= work["pixels_decided"] <= work["pixels_seen"]
    kept = read_json(run / "work.json")
    by_class = kept.pop("classes")
    assert kept == work
    assert sum(fate["pixels"] for fate in by_class.values()) == work["pixels_seen"]
    assert all(abs(fate["kept"] + fate["changed"] + fate["ignored"] - 1) < 1e-6 for fate in by_class.values())


def test_the_report_of_a_true_run_has_every_section(finished):
    page = Page(Path(finished[1]["report"]).read_text("utf-8"))
    for said in (
        "Domain by domain", "Mean, all domains", "Protocol: shorter side 64",
        "Who played which role", "5 of 5 roles played by stand-ins", "prompts written 4", "images drawn 4",
        "components refined", "pixels changed", "Of all pixels it looked at, refinement decided",
        "Prompts and images", "4 prompts, 4 of them different, written by grammar", "4 of 4 images by streets renderer",
        "The labelled source", "Read the prompts",
        "Pseudo-labels, before and after refinement", "Before: the teacher", "The masks it answered with",
        "After: refined", "Share of pixels decided, class by class", "changed to another class",
        "Warm-up loss", "Joint loss", "on generated images", "Warm-up loss by part", "Teacher confidence",
        "Pseudo-labels after refinement", "pixels decided",
        "Class by class, image by image", "frequency-weighted IoU", "boundary IoU", "calibration error",
        "Confusion matrix, joint model", "Calibration", "Image by image", "Predictions", "typical 1",
        "Judged without labels",
        "Provenance", "Peak memory", "Settings, fully resolved", "Versions", "Hardware",
    ):  # fmt: skip
        assert said in page.text, said
    (spent,) = re.findall(r"Where \d[\d. a-z]+ went (.*?) Prompts and images", page.text)
    assert all(re.search(rf"\b{part} \d", spent) for part in ("source", "warm-up", "joint", "scoring")), spent
    assert "Not in this run folder" not in page.text
    shown = [str(attributes.get("alt") or attributes.get("aria-label")) for _, attributes in page.tags]
    for start, many in (("Source image", 4), ("Its label", 4), ("Drawn image: A", 4), ("Masks of the segmenter", 2),
                        ("Joint label map over", 5), ("Truth label map over", 5)):  # fmt: skip
        assert sum(alt.startswith(start) for alt in shown) == many, start


def test_seconds_add_up_over_sessions_however_these_end(tmp_path):
    add_seconds(tmp_path, "images", 1.5)
    for _ in range(2):
        with suppress(KeyboardInterrupt), timed(tmp_path, "images"):
            time.sleep(0.06)
            raise KeyboardInterrupt
    with timed(tmp_path, "prompts"):
        pass  # they were there already
    assert list(spent_seconds(tmp_path)) == ["images"]
    assert spent_seconds(tmp_path)["images"] >= 1.62


def test_examples_are_kept_of_every_domain(finished):
    run, _ = finished
    for domain in RENDERED:
        folder = run / "evaluation" / "examples" / domain / "typical-0"
        shapes = {name: np.asarray(Image.open(folder / f"{name}.png")).shape[:2]
                  for name in ("photo", "truth", "warmup", "joint")}  # fmt: skip
        assert len(set(shapes.values())) == 1
        images = {stage: read_json(run / "evaluation" / f"{stage}.json")["domains"][domain]["per_image"][0]
                  for stage in ("warmup", "joint")}  # fmt: skip
        assert read_json(folder / "example.json") == {
            "name": images["joint"]["name"], "warmup": images["warmup"]["miou"], "joint": images["joint"]["miou"],
        }  # fmt: skip


def test_examples_that_a_kill_cut_short_are_made_again_and_equal(run, finished):
    folder = run / "evaluation" / "examples" / "fog" / "typical-0"
    for name in ("example.json", "joint.png"):
        (folder / name).unlink()
    before = ages(run)
    api.demo(SMALL, run)
    assert {path.parent.name for path in map(Path, {k for k, age in ages(run).items() if before.get(k) != age})} == {
        "typical-0", "report",
    }  # fmt: skip
    for name in ("example.json", "joint.png", "photo.png"):
        same = finished[0] / folder.relative_to(run) / name
        assert (folder / name).read_bytes() == same.read_bytes()


@pytest.mark.slow
@pytest.mark.long
def test_new_scores_choose_examples_anew(run):
    (run / "evaluation" / "examples" / "fog" / "worst-7").mkdir()
    (run / "results.json").unlink()
    api.demo(SMALL, run)
    assert [path.name for path in (run / "evaluation" / "examples" / "fog").iterdir()] == ["typical-0"]


@pytest.mark.slow
def test_a_run_alone_is_scored_as_the_demo_scores_it(run, finished, capsys):
    for name in ("results.json", "results-warmup.json"):
        (run / name).unlink()
    assert cli.run(["evaluate", str(run), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert [timeless(scored[stage]) for stage in ("warmup", "joint")] == [
        timeless(finished[1][stage]) for stage in ("warmup", "joint")
    ]  # fmt: skip


def test_what_lies_behind_the_scores_is_kept(finished):
    run, result = finished
    for stage in ("warmup", "joint"):
        for row in result[stage]["domains"]:
            kept = read_json(run / "evaluation" / f"{stage}.json")["domains"][row["name"]]
            labelled = np.sum(kept["confusion"])
            bins = kept["calibration"]
            assert [len(bins[key]) for key in ("pixels", "confidence", "correct")] == [15] * 3
            assert sum(bins["pixels"]) == labelled
            assert sum(bins["correct"]) == np.trace(kept["confusion"])
            assert len(kept["per_image"]) == row["images"]
            seen = dict(zip(kept["classes"], np.sum(kept["confusion"], 1), strict=True))
            assert not any(seen[name] for name, iou in row["iou"].items() if iou is None)


def test_the_table_shows_each_domain_before_and_after(finished):
    _, result = finished
    text = scoring.comparison_table(result)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    for before, after in zip(result["warmup"]["domains"], result["joint"]["domains"], strict=True):
        shown = rows[before["name"]]
        assert shown[1:4] == ["1", f"{100 * before['miou']:.1f}", f"{100 * after['miou']:.1f}"]
        assert shown[4][0] in "+-"
    assert "4 prompts written, 4 images generated" in text
    assert result["report"] in text


# -- run again


def test_a_finished_run_is_only_reported_again(run, finished):
    before = ages(run)
    result = api.demo(SMALL, run)
    after = ages(run)
    assert {name for name in after if after[name] != before.get(name)} <= {"report/index.html"}
    assert result["joint"] == finished[1]["joint"]


def test_demo_prints_one_json_object_alone(run, capsys):
    assert cli.run(["demo", *SMALL, "--out", str(run), "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["run"] == str(run)
    assert out.count("\n") == 1


@pytest.mark.parametrize(("override", "said"), [
    ("train.steps=8", "train.steps (100 there, 8 now)"),
    ("seed=1", "seed (0 there, 1 now)"),
    ("data.source=[{dataset: streets, weight: 2}]", ": data.source.0.weight (None there, 2.0 now). Choose"),
    ("generate.count=5", "generate.count (4 there, 5 now)"),
    ("selftrain.max_swallow=0.3", "selftrain.max_swallow (None there, 0.3 now)"),
])  # fmt: skip
def test_changed_settings_are_refused_naming_key_and_values(run, override, said):
    before = ages(run)
    with pytest.raises(UsageError, match="holds a run of other settings") as caught:
        api.demo([*SMALL, override], run)
    assert said in str(caught.value)
    assert "evaluate" not in str(caught.value)
    assert ages(run) == before


@pytest.mark.slow
@pytest.mark.long
def test_changed_scoring_settings_only_score_again(run):
    before = ages(run)
    changes = ["evaluate.rendered_count=2", "evaluate.shorter_side=96"]
    result = api.demo([*SMALL, *changes], run)
    touched = {name for name, age in ages(run).items() if before.get(name) != age}
    assert {name.split("/")[0] for name in touched} == {
        "recipe.yaml", "results.json", "results-warmup.json", "evaluation", "seconds.json", "report",
    }  # fmt: skip
    for stage in ("warmup", "joint"):
        assert {row["images"] for row in result[stage]["domains"]} == {2}
    assert load_run(run) == recipe(*changes)


def test_scores_are_made_at_the_shorter_side_they_report(run, monkeypatch):
    sides = []
    real = scoring.evaluate

    def spy(predictor, *rest):
        sides.append(predictor.inference.shorter_side)
        return real(predictor, *rest)

    monkeypatch.setattr(scoring, "evaluate", spy)
    settings = recipe("evaluate.shorter_side=96")
    open_run(settings, run)
    scored = scoring.score_run(settings, run, [rendered_domain("fog", 1)])
    assert sides == [96, 96]
    assert scored["joint"]["protocol"]["shorter_side"] == 96


@pytest.mark.slow
def test_lost_scores_are_made_again_and_equal(run, finished):
    (run / "results.json").unlink()
    result = api.demo(SMALL, run)
    assert timeless(result["joint"]) == timeless(finished[1]["joint"])


def test_a_run_stopped_between_two_checkpoints_ends_with_equal_weights(run, finished, capsys):
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "joint-000005")
    assert cli.run(["train", str(run), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(run)}
    assert weights(run) == weights(finished[0])
    assert read_json(run / "work.json") == read_json(finished[0] / "work.json")


def test_a_damaged_last_checkpoint_costs_its_steps_only(run, finished, capsys):
    shutil.rmtree(run / "model")
    file = run / "checkpoints" / "joint-000005" / "student.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    pipeline.train(recipe(), run)
    assert "joint-000005 is damaged" in capsys.readouterr().err
    assert weights(run) == weights(finished[0])


def again(run: Path) -> Path:
    """The run before its joint training."""
    shutil.rmtree(run / "model")
    for path in (run / "checkpoints").glob("joint-*"):
        shutil.rmtree(path)
    return run


def other_picture(path: Path) -> None:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), 255 - picture)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:300] + b"\x55" + path.read_bytes()[301:]),
    "another picture": other_picture,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_mends_what_it_made_itself(run, finished, capsys, damage):
    hurt = ["generated/000001.png", "source/images/000002.png", "source/labels/000000.png"]
    again(run)
    for name in hurt:
        DAMAGES[damage](run / name)
    pipeline.train(recipe(), run)
    said = capsys.readouterr().err
    assert all(f"{run / name}: " in said and "again" in said for name in hurt)
    assert [(run / name).read_bytes() for name in hurt] == [(finished[0] / name).read_bytes() for name in hurt]
    assert weights(run) == weights(finished[0])


def test_a_rendered_source_of_before_is_looked_through(run, capsys):
    (again(run) / "source" / "sha256.jsonl").unlink()
    (run / "source" / "images" / "000002.png").write_bytes(b"")
    pipeline.train(recipe(), run)
    assert "000002.png: an empty file" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "name"), [("warmup", "warmup"), ("joint", "model")])
def test_a_damaged_model_is_written_again_from_its_last_checkpoint(run, finished, capsys, stage, name):
    path = run / name / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    pipeline.train(recipe(), run)
    assert f"{path}: its content is not what was written" in capsys.readouterr().err
    assert weights(run, name) == weights(finished[0], name)


@pytest.mark.slow
def test_other_threads_are_said_on_resume(run, capsys):
    shutil.rmtree(run / "model")
    torch.set_num_threads(2)
    try:
        pipeline.train(recipe(), run)
    finally:
        torch.set_num_threads(1)
    assert "the run used 1 threads per process and now uses 2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stage_begins_with_the_same_random_state_in_a_process_of_its_own(finished, tmp_path, monkeypatch):
    drawn = []

    def draws(_model, stage, *_rest, **_more):
        drawn.append((stage, torch.rand(7 if stage == "warmup" else 3).tolist()))
        return Work()

    monkeypatch.setattr(pipeline, "work_of", lambda *_, **__: WorkSummary())
    monkeypatch.setattr(pipeline, "train_stage", draws)
    monkeypatch.setattr(pipeline, "check_work", lambda _: None)
    for words in ((), ("train.stage=warmup",), ("train.stage=joint",)):
        run = tmp_path / ("both" if not words else "apart")
        pipeline.train(recipe(*words), run)
    assert drawn == [drawn[0], drawn[1], drawn[0], drawn[1]]
    assert [stage for stage, _ in drawn[:2]] == ["warmup", "joint"]


def test_what_a_kill_left_half_written_is_swept_and_copies_by_hand_are_no_checkpoints(run, finished):
    shutil.rmtree(run / "model")
    half = [".joint-000004-q3_x9ab1", ".joint-000004-q3_x9ab1-old"]
    for name in half:
        shutil.copytree(run / "checkpoints" / "joint-000005", run / "checkpoints" / name)
    (run / ".recipe-abcd1234.yaml").write_text("half")
    shutil.copytree(run / "checkpoints" / "joint-000004", run / "checkpoints" / "joint-000010 (copy)")
    pipeline.train(recipe(), run)
    assert not list(run.rglob(".*"))
    assert (run / "checkpoints" / "joint-000010 (copy)").is_dir()
    assert weights(run) == weights(finished[0])


# -- self-training that does nothing fails


def test_refinement_that_changes_nothing_keeps_the_model_fails_the_run_and_keeps_failing(finished, tmp_path):
    settings = warmed_up(finished[0], tmp_path / "run", "selftrain.floor=1.0")
    for _ in range(2):
        with pytest.raises(CloudsError, match="refinement changed 0 pixels: self-training did nothing") as caught:
            pipeline.train(settings, tmp_path / "run")
        assert not isinstance(caught.value, UsageError)
    assert has_model(tmp_path / "run" / "model")
    assert read_json(tmp_path / "run" / "work.json")["pixels_changed"] == 0
    assert (tmp_path / "run" / "checkpoints" / "joint-000005").exists()


def test_joint_training_without_a_generated_image_fails_the_run(finished, tmp_path):
    settings = warmed_up(finished[0], tmp_path / "run", "train.generated_repeat=1e-9")
    with pytest.raises(CloudsError, match="saw generated images 0 times"):
        pipeline.train(settings, tmp_path / "run")
    assert has_model(tmp_path / "run" / "model")


# -- photographs without labels


@pytest.fixture(scope="module")
def streets(finished, tmp_path_factory) -> Path:
    """Photographs of several sizes that a model warmed up on rendered streets knows something of."""
    folder = tmp_path_factory.mktemp("photographs")
    drawn = sorted((finished[0] / "generated").glob("*.png"))
    for k, (path, size) in enumerate(zip(drawn, ((150, 100), (96, 130), (64, 64), (300, 80)), strict=True)):
        Image.open(path).resize(size).save(folder / f"{k}.jpg", quality=95)
    return folder


@pytest.mark.parametrize("refinement", ["points", pytest.param("regions", marks=[pytest.mark.slow, pytest.mark.long])])
def test_photographs_alone_train_and_nothing_is_written_or_drawn(finished, streets, tmp_path, refinement):
    run = tmp_path / "run"
    words = [f"data.unlabelled={streets}", "generate.count=0", f"selftrain.refinement={refinement}"]
    open_run(recipe(*words), run)
    for name in ("warmup", "source"):
        shutil.copytree(finished[0] / name, run / name)
    result = api.demo([*SMALL, *words], run)
    assert not (run / "prompts.jsonl").exists()
    assert not (run / "generated").exists()
    assert list(result["backends"]) == ["vision", "text", "segmenter"]
    work = result["joint"]["work"]
    assert (work["prompts_written"], work["images_drawn"], work["images_trained_on"]) == (0, 0, 0)
    assert work["photographs"] == 4
    assert 1 <= work["photographs_trained_on"] <= min(4, work["pseudo_labels_made"])
    assert work["pixels_seen"] == 64 * 64 * work["pseudo_labels_made"]
    text = scoring.comparison_table(result)
    assert f"\n4 photos, {work['photographs_trained_on']} of them used in training, " in text
    assert "drawn" not in text
    page = Page(Path(result["report"]).read_text("utf-8")).text
    assert "4 of 4 photos, from " in page
    assert "on photos" in page
    for no in ("Drawn", "drawn image", "not named", "generated images", "Not in this run folder"):
        assert no not in page, no

    whole, rows = weights(run), read_jsonl(run / "photographs.jsonl")
    assert len(rows) == 4
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "joint-000005")
    assert cli.run(["train", str(run), "--resume"]) == 0
    assert weights(run) == whole, "stopped in the middle of joint training, it ends as it would have"
    assert read_json(run / "work.json") == {**work, "classes": read_json(run / "work.json")["classes"]}
    assert read_jsonl(run / "photographs.jsonl") == rows
    lines = {f"{row['bytes']} {row['sha256'][:16]}" for row in rows}
    assert {*(run / "model" / "trained_on.txt").read_text().splitlines()} == lines


def test_joint_training_ends_though_a_photograph_was_lost_meanwhile(finished, streets, tmp_path):
    run, photos = tmp_path / "run", Path(shutil.copytree(streets, tmp_path / "photos"))
    words = [f"data.unlabelled={photos}", "generate.count=0", "data.max_bad=0.3"]
    settings = warmed_up(finished[0], run, *words)
    pipeline.train(settings, run)
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "joint-000005")
    before = read_json(run / "work.json")
    (run / "work.json").unlink()
    (photos / "3.jpg").unlink()
    assert cli.run(["train", str(run), "--resume"]) == 0
    after = read_json(run / "work.json")
    assert (after["photographs"], after["pseudo_labels_made"]) == (4, before["pseudo_labels_made"])


def test_photographs_beside_drawings_are_counted_apart(finished, streets, tmp_path):
    settings = warmed_up(finished[0], tmp_path / "run", f"data.unlabelled=[{{folder: {streets}, weight: 2}}]",
                         "train.generated_weight=2", "train.steps=110", "train.batch_size=4")  # fmt: skip
    pipeline.train(settings, tmp_path / "run")
    work = read_json(tmp_path / "run" / "work.json")
    assert (work["images_drawn"], work["photographs"]) == (4, 4)
    assert 1 <= work["images_trained_on"] <= 4
    assert 1 <= work["photographs_trained_on"] <= 4
    assert work["pseudo_labels_made"] > 4


def test_photographs_that_are_not_there_are_missed_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"data\.unlabelled\.0: .*none: not there"):
        api.demo([*SMALL, f"data.unlabelled={tmp_path / 'none'}"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_photographs_on_resume_are_other_settings(run, streets):
    with pytest.raises(UsageError, match=r"data\.unlabelled\.0\.folder \(None there, /"):
        api.demo([*SMALL, f"data.unlabelled={streets}"], run)


def test_an_adopted_set_of_other_sizes_trains(finished, streets, tmp_path):
    adopted = Path(shutil.copytree(streets, tmp_path / "adopted"))
    assert cli.run(["generate", "--adopt", str(adopted)]) == 0
    settings = warmed_up(finished[0], tmp_path / "run", f"generate.folder={adopted}")
    pipeline.train(settings, tmp_path / "run")
    work = read_json(tmp_path / "run" / "work.json")
    assert 1 <= work["images_trained_on"] <= 4
    assert "photographs" not in work


# -- one stage at a time


def test_warmup_alone_makes_no_prompts_images_or_joint_model(tmp_path):
    run = tmp_path / "run"
    settings = recipe("train.stage=warmup", "train.steps=2")
    pipeline.train(settings, run)
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "metrics.jsonl", "recipe.yaml", "seconds.json", "source", "warmup",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="holds no jointly trained model yet"):
        scoring.score_run(settings, run, [rendered_domain("fog", 1)])
    before = ages(run)
    pipeline.train(settings, run)
    assert ages(run) == before


def test_joint_after_warmup_alone_is_the_same_as_both(finished, tmp_path):
    run = tmp_path / "run"
    warmed_up(finished[0], run, "train.stage=warmup")
    before = ages(run / "warmup")
    pipeline.train(recipe("train.stage=joint"), run)
    assert ages(run / "warmup") == before
    assert weights(run) == weights(finished[0])
    assert load_run(run).train.stage == "joint"


def test_a_finished_run_may_name_another_stage_and_keeps_its_scores(run):
    before = ages(run)
    pipeline.train(recipe("train.stage=warmup"), run)
    assert {name for name, age in ages(run).items() if before.get(name) != age} == {"recipe.yaml"}


def test_joint_without_a_warmup_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"train\.stage=joint: .*warmup holds no warm-up model; train that"):
        pipeline.train(recipe("train.stage=joint"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_demo_of_warmup_alone_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"train\.stage=warmup: the demo .* use `clouds train demo"):
        api.demo([*SMALL, "train.stage=warmup"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_here_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"train\.device: cuda:99 cannot be used here"):
        pipeline.train(recipe("train.device=cuda:99"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- folders that are no run


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for work in (lambda: open_run(recipe(), tmp_path), lambda: load_run(tmp_path)):
        with pytest.raises(UsageError, match=r"no recipe\.yaml"):
            work()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_a_kill_left_behind_does_not_block_the_folder(tmp_path):
    (tmp_path / ".recipe-x1y2.yaml").touch()
    open_run(recipe(), tmp_path)
    assert load_run(tmp_path) == recipe()


@pytest.mark.parametrize("text", ["", "- 1\n", "settings: 3\n", "{", "recipe: demo\n", "settings: {seed: [\n"])
def test_a_damaged_recipe_is_named(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    for work in (lambda: open_run(recipe(), tmp_path), lambda: load_run(tmp_path)):
        with pytest.raises(DataError, match="it is not what CLOUDS wrote") as caught:
            work()
        assert str(path) in str(caught.value)
    assert path.read_text() == text


def test_a_run_of_settings_that_are_no_longer_known_is_refused_by_key(tmp_path):
    open_run(recipe(), tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(path.read_text().replace("warmup_share", "warm_share"))
    with pytest.raises(UsageError, match=r"train\.warm_share: unknown key; did you mean train\.warmup_share"):
        load_run(tmp_path)


def test_a_run_without_work_is_not_scored_as_if_it_were_whole(tmp_path):
    from conftest import small_model

    for stage in ("warmup", "model"):
        save_model(small_model(), tmp_path / stage)
    with pytest.raises(DataError, match=r"work\.json: not there"):
        scoring.score_run(recipe(), tmp_path, [rendered_domain("fog", 1)])
    assert not (tmp_path / "results.json").exists()


# -- the budget


def test_ten_minutes_are_the_recipe_itself():
    settings = load_recipe("demo")
    assert scaled(settings, 10, []) == settings


def test_the_budget_scales_the_work_but_not_what_the_user_set():
    overrides = ["prompts.count=3", "evaluate.max_images=9"]
    settings = load_recipe("demo", overrides)
    half = scaled(settings, 5, overrides)
    assert half.train.steps == round(settings.train.steps / 2)
    assert half.generate.count == round(settings.generate.count / 2)
    assert (half.prompts.count, half.evaluate.max_images) == (3, 9)
    double = scaled(settings, 20, overrides)
    assert double.train.steps == 2 * settings.train.steps
    assert double.evaluate.rendered_count == settings.evaluate.rendered_count


def test_the_demo_is_sized_by_what_its_parts_take_here_once_a_run(tmp_path, monkeypatch):
    part = {"scene": 0.1, "warmup": 1.0, "joint": 1.5, "score": 0.3, "start": 10.0}
    fast = {name: seconds / 4 for name, seconds in part.items()}
    sizes, parts = [], iter([part, fast])
    monkeypatch.setattr("clouds.check.demo_size.measure", lambda _: next(parts))
    monkeypatch.setattr("clouds.pipeline.train", lambda recipe, *_, **__: sizes.append(recipe))
    for minutes in (None, 8, 8, 4):
        api.demo([], tmp_path / "run", minutes)
    api.demo([], tmp_path / "faster", 8)
    open_run(sizes[-1], tmp_path / "faster")  # what is measured before the run begins is no stranger's file
    assert (sizes[0].train.steps, sizes[1]) == (440, sizes[2])
    for recipe, seconds in zip(sizes[1:], (480, 480, 240, 4 * 480), strict=True):
        assert seconds_of(recipe, part) == pytest.approx(seconds, rel=0.03)


def test_a_machine_is_measured_by_a_little_of_each_kind_of_work():
    part = measure(load_recipe("demo", SMALL))
    assert list(part) == ["scene", "warmup", "joint", "score", "start"]
    assert 0 < part["warmup"] < part["joint"]
    assert min(part["scene"], part["score"] - part["scene"], part["start"]) > 0


def test_the_smallest_budget_still_does_each_kind_of_work():
    least = scaled(load_recipe("demo"), 0.2, [])
    assert (least.train.steps, least.train.warmup_steps) == (80, 60)
    assert min(least.generate.count, least.prompts.count, least.evaluate.rendered_count) >= 4


@pytest.mark.parametrize("minutes", [0, -1, 0.1, 1e5, float("nan"), float("inf")])
def test_an_impossible_budget_is_refused(minutes):
    with pytest.raises(UsageError, match="--minutes: got"):
        scaled(load_recipe("demo"), minutes, [])


def test_the_demo_looks_for_the_photos_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"data\.root: .* holds none of"):
        api.demo([*SMALL, f"data.root={tmp_path}"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert len(unseen_domains(recipe())) == 5


def test_the_commit_of_an_installed_package_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.commit() is None


# -- killed


@pytest.mark.slow
@pytest.mark.long
def test_a_run_killed_twice_ends_with_the_weights_of_one_never_stopped(finished, tmp_path):
    run = tmp_path / "run"
    command = ("from clouds.cli import main; from clouds.model import vocabulary; "
               "vocabulary.TEMPLATES = vocabulary.TEMPLATES[:1]; main()")  # fmt: skip
    words = [sys.executable, "-c", command, "demo", *SMALL, "--out", str(run), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in the finished run

    for sign in ("warmup-000030", "joint-000002"):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not (run / "checkpoints" / sign).exists():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()

    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert weights(run, "warmup") == weights(finished[0], "warmup")
    assert weights(run) == weights(finished[0])
    assert result["joint"]["work"] == finished[1]["joint"]["work"]
    assert timeless(result["joint"]) == timeless(finished[1]["joint"])
    here, there = (read_jsonl(folder / "metrics.jsonl") for folder in (run, finished[0]))
    assert [row | {"seconds": 0} for row in here] == [row | {"seconds": 0} for row in there]


# -- labelled sets of one's own


OWN = """
data:
  root: {root}
  source:
    - dataset: folder
      root: {root}/own
      images: "frames/{{key}}.{{ext}}"
      labels: "ids/{{key}}.png"
      label_map: {{7: street, 23: sky, 26: machine, 0: null}}
      label_set: {{street: [road], sky: [sky], machine: [car, truck], water: []}}
    - camvid
  rare_classes: 0.1
  cache: {root}/cache
"""


@pytest.fixture
def own(tmp_path) -> Path:
    """A recipe file that learns from a folder of somebody's own and from CamVid."""
    ids = np.array([7, 23, 26, 0], np.uint8)
    for k in range(3):
        label = tiny.label_map(96, 128, k)
        write_png(tmp_path / "own" / "frames" / f"{k}.png", tiny.picture(label, k))
        write_png(tmp_path / "own" / "ids" / f"{k}.png", ids[label])
    for name, content in fabricate.make("camvid").files.items():
        (tmp_path / "camvid" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "camvid" / name).write_bytes(content)
    path = tmp_path / "own.yaml"
    path.write_text(OWN.format(root=tmp_path))
    return path


def test_a_recipe_learns_from_any_labelled_folder_beside_a_known_set(own, tmp_path):
    settings = load_recipe(str(own), [*SMALL, "train.steps=4", "train.warmup_share=0.75", "train.stage=warmup"])
    source = make_source(settings, open_sets(settings), tmp_path / "nothing")
    assert source.sizes == [3, 3]
    assert set(np.unique(source.label(0))) == {0, 10, 13, 255}, "street, sky and machine as train ids"
    pipeline.train(settings, tmp_path / "run")
    assert has_model(tmp_path / "run" / "warmup")
    assert 6 < len(list((tmp_path / "cache").rglob("*.npy"))) <= 12, "six labels, counted, and what was drawn"
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "run" / "source").exists()
    with np.load(tmp_path / "run" / "class_pixels.npz") as counted:
        assert (counted["pixels"][:3].sum(0) > 0).nonzero()[0].tolist() == [0, 10, 13]
    pipeline.train(load_recipe(str(own), [*SMALL, "train.steps=4", "train.warmup_share=0.75", "train.stage=warmup",
                                          "data.cache=null", "train.workers=0"]), tmp_path / "run")  # fmt: skip


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("data.source=gta", r"data\.source: unknown dataset 'gta'; did you mean gta5\?"),
        ("data.source=cityscapes", r"cityscapes.*no such folder"),
        ("data.source={dataset: folder}", r"folder"),
        ("data.source=[{dataset: folder, root: ROOT/own, images: 'frames/{key}.png', labels: ''}]", "has no labels"),
        ("data.source=[{dataset: folder, root: ROOT/own, label_set: x}]", "unknown label set 'x'"),
        ("data.source=[{dataset: camvid, labels: x}]", "camvid has no option labels"),
    ],
)
def test_a_source_that_cannot_be_is_said_before_anything_is_made(own, tmp_path, override, complaint):
    with pytest.raises((UsageError, DataError), match=complaint):
        pipeline.train(load_recipe(str(own), [*SMALL, override.replace("ROOT", str(tmp_path))]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_needs_a_place(tmp_path):
    with pytest.raises(UsageError, match=r"gta5 needs data\.root=PATH, the folder that holds gta5/, or a root"):
        pipeline.train(recipe("data.source=gta5"), tmp_path / "run")
