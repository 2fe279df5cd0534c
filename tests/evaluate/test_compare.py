"""``clouds evaluate``: one model, several, recipes, several processes, tables, and requests that cannot be met."""

import copy
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fabricate
from clouds.config.label_sets import NAMES
from clouds.config.load import load_recipe
from clouds.config.runs import open_run
from clouds.errors import DataError, UsageError
from clouds.evaluate.compare_models import evaluate_models, short_names
from clouds.evaluate.scores import evaluate
from clouds.evaluate.tables import WIDTH, escape, evaluation_text, grid, results_table, write_csv, write_latex
from clouds.model.folder import save_model
from clouds.model.inference import Inference
from conftest import small_model

RESULTS = {"model", "commit", "seed", "protocol", "backends", "domains", "missing", "mean_miou"}
FEW = "evaluate.rendered_count=2"


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "other"
    save_model(small_model(seed=5), folder)
    return folder


@pytest.fixture(scope="module")
def both(model_folder, other_folder, tmp_path_factory):
    """Two models on two domains: the comparison and what it wrote."""
    out = tmp_path_factory.mktemp("both")
    words = [str(model_folder), str(other_folder), "town", "fog", FEW]
    return evaluate_models(words, out / "out", out / "new/scores.csv", out / "scores.tex"), out


def test_a_model_is_scored_on_rendered_and_photo_domains(any_model, root, tmp_path):
    words = ["town", "camvid-day", "evaluate.rendered_count=1", f"data.root={root}", "evaluate.max_images=2"]
    row = evaluate_models([str(any_model), *words], tmp_path / "out")
    assert row.keys() >= RESULTS
    assert [(d["name"], d["images"], d["label_set"]) for d in row["domains"]] == [
        ("town", 1, "cityscapes19"), ("camvid-day", 2, "camvid11"),
    ]  # fmt: skip
    assert all(0 <= d["ci95"][0] <= d["miou"] <= d["ci95"][1] <= 1 for d in row["domains"])
    assert row["protocol"]["shorter_side"] == 64
    assert row["backends"] == {"vision": "efficientnet-lite0 (ImageNet)", "text": "all-MiniLM-L6-v2"}
    assert json.loads((tmp_path / "out/results.json").read_text()) == row


def test_the_shorter_side_asked_for_is_the_one_used_and_reported(model_folder, monkeypatch):
    sides = []
    real = evaluate

    def spy(predictor, domains, what, **more):
        sides.append(predictor.inference.shorter_side)
        return real(predictor, domains, what, **more)

    monkeypatch.setattr("clouds.evaluate.scores.evaluate", spy)
    row = evaluate_models([str(model_folder), "town", "evaluate.rendered_count=1", "evaluate.shorter_side=96"])
    assert sides == [96]
    assert row["protocol"]["shorter_side"] == 96


def test_windows_scales_and_flip_are_used_and_written_down(model_folder, monkeypatch):
    used = []
    real = evaluate

    def spy(predictor, domains, what, **more):
        used.append(predictor.inference)
        return real(predictor, domains, what, **more)

    monkeypatch.setattr("clouds.evaluate.scores.evaluate", spy)
    words = ["evaluate.window=48", "evaluate.scales=[1, 1.5]", "evaluate.flip=true"]
    row = evaluate_models([str(model_folder), "town", "evaluate.rendered_count=1", *words])
    assert used == [Inference(64, window=48, scales=(1, 1.5), flip=True)]
    protocol = {"shorter_side": 64, "window": 48, "stride": 32, "scales": [1, 1.5], "flip": True}
    assert row["protocol"] == {**protocol, "scored_at": "the label's own size"}
    assert "shorter side 64, window 48, stride 32, scales 1 1.5, mirrored too, scored" in results_table(row)


def test_results_of_older_runs_still_make_a_table():
    row = {"domains": [], "mean_miou": 0.5, "protocol": {"shorter_side": 64, "window": None, "stride": None}}
    assert results_table(row).endswith("shorter side 64, whole image, scored at the label's own size")


@pytest.mark.parametrize("words", [[], ["seed=3"]])
def test_no_domain_is_refused(model_folder, words):
    with pytest.raises(UsageError, match="name at least one domain"):
        evaluate_models([str(model_folder), *words])


def test_a_device_that_is_not_here_is_refused(model_folder):
    with pytest.raises(UsageError, match=r"train\.device: cuda:99 cannot be used here"):
        evaluate_models([str(model_folder), "town", "train.device=cuda:99"])


# -- several models


