"""Recipes: what loads, what is refused, and how plainly."""

from pathlib import Path

import pytest
import yaml

from clouds.config.load import load_recipe, recipe_names
from clouds.config.recipe import Prompts, Recipe
from clouds.config.removed import REMOVED
from clouds.config.runs import differences, load_run
from clouds.errors import UsageError

CONTRACT = ("seed", "prompts.count", "generate.count", "train.steps", "train.batch_size", "train.checkpoint_every",
            "data.root")


def value(recipe: Recipe, key: str):
    place = recipe.model_dump()
    for part in key.split("."):
        assert part in place, key
        place = place[part]
    return place


def refused(*overrides: str, recipe: str = "demo") -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(recipe, list(overrides))
    return str(caught.value)


def yaml_file(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_demo_is_shipped():
    assert "demo" in recipe_names()


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_under_its_name_with_the_contracts_keys(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert all(value(recipe, key) != () for key in CONTRACT)


@pytest.mark.parametrize(("override", "key", "expected"), [
    ("seed=7", "seed", 7),
    ("train.steps=12", "train.steps", 12),
    ("train.learning_rate=1e-3", "train.learning_rate", 1e-3),
    ("evaluate.max_images=null", "evaluate.max_images", None),
    ("evaluate.max_images=5", "evaluate.max_images", 5),
    ("data.source_size=[64, 128]", "data.source_size", (64, 128)),
    ("data.root=", "data.root", None),
    ("data.root=/some/where", "data.root", Path("/some/where")),
    ("augment.jitter=no", "augment.jitter", False),
    ("selftrain.max_swallow=null", "selftrain.max_swallow", None),
    ("train.device=cuda:1", "train.device", "cuda:1"),
    ("name=a=b", "name", "a=b"),
])  # fmt: skip
def test_an_override_sets_its_key_and_no_other(override, key, expected):
    changed = load_recipe("demo", [override])
    assert value(changed, key) == expected
    group, dot, name = key.rpartition(".")
    before, after = load_recipe("demo").model_dump(), changed.model_dump()
    for values in (before, after):
        del (values[group] if dot else values)[name]
    assert before == after


def test_the_later_of_two_overrides_counts():
    assert load_recipe("demo", ["seed=1", "seed=2"]).seed == 2


def test_a_home_folder_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_recipe("demo", ["data.root=~/sets"]).data.root == Path("/home/someone/sets")


@pytest.mark.parametrize(("override", "said"), [
    ("train.steps=1", ("train.steps", "1", "greater than or equal to 2")),
    ("train.steps=2.5", ("train.steps", "2.5", "integer")),
    ("train.steps=", ("train.steps", "None", "integer")),
    ("train.batch_size=0", ("train.batch_size", "0", "greater than or equal to 1")),
    ("train.batch_size=true", ("train.batch_size", "True", "number")),
    ("train.learning_rate=-1", ("train.learning_rate", "-1", "greater than 0")),
    ("train.learning_rate=.nan", ("train.learning_rate", "nan", "finite")),
    ("train.clip=.inf", ("train.clip", "inf", "finite")),
    ("train.warmup_share=1", ("train.warmup_share", "1", "less than 1")),
    ("train.stage=first", ("train.stage", "'first'", "'both', 'warmup' or 'joint'")),
    ("train.device=banana", ("train.device", "'banana'", "cpu|mps|cuda")),
    ("seed=-1", ("seed", "-1", "greater than or equal to 0")),
    ("seed=x", ("seed", "'x'", "integer")),
    ("prompts.count=[]", ("prompts.count", "[]", "integer")),
    ("prompts.writer=poet", ("prompts.writer", "'poet'", "grammar or smollm2 or transformers/HUB_ID_OR_PATH")),
    ("prompts.writer=openai/", ("prompts.writer", "'openai/'", "openai/MODEL")),
    ("prompts.writer=grammar/x", ("prompts.writer", "'grammar/x'", "did you mean")),
    ("prompts.writer=opneai/gpt", ("prompts.writer", "did you mean openai/gpt?")),
    ("prompts.temperature=3", ("prompts.temperature", "3", "less than or equal to 2")),
    ("prompts.retries=-1", ("prompts.retries", "-1", "greater than or equal to 0")),
    ("prompts.timeout=0", ("prompts.timeout", "0", "greater than 0")),
    ("generate.size=[64]", ("generate.size", "[64]", "required")),
    ("generate.size=[64, 8]", ("generate.size.1", "8", "greater than or equal to 16")),
    ("data.source_size=64", ("data.source_size", "64", "tuple")),
    ("selftrain.floor=1.5", ("selftrain.floor", "1.5", "less than or equal to 1")),
    ("model.hidden=100", ("model.hidden", "100", "multiple of 32")),
    ("augment.jitter=maybe", ("augment.jitter", "'maybe'", "boolean")),
    ("evaluate.shorter_side=8", ("evaluate.shorter_side", "8", "32")),
    ("evaluate.window=8", ("evaluate.window", "8", "32")),
    ("evaluate.window=[64]", ("evaluate.window", "[64]", "integer")),
    ("evaluate.stride=8", ("evaluate.stride", "8", "at most evaluate.window", "None")),
    ("evaluate.stride=0", ("evaluate.stride", "0", "greater than or equal to 1")),
    ("evaluate.scales=[]", ("evaluate.scales", "[]", "[1.0]")),
    ("evaluate.scales=[1, 0]", ("evaluate.scales.1", "0", "0.1")),
    ("evaluate.scales=1.5", ("evaluate.scales", "1.5", "tuple")),
    ("evaluate.flip=maybe", ("evaluate.flip", "'maybe'", "boolean")),
    ("name=5", ("name", "5", "string")),
    ("train=5", ("train", "5", "expected keys, such as train.steps")),
])  # fmt: skip
def test_a_bad_value_is_refused_with_key_value_and_what_is_allowed(override, said):
    message = refused(override)
    assert all(part in message for part in ("recipe demo", *said)), message
    assert "\n" not in message


@pytest.mark.parametrize(("key", "meant"), [
    ("train.stesp", "train.steps"),
    ("train.batchsize", "train.batch_size"),
    ("steps", "generate.steps or train.steps"),
    ("model.batch_size", "generate.batch_size or train.batch_size"),
    ("trian.steps", "train"),
    ("prompt.count", "prompts"),
    ("sed", "seed"),
])  # fmt: skip
def test_an_unknown_key_is_refused_with_the_nearest_one(key, meant):
    message = refused(f"{key}=5")
    assert "unknown key" in message
    assert f"did you mean {meant}?" in message


def test_an_unlike_key_gets_no_guess_but_the_keys_of_its_group():
    message = refused("prompts.zzz=1")
    assert "did you mean" not in message
    assert message.endswith("allowed: " + ", ".join(f"prompts.{key}" for key in Prompts.model_fields))


def test_an_unknown_group_lists_the_groups():
    assert refused("zzz=1").endswith("allowed: " + ", ".join(Recipe.model_fields))


def test_all_faults_are_said_at_once():
    message = refused("train.step=5", "seed=x", "generate.count=-1", "zzz=1")
    assert [key for key in ("train.step:", "seed:", "generate.count:", "zzz:") if key not in message] == []
    assert len(message.splitlines()) == 5


def test_settings_that_do_not_fit_together_are_said_at_once():
    message = refused("generate.size=[64, 64]", "augment.scale=[2, 0.5]", "model.heads=7")
    for part in ("generate.size [64, 64] must equal augment.crop [256, 256]", "augment.scale: got [2.0, 0.5]",
                 "model.heads: got 7; must divide model.hidden 128"):
        assert part in message


@pytest.mark.parametrize(("override", "said"), [
    ("x", "expected key=value"),
    ("=3", "expected key=value"),
    ("train.steps=[1", "not valid YAML"),
    ("train.steps.more=3", "steps holds a value, not keys"),
    ("train={steps: 5}", "one key at a time, such as train.steps="),
])  # fmt: skip
def test_a_broken_override_is_refused_and_quoted(override, said):
    message = refused(override)
    assert said in message
    assert repr(override) in message
    assert "\n" not in message


def test_a_yaml_file_is_a_recipe_of_its_own_name(tmp_path):
    recipe = load_recipe(yaml_file(tmp_path, "seed: 3\ntrain: {steps: 9}\n"), ["train.batch_size=2"])
    assert (recipe.name, recipe.seed, recipe.train.steps, recipe.train.batch_size) == ("mine", 3, 9, 2)


def test_a_yaml_file_may_name_itself(tmp_path):
    assert load_recipe(yaml_file(tmp_path, "name: other\n", "a.yml")).name == "other"


@pytest.mark.parametrize(("text", "said"), [
    ("train: [1\n", "not valid YAML"),
    ("- 1\n", "expected keys and values, got list"),
    ("", "expected keys and values, got NoneType"),
    ("train: {stepz: 3}\n", "did you mean train.steps?"),
    ("train:\n", "train: got None; expected keys"),
    ("1: 2\n", "1"),
    ("train: {steps: 3, steps: 4}\n", "the key 'steps' is given twice; keep one, line 1"),
    ("train: {steps: 3}\nseed: 1\ntrain: {batch_size: 2}\n", "the key 'train' is given twice; keep one, line 3"),
    ("train: {steps: 010}\n", "010 is octal to some readers"),
    ("seed: !!int word\n", "not valid YAML"),
    ("seed: " + "[" * 5000 + "\n", "not valid YAML (its lists or keys are nested too deep)"),
    ("data: {source: {dataset: folder, label_map: {1: true}}}\n", "not true or false; quote"),
])  # fmt: skip
def test_a_bad_yaml_file_is_refused_by_its_path(tmp_path, text, said):
    path = yaml_file(tmp_path, text)
    message = refused(recipe=path)
    assert path in message
    assert said in message


def test_words_that_yaml_1_1_took_for_switches_and_numbers_stay_words(tmp_path):
    text = "{dataset: folder, label_set: {on: [road], no: [sky]}, label_map: {1: on, yes: no, 1:30: no}}"
    for recipe, overrides in ((yaml_file(tmp_path, f"data: {{source: {text}}}\n"), []),
                              ("demo", [f"data.source=[{text}]"])):  # fmt: skip
        (chosen,) = load_recipe(recipe, overrides).data.source
        assert chosen.label_map == {1: "on", "yes": "no", "1:30": "no"}
        assert chosen.label_set == {"on": ["road"], "no": ["sky"]}


def test_an_override_reaches_a_number_of_a_label_map_and_no_other_group_by_an_alias(tmp_path):
    path = yaml_file(tmp_path, "data: {source: {dataset: folder, label_map: {1: road, 2: sky}}}\n")
    (chosen,) = load_recipe(path, ["data.source.label_map.1=car"]).data.source
    assert chosen.label_map == {1: "car", 2: "sky"}
    path = yaml_file(tmp_path, "data: {source_size: [64, 64]}\ntrain: &t {steps: 3}\nextra: *t\n")
    assert "extra" in refused("train.steps=4", recipe=path)


def test_a_binary_file_is_no_recipe(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert "not valid YAML" in refused(recipe=str(path))


@pytest.mark.parametrize("name", ["nope", "nope.yaml", "", "."])
def test_an_unknown_recipe_is_refused_with_the_shipped_ones(name):
    message = refused(recipe=name)
    assert repr(name) in message
    assert all(shipped in message for shipped in recipe_names())


def test_warmup_and_joint_each_get_at_least_one_step():
    for share in (0.001, 0.999):
        recipe = load_recipe("demo", ["train.steps=2", f"train.warmup_share={share}"])
        assert recipe.train.warmup_steps == 1


def test_a_recipe_cannot_be_changed_after_it_was_checked():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("demo").seed = 3


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(UsageError, match=r"train\.precision: got 'fp16'"):
        load_recipe("demo", ["train.precision=fp16"])
    assert load_recipe("demo", ["train.precision=fp16", "train.device=cuda"]).train.precision == "fp16"


def test_going_by_the_source_score_needs_one():
    with pytest.raises(UsageError, match=r"set train\.validate_every"):
        load_recipe("demo", ["train.choose=best"])
    assert load_recipe("demo", ["train.choose=best", "train.validate_every=10"]).train.validate_every == 10


@pytest.mark.parametrize("key", ["loss.no_object", "train.patience", "generate.attention_slicing"])
def test_a_removed_key_is_refused_with_what_is_built_in(key):
    assert f"{key}: was removed; {REMOVED[key]!r} is built in" in refused(f"{key}=7")


def test_a_run_of_before_goes_on_where_removed_keys_have_the_built_in_values(tmp_path):
    old = load_recipe("demo").model_dump(mode="json")
    for key, built_in in REMOVED.items():
        group, name = key.split(".") if key.count(".") == 1 else (None, None)
        if group:
            old[group][name] = built_in
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"settings": old}))
    assert load_run(tmp_path) == load_recipe("demo")
    assert differences(load_recipe("demo"), tmp_path) == {}
    old["train"]["keep"], old["generate"]["retries"] = 9, 0  # they never changed a result
    path.write_text(yaml.safe_dump({"settings": old}))
    assert load_run(tmp_path) == load_recipe("demo")
    old["train"]["patience"], old["selftrain"]["weight_by"] = 3, ["agreement"]
    path.write_text(yaml.safe_dump({"settings": old}))
    with pytest.raises(UsageError) as caught:
        load_run(tmp_path)
    for part in (str(path), "train.patience is 3 there and was removed since: None is built in now",
                 "selftrain.weight_by is ['agreement'] there"):
        assert part in str(caught.value)


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
)


