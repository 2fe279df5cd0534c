"""Sweeps: words into values, values into names, jobs done once, failures and signals survived, one table."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clouds import cli, pipeline
from clouds import sweep as sweeping
from clouds.base.files import read_json, read_jsonl, write_json
from clouds.base.locks import locked
from clouds.config import runs
from clouds.config.kinds import Mark, keys_of
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.records import as_json
from clouds.config.score_records import DomainScore, Results
from clouds.config.sizing import scaled
from clouds.errors import CloudsError, DataError, Stopped, UsageError
from clouds.evaluate.domains import RENDERED
from clouds.launch.share import threads_each
from clouds.model import vocabulary
from clouds.sweep import jobs as shared
from clouds.sweep import jobs as work
from clouds.sweep.plan import combinations, job_name, parse_seeds, plan, split_word, value_name
from clouds.sweep.table import _names, best_row, spread, table
from test_pipeline import SMALL, weights

RATES = "train.learning_rate=1e-3,3e-4"


# -- words and values

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp"))
)  # fmt: skip


@given(st.lists(SCALARS | st.lists(SCALARS, max_size=3), min_size=1, max_size=5))
def test_values_printed_as_a_word_are_read_back(values):
    text = yaml.safe_dump(values, default_flow_style=True, width=10**9, allow_unicode=True).strip()[1:-1]
    key, texts = split_word(f"a.b={text}")
    assert key == "a.b"
    assert [yaml.safe_load(each) for each in texts] == values


@pytest.mark.parametrize(("word", "texts"), [
    ("k=1", ["1"]),
    ("k=", [""]),
    ("k=it's [here", ["it's [here"]),
    ("k=1e-3, 3e-4", ["1e-3", "3e-4"]),
    ("k=[a,b],[a],[]", ["[a,b]", "[a]", "[]"]),
    ("k='a,b',\"c]\"", ["'a,b'", '"c]"']),
    ("k=http://h:1/v1,null", ["http://h:1/v1", "null"]),
    ("k=a=b,c=d", ["a=b", "c=d"]),
])  # fmt: skip
def test_commas_part_values_outside_brackets_and_quotes_alone(word, texts):
    assert split_word(word) == ("k", texts)


@pytest.mark.parametrize(("words", "said"), [
    (["steps"], "'steps': expected key=value"),
    (["=1,2"], "'=1,2': expected key=value"),
    (["k=1,,2"], "two commas with nothing between"),
    (["k=,1"], "two commas with nothing between"),
    (["k=1,2,"], "'k=1,2,': ends with a comma"),
    (["k=[1,2"], "'k=[1,2': no list of values"),
    (["k=1],[2"], "'k=1],[2'"),
    (["k=1,'2"], "no list of values"),
    (["k=1,2,1"], "1 is there twice"),
    (["k=1", "k=2"], "'k=2': k is given twice"),
    (["seed=1,2"], "come from --seeds"),
])  # fmt: skip
def test_a_wrong_word_is_named(words, said):
    with pytest.raises(UsageError) as caught:
        combinations(words, [])
    assert said in str(caught.value)


def test_the_grid_is_the_product_in_order_and_single_values_are_for_all():
    keys, found = combinations(["a=1,2", "c=x", "b=[u],[v,w]"], [])
    assert keys == ["a", "b"]
    assert found == [["c=x", f"a={a}", f"b={b}"] for a in "12" for b in ("[u]", "[v,w]")]
    assert combinations(["c=x"], []) == ([], [["c=x"]])
    assert combinations(["c=x", "a=1,2"], ["c"]) == (["c", "a"], [["c=x", "a=1"], ["c=x", "a=2"]])


@pytest.mark.parametrize(("text", "seeds"), [("3", [0, 1, 2]), ("0,3,7", [0, 3, 7]), ("7,", [7]), ("1", [0])])
def test_seeds_are_counted_or_named(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1,1", "1,,2", ",", "1.5"])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--seeds: got"):
        parse_seeds(text)


# -- names


@pytest.mark.parametrize(("value", "name"), [
    (0.001, "0.001"), (1e-05, "1e-05"), (True, "true"), (None, "null"), ("random", "random"),
    (["confidence", "agreement"], "confidence+agreement"), ([64, 64], "64+64"),
])  # fmt: skip
def test_a_plain_value_is_its_own_name(value, name):
    assert value_name(value) == name


ODD = ["a/b", "a_b", "a b", "../x", "", [], "x" * 300, "y" * 300, "a+b", ["a", "b"], {"k": 1}, [[1], [2]], "é", "~"]


def test_names_are_safe_as_files_and_different_for_different_values(tmp_path):
    names = [job_name({"key": value}, 0) for value in ODD]
    assert len(set(names)) == len(ODD)
    for name in names:
        assert "/" not in name
        (tmp_path / name).mkdir()
    many = job_name({f"group.some_long_key_{k}": k / 7 for k in range(20)}, 3)
    (tmp_path / many).mkdir()
    assert many.endswith("-seed3")


def test_a_name_follows_from_its_job_alone():
    _, one = plan("demo", ["train.learning_rate=1e-3"], [4], None, ["train.learning_rate"])
    _, many = plan("demo", ["train.learning_rate=0.0005,0.001"], [0, 4], None, [])
    assert one[0].name == "train.learning_rate=0.001-seed4" == many[3].name
    assert one[0].recipe == many[3].recipe
    assert one[0].recipe.seed == 4


# -- every combination is checked before any work


@pytest.mark.parametrize(("words", "said"), [
    (["train.learning_rate=1e-3,soon"], "train.learning_rate=soon: recipe demo: train.learning_rate: got 'soon'"),
    (["train.stepz=1,2"], "train.stepz=1: recipe demo: train.stepz: unknown key; did you mean train.steps"),
    (["model.hidden=32,64", "model.heads=4,5"], "model.hidden=32 model.heads=5: recipe demo: model.heads: got 5"),
    (["train.learning_rate=0.001,1e-3"], "train.learning_rate=1e-3 and train.learning_rate=0.001 are the same"),
    (["train.stage=both,warmup"], "train.stage: got 'warmup'; a sweep trains and scores both stages"),
    (["data.root=/nowhere"], "data.root: /nowhere is not a folder"),
    (["train.device=cuda:7"], "train.device: cuda:7 cannot be used here"),
    ([RATES, "--jobs", "0"], "--jobs: got 0"),
    ([RATES, "--shard", "2/2"], "--shard: got '2/2'"),
    ([RATES, "--minutes", "0"], "--minutes: got 0"),
    (["--list", "--out", "nothing"], "sweep_me: neither"),
], ids=str)  # fmt: skip
def test_a_wrong_sweep_exits_2_with_one_message_and_writes_nothing(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    if "--list" in words:
        words, said = words[1:], "recipe 'sweep_me': neither a shipped one"
        code = cli.run(["sweep", "sweep_me", *words])
    else:
        code = cli.run(["sweep", "demo", *words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("clouds: ")
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_minutes_scale_the_demo_as_the_demo_does():
    _, jobs = plan("demo", ["train.learning_rate=1e-3,2e-3"], [0], 5, [])
    assert jobs[0].recipe.train.steps == scaled(load_recipe("demo"), 5, []).train.steps
    with pytest.raises(UsageError, match="--minutes scales the demo"):
        plan("gta-rn50", [], [0], 5, [])


def test_a_sweep_into_a_run_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("settings: {}\n")
    with pytest.raises(UsageError, match="holds a run; a sweep makes a folder for each of its own"):
        sweeping.sweep("demo", [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_launcher_is_asked_to_stay_out(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="leave the launcher out"):
        sweeping.sweep("demo", [])


# -- doing the jobs, with training made up


def results(joint: float, warmup: float = 0.3, photos: float | None = 0.2) -> dict:
    def one(value):
        scores = dict.fromkeys(RENDERED, value) | ({} if photos is None else {"camvid-day": photos})
        rows = [DomainScore(name=name, images=1, label_set="cityscapes19", miou=miou) for name, miou in scores.items()]
        return as_json(Results(domains=rows, mean_miou=sum(scores.values()) / len(scores)))

    return {"warmup": one(warmup), "joint": one(joint)}


class Pretend:
    """Stands in for training and scoring: notes what ran, and fails or stops where it is asked to."""

    def __init__(self):
        self.trained, self.fail = [], {}

    def train(self, recipe, run, domains):
        self.trained.append(run.name)
        if run.name in self.fail:
            raise self.fail[run.name]
        found = results(min(recipe.train.learning_rate * 100 + recipe.seed / 100, 1.0))
        write_json(run / "results.json", found["joint"])
        write_json(run / "results-warmup.json", found["warmup"])


@pytest.fixture
def pretend(monkeypatch):
    made = Pretend()
    monkeypatch.setattr(pipeline, "train", made.train)
    return made


def states(result: dict) -> list[str]:
    return [job["state"] for job in result["jobs"]]


def test_a_sweep_is_done_once_and_written_down(pretend, tmp_path):
    out = tmp_path / "sweep"
    result = sweeping.sweep("demo", [RATES], out, "2")
    assert result == read_json(out / "sweep.json")
    assert list(result) == ["recipe", "keys", "seeds", "jobs"]
    assert (result["recipe"], result["keys"], result["seeds"]) == ("demo", ["train.learning_rate"], [0, 1])
    assert [job["name"] for job in result["jobs"]] == pretend.trained == [
        f"train.learning_rate={rate}-seed{seed}" for rate in ("0.001", "0.0003") for seed in (0, 1)
    ]  # fmt: skip
    job = result["jobs"][1]
    assert list(job) == ["name", "settings", "seed", "run", "state", "error", "seconds", "results"]
    assert job["settings"] == {"train.learning_rate": 0.001}
    assert (job["seed"], job["state"], job["error"]) == (1, "done", None)
    assert runs.load_run(out / job["run"]).train.learning_rate == 0.001
    assert job["results"]["joint"]["mean_miou"] == pytest.approx((5 * 0.11 + 0.2) / 6)
    assert sweeping.sweep_table(result, markdown=True) + "\n" == (out / "table.md").read_text()
    assert not list(out.glob(".*"))
    assert sweeping.sweep("demo", [RATES], out, "2") == result
    assert len(pretend.trained) == 4, "nothing is done twice"


def test_new_values_and_seeds_are_added_and_nothing_is_lost(pretend, tmp_path):
    sweeping.sweep("demo", [RATES], tmp_path, "1")
    result = sweeping.sweep("demo", ["train.learning_rate=0.01"], tmp_path, "0,5")
    assert pretend.trained[2:] == ["train.learning_rate=0.01-seed0", "train.learning_rate=0.01-seed5"]
    assert states(result) == ["done"] * 4
    assert result["seeds"] == [0, 5]
    result = sweeping.sweep("demo", [RATES], tmp_path, "5,")
    assert len(pretend.trained) == 6
    assert [job["name"] for job in result["jobs"]][:2] == [f"train.learning_rate=0.001-seed{s}" for s in (0, 5)]
    listed = sweeping.sweep("", [], tmp_path, listing=True)
    assert sorted(job["name"] for job in listed["jobs"]) == sorted(pretend.trained)


@pytest.mark.parametrize(("words", "said"), [
    (["model.queries=20,30"], "holds a sweep of demo over train.learning_rate, but this one is of demo over model.q"),
    ([], "but this one is of demo over seeds alone"),
    ([RATES, "model.queries=20"], "seed0: was made by other settings: model.queries (50 there, 20 now)"),
    (["train.learning_rate=0.01,0.02", "model.queries=20"], "model.queries (50 there, 20 now)"),
    (["train.learning_rate=0.01,0.02", "evaluate.flip=true"], "evaluate.flip (False there, True now)"),
])  # fmt: skip
def test_another_definition_in_the_folder_is_refused(pretend, tmp_path, words, said):
    before = sweeping.sweep("demo", [RATES], tmp_path, "1")
    with pytest.raises(UsageError) as caught:
        sweeping.sweep("demo", words, tmp_path, "1")
    assert said in str(caught.value)
    assert read_json(tmp_path / "sweep.json") == before


def test_settings_of_scoring_score_every_job_again_and_of_running_none(pretend, tmp_path):
    sweeping.sweep("demo", [RATES], tmp_path, "1")
    sweeping.sweep("demo", [RATES, "train.workers=0"], tmp_path, "1")
    assert len(pretend.trained) == 2
    assert states(sweeping.sweep("demo", [RATES, "evaluate.flip=true"], tmp_path, "1")) == ["done", "done"]
    assert len(pretend.trained) == 4


def test_a_job_that_fails_is_recorded_the_others_go_on_and_it_is_tried_again(pretend, tmp_path, capsys):
    first, second = (f"train.learning_rate={rate}-seed0" for rate in ("0.001", "0.0003"))
    for failure, said in ((DataError("a.png: broken"), "a.png: broken"), (ValueError("a bug"), "ValueError: a bug")):
        pretend.fail = {first: failure}
        code = cli.run(["sweep", "demo", RATES, "--out", str(tmp_path), "--json"])
        out, err = capsys.readouterr()
        result = json.loads(out)
        assert (code, states(result)[0]) == (1, "failed")
        assert result["jobs"][0]["error"].endswith(said)
        assert result["jobs"][0]["results"] == {}
        assert f"{first}: failed after 0:00: {said}" in err
        assert "clouds: 1 of 2 jobs failed" in err
        assert f"- failed: {first}: {said}" in table(result)
    assert pretend.trained == [first, second, first]
    pretend.fail = {}
    assert cli.run(["sweep", "demo", RATES, "--out", str(tmp_path)]) == 0
    assert "2 jobs: 2 done, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("end", [Stopped(signal.SIGTERM, "saved"), KeyboardInterrupt()], ids=["saved", "at once"])
def test_an_interrupted_sweep_ends_and_goes_on(pretend, tmp_path, capsys, end):
    second = "train.learning_rate=0.0003-seed0"
    pretend.fail = {second: end}
    code = cli.run(["sweep", "demo", RATES, "--out", str(tmp_path)])
    assert code == (143 if isinstance(end, Stopped) else 1)
    assert "To resume, run the same command" in capsys.readouterr().err
    assert states(read_json(tmp_path / "sweep.json")) == ["done", "waiting"]
    pretend.fail = {}
    sweeping.sweep("demo", [RATES], tmp_path, "1")
    assert pretend.trained[2:] == [second]


def test_a_job_that_another_process_does_is_left_to_it(pretend, tmp_path, capsys):
    with locked(tmp_path / ".train.learning_rate=0.001-seed0.lock"):
        result = sweeping.sweep("demo", [RATES], tmp_path, "1")
    assert states(result) == ["waiting", "done"]
    assert "another process is at work on it" in capsys.readouterr().err


def test_shards_together_are_the_sweep(pretend, tmp_path):
    whole = [job.name for job in plan("demo", [RATES], [0, 1, 2], None, [])[1]]
    sweeping.sweep("demo", [RATES], tmp_path, "3", shard="1/2")
    assert pretend.trained == whole[1::2]
    assert states(sweeping.sweep("", [], tmp_path, listing=True)) == ["waiting", "done"] * 3
    result = sweeping.sweep("demo", [RATES], tmp_path, "3", shard="0/2")
    assert pretend.trained == whole[1::2] + whole[::2]
    assert states(result) == ["done"] * 6


def test_a_list_does_nothing(pretend, tmp_path, capsys):
    assert cli.run(["sweep", "demo", RATES, "--seeds", "2", "--list", "--out", str(tmp_path / "x")]) == 0
    assert "4 jobs: 0 done, 0 failed, 4 waiting" in capsys.readouterr().out
    assert (list(tmp_path.iterdir()), pretend.trained) == ([], [])
    assert cli.run(["sweep", "--list", "--out", str(tmp_path / "x")]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_a_folder_somebody_deleted_is_done_again(pretend, tmp_path):
    import shutil

    sweeping.sweep("demo", [RATES], tmp_path, "1")
    shutil.rmtree(tmp_path / "train.learning_rate=0.001-seed0")
    assert states(sweeping.sweep("", [], tmp_path, listing=True)) == ["waiting", "done"]
    assert states(sweeping.sweep("demo", [RATES], tmp_path, "1")) == ["done", "done"]
    assert len(pretend.trained) == 3


# -- a process a job

CHILD = """
    import json, os, pathlib, signal, sys, time
    words = sys.argv[1:]
    k, n = map(int, words[words.index("--shard") + 1].split("/"))
    out = pathlib.Path(words[words.index("--out") + 1])
    name = f"train.learning_rate={[0.001, 0.0003][k // 2]}-seed{k % 2}"
    print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
    if os.environ.get("CHILD") == "dies" and k == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("CHILD") == "refuses" and k == 0:
        sys.exit("clouds: no such thing")
    if os.environ.get("CHILD") == "waits" and k < 2:
        def save(*_):
            (out / name / "saved").touch()
            sys.exit(130)
        signal.signal(signal.SIGTERM, save)
        (out / name / "waits").touch()
        time.sleep(60)
    fog = {"name": "fog", "images": 1, "label_set": "cityscapes19", "miou": 0.5}
    for file in ("results.json", "results-warmup.json"):
        (out / name / file).write_text(json.dumps({"domains": [fog], "mean_miou": 0.5}))
    (out / name / "job.json").write_text(json.dumps({
        "name": name, "settings": {"train.learning_rate": [0.001, 0.0003][k // 2]}, "seed": k % 2, "state": "done",
        "error": None, "seconds": 1}))
"""


@pytest.fixture
def children(tmp_path, monkeypatch):
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    monkeypatch.setattr(work, "CLOUDS", (sys.executable, str(script)))
    return tmp_path / "sweep"


def test_processes_share_the_cores_and_keep_logs(children, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    assert [threads_each(k) for k in (1, 2, 3, 7, 9)] == [7, 3, 2, 1, 1]
    result = sweeping.sweep("demo", [RATES], children, "2", at_once=3)
    assert states(result) == ["done"] * 4
    for job in result["jobs"]:
        assert (children / job["run"] / "log.txt").read_text() == "threads 2\n"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_each(2) == 1


@pytest.mark.parametrize(("how", "said"), [
    ("dies", "threads 1\nended by SIGKILL"),
    pytest.param("refuses", "threads 1\nclouds: no such thing\nended with exit code 1", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_process_that_ends_without_a_word_is_a_failed_job(children, monkeypatch, how, said):
    monkeypatch.setenv("CHILD", how)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = sweeping.sweep("demo", [RATES], children, "2", at_once=2)
    assert states(result) == ["failed", "done", "done", "done"]
    assert result["jobs"][0]["error"] == said
    monkeypatch.delenv("CHILD")
    assert states(sweeping.sweep("demo", [RATES], children, "2", at_once=2)) == ["done"] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_is_handed_to_the_processes_which_save(children, monkeypatch, number):
    monkeypatch.setenv("CHILD", "waits")
    names = [f"train.learning_rate=0.001-seed{seed}" for seed in (0, 1)]
    helper = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import os, pathlib, time
        while not all((pathlib.Path({str(children)!r}) / name / "waits").exists() for name in {names!r}):
            time.sleep(0.02)
        os.kill({os.getpid()}, {int(number)})
    """)])  # fmt: skip
    began = time.monotonic()
    with pytest.raises(Stopped) as stopped:
        sweeping.sweep("demo", [RATES], children, "2", at_once=2)
    helper.wait()
    assert (stopped.value.signal, time.monotonic() - began < 30) == (number, True)
    assert all((children / name / "saved").exists() for name in names)
    assert states(read_json(children / "sweep.json")) == ["waiting"] * 4
    monkeypatch.delenv("CHILD")
    assert states(sweeping.sweep("demo", [RATES], children, "2", at_once=2)) == ["done"] * 4