def test_models_are_compared_domain_by_domain(both):
    result, _ = both
    assert [*result["models"]] == ["small", "other"]
    assert all(row.keys() >= RESULTS for row in result["models"].values())
    assert [row["name"] for row in result["domains"]] == ["town", "fog"]
    for d, row in enumerate(result["domains"]):
        one, two = (each["domains"][d]["miou"] for each in result["models"].values())
        assert row["miou"] == {"small": one, "other": two}
        assert row["mean"] == pytest.approx((one + two) / 2)
        assert row["std"] == pytest.approx(abs(one - two) / 2**0.5), "of a sample"
        assert row["differences"]["other"]["miou"] == pytest.approx(two - one)
        low, high = row["differences"]["other"]["ci95"]
        assert low < high
    one, two = (each["mean_miou"] for each in result["models"].values())
    assert result["mean"]["miou"] == {"small": one, "other": two}
    assert result["mean"]["std"] == pytest.approx(abs(one - two) / 2**0.5)
    assert result["mean"]["differences"]["other"]["miou"] == pytest.approx(two - one)


def test_a_domain_is_marked_for_the_model_that_was_trained_on_it(both):
    result = copy.deepcopy(both[0])
    result["models"]["other"]["domains"][1]["trained_on_unlabelled"] = 1
    assert "not unseen: fog: [2] was trained on 1 of its 2 images without labels" in evaluation_text(result)


def test_each_models_results_and_the_comparison_are_written(both):
    result, out = both
    assert json.loads((out / "out/comparison.json").read_text()) == result
    for name in ("small", "other"):
        assert json.loads((out / "out" / name / "results.json").read_text()) == result["models"][name]


def test_a_model_compared_with_its_copy_differs_by_nothing(model_folder, tmp_path):
    """The intervals of both come from the same draws, so that of the difference has no width."""
    shutil.copytree(model_folder, tmp_path / "copy")
    result = evaluate_models([str(model_folder), str(tmp_path / "copy"), "town", FEW])
    (row,) = result["domains"]
    assert row["differences"] == {"copy": {"miou": 0, "ci95": [0, 0]}}
    assert row["std"] == 0
    first = result["models"]["small"]["domains"][0]
    assert first["ci95"][0] < first["ci95"][1]


def test_a_run_and_its_own_warm_up_are_no_repeats(model_folder, other_folder, tmp_path):
    run = tmp_path / "run"
    open_run(load_recipe("demo", []), run)
    for stage, folder in (("model", model_folder), ("warmup", other_folder)):
        shutil.copytree(folder, run / stage)
    result = evaluate_models([str(run), str(run / "warmup"), "town", "evaluate.rendered_count=1"], latex=tmp_path / "t")
    assert (result["mean"]["mean"], result["domains"][0]["std"]) == (None, None)
    assert "±" not in evaluation_text(result)
    assert "[2] - [1]" in evaluation_text(result)
    assert "std" not in (tmp_path / "t").read_text()


def test_the_text_of_a_comparison_numbers_the_models(both):
    result, _ = both
    text = evaluation_text(result)
    paths = [row["model"] for row in result["models"].values()]
    assert text.startswith(f"[1] {paths[0]}\n[2] {paths[1]}\n")
    assert max(map(len, text.splitlines()[2:])) <= WIDTH
    (row,) = re.findall(r"^fog +([\d.]+) +([\d.]+) +([\d.]+) ± ([\d.]+)$", text, re.M)
    fog = result["domains"][1]
    assert [float(each) for each in row] == pytest.approx(
        [100 * each for each in (*fog["miou"].values(), fog["mean"], fog["std"])], abs=0.051
    )
    assert "[2] - [1]" in text


def test_a_wide_table_goes_on_below():
    heads = [f"domain-{k}" for k in range(20)]
    lines = grid("class", heads, {name: [f"{k}.0" for k in range(20)] for name in NAMES})
    assert max(map(len, lines)) <= WIDTH
    assert [head for line in lines if line.startswith("class") for head in line.split()[1:]] == heads
    assert [cell for line in lines if line.startswith("road") for cell in line.split()[1:]] == [
        f"{k}.0" for k in range(20)
    ]


def test_names_are_as_short_as_tells_them_apart():
    assert short_names([Path("runs/a"), Path("runs/b")]) == ["a", "b"]
    assert short_names([Path("runs/a/model"), Path("runs/b/model")]) == ["a-model", "b-model"]
    assert short_names([Path("runs/a"), Path("runs/a/warmup")]) == ["a", "warmup"]
    assert short_names([Path("/a")]) == ["a"]
    with pytest.raises(UsageError, match="runs/a: named twice; name each model once"):
        short_names([Path("runs/a"), Path("runs/../runs/a")])