@pytest.mark.parametrize(("text", "said"), [
    (ALIASES, "more than 200000 values"), ("a: &a [*a]\n", "an alias that stands for itself"),
    ("seed: " + "9" * 5000 + "\n", "beyond 64 bits"), ("seed: 0x" + "f" * 50_000 + "\n", "beyond 64 bits"),
    ("seed: -9223372036854775809\n", "beyond 64 bits"), ("a: " + "x" * 2_000_000 + "\n", "2000004 characters"),
    ("a: !!timestamp 2024-01-01\n", "could not determine a constructor"), ("a: !!set {b}\n", "could not determine"),
    ("a: !!binary aGk=\n", "could not determine"), ("a: " + "[" * 50_000, "nested too deep"),
], ids=lambda value: value[:12])  # fmt: skip
def test_yaml_that_no_recipe_needs_is_refused_in_one_line(tmp_path, text, said):
    refusal = refused(recipe=yaml_file(tmp_path, text))
    assert said in refusal
    assert len(refusal) < 500
    assert "\n" not in refusal


def test_dates_are_texts_and_aliases_may_be_used(tmp_path):
    text = "name: 2024-01-01\ndata: {source: [&a {dataset: gta5, root: /x}, *a]}\n"
    recipe = load_recipe(yaml_file(tmp_path, text))
    assert (recipe.name, len(recipe.data.source)) == ("2024-01-01", 2)


