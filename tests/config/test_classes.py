"""``model.classes``: a set of the table or one of one's own, checked before anything is made."""

import ast
from pathlib import Path

import pytest

import clouds
from clouds.config.label_sets import CITYSCAPES, COLORS, LABEL_SETS, MOST, NAMES, SYNONYMS, LabelSet, label_set_of
from clouds.config.load import as_recipe, load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import differences, load_run, open_run
from clouds.errors import UsageError


def recipe(classes) -> Recipe:
    return Recipe.model_validate({"model": {"classes": classes}})


def own(classes) -> LabelSet:
    return recipe(classes).model.label_set


def test_the_default_is_the_table_of_the_published_checkpoints():
    found = load_recipe("demo").model.label_set
    assert found is CITYSCAPES
    assert (found.classes, found.synonyms, found.colors) == (NAMES, SYNONYMS, COLORS)
    assert len(NAMES) == 19
    assert sum(map(len, SYNONYMS)) == 60


def test_a_set_of_the_table_has_the_words_of_what_its_classes_hold():
    found = own("camvid11")
    words = found.synonyms[found.classes.index("sign")]
    assert words == ("traffic sign", "stop sign", "traffic light", "traffic lights")
    assert own("synthia16").synonyms == tuple(SYNONYMS[NAMES.index(name)] for name in own("synthia16").classes)
    assert all(each.synonyms and all(each.synonyms) for each in LABEL_SETS.values())


def test_ones_own_classes_keep_their_order_words_and_colours():
    crop = {"synonyms": ["peanut plant"], "color": [0, 255, 0]}
    found = own({"soil": ["soil", "bare ground"], "crop": crop, "weed": None})
    assert found.classes == ("soil", "crop", "weed")
    assert found.synonyms == (("soil", "bare ground"), ("peanut plant",), ("weed",))
    assert found.colors[1] == (0, 255, 0)
    assert len({*found.colors, (0, 0, 0)}) == 4, "no two alike, and none is the black of what is ignored"


def test_as_many_classes_as_bytes_can_tell_from_what_is_ignored_have_colours_of_their_own():
    found = own({f"thing {k}": None for k in range(MOST)})
    assert len(found.classes) == MOST == 254
    assert len(set(found.colors)) == MOST


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [
        ("cityscapes20", "model.classes: got 'cityscapes20'; expected one of cityscapes19, synthia16"),
        ({}, "classes: got none; expected two or more"),
        ({"weed": ["weed"]}, "classes: got weed; expected two or more: a model of one class calls every pixel so"),
        ({"soil": ["soil"], "Soil ": ["earth"]}, "soil is given twice, but for capitals or blanks"),
        ({"crop": ["plant", "leaf"], "weed": ["Leaf"]}, "'leaf' is a synonym of crop and of weed; keep one"),
        ({"crop": ["plant", "plant"], "weed": None}, "classes.crop: a synonym is given twice"),
        ({"crop": [], "weed": None}, "List should have at least 1 item"),
        ({1: ["one"], "two": None}, "1 is not the name of a class"),
        ({"": ["one"], "two": None}, "'' is not the name of a class"),
        ({"a": {"synonyms": ["a"], "color": [0, 0, 256]}, "b": None}, "less than or equal to 255"),
        ({f"thing {k}": None for k in range(255)}, "classes: got 255; expected at most 254"),
        (["soil", "crop"], "model.classes"),
    ],
)
def test_classes_that_cannot_be_are_named(classes, complaint):
    with pytest.raises(UsageError) as error:
        as_recipe({"model": {"classes": classes}}, "x")
    assert complaint.lower() in str(error.value).lower()


def test_a_recipe_that_extends_another_has_its_own_classes_alone(tmp_path):
    (tmp_path / "field.yaml").write_text("extends: demo\nmodel: {classes: {soil: [soil], crop: [plant]}}\n")
    (tmp_path / "roof.yaml").write_text("extends: field.yaml\nmodel: {classes: {roof: [roof], rest: [ground]}}\n")
    assert load_recipe(str(tmp_path / "roof.yaml")).model.label_set.classes == ("roof", "rest")
    (tmp_path / "named.yaml").write_text("extends: field.yaml\nmodel: {classes: synthia16}\n")
    assert load_recipe(str(tmp_path / "named.yaml")).model.label_set is LABEL_SETS["synthia16"]


def test_a_run_goes_on_with_its_classes_and_refuses_the_same_in_another_order(tmp_path):
    mine = recipe({"soil": ["soil"], "crop": ["plant"]})
    open_run(mine, tmp_path / "run")
    assert load_run(tmp_path / "run") == mine
    assert differences(mine, tmp_path / "run") == {}
    open_run(mine, tmp_path / "run")
    with pytest.raises(UsageError, match=r"holds a run of other settings: model\.classes"):
        open_run(recipe({"crop": ["plant"], "soil": ["soil"]}), tmp_path / "run")


def test_the_set_of_a_model_is_found_by_its_classes():
    assert label_set_of(NAMES) is CITYSCAPES
    found = label_set_of(["road", "kiosk"])
    assert (found.name, found.members) == ("own", (("road",), ("kiosk",)))
    assert found.colors[0] == COLORS[0]


# the table, what published files store, the renderer, and the stand-in model for tests of one's own backends
KNOW = ("config/label_sets.py", "data/codes.py", "data/formats/voc.py", "streets/", "testing/model_contract.py")


def test_no_other_module_knows_which_classes_there_are():
    package = Path(clouds.__file__).parent
    knowing = {}
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).as_posix()
        if place.startswith(KNOW):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        names = {value for value in constants if isinstance(value, str)} & {*NAMES}
        if len(names) > 2:
            knowing[place] = sorted(names)
    assert knowing == {}


def test_other_domains_are_scored_anew_and_nothing_is_refused(tmp_path):
    run = tmp_path / "run"
    open_run(load_recipe("demo", []), run)
    for domains in ("[town]", "[town, fog]", "[{name: mine, dataset: camvid}]", "[fog]", "null"):
        (run / "results.json").write_text("{}")
        open_run(load_recipe("demo", [f"evaluate.domains={domains}"]), run)
        assert not (run / "results.json").exists()
    with pytest.raises(UsageError, match=r"holds a run of other settings: train\.steps \(440 there, 3 now\)\."):
        open_run(load_recipe("demo", ["evaluate.domains=[town]", "train.steps=3"]), run)