# -- recipes and domains that are not there


def test_a_recipe_stands_for_its_protocol_and_all_unseen_domains(model_folder, root, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: demo\nevaluate:\n  rendered_count: 1\n  max_images: 1\n  shorter_side: 96\n")
    shutil.rmtree(root / "camvid")
    row = evaluate_models([str(model_folder), str(path), f"data.root={root}"])
    assert [d["name"] for d in row["domains"]] == ["town", "fog", "night", "rain", "snow", "idd-lite"]
    assert {d["images"] for d in row["domains"]} == {1}
    assert row["protocol"]["shorter_side"] == 96
    assert {"bdd100k", "camvid-day", "camvid-dusk"} <= {each["name"] for each in row["missing"]}


def test_a_missing_domain_is_listed_and_the_others_are_scored(model_folder, root):
    words = ["camvid-day", "cityscapes", f"data.root={root}", "evaluate.max_images=1"]
    row = evaluate_models([str(model_folder), *words])
    assert [d["name"] for d in row["domains"]] == ["camvid-day"]
    assert row["missing"] == [
        {"name": "cityscapes", "why": f"data.root={root} holds no cityscapes/; it has one folder per dataset"}
    ]
    assert f"missing: cityscapes: data.root={root} holds no cityscapes/" in results_table(row)


# -- files


def test_the_csv_reads_back_as_the_results(both):
    result, out = both
    with (out / "new/scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["model"], line["domain"]) for line in lines] == [
        ("small", "town"), ("small", "fog"), ("other", "town"), ("other", "fog"),
    ]  # fmt: skip
    rows = [(row, domain) for row in result["models"].values() for domain in row["domains"]]
    for line, (row, domain) in zip(lines, rows, strict=True):
        assert (line["path"], int(line["seed"]), line["label_set"]) == (row["model"], row["seed"], "cityscapes19")
        assert int(line["images"]) == 2
        for key in ("miou", "fwiou", "accuracy", "boundary_iou", "ece", "seconds"):
            assert float(line[key]) == domain[key]
        assert [float(line["ci95_low"]), float(line["ci95_high"])] == domain["ci95"]
        for name in NAMES:
            cell = line[f"iou {name}"]
            assert (float(cell) if cell else None) == domain["iou"][name]


def of_domain(name: str, label_set: str, iou: dict[str, float | None]) -> dict:
    shares = dict.fromkeys(("miou", "fwiou", "accuracy", "boundary_iou", "ece"), 0.25)
    return {"name": name, "images": 2, "label_set": label_set, **shares, "ci95": [0.2, 0.3], "seconds": 1.5, "iou": iou}


def test_domains_of_different_label_sets_share_a_csv(tmp_path):
    domains = [of_domain("a, b", "one", {"road": 0.5, "train": None}), of_domain("c", "two", {"sky": 0.1})]
    write_csv(tmp_path / "x.csv", {'say "m"': {"model": "m", "seed": 0, "domains": domains}})
    with (tmp_path / "x.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["model"], one["domain"]) == ('say "m"', "a, b")
    assert [one[f"iou {name}"] for name in ("road", "train", "sky")] == ["0.5", "", ""]
    assert [two[f"iou {name}"] for name in ("road", "train", "sky")] == ["", "", "0.1"]


def test_latex_escapes_what_users_name(tmp_path):
    domains = [of_domain("my_town", "50%&", {"traffic_light": 0.5, "train": None})]
    row = {"model": "m", "seed": 0, "domains": domains, "mean_miou": 0.25}
    write_latex(tmp_path / "x.tex", {"m": row}, row)
    text = (tmp_path / "x.tex").read_text()
    assert r"my\_town & 25.0 [20.0, 30.0] & 25.0" in text
    assert "50\\%\\& & my\\_town \\\\" in text
    assert "traffic\\_light & 50.0" in text
    assert r"train & -- \\" in text
    assert escape("a_b^c~d\\e{f}#$") == r"a\_b\textasciicircum{}c\textasciitilde{}d\textbackslash{}e\{f\}\#\$"


def test_every_row_of_a_latex_table_has_the_cells_of_its_head(both):
    _, out = both
    text = (out / "scores.tex").read_text()
    (table,) = re.findall(r"\\begin\{tabular\}\{(l r*|lr*)\}(.*?)\\end\{tabular\}", text, re.S)
    rows = [line for line in table[1].splitlines() if line.endswith(r"\\")]
    assert [row.count("&") + 1 for row in rows] == [len(table[0])] * 4, "head, two models, mean and deviation"
    assert rows[0] == r"model & town & fog & mean \\"
    assert r"$\pm$" in rows[3]


# -- requests that cannot be met


@pytest.mark.parametrize(("words", "said"), [
    (["cityscapes", "bdd100k", "data.root={root}"], "nothing to score: cityscapes: data.root="),
    (["town", "demo"], "demo: a recipe stands for all its unseen domains; name it alone"),
    (["town", "cityscapes"], "cityscapes: needs data.root=PATH, the folder that holds cityscapes/"),
    (["town", "data.root=/nowhere"], "data.root: /nowhere is not a folder"),
    (["town", "runs/nothing"], "runs/nothing: neither a folder with a model nor a domain; models come before domains"),
    (["towm"], "unknown domain 'towm'; did you mean town?"),
])  # fmt: skip
def test_domains_that_cannot_be_scored_are_refused_saying_what_to_do(model_folder, root, words, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        evaluate_models([str(model_folder), *(word.format(root=root) for word in words)])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no model"):
        evaluate_models([str(tmp_path), "town"])


def test_a_domain_in_the_models_place_is_refused():
    with pytest.raises(UsageError, match="town: no folder with a model; name one first, such as runs/demo, then"):
        evaluate_models(["town", "fog"])


def test_a_model_named_twice_is_refused(model_folder):
    with pytest.raises(UsageError, match="named twice; name each model once"):
        evaluate_models([str(model_folder), f"{model_folder}/../{model_folder.name}", "town"])


def test_a_folder_in_a_files_place_is_refused(model_folder, tmp_path):
    with pytest.raises(UsageError, match="is a folder where a file is to be written"):
        evaluate_models([str(model_folder), "town"], csv=tmp_path)


def test_an_empty_domain_is_refused_before_any_scoring(model_folder, root, monkeypatch):
    monkeypatch.setattr("clouds.predict.predictor.load", None)
    shutil.rmtree(root / "camvid")
    (root / "camvid").mkdir()
    with pytest.raises(DataError, match=r"camvid: holds no camvid-day; expected test/.* there is nothing"):
        evaluate_models([str(model_folder), "town", "camvid-day", f"data.root={root}"])


def test_a_label_out_of_range_is_named_with_its_file(model_folder, root):
    bad = root / "camvid/testannot/Seq05VD_f00004.png"
    bad.write_bytes(fabricate.png(np.full(fabricate.SIZE, 77, np.uint8)))
    with pytest.raises(DataError, match=r"Seq05VD_f00004.*77"):
        evaluate_models([str(model_folder), "camvid-day", f"data.root={root}"])


def test_a_second_model_of_another_label_set_is_refused_before_the_first_is_scored(
    model_folder, tmp_path, monkeypatch
):
    three = {"classes": ["lane", "kerb"], "synonyms": [["lane"], ["kerb"]], "colors": [[0, 0, 0]] * 2}
    save_model(small_model(**three), tmp_path / "three")
    monkeypatch.setattr("clouds.evaluate.scores.evaluate", None)
    with pytest.raises(UsageError, match=r"town: no class of cityscapes19 .* of this model's 2 \(lane, kerb\)"):
        evaluate_models([str(model_folder), str(tmp_path / "three"), "town", FEW])


@pytest.mark.parametrize("content", ["[1]", "{}", '{"classes": 3}', "nothing"])
def test_a_configuration_that_is_none_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(DataError, match=r"config\.json: not a CLOUDS model configuration"):
        evaluate_models([str(tmp_path), "town", FEW])


# -- several processes


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_score_as_one(model_folder, other_folder, root, tmp_path):
    domains = ["town", "camvid-day", "evaluate.rendered_count=3", f"data.root={root}"]
    words = [str(model_folder), str(other_folder), *domains]
    launch = {1: [], 2: ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]}
    env, found = {**os.environ, "OMP_NUM_THREADS": "1"}, {}
    for processes, launcher in launch.items():
        out = tmp_path / str(processes)
        command = [sys.executable, *launcher, "-m", "clouds", "evaluate", *words, "--json", "--out", str(out)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found[processes] = json.loads(done.stdout), *(
            json.loads((out / name / "results.json").read_text()) for name in ("small", "other")
        )
        assert found[processes][0]["models"] == {"small": found[processes][1], "other": found[processes][2]}
    assert timeless(found[1]) == timeless(found[2])


def timeless(value):
    """Without what a clock or the machine's memory says."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in {"seconds", "peak_memory_gb"}}
    return [timeless(each) for each in value] if isinstance(value, list | tuple) else value
