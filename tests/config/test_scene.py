"""What pictures show, as data: shipped scenes, one of one's own, and what is wrong with one, said before any work."""

import pytest
import yaml

from clouds import cli
from clouds.config.load import as_recipe, load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import differences, load_run, open_run
from clouds.config.scene import shipped_places, shipped_scene
from clouds.errors import UsageError
from clouds.streets import VOCABULARY

YARD = {
    "picture": "a yard with hens",
    "sentence": "A photo of {birds} in a yard[ in {season}], {light}.",
    "attributes": {
        "birds": ["hens", "a rooster"],
        "light": ["at noon", "at dusk"],
        "season": {"spring": "april|may", "winter": None},
    },
    "on_subject": ["yard", "hen"],
}
SHIPPED = pytest.mark.parametrize("name", shipped_places())


@SHIPPED
def test_a_shipped_scene_has_no_fault(name):
    scene = load_recipe("demo", [f"scene={name}"]).scene
    assert (scene.shipped, scene.faults()) == (name, [])
    assert scene is shipped_scene(name)
    assert scene.attributes.keys() == {part.attribute for part in scene.parts if part.attribute}
    assert len(scene.examples) == 2


def test_streets_have_the_phrases_that_the_renderer_draws_in_its_order():
    scene = Recipe().scene
    assert scene.shipped == "streets"
    assert [(name, list(phrases)) for name, phrases in scene.attributes.items()] == [
        (name, list(phrases)) for name, phrases in VOCABULARY.items()
    ]


def test_a_recipe_keeps_the_name_or_the_keys(tmp_path):
    assert load_recipe("demo", ["scene=crops"]).model_dump(mode="json")["scene"] == "crops"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"scene": YARD}))
    recipe = load_recipe(str(path))
    assert recipe.scene.shipped is None
    assert recipe.scene.attributes["birds"] == {"hens": None, "a rooster": None}
    assert recipe.scene.sometimes == ("season",)
    assert as_recipe(recipe.model_dump(mode="json"), "again") == recipe.model_copy(update={"name": "mine"})


def test_a_run_goes_on_with_its_scene_and_with_no_other(tmp_path):
    mine = as_recipe({"scene": YARD}, "mine")
    open_run(mine, tmp_path)
    open_run(mine, tmp_path)
    assert load_run(tmp_path).scene == mine.scene
    other = as_recipe({"scene": YARD | {"picture": "a coop"}}, "mine")
    assert differences(other, tmp_path) == {"scene.picture": ("a yard with hens", "a coop")}
    with pytest.raises(UsageError, match=r"holds a run of other settings: .*scene \(None there, crops now\)"):
        open_run(as_recipe({"scene": "crops"}, "mine"), tmp_path)


@pytest.mark.parametrize(("change", "said"), [
    ({"attributes": {}}, "scene.attributes: got none; expected what varies"),
    ({"attributes": YARD["attributes"] | {"light": []}}, "attributes.light: got ..; expected at least one phrase"),
    ({"attributes": YARD["attributes"] | {"light": None}}, "scene.attributes.light: got None; expected a list of phr"),
    ({"attributes": YARD["attributes"] | {"light": ["x", "x"]}}, "scene.attributes.light: .*'x' is there twice"),
    ({"attributes": YARD["attributes"] | {"light": ["Hens"]}}, "scene.attributes: the phrase 'hens' is there tw"),
    ({"attributes": YARD["attributes"] | {"light": ["at [noon]"]}}, "the phrase 'at .noon.': expected words"),
    ({"attributes": YARD["attributes"] | {"light": [" "]}}, "the phrase ' ': expected words"),
    ({"attributes": YARD["attributes"] | {"light": {"noon": "(mid"}}}, r"light: .*'\(mid' is not a regular expres"),
    ({"attributes": YARD["attributes"] | {"light": {"noon": "x?"}}}, "'x.' is found in every sentence"),
    ({"attributes": YARD["attributes"] | {"classes": ["x"]}}, "scene.attributes.classes: the classes of the model"),
    ({"sentence": "A {birds}, {light}, {seasons}."}, "scene.sentence: unknown attribute 'seasons'; did you mean seaso"),
    ({"sentence": "A {birds}, {light}."}, "scene.sentence: says nothing of season; name each attribute, as {season}"),
    ({"sentence": "A {birds} {birds} {light} {season}"}, "scene.sentence: names 'birds' 2 times"),
    ({"sentence": "A {birds} [at times] {light} {season}"}, "scene.sentence: got .*no other brackets or braces"),
    ({"sentence": "A {birds [{light}] {season}"}, "scene.sentence: got .*no other brackets or braces"),
    ({"several": ["bird"]}, "scene.several: unknown attribute 'bird'; did you mean birds"),
    ({"on_subject": []}, "scene.on_subject: got .*; expected words of which each prompt has one"),
    ({"on_subject": "yard"}, "scene.on_subject: got 'yard'; expected a list of words"),
    ({"off_subject": [" "]}, "scene.off_subject: got .*; ' ' is not a word"),
    ({"spoken": {"hen": "hens)"}}, "scene.spoken: got .*'hen': 'hens.' is not a regular expression"),
    ({"atributes": {}}, "scene.atributes: unknown key; did you mean scene.attributes"),
])  # fmt: skip
def test_a_fault_is_named_before_any_work(change, said):
    with pytest.raises(UsageError, match=said):
        as_recipe({"scene": YARD | change}, "mine")


@pytest.mark.parametrize(("value", "said"), [
    ("crop", "scene: got 'crop'; did you mean crops. expected streets or crops, or a scene of your own"),
    ("3", "scene: got 3; expected streets or crops"), ("[a]", r"scene: got \['a'\]; expected streets or crops"),
])  # fmt: skip
def test_an_unknown_name_is_answered_with_the_shipped_ones(value, said, capsys, tmp_path):
    with pytest.raises(UsageError, match=said):
        load_recipe("demo", [f"scene={value}"])
    assert cli.run(["prompts", "demo", f"scene={value}", "--out", str(tmp_path / "p.jsonl")]) == 2
    assert list(tmp_path.iterdir()) == []
