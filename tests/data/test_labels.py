"""Label sets and folding: the tables of the benchmark's rules, and what must hold for any set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.config.label_sets import COLORS, NAMES
from clouds.data import codes
from clouds.data.labels import (
    LABEL_SETS,
    UNKNOWN,
    LabelSet,
    colorize,
    find_label_set,
    folding,
    make_label_set,
    train_ids,
    value_table,
)
from clouds.data.layouts import DATASETS
from clouds.errors import UsageError

SETS = pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=list(LABEL_SETS))


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSet:
    """Any grouping of some of the 19 classes, in any order."""
    order = draw(st.permutations(NAMES))
    groups = draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    rows, start = {}, 0
    for i, size in enumerate(groups):
        rows[f"class {i}"] = order[start : start + size]
        start += size
    return make_label_set("drawn", rows)


def by_name(target: LabelSet) -> dict[str, str]:
    """Cityscapes class -> the target's class it folds into."""
    return {NAMES[i]: target.classes[k] for i, k in enumerate(folding(target)[:19]) if k != 255}


def test_folding_into_camvid_follows_the_rules() -> None:
    folded = by_name(LABEL_SETS["camvid11"])
    assert {n for n, c in folded.items() if c == "car"} == {"car", "truck", "bus", "train"}
    assert {n for n, c in folded.items() if c == "bicyclist"} == {"rider", "bicycle", "motorcycle"}
    assert {n for n, c in folded.items() if c == "sign"} == {"traffic light", "traffic sign"}
    assert folded["wall"] == "building"
    assert folded["terrain"] == "vegetation"
    assert len(folded) == 19
    expected = (
        "sky",
        "building",
        "pole",
        "road",
        "sidewalk",
        "vegetation",
        "sign",
        "fence",
        "car",
        "person",
        "bicyclist",
    )
    assert LABEL_SETS["camvid11"].classes == expected


def test_folding_into_idd_lite_follows_the_rules() -> None:
    groups = [
        {"road"},
        {"sidewalk", "terrain"},
        {"person", "rider"},
        {"car", "truck", "bus", "train", "motorcycle", "bicycle"},
        {"wall", "fence", "pole", "traffic light", "traffic sign"},
        {"building", "vegetation"},
        {"sky"},
    ]
    table = folding(LABEL_SETS["idd-lite7"])
    assert [{NAMES[i] for i in range(19) if table[i] == k} for k in range(7)] == groups


def test_subsets_keep_their_classes_and_drop_the_others() -> None:
    assert (folding(LABEL_SETS["cityscapes19"])[:19] == np.arange(19)).all()
    assert set(NAMES) - set(by_name(LABEL_SETS["synthia16"])) == {"terrain", "truck", "train"}
    assert set(by_name(LABEL_SETS["synthia16"])) - set(by_name(LABEL_SETS["synthia13"])) == {"wall", "fence", "pole"}
    assert len(LABEL_SETS["synthia13"].classes) == 13
    for name in ("cityscapes19", "synthia16", "synthia13"):  # and train as themselves
        label_set = LABEL_SETS[name]
        assert train_ids(label_set).tolist() == [*map(NAMES.index, label_set.classes)] + [255] * (
            256 - len(label_set.classes)
        )


@SETS
def test_shipped_sets_are_well_formed(label_set: LabelSet) -> None:
    assert len(label_set.classes) == len(label_set.colors) == len(label_set.members)
    assert len(set(label_set.colors)) == len(label_set.colors)  # a map in colours can be kept apart
    for name, trains_as, members in zip(label_set.classes, label_set.trains_as, label_set.members, strict=True):
        assert trains_as == "" or trains_as in members, name
    table, back = folding(label_set), train_ids(label_set)
    for k in range(len(label_set.classes)):  # what a class trains as folds back into that class
        assert back[k] == 255 or table[back[k]] == k


def test_mixed_classes_train_nothing() -> None:
    lite = LABEL_SETS["idd-lite7"]
    ignored = {lite.classes[k] for k in range(7) if train_ids(lite)[k] == 255}
    assert ignored == {"non-drivable", "roadside objects", "far objects"}
    assert NAMES[train_ids(LABEL_SETS["camvid11"])[LABEL_SETS["camvid11"].classes.index("bicyclist")]] == "rider"


@given(label_sets())
def test_folding_any_set(label_set: LabelSet) -> None:
    table = folding(label_set)
    assert table.shape == (256,)
    assert table.dtype == np.uint8
    assert (table[19:] == 255).all()  # the ignore index stays, and no stranger becomes a class
    for i, name in enumerate(NAMES):  # each train id goes to the one class that holds it, or to none
        owners = [k for k, members in enumerate(label_set.members) if name in members]
        assert table[i] == (owners[0] if owners else 255)
    back = train_ids(label_set)
    assert (back[len(label_set.classes) :] == 255).all()
    for k, members in enumerate(label_set.members):
        assert back[k] == (NAMES.index(members[0]) if members else 255)


@given(label_sets(), st.integers(0, 2**32 - 1))
def test_fold_then_colour_shows_the_class_of_each_pixel(label_set: LabelSet, seed: int) -> None:
    label = np.random.default_rng(seed).choice([*range(19), 255], (5, 7)).astype(np.uint8)
    folded = folding(label_set)[label]
    colored = colorize(folded, label_set)
    assert colored.shape == (5, 7, 3)
    for k, color in enumerate(label_set.colors):
        assert (colored[folded == k] == color).all()
    assert not colored[folded == 255].any()


def test_colorize_uses_cityscapes_by_default() -> None:
    assert colorize(np.arange(19, dtype=np.uint8)[None]).tolist() == [[list(c) for c in COLORS]]


