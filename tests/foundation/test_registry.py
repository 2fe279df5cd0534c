"""Every backend has one row, which settings, doors, doctor and report read."""

import inspect
from dataclasses import replace
from importlib import import_module

import pytest

from clouds.check import doctor
from clouds.config import backends
from clouds.config.backends import Backend, rows
from clouds.config.load import load_recipe
from clouds.config.recipe import Generate
from clouds.errors import UsageError
from clouds.foundation import generators, registry
from clouds.foundation.generator import build_generator

MODELS = {"open_clip": "RN50-quickgelu", "timm": "resnet50.a1_in1k"}
each_row = pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.role} {row.name}")


def name_of(row):
    return f"{row.kind}/{MODELS.get(row.kind, 'org/model')}" if "/" in row.name else row.name


@each_row
def test_a_row_says_all_that_is_asked_of_it(row):
    file = import_module(row.module)
    made = [value for value in vars(file).values() if isinstance(value, Backend)] + list(getattr(file, "BACKENDS", ()))
    assert replace(row, module="") in made, "what is read is what the file makes when it runs"
    assert row.role in registry.KEYS
    assert row.label
    assert callable(getattr(file, row.build))
    assert bool(row.needs) == bool(row.install)
    assert row.module.split(".")[2] == {"vision": "backbones", "text": "backbones"}.get(row.role, f"{row.role}s")
    if row.stand_in:
        assert row.better
        assert not any(famous in row.label.lower() for famous in ("clip", "sam", "llama", "diffusion"))
        assert registry.stand_in(registry.backend_name(row.name)) == row.stand_in


@each_row
def test_settings_and_doctor_know_it(row, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name, key = name_of(row), registry.KEYS[row.role]
    words = [f"model.{each}={name}" for each in ("vision", "text")] if row.kind == "open_clip" else [f"{key}={name}"]
    words += ["selftrain.refinement=regions"] if row.takes == ("names",) else []
    roles = {role["role"]: role for role in doctor.examine("demo", words)["roles"]}
    shown = {role: each for role, each in registry.cast(load_recipe("demo", words)).items() if each.role == row.role}
    assert len(shown) == 1
    for role, chosen in shown.items():
        assert (roles[role]["backend"], roles[role]["better"]) == (chosen.label, row.better)
        assert chosen.label.startswith(row.label.partition("{")[0])
    assert set(row.needs) <= set(doctor.optional())


@pytest.mark.parametrize("role", registry.KEYS)
def test_a_name_without_a_row_is_refused(role):
    with pytest.raises(UsageError, match=f"{registry.KEYS[role]}: unknown .*allowed: {backends.names(role)[0]}"):
        registry.row_of(role, "nobody")


def test_a_new_backend_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "generators").mkdir()
    text = inspect.getsource(import_module("clouds.foundation.generators.streets")).replace("streets renderer", "M")
    (tmp_path / "generators" / "mine.py").write_text(text.replace('"streets"', '"mine"'))
    monkeypatch.setattr(backends, "FOUNDATION", tmp_path)
    monkeypatch.setattr(generators, "__path__", [*generators.__path__, str(tmp_path / "generators")])
    rows.cache_clear()
    try:
        assert build_generator(Generate(generator="mine")).generate(["A street."], [1])[0].shape == (768, 768, 3)
        assert registry.backend_name("mine") == "M"
    finally:
        rows.cache_clear()


def test_where_photographs_are_all_there_is_nobody_writes_or_draws():
    def roles(*settings: str) -> list[str]:
        return list(registry.backends(load_recipe("demo", ["data.unlabelled=x", *settings])))

    assert roles() == ["vision", "text", "prompts", "images", "segmenter"]
    assert roles("generate.count=0") == ["vision", "text", "segmenter"]
    prompted = roles("generate.count=0", "data.restyle.backend=diffusers/a/b")
    assert prompted == ["vision", "text", "prompts", "segmenter", "restyled source"]