# -- the table


def made_up(*cells: tuple[object, list[float | None]], photos: float | None = 0.2) -> dict:
    jobs = [
        {"name": f"{value}-{seed}", "settings": {"key": value}, "seed": seed, "seconds": 30,
         "state": "waiting" if joint is None else "done", "error": None,
         "results": {} if joint is None else results(joint, photos=photos)}
        for value, values in cells for seed, joint in enumerate(values)
    ]  # fmt: skip
    return {"recipe": "demo", "keys": ["key"], "seeds": [0, 1], "jobs": jobs}


def test_the_table_has_means_deviations_groups_and_the_best_row():
    text = table(made_up((1, [0.4, 0.5]), (2, [0.5, 0.6])))
    head, one, two = (line.split("  ") for line in text.splitlines()[:3])
    cells = [[cell.strip() for cell in row if cell.strip()] for row in (head, one, two)]
    assert " ".join(cells[0]) == "key seeds warm-up joint difference rendered difference photos difference"
    assert cells[1] == ["1", "2 of 2", "28.3 ± 0.0", "40.8 ± 5.9", "+12.5 ± 5.9", "45.0 ± 7.1", "+15.0 ± 7.1",
                        "20.0 ± 0.0", "+0.0 ± 0.0"]  # fmt: skip
    assert cells[2][0] == "best"
    assert "4 jobs: 4 done, 0 failed, 0 waiting; 2:00 of work." in text


