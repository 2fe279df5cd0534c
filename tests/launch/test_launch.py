"""Stages on submitit's own processes of this machine: shards, a second try, a death of the launcher, signals."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from clouds import cli
from clouds.base.files import read_jsonl
from clouds.errors import CloudsError
from clouds.launch.engines import executor_of
from clouds.launch.run import Run
from clouds.launch.stage import Stage, Task
from clouds.launch.view import Row, time_left

HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


def stages(folder: Path, *scripts: tuple[str, int, str], retries: int = 1) -> list[Stage]:
    """(name, shards, Python) each; in the Python, K is the shard's number and OUT the folder."""
    found: list[Stage] = []
    for name, shards, script in scripts:
        tasks = []
        for k in range(shards):
            words = f"import os, pathlib, signal, sys, time\nK = {k}\nOUT = pathlib.Path({str(folder)!r})\n"
            code = words + textwrap.dedent(script)
            tasks.append(Task(f"{name} {k}/{shards}", [sys.executable, "-S", "-c", code], folder / f"{name}-{k}.txt"))
        found.append(Stage(name, tasks, tuple(each.name for each in found[-1:]), (folder / name,), retries=retries))
    return found


def run(folder: Path, work: list[Stage], **more):
    return Run(work, executor_of("local", folder / "launch"), folder / "launch", **more)()


def test_stages_follow_each_other_and_a_shard_that_fails_is_tried_once_more(tmp_path, capfd):
    work = stages(
        tmp_path,
        ("a", 3, """
            print("shard", K)
            with (OUT / f"tries-{K}").open("a") as file:
                file.write("x")
            if K == 1 and (OUT / f"tries-{K}").read_text() == "x":
                sys.exit("not yet")
            (OUT / "a").touch()
        """),
        ("b", 1, "assert (OUT / 'tries-1').read_text() == 'xx'; (OUT / 'b').touch()"),
    )  # fmt: skip
    rows = run(tmp_path, work)
    counts = [(row["name"], row["shards"], row["done"], row["failed"]) for row in rows]
    assert counts == [("a", 3, 3, 0), ("b", 1, 1, 0)]
    assert (tmp_path / "a-1.txt").read_text() == "shard 1\nnot yet\nshard 1\n"
    said = capfd.readouterr().err
    assert "a 1/3: ended with exit code 1; it is tried again" in said
    assert said.index("a: 3 of 3 done") < said.index("b: 0 of 1 done, 1 running") < said.index("b: 1 of 1 done")
    before = len(read_jsonl(tmp_path / "launch" / "jobs.jsonl"))
    assert run(tmp_path, work) == rows, "what is done is not done again"
    assert len(read_jsonl(tmp_path / "launch" / "jobs.jsonl")) == before == 5
    (tmp_path / "b").unlink()
    run(tmp_path, work)
    assert (tmp_path / "b").exists(), "what somebody deleted is made again, and no more than that"
    assert (tmp_path / "tries-0").read_text() == "x"


def test_what_follows_a_stage_that_runs_again_runs_again(tmp_path):
    touch = "(OUT / '{0}').touch(); (OUT / '{0}.txt').open('a').write('x')"
    for tries, command in enumerate(("", "# with other settings"), 1):
        work = stages(tmp_path, *((name, 1, touch.format(name)) for name in "abc"))
        work[1].tasks[0].command[-1] += f"\n{command}"
        run(tmp_path, work)
        assert [(tmp_path / f"{name}.txt").read_text() for name in "abc"] == ["x", "x" * tries, "x" * tries]