def test_a_class_of_two_owners_is_refused() -> None:
    with pytest.raises(UsageError, match="car would fold into two classes"):
        make_label_set("mine", {"a": ["car"], "b": ["car", "bus"]})


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [({"a": ["lorry"]}, "lorry not among the 19"), ({}, "expected 1 to"), ({"a": ["car"], "": []}, None)],
)
def test_sets_that_make_no_sense_are_refused(classes: dict[str, list[str]], complaint: str | None) -> None:
    if complaint is None:
        folding(make_label_set("mine", classes))
        return
    with pytest.raises(UsageError, match=complaint):
        folding(make_label_set("mine", classes))
    with pytest.raises(UsageError, match=complaint):
        train_ids(make_label_set("mine", classes))


def test_a_set_without_colours_for_all_is_refused() -> None:
    with pytest.raises(UsageError, match="2 classes but 1 colors"):
        LabelSet("mine", ("car", "bus"), ((0, 0, 0),))


def test_an_unknown_set_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown label set 'coco'; there are cityscapes19, synthia16"):
        find_label_set("coco")


def test_value_tables_mark_what_nobody_defined() -> None:
    table = value_table({7: "road", 0: ""}, LABEL_SETS["cityscapes19"])
    assert (table[7], table[0], table[255], table[8], UNKNOWN) == (0, 255, 255, UNKNOWN, 254)
    assert table.shape == (256,)
    with pytest.raises(UsageError, match="'lorry' is not a class of cityscapes19"):
        value_table({1: "lorry"}, LABEL_SETS["cityscapes19"])
    with pytest.raises(UsageError, match="value 300"):
        value_table({300: "road"}, LABEL_SETS["cityscapes19"])


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_layout_maps_into_its_label_set(name: str) -> None:
    spec = DATASETS[name]
    assert spec.scored in spec.splits
    for layout in spec.layouts:
        target = find_label_set(layout.label_set or spec.label_set)
        for meaning in (*layout.values.values(), *layout.colors.values(), *layout.names.values()):
            assert meaning == "" or meaning in target.classes


def test_vistas_names_agree_with_its_ids() -> None:
    names = {13: "construction--flat--road", 24: "marking--general", 2: "construction--barrier--curb",
             50: "object--traffic-sign--front", 49: "object--traffic-sign--back", 20: "human--rider--bicyclist",
             47: "object--support--utility-pole", 58: "object--vehicle--on-rails", 19: "human--person",
             23: "marking--crosswalk-zebra", 63: "void--car-mount", 48: "object--traffic-light"}  # fmt: skip
    assert {i: codes.vistas_class(n) for i, n in names.items()} == {i: codes.VISTAS_IDS[i] for i in names}


FIELD = LabelSet("own", ("soil", "crop", "weed"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)))
STREET = LabelSet("own", ("road", "car", "door"), ((0, 0, 0), (0, 255, 0), (255, 0, 0)))


def named(table: np.ndarray, source: LabelSet, target: LabelSet) -> dict[str, str]:
    """A table as names: class -> class, without those that fold to none."""
    return {name: target.classes[k] for name, k in zip(source.classes, table.tolist(), strict=False) if k != 255}


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_set_folds_into_itself_whole(name: str) -> None:
    own = LABEL_SETS[name]
    assert folding(own, own)[: len(own.classes)].tolist() == list(range(len(own.classes)))
    assert train_ids(own, own)[: len(own.classes)].tolist() == list(range(len(own.classes)))


def test_a_model_of_coarse_classes_learns_from_finer_labels_and_is_scored_on_them() -> None:
    camvid, all19 = LABEL_SETS["camvid11"], LABEL_SETS["cityscapes19"]
    found = named(train_ids(all19, camvid), all19, camvid)
    assert (found["wall"], found["truck"], found["traffic light"]) == ("building", "car", "sign")
    assert named(folding(LABEL_SETS["idd-lite7"], camvid), camvid, LABEL_SETS["idd-lite7"]) == {
        "sky": "sky", "pole": "roadside objects", "road": "drivable", "sidewalk": "non-drivable", "fence":
        "roadside objects", "car": "vehicles", "person": "living things", "sign": "roadside objects",
        "building": "far objects", "vegetation": "far objects",
    }, "a bicyclist is a rider and a bicycle, which have no one place"  # fmt: skip


def test_classes_of_ones_own_meet_a_dataset_by_name_or_by_the_recipes_map() -> None:
    all19 = LABEL_SETS["cityscapes19"]
    assert named(train_ids(all19, STREET), all19, STREET) == {"road": "road", "car": "car"}
    fold = {"sidewalk": "road", "truck": "car", "car": None}
    assert named(train_ids(all19, STREET, fold), all19, STREET) == {"road": "road", "sidewalk": "road", "truck": "car"}
    assert (train_ids(all19, FIELD) == 255).all()
    with pytest.raises(UsageError, match="'lorry' is not a class of cityscapes19"):
        train_ids(all19, STREET, {"lorry": "car"})
    with pytest.raises(UsageError, match="'lorry' is not a class of own; it has road, car, door"):
        train_ids(all19, STREET, {"truck": "lorry"})


def test_254_classes_are_told_from_what_is_ignored_and_what_nobody_defined() -> None:
    many = LabelSet("many", tuple(f"c{k}" for k in range(254)), ((0, 0, 0),) * 254)
    table = value_table(dict(enumerate(many.classes)), many)
    assert table.tolist() == [*range(254), 254, 255]
    with pytest.raises(UsageError, match="expected 1 to 254 different classes"):
        LabelSet("many", tuple(f"c{k}" for k in range(255)), ((0, 0, 0),) * 255)