def test_markdown_has_one_more_line_than_rows_and_equal_columns():
    lines = table(made_up(("a|b", [0.4]), (2, [0.5]), photos=None), markdown=True).splitlines()
    assert {line.count("|") for line in lines[:4]} == {9}
    assert "photos" not in lines[0]
    assert lines[3].startswith("| **best** | 2 |")


def test_the_best_row_has_all_its_seeds_if_any_row_has():
    assert best_row(made_up((1, [0.4, 0.4]), (2, [0.9, None]))) == 0
    assert best_row(made_up((1, [0.4, None]), (2, [0.9, None]))) == 1
    assert best_row(made_up((1, [0.4, 0.5]), (2, [None, None]))) is None


def test_a_spread_of_one_value_has_no_deviation():
    assert [spread(values) for values in ([0.5], [], [0.4, 0.6], [float("nan")])] == ["50.0", "-", "50.0 ± 14.1", "-"]
    assert spread([-0.01], sign=True) == "-1.0"


# -- a real one


# every setting that a warm-up does not read, at another value than the tiny recipe's
OTHER = [
    "prompts.count=3", "prompts.writer=grammar", "generate.count=5", "audit.radius=3",
    "selftrain.decay=0.9", "selftrain.points=2", "selftrain.panels=0", "selftrain.confidence=0.1",
    "selftrain.mix=0.5",
]  # fmt: skip