def test_the_second_failure_stops_all_and_shows_the_log_of_that_try(tmp_path):
    work = stages(
        tmp_path,
        ("a", 2, """
            if K == 0:
                time.sleep(60)
            print("try", len(list(OUT.glob("began-*"))), flush=True)
            (OUT / f"began-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        """),
        ("b", 1, "(OUT / 'b').touch()"),
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(CloudsError) as failed:
        run(tmp_path, work)
    assert str(failed.value).splitlines()[:2] == [
        f"a 1/2: ended by SIGKILL after 2 tries; the end of its log, {tmp_path / 'a-1.txt'}:", "  try 1",
    ]  # fmt: skip
    assert time.monotonic() - began < 50, "the other shard is not waited for"
    assert not (tmp_path / "b").exists()


LAUNCHER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_launch import run, stages
    from clouds.errors import Stopped
    try:
        run(Path({folder!r}), stages(Path({folder!r}), {scripts!r}), cancel={cancel})
    except Stopped as stopped:
        print(stopped)
        sys.exit(128 + stopped.signal)
"""
WAITS = "a", 1, """
    (OUT / "ran").open("a").write("x")
    def save(*_):
        (OUT / "saved").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    (OUT / "waits").touch()
    while not (OUT / "go").exists():
        time.sleep(0.05)
    (OUT / "a").touch()
"""


def launcher(folder: Path, cancel: bool) -> subprocess.Popen:
    code = LAUNCHER.format(tests=str(Path(__file__).parent), folder=str(folder), scripts=WAITS, cancel=cancel)
    with (folder / "said").open("w") as said:  # no pipe: its jobs hold on to it
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=HERE, stdout=said,
                                   start_new_session=True)  # fmt: skip
    while not (folder / "waits").exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process


def test_a_job_outlives_ctrl_c_and_the_next_launcher_finds_it(tmp_path, capfd):
    process = launcher(tmp_path, cancel=False)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it, to all of its processes
    assert process.wait(30) == 130
    assert "1 job goes on (local). The same command finds them again" in (tmp_path / "said").read_text()
    (tmp_path / "go").touch()
    run(tmp_path, stages(tmp_path, WAITS))
    assert (tmp_path / "ran").read_text() == "x"
    assert not (tmp_path / "saved").exists()


def test_what_is_killed_with_its_launcher_is_done_again(tmp_path):
    process = launcher(tmp_path, cancel=False)
    for each in reversed(psutil.Process(process.pid).children(recursive=True)):
        each.kill()
    process.kill()
    process.wait()
    (tmp_path / "go").touch()
    run(tmp_path, stages(tmp_path, WAITS))
    assert (tmp_path / "ran").read_text() == "xx"


def test_cancelled_jobs_save_first_and_go_on_when_asked_again(tmp_path):
    process = launcher(tmp_path, cancel=True)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert (tmp_path / "said").read_text() == "stopped by a signal; all is saved. To resume, run the same command\n"
    assert (tmp_path / "saved").exists()
    (tmp_path / "go").touch()
    run(tmp_path, stages(tmp_path, WAITS))
    assert (tmp_path / "ran").read_text() == "xx"


# -- what is shown and asked


class Shown:
    def __init__(self, state, seconds=0.0, began=0.0, log=None):
        self.state, self.seconds, self.began, self.task = state, seconds, began, Task("", [], log or Path("nowhere"))


def test_time_left_follows_the_finished_shards_and_before_them_the_logs(tmp_path):
    log = tmp_path / "log"
    log.write_text("drawing: 1/9, 2 images/s, 1:02:03 left\ndrawing: 3/9, 2 images/s, 0:40 left\n")
    assert time_left([Shown("running", log=log), Shown("waiting")]) == 40
    now = time.monotonic()
    running = [Shown("running", began=now - 10) for _ in range(2)]
    tasks = [Shown("done", 60), Shown("done", 40), *running, Shown("to do")]
    assert time_left(tasks) == pytest.approx((40 + 40 + 50) / 2, abs=1)
    assert time_left([Shown("waiting")]) is None
    assert Row.of("images", tasks).line() == "images: 2 of 5 done, 2 running, 1 waiting, 1:05 left"


def test_a_dry_run_prints_the_graph_and_does_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["launch", "demo", "selftrain.refinement=regions", "generate.audit=true", "--shards", "4",
             "--processes", "2", "--dry-run"]  # fmt: skip
    assert cli.run([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["after"], len(each["tasks"])) for each in result["stages"]] == [
        ("prompts", [], 1), ("generate", ["prompts"], 4), ("audit", ["generate"], 1), ("regions", ["audit"], 4),
        ("train", ["regions"], 1), ("evaluate", ["train"], 1), ("report", ["evaluate"], 1),
    ]  # fmt: skip
    assert "--nproc-per-node=2" in result["stages"][4]["tasks"][0]["command"]
    assert cli.run(words) == 0
    assert "generate  prompts        4" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_several_nodes_get_their_share_of_a_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["launch", "demo", "train.device=cuda", "--on", "slurm", "--processes", "4", "--nodes", "2", "--cpus", "3",
             "--memory", "10", "--dry-run", "--json"]  # fmt: skip
    assert cli.run(words) == 0
    (train,) = (each for each in json.loads(capsys.readouterr().out)["stages"] if each["name"] == "train")
    assert train["tasks"][0]["command"][1:4] == ["-m", "clouds", "train"], "SLURM starts the processes"
    monkeypatch.setattr("shutil.which", lambda name: name)
    stage = Stage(**{**train, "tasks": [], "after": ()})
    asked = executor_of("slurm", tmp_path / "launch")._parameters(stage)
    assert [asked[key] for key in ("nodes", "ntasks_per_node", "cpus_per_task", "gpus_per_node", "mem")] == [
        2, 2, 3, 2, "20480MB"]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), [
    (["--on", "pbs"], "--on: got 'pbs'; expected one of local, slurm, ray"),
    (["--shards", "0"], "--shards: got 0; expected at least 1"),
    (["--processes", "3"], "--processes: got 3; train.batch_size=4"),
    (["--nodes", "2", "--processes", "2"], "--nodes: got 2; several machines train together with --on slurm"),
    (["--on", "slurm", "--nodes", "2"], "--processes: got 1; 2 nodes need a multiple of 2"),
    (["--sbatch", "partition=gpu"], "--sbatch: is for --on slurm, got --on local"),
    (["train.stepz=1"], "train.stepz: unknown key"),
    (["data.root=/nowhere"], "data.root: /nowhere is not a folder"),
])  # fmt: skip
def test_a_wrong_launch_exits_2_and_writes_nothing(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["launch", "demo", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
