"""``make check-gpu``: its checks on a GPU, where there is one; its own logic on this CPU, with tiny networks."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import check_gpu
import gpu
import gpu_checks

sys.path.pop()  # it has a report.py, which is not the folder of that name here

FAST = ("a warm-up step equals the CPU's, fp32", "deformable reads equal the CPU's", "predict", "bf16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("claim", gpu_checks.CHECKS)
def test_on_a_gpu(claim, tmp_path):
    try:
        gpu_checks.CHECKS[claim][0]("cuda", tmp_path)
    except gpu_checks.Skipped as why:
        pytest.skip(str(why))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("claim", [claim for claim, (_, cuda) in gpu_checks.CHECKS.items() if not cuda])
def test_every_check_holds_of_the_cpu(claim, tmp_path):
    assert gpu_checks.CHECKS[claim][0]("cpu", tmp_path)


@pytest.mark.slow
@pytest.mark.long
def test_without_a_gpu_it_says_so_and_ends_well(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_checks, "CHECKS", {claim: gpu_checks.CHECKS[claim] for claim in FAST})
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--device", "cpu", "--out", str(tmp_path / "gpu.json")])
    assert check_gpu.main() == 0
    out = capsys.readouterr().out
    assert out.startswith("No CUDA GPU here")
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["outcome"] for row in result["checks"]] == ["passed", "passed", "passed", "skipped"]
    measured = [(row["call"], row["size"], row["precision"]) for row in result["rows"]]
    assert measured == [("step", 64, "fp32"), ("map", 64, "fp32")]
    assert all(row["ours_per_second"] > 0 and row["faster"] > 0 for row in result["rows"])
    assert len(result["profiles"]["tf_efficientnet_lite0"]) == 12
    assert out.count("| tf_efficientnet_lite0 |") == 2


def test_a_check_that_fails_is_named_and_the_others_are_made(tmp_path, monkeypatch, capsys):
    def wrong(device, folder):
        raise AssertionError("losses within 1.0e+00 (at most 0.001)")

    def lacking(device, folder):
        raise gpu_checks.Skipped("no such package")

    checks = {"one": (wrong, False), "two": (lacking, False), "three": (lambda device, folder: "well", False)}
    monkeypatch.setattr(gpu_checks, "CHECKS", checks)
    monkeypatch.setattr(gpu, "TINY", gpu.Plan((), (), ()))
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--device", "cpu", "--out", str(tmp_path / "gpu.json")])
    assert check_gpu.main() == 1
    assert 'failed: ["one"]' in capsys.readouterr().out
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["outcome"] for row in result["checks"]] == ["failed", "skipped", "passed"]