def test_only_settings_named_joint_only_are_forgotten_for_a_shared_warmup(tmp_path):
    one, other = (load_recipe("demo", [*SMALL, *more]) for more in ([], OTHER))
    assert shared.warmup_folder(shared.warmup_recipe(one), tmp_path) == (
        shared.warmup_folder(shared.warmup_recipe(other), tmp_path)
    )
    changed = {key for key, value in runs.flat(one.model_dump(mode="json")).items()
               if runs.flat(shared.warmup_recipe(one).model_dump(mode="json")).get(key) != value}  # fmt: skip
    assert changed - {"train.stage"} == changed & set(keys_of(Recipe, Mark.JOINT))
    for word in ("seed=1", "train.steps=50", "model.queries=10", "data.source_count=5", "train.generated_weight=1",
                 "loss.points=32", "augment.scale=[1,2]", "evaluate.flip=true", "train.warmup_share=0.5"):  # fmt: skip
        unlike = shared.warmup_recipe(load_recipe("demo", [*SMALL, word]))
        assert shared.warmup_folder(unlike, tmp_path) != shared.warmup_folder(shared.warmup_recipe(one), tmp_path)
    styled = load_recipe("demo", [*SMALL, "data.restyle.backend=colour-statistics"])
    assert shared.warmup_recipe(styled) is None


