"""The demo's stages on a real SLURM and a real Ray, tiny: interrupted in the middle, with the bytes of a plain run."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import slurm_here

from clouds import pipeline
from clouds.config.load import load_recipe
from clouds.evaluate.domains import unseen_domains
from test_pipeline import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
HERE = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
WORDS = [word for word in SMALL if "checkpoint_every" not in word] + ["train.checkpoint_every=5"]
SAME = ("prompts.jsonl", "work.json", "warmup/model.safetensors", "model/model.safetensors",
        "evaluation/joint.json")  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A run of the same recipe in one process."""
    run = tmp_path_factory.mktemp("plain") / "run"
    recipe = load_recipe("demo", WORDS)
    pipeline.train(recipe, run, domains=unseen_domains(recipe))
    return run


def equal(run: Path, plain: Path) -> None:
    for name in [*SAME, *(f"generated/{path.name}" for path in (plain / "generated").glob("*.png"))]:
        assert (run / name).read_bytes() == (plain / name).read_bytes(), name
    assert (run / "report" / "index.html").exists()


@contextmanager
def launched(run: Path, environment: dict[str, str], *words: str):
    """``clouds launch`` as a process."""
    command = [sys.executable, "-m", "clouds", "launch", "demo", *WORDS, "--shards", "2", "--cpus", "1", *words]
    with (run.parent / "said").open("ab") as said:
        process = subprocess.Popen([*command, "--out", str(run)], env=environment, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.kill()


def ended(process: subprocess.Popen, run: Path) -> None:
    assert process.wait(400) == 0, (run.parent / "said").read_text()[-3000:]


def wait_for_steps(run: Path, *processes: subprocess.Popen) -> None:
    """Until a checkpoint of the warm-up is there, and with it most of the work to come."""
    while not list((run / "checkpoints").glob("warmup-0*")):
        assert all(each.poll() is None for each in processes), (run.parent / "said").read_text()[-3000:]
        time.sleep(0.2)


@pytest.mark.skipif(bool(slurm_here.why_not()), reason=f"SLURM IS NOT TESTED: {slurm_here.why_not()}")
def test_slurm_takes_a_job_away_queues_it_again_and_it_goes_on(tmp_path, plain):
    run = tmp_path / "run"
    with slurm_here.slurm(tmp_path / "slurm") as environment, launched(run, {**environment, **HERE_ONLY}, "--on",
                                                                      "slurm") as process:  # fmt: skip
        wait_for_steps(run, process)
        process.kill()  # the launcher; its jobs go on
        job = jobs(environment)["clouds-train"]
        subprocess.run(["scancel", "--signal=USR2", job], env=environment, check=True)  # as before the end of its time
        with launched(run, {**environment, **HERE_ONLY}, "--on", "slurm") as process:
            release(environment, job)
            wait_for_log(run, "going on from step", process)
            subprocess.run(["scontrol", "requeue", job], env=environment, check=True)  # SIGTERM, as in a preemption
            release(environment, job)
            ended(process, run)
    said = (run / "launch" / "train-0.txt").read_text()
    assert said.count("SIGTERM: saving after this step") == 2
    assert "found 1 jobs at work, such as train (slurm" in (tmp_path / "said").read_text()
    equal(run, plain)


@pytest.mark.skipif(bool(slurm_here.why_not()), reason=f"SLURM IS NOT TESTED: {slurm_here.why_not()}")
def test_two_nodes_of_slurm_train_together_save_and_go_on(tmp_path):
    """Both are this machine's: two daemons of SLURM."""
    run = tmp_path / "run"
    words = ["--on", "slurm", "--processes", "2", "--nodes", "2"]
    with (
        slurm_here.slurm(tmp_path / "slurm", cpus=1, nodes=2) as environment,
        launched(run, {**environment, **HERE_ONLY}, "train.stage=warmup", *words) as process,
    ):
        wait_for_steps(run, process)
        job = jobs(environment)["clouds-train"]
        asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%D %C"], env=environment, capture_output=True)
        assert asked.stdout.split() == [b"2", b"2"]
        subprocess.run(["scancel", "--signal=USR2", job], env=environment, check=True)
        release(environment, job)
        ended(process, run)
    said = (run / "launch" / "train-0.txt").read_text()
    assert "(2 processes x " in said
    assert "going on from step" in said
    assert (run / "launch" / "train-0.process-1.txt").exists()
    assert (run / "warmup" / "model.safetensors").exists()


HERE_ONLY = {name: HERE[name] for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE")}


def jobs(environment: dict[str, str]) -> dict[str, str]:
    """The queue: a job's name -> its id."""
    asked = subprocess.run(["squeue", "-h", "-o", "%j %i"], env=environment, capture_output=True, text=True, check=True)
    return dict(line.split() for line in asked.stdout.splitlines())


def release(environment: dict[str, str], job: str) -> None:
    """Until a job that was queued again may begin: SLURM lets two minutes pass by itself."""
    for _ in range(600):
        asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], env=environment, capture_output=True, text=True)
        if "PENDING" in asked.stdout:
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=environment, check=True)
            return
        time.sleep(0.2)
    raise AssertionError(f"job {job} was not queued again")


def wait_for_log(run: Path, text: str, process: subprocess.Popen) -> None:
    while text not in (run / "launch" / "train-0.txt").read_text():
        assert process.poll() is None, (run.parent / "said").read_text()[-3000:]
        time.sleep(0.2)


@contextmanager
def ray_nodes():
    """A Ray cluster of this machine: a head that computes nothing, and two nodes. Yields (environment, raylets)."""
    from ray.cluster_utils import Cluster

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        yield {**HERE, "RAY_ADDRESS": f"http://127.0.0.1:{port}"}, [
            psutil.Process(node.all_processes["raylet"][0].process.pid) for node in nodes
        ]
    finally:
        cluster.shutdown()


@pytest.mark.skipif(not find_spec("ray"), reason="RAY IS NOT TESTED: it is not installed; pip install 'clouds[ray]'")
def test_ray_loses_a_node_and_the_job_goes_on_on_another(tmp_path, plain):
    run = tmp_path / "run"
    with ray_nodes() as (environment, nodes), launched(run, environment, "--on", "ray") as process:
        wait_for_steps(run, process)
        (below,) = (each for each in (node.children(recursive=True) for node in nodes) if any(map(is_training, each)))
        for each in [*below, *(node for node in nodes if below[0] in node.children(recursive=True))]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        ended(process, run)
    assert "train: its job is gone" in (tmp_path / "said").read_text()
    assert "going on from step" in (run / "launch" / "train-0.txt").read_text()
    equal(run, plain)


def is_training(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "--resume" in process.cmdline()
    return False
