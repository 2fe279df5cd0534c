"""What the report computes: calibration, confusions, images, comparisons of runs, tables of sweeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_report import Page

from clouds import cli
from clouds.config.records import Prompt, write_record
from clouds.config.score_records import Calibration, Confusion
from clouds.errors import DataError, UsageError
from clouds.report import write_report
from clouds.report.compare import comparison
from clouds.report.domain import error, images, matrix, reliability
from clouds.report.example_pictures import pictured
from clouds.report.read import read_run, read_sweep
from clouds.report.sweep import sweep_tables
from clouds.report.templating import setting
from fabricated_run import lines, make_run, results, sweep


def confusion(counts: list[list[int]], **more: Any) -> Confusion:
    classes = [f"class {k}" for k in range(len(counts))]
    return Confusion.model_validate({"label_set": "mine", "classes": classes, "confusion": counts, **more})


def test_calibration_error_is_the_gap_weighted_by_pixels() -> None:
    bins = Calibration(pixels=[100, 300], confidence=[30, 270], correct=[60, 240])
    assert error(bins) == pytest.approx((30 + 30) / 400)
    found = reliability({"warmup": None, "joint": confusion([[1]], calibration=bins.model_dump())})
    assert found is not None
    model = found["models"]["joint"]
    assert (model["confidence"], model["accuracy"]) == (0.75, 0.75)
    assert [(dot["x"], dot["y"]) for dot in model["dots"]] == [(60, 80), (180, 40)]
    assert [row["joint"]["share"] for row in found["table"]] == [0.25, 0.75]
    assert reliability({"joint": confusion([[1]])}) is None


bin_of_three = st.tuples(st.integers(0, 10**9), st.floats(0, 1), st.floats(0, 1))


@given(st.lists(bin_of_three, min_size=1, max_size=20))
def test_any_calibration_stays_inside_its_diagram(bins: list[tuple[int, float, float]]) -> None:
    each = Calibration(pixels=[n for n, _, _ in bins], confidence=[n * c for n, c, _ in bins],
                       correct=[n * a for n, _, a in bins])
    assert 0 <= error(each) <= 1
    found = reliability({"joint": confusion([[1]], calibration=each.model_dump())})
    assert (found is None) == (sum(each.pixels) == 0)
    for dot in found["models"]["joint"]["dots"] if found else ():
        assert 0 <= dot["x"] <= 200
        assert 0 <= dot["y"] <= 200


def test_uneven_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="same number of bins"):
        Calibration(pixels=[1], confidence=[1, 2], correct=[1])


def test_a_matrix_tells_its_worst_and_links_what_examples_show() -> None:
    found = matrix(confusion([[70, 30, 0], [50, 50, 0], [0, 0, 0]]), confusion([[90, 10, 0], [1, 1, 0], [0, 0, 0]]),
                   {"0-1", "2-0"})
    worst = [(each["truth"], each["other"], each["share"], each["before"], each["pair"]) for each in found["worst"]]
    assert worst == [("class 1", "class 0", 0.5, 0.5, ""), ("class 0", "class 1", 0.3, 0.1, "0-1")]
    cells = [[cell["percent"] for cell in row["cells"]] for row in found["rows"]]
    assert cells == [[70, 30, 0], [50, 50, 0], [0, 0, 0]]
    assert matrix(confusion([[1, 1], [0, 2]]), confusion([[1]]), set())["worst"][0]["before"] is None


def test_images_go_from_the_worst_to_the_best_and_the_unlabelled() -> None:
    def of(*scores: float | None) -> Confusion:
        return confusion([[1]], per_image=[{"name": f"i{k}", "miou": s, "accuracy": s} for k, s in enumerate(scores)])

    group = {"rows": [{"name": "i2", "id": "x0-0"}]}
    found = images({"warmup": of(0.4, 0.5, 0.3), "joint": of(0.6, None, 0.2)}, group)
    assert found is not None
    assert [(row["name"], row["warmup"], row["joint"], row["example"]) for row in found["rows"]] == [
        ("i2", 0.3, 0.2, "x0-0"), ("i0", 0.4, 0.6, None), ("i1", 0.5, None, None)]
    assert found["dots"]["joint"].count("M") == 2
    assert images({"joint": confusion([[1]])}, None) is None


def test_examples_know_their_numbers_and_their_mistakes(tmp_path: Path) -> None:
    town, dusk = pictured(read_run(make_run(tmp_path / "run")))
    first, second = town["rows"]
    assert (first["name"], first["kind"], first["miou"]) == ("town-011", "worst 1", {"warmup": 0.225, "joint": 0.475})
    assert first["mistakes"] == [(0.25, "road", "sidewalk", "0-1"), (0.0625, "road", "building", "0-2")]
    assert first["right"] == {"warmup": 1.0, "joint": 0.6875}
    assert (second["kind"], second["miou"], second["pairs"]) == ("best 1", {"warmup": 1.0, "joint": 1.0}, set())
    assert town["pairs"] == {"0-1", "0-2"}
    assert (dusk["id"], dusk["rows"][0]["id"], dusk["rows"][0]["kind"]) == ("x1", "x1-0", "")


def changed(run: Path, **settings: Any) -> Path:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "settings": settings}))
    return run


def test_runs_are_compared_with_the_first(tmp_path: Path) -> None:
    first = changed(make_run(tmp_path / "a" / "run"), train={"steps": 60, "rate": 0.1, "keep": 2})  # removed since
    other = changed(make_run(tmp_path / "b" / "run", seed=4), train={"steps": 90, "rate": 0.1})
    write_record(other / "results.json", results(0.1))
    found = comparison([read_run(first), read_run(other)])
    assert found is not None
    assert found["names"] == ["a/run", "b/run"]
    assert found["settings"] == [("train.steps", ["60", "90"]), ("seed", ["3", "4"])]
    assert found["seeds"] == []  # they differ in more than their seed
    joint = found["tables"][0]
    town = next(row for row in joint["rows"] if row["name"] == "town")
    assert town["cells"][1]["difference"] == pytest.approx(0.05)
    assert joint["rows"][-1]["cells"][1]["difference"] == pytest.approx(0.006)  # of 29.4 and 30.0
    text = Page(write_report(first, [other], tmp_path / "out").read_text("utf-8")).text
    assert "Beside other runs" in text
    assert "train.steps 60 90" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html"]
    assert not (first / "report").exists()


def test_no_difference_where_the_protocol_differs(tmp_path: Path) -> None:
    first, other = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    write_record(other / "results.json", results(0.1, protocol={"shorter_side": 512}))
    found = comparison([read_run(first), read_run(other)])
    assert found is not None
    assert not found["tables"][0]["alike"]
    assert all(row["cells"][1]["difference"] is None for row in found["tables"][0]["rows"])
    assert found["tables"][1]["alike"]


def test_runs_that_differ_in_their_seed_alone_get_a_mean(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in (3, 4, 5)]
    for run, shift in zip(runs, (0.0, 0.03, 0.06), strict=True):
        write_record(run / "results.json", results(shift))
    found = comparison([read_run(run) for run in runs])
    assert found is not None
    (group,) = found["seeds"]
    assert group["seeds"] == [3, 4, 5]
    title, spread = group["stages"][0]
    assert title == "Joint model"
    assert spread[0] == ("town", pytest.approx(0.43), pytest.approx(0.03))


def test_a_run_is_not_compared_with_nothing(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run"))
    assert comparison([run]) is None
    lines(tmp_path / "bare" / "prompts.jsonl", [Prompt(prompt="A bay.")])
    found = comparison([run, read_run(tmp_path / "bare")])
    assert found is not None
    assert (found["tables"], found["unknown"]) == ([], ["bare"])


def test_a_sweep_is_a_table_of_means_over_seeds(tmp_path: Path) -> None:
    found = sweep_tables(read_sweep(sweep(tmp_path) / "sweep.json"))
    joint = found["tables"][0]
    assert [row["lines"] for row in joint["rows"]] == [("train.learning_rate=0.001",), ("train.learning_rate=0.003",)]
    base, other = (row["cells"][1] for row in joint["rows"])  # of town
    assert (base["mean"], base["std"], base["gain"]) == (pytest.approx(0.405), pytest.approx(0.01 / 2**0.5), None)
    assert (other["mean"], other["std"], other["seeds"]) == (pytest.approx(0.42), None, 1)
    assert other["gain"] == pytest.approx(0.02)  # seed 0 with seed 0
    assert found["left"] == [("rate-0.003-seed-1", "failed", "out of memory")]
    text = Page(write_report(tmp_path).read_text("utf-8")).text
    assert "3 of 4 runs have results" in text
    assert "40.5 ± 0.7" in text
    assert write_report(tmp_path / "sweep.json") == tmp_path / "report" / "index.html"


def test_a_sweep_is_not_compared_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a sweep"):
        write_report(sweep(tmp_path), [tmp_path])
    (tmp_path / "sweep.json").write_text('{"jobs": [{}]}')
    with pytest.raises(DataError, match=r"sweep\.json: damaged: jobs\.0\.name"):
        write_report(tmp_path)


def test_the_verb_takes_runs_and_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other, out = make_run(tmp_path / "a"), make_run(tmp_path / "b"), tmp_path / "out"
    assert cli.run(["report", str(run), str(other), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(out / "index.html")}
    assert "Beside other runs" in (out / "index.html").read_text("utf-8")
    assert cli.run(["report", str(sweep(tmp_path / "s")), str(run)]) == 2
    assert "is a sweep, whose page has all of its runs" in capsys.readouterr().err
    assert cli.run(["report", str(run), str(tmp_path / "none")]) == 1
    assert "none: no such run folder" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "text"), [
    (None, "none"), (True, "true"), (0.1, "0.1"), ([1, 2], "[1, 2]"),
    ([{"dataset": "streets", "split": None, "version": "", "partial": False}], "[{dataset: streets, partial: false}]"),
    (["town", {"name": "mine", "root": None}], "[town, {name: mine}]"),
])  # fmt: skip
def test_a_setting_reads_as_in_a_recipe(value, text):
    assert setting(value) == text