@pytest.fixture
def few_sentences(monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])


SHORT = [word if "checkpoint" not in word else "train.checkpoint_every=50" for word in SMALL]


@pytest.mark.slow
@pytest.mark.long
def test_a_shared_warmup_gives_the_models_of_a_run_of_its_own(tmp_path, few_sentences):
    out = tmp_path / "sweep"
    result = sweeping.sweep("demo", [*SHORT, "selftrain.mix=0,0.5"], out, share=True)
    assert states(result) == ["done", "done"]
    assert len(list(out.glob("warmup-*"))) == 1
    rows = [row["stage"] for row in read_jsonl(out / result["jobs"][1]["run"] / "metrics.jsonl")]
    assert {"warmup", "joint"} == set(rows)
    run = tmp_path / "run"
    pipeline.train(load_recipe("demo", [*SHORT, "selftrain.mix=0.5"]), run)
    for stage in ("warmup", "model"):
        assert weights(run, stage) == weights(out / result["jobs"][1]["run"], stage)
    other = load_recipe("demo", [*SHORT, *OTHER, "train.stage=warmup"])
    pipeline.train(other, tmp_path / "other")
    assert weights(tmp_path / "other", "warmup") == weights(run, "warmup")
    listed = sweeping.sweep("demo", [*SHORT, "selftrain.mix=0,0.5"], out, listing=True, share=True)
    assert listed == result