@pytest.mark.parametrize("override", [
    "generate.count=1000000000000", "prompts.count=1000000000000", "train.steps=1000000000000", "model.hidden=1048576",
    "model.queries=1000000", "model.layers=1000", "augment.crop=[1000000,1000000]", "seed=1180591620717411303424",
    "name=../../x", "name=..", "name=a/b", "'name=\"a\\0b\"'".strip("'"), "name=" + "n" * 300,
], ids=lambda value: value[:24])  # fmt: skip
def test_what_nobody_means_is_refused_before_any_work(override):
    assert override.partition("=")[0] in refused(override)


def test_a_recipe_builds_on_another(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: demo\ntrain: {steps: 77, batch_size: 3}\ndata: {source: gta5}\n")
    (tmp_path / "sub").mkdir()
    top = tmp_path / "sub" / "top.yaml"
    top.write_text("extends: ../base.yaml\ntrain: {batch_size: 5}\ndata: {source: [synthia]}\n")
    recipe, demo = load_recipe(str(top), ["train.clip=3"]), load_recipe("demo")
    assert (recipe.name, recipe.train.steps, recipe.train.batch_size, recipe.train.clip) == ("top", 77, 5, 3)
    assert [each.dataset for each in recipe.data.source] == ["synthia"]
    assert recipe.train.learning_rate == demo.train.learning_rate
    assert recipe.model == demo.model


def test_a_recipe_that_extends_itself_is_refused_naming_the_way(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("extends: b.yaml\n")
    b.write_text("extends: a.yaml\n")
    assert f"extends itself: {a} -> {b} -> {a}; one has to stand alone" in refused(recipe=str(a))


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("gta-rn5", "a.yaml: extends: recipe 'gta-rn5': neither a shipped one (cityscapes-"),
        ("nowhere.yaml", "a.yaml: extends: recipe 'nowhere.yaml': neither"),
        ("[demo]", "extends: got ['demo']; expected a shipped recipe's name or the path of a YAML file"),
    ],
)
def test_an_unknown_base_is_refused(tmp_path, base, said):
    (tmp_path / "a.yaml").write_text(f"extends: {base}\n")
    assert said in refused(recipe=str(tmp_path / "a.yaml"))
