"""What stands at the keys: a text each, marks, and a place where each key is of use."""

from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
import yaml

from clouds.config.kinds import Mark, Settings, group_of, keys_of
from clouds.config.load import recipe_names
from clouds.config.recipe import LabelledSet, Recipe, UnlabelledSet
from documented import PAGES, ROOT, SETTING, blocks, inline_code, named_keys


def texts(model: type[Settings], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.description
        if group := group_of(field):
            yield from texts(group, f"{prefix}{name}.")


def test_every_key_says_what_it_is():
    found = dict([*texts(Recipe), *texts(LabelledSet, "data.source."), *texts(UnlabelledSet, "data.unlabelled.")])
    assert set(keys_of(Recipe)) < set(found)
    assert [key for key, text in found.items() if not text or not text.endswith(".")] == []


def test_what_may_change_on_resume_and_what_concerns_scores_alone():
    assert set(keys_of(Recipe, Mark.RESUMABLE)) == {
        "train.stage", "train.workers", "train.device", "train.accumulate", "train.checkpointing",
        "train.compile", "train.shard_backbone",
        "train.trackers", "data.cache", "data.cache_gb", "data.max_bad", "prompts.timeout", "prompts.retries",
        "prompts.requests_per_minute", "generate.device", "generate.offload", "generate.restyle.device",
        "generate.restyle.offload", "data.restyle.device", "data.restyle.offload", "selftrain.cache",
        "selftrain.cache_gb", "selftrain.memory_gb", "selftrain.regions_folder",
    }  # fmt: skip
    every = keys_of(Recipe)
    assert set(keys_of(Recipe, Mark.SCORING)) == {"data.root", *(key for key in every if key.startswith("evaluate."))}
    joint = ("scene.", "prompts.", "generate.", "audit.", "data.unlabelled", "selftrain.")
    assert keys_of(Recipe, Mark.JOINT) == [key for key in every if key.startswith(joint)]


def said(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that YAML values set, and their groups."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from said(value, f"{prefix}{key}.")


@pytest.fixture(scope="module")
def used() -> set[str]:
    """Keys that a shipped recipe sets, an example names, or a page names in a command, in YAML or as code."""
    folder = resources.files("clouds.config") / "recipes"
    found = {key for name in recipe_names() for key in said(yaml.safe_load((folder / f"{name}.yaml").read_text()))}
    for path in (ROOT / "examples").glob("*.py"):
        found |= set(SETTING.findall(path.read_text("utf-8")))
    for page in PAGES:
        if page.parent.name == "reference":
            continue
        found |= {key for code in inline_code(page) for key in [*named_keys(code), *SETTING.findall(code)]}
        for block in blocks(page):
            found |= set(said(yaml.safe_load(block.text))) if block.language == "yaml" else set(
                SETTING.findall(block.text))  # fmt: skip
    return found


def test_each_key_is_of_use_somewhere(used):
    used |= {key.replace("generate.restyle.", "data.restyle.") for key in used}  # a pipeline's keys, once more
    assert [key for key in keys_of(Recipe) if key not in used and key != "name"] == []