@pytest.mark.slow
@pytest.mark.long
def test_a_sweeps_jobs_equal_runs_of_their_own(tmp_path, capsys, few_sentences):
    settings = [word for word in SHORT if not word.startswith("train.learning_rate")]
    out = tmp_path / "sweep"
    words = ["sweep", "demo", *settings, "train.learning_rate=1e-3,2e-3", "--out", str(out), "--json"]
    assert cli.run(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert states(result) == ["done", "done"]
    run, job = tmp_path / "run", result["jobs"][1]
    recipe = load_recipe("demo", [*settings, "train.learning_rate=2e-3"])
    pipeline.train(recipe, run)
    assert weights(run) == weights(out / job["run"]), "what came before in the process changed nothing"
    assert weights(run, "warmup") == weights(out / job["run"], "warmup")
    assert job["results"]["joint"]["seed"] == 0
    assert [row["name"] for row in job["results"]["warmup"]["domains"]] == list(RENDERED)
    assert (out / job["run"] / "report" / "index.html").exists()
    with pytest.raises(CloudsError, match="made by other settings"):
        sweeping.sweep("demo", [*settings, "train.learning_rate=1e-3,2e-3", "train.weight_decay=0.1"], out)


def test_rows_of_photo_folders_can_be_told_apart():
    def named(*values):
        sweep = {"keys": ["data.unlabelled"], "jobs": [{"settings": {"data.unlabelled": value}} for value in values]}
        return [row[0] for row in _names(sweep)]

    def photos(folder, **more):
        return {"folder": folder, "dataset": None, "weight": 1.0, **more}

    assert named([photos("berlin")], [photos("paris"), photos("rome")], []) == ["berlin", "paris, rome", "none"]
    long = [f"/data/{'a' * 30}/{city}/{'b' * 30}" for city in ("berlin", "paris")]
    assert named(*([photos(each)] for each in long)) == long
    one, two = named([photos("a")], [photos("a", weight=2.0)])
    assert (one != two, "weight: 2.0" in two) == (True, True)


def test_of_equal_rows_the_first_is_best():
    assert best_row(made_up((1, [0.4, 0.4]), (2, [0.4, 0.4]))) == 0
