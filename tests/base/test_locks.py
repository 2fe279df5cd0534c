"""One writer a folder, whoever starts it; the second learns who the first is."""

import gc
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from clouds import cli
from clouds.base.files import whole_file, whole_folder, write_jsonl
from clouds.base.locks import BusyError, check_idle, locked, one_writer
from clouds.data.images import write_png

MOMENTS = 600

HOLD = """
import sys, time
from pathlib import Path
from clouds.base.locks import one_writer
with one_writer(Path(sys.argv[1]), "training"):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_writer_is_told_who_the_first_is(holder, tmp_path):
    said = rf"run: another process is at work on it \(training since .*, process {holder.pid} on"
    with pytest.raises(BusyError, match=said), one_writer(tmp_path / "run", "scoring"):
        pytest.fail("two writers")


@pytest.mark.parametrize("words", [
    ["train", "demo", "train.steps=4", "--out", "RUN"],
    ["demo", "--minutes", "0.2", "--out", "RUN"],
    ["report", "RUN"],
    ["generate", "demo", "generate.count=4", "--out", "RUN/generated"],
    ["generate", "--adopt", "RUN/generated"],
    ["prompts", "demo", "--out", "RUN/prompts.jsonl"],
    ["audit", "RUN"],
    ["regions", "SET", "--out", "RUN/regions"],
    ["predict", "MODEL", "SET", "--out", "RUN"],
    ["refine", "SET", "SET", "--out", "RUN/source"],
])  # fmt: skip
def test_no_verb_writes_where_another_process_does(holder, tmp_path, capsys, model_folder, words):
    for folder in ("run/generated", "set"):
        write_png(tmp_path / folder / "0.png", np.zeros((64, 64, 3), np.uint8))
        write_jsonl(tmp_path / folder / "metadata.jsonl", [{"file_name": "0.png", "prompt": "a street"}])
    before = sorted((tmp_path / "run").rglob("*"))
    places = {"RUN": tmp_path / "run", "SET": tmp_path / "set", "MODEL": model_folder}
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    assert cli.run(words) == 2
    assert f"process {holder.pid} on" in capsys.readouterr().err
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_beside_a_run_at_work_and_in_one_that_was_killed_all_may_write(holder, tmp_path):
    check_idle(tmp_path / "other")
    with pytest.raises(BusyError):
        check_idle(tmp_path / "run" / "a" / "file.jsonl")
    holder.kill()
    holder.wait()
    check_idle(tmp_path / "run" / "a" / "file.jsonl")


def test_a_killed_writer_leaves_the_folder_to_the_next(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with one_writer(tmp_path / "run", "scoring"):
        pass
    assert not (tmp_path / "run" / ".writer.json").exists()


def test_a_writer_may_come_back(tmp_path):
    for _ in range(2):
        with one_writer(tmp_path / "run", "training"):
            time.sleep(0)


@pytest.mark.parametrize("more", [[], ["--out", "PAGE"]])
def test_a_report_of_a_run_that_is_not_there_leaves_nothing(tmp_path, capsys, more):
    words = ["report", str(tmp_path / "none" / "run"), *(word.replace("PAGE", str(tmp_path / "page")) for word in more)]
    assert cli.run(words) == 1
    assert "no such run folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# -- Ctrl-C at any moment


class AfterMicroseconds:
    """KeyboardInterrupt after so many microseconds of the process's own time, as Ctrl-C raises it."""

    def __init__(self, moment: float) -> None:
        self.moment = moment

    def __enter__(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, self.moment / 1e6)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def file(path):
    with whole_file(path) as temporary:
        temporary.write_bytes(b"x" * 1000)


def folder(path):
    with whole_folder(path) as temporary:
        (temporary / "a").write_bytes(b"x" * 1000)


def lock(path):
    with locked(path, blocking=False):
        pass


def writer(path):
    with one_writer(path.parent, "testing"):
        pass


@pytest.mark.parametrize(("work", "left"), [(file, {"a"}), (folder, {"a"}), (lock, set()), (writer, set())])
def test_ctrl_c_at_any_moment_leaves_nothing_hidden(tmp_path, monkeypatch, work, left):
    monkeypatch.setattr("os.fsync", lambda _: None)  # would take most of the time, and nothing can go wrong in it
    work(tmp_path / "a")
    interrupted, whole = 0, 1e9  # microseconds the work takes: the least so far, for other processes take their turns
    for k in range(-20, MOMENTS):
        moment = 1.2 * whole * (k % MOMENTS) / MOMENTS
        began = time.perf_counter()
        try:
            with AfterMicroseconds(1 + moment):
                work(tmp_path / "a")
            whole = min(whole, (time.perf_counter() - began) * 1e6)
        except KeyboardInterrupt:
            interrupted += 1
        gc.collect(0)
        found = {path.name for path in tmp_path.iterdir()}
        assert found <= left, f"after {k} of {MOMENTS}: {found}"
    assert interrupted > MOMENTS // 4
