"""Where models are scored: rendered and photo domains by name, and those that are not on this disk."""


import numpy as np
import pytest

import fabricate
from clouds.config.label_sets import IGNORE, NAMES
from clouds.config.load import load_recipe
from clouds.data.labels import LABEL_SETS
from clouds.errors import DataError, UsageError
from clouds.evaluate.domains import RENDERED, all_domains, find_domains, photo_domain, rendered_domain, unseen_domains


def recipe(*overrides: str):
    return load_recipe("demo", list(overrides))


def test_rendered_domains_are_fixed_by_name_and_number():
    one, two = rendered_domain("fog", 2), rendered_domain("night", 2)
    (name, image, label), again = one.sample(1), one.sample(1)
    assert name == "fog-001"
    assert image.shape == (*label.shape, 3)
    assert np.array_equal(image, again[1])
    assert np.array_equal(label, again[2])
    assert not np.array_equal(image, one.sample(0)[1])
    assert not np.array_equal(image, two.sample(1)[1])


def test_without_photos_the_unseen_domains_are_the_rendered_ones():
    assert [d.name for d in unseen_domains(recipe())] == list(RENDERED) == ["town", "fog", "night", "rain", "snow"]
    assert {d.length for d in unseen_domains(recipe("evaluate.rendered_count=7"))} == {7}


def test_photos_that_are_there_join_the_unseen_domains(root):
    fabricate.as_folder({"testannot/0001TP_f0.png": fabricate.png(np.zeros(fabricate.SIZE, np.uint8)),
                         "test/0001TP_f0.png": fabricate.png(fabricate.picture(0))}, root / "camvid")
    found = unseen_domains(recipe(f"data.root={root}"))[len(RENDERED):]
    assert [(d.name, d.length, d.label_set.name) for d in found] == [
        ("camvid-day", 9, "camvid11"), ("camvid-dusk", 1, "camvid11"), ("idd-lite", 2, "idd-lite7"),
    ]  # fmt: skip


def test_any_domain_is_scored_without_what_synthia_cannot_teach(root):
    plain = rendered_domain("town", 1).sample(0)[2]
    for name, without in (("synthia16", "terrain truck train"), ("synthia13", "terrain truck train wall fence pole")):
        chosen = recipe(f"data.root={root}", f"evaluate.label_set={name}")
        town, camvid = all_domains(["town", "camvid-day"], chosen)
        assert (town.label_set, town.label_set.name) == (LABEL_SETS[name], name)
        label = town.sample(0)[2]
        for k, own in enumerate(NAMES):
            wanted = IGNORE if own in without.split() else town.label_set.classes.index(own)
            assert set(label[plain == k].tolist()) <= {wanted}
        assert (label[plain == IGNORE] == IGNORE).all()
        lost = {"pole", "fence"} if name == "synthia13" else set()
        assert set(LABEL_SETS["camvid11"].classes) - set(camvid.label_set.classes) == lost
    assert load_recipe("synthia-rn101", []).evaluate.label_set == "synthia16"


def test_at_most_max_images_are_taken_evenly_from_first_to_last(root):
    assert photo_domain("camvid-day", root, 3).indices == (0, 4, 8)
    assert photo_domain("camvid-day", root, 5).indices == (0, 2, 4, 6, 8)
    assert photo_domain("camvid-day", root, 1).indices == (0,)
    assert photo_domain("camvid-day", root, 50).indices == tuple(range(9))
    names = [photo_domain("camvid-day", root, 3).sample(i)[0] for i in range(3)]
    assert [name[-4:] for name in names] == ["0000", "0004", "0008"]


def test_a_photo_and_its_truth_are_read_as_the_dataset_stores_them(root):
    _, image, label = photo_domain("camvid-day", root).sample(2)
    expected = fabricate.pick(2, [0, 3, 11]).astype(np.uint8)
    assert np.array_equal(image, fabricate.picture(2))
    assert np.array_equal(label, np.where(expected == 11, IGNORE, expected))


def test_a_label_of_another_size_than_its_photo_is_named(root):
    path = root / "camvid/testannot/Seq05VD_f00002.png"
    path.write_bytes(fabricate.png(np.zeros((3, 3), np.uint8)))
    with pytest.raises(DataError, match="Seq05VD_f00002"):
        photo_domain("camvid-day", root).sample(2)


@pytest.mark.parametrize(("name", "overrides", "said"), [
    ("mars", (), "unknown domain 'mars'; rendered: town, fog, night, rain, snow; photos: "),
    ("camvid-day", (), "camvid-day: needs data.root=PATH, the folder that holds camvid/"),
    ("camvid-day", ("data.root=/nowhere",), "camvid-day: data.root=/nowhere holds no camvid/"),
])  # fmt: skip
def test_a_domain_that_cannot_be_had_is_refused_saying_what_to_do(name, overrides, said):
    with pytest.raises(UsageError) as caught:
        all_domains([name], recipe(*overrides))
    assert said in str(caught.value)


def test_a_root_that_is_no_folder_of_datasets_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"data\.root: /nowhere is not a folder"):
        unseen_domains(recipe("data.root=/nowhere"))
    with pytest.raises(UsageError, match="holds none of bdd100k, camvid, idd20k_lite; point it at"):
        unseen_domains(recipe(f"data.root={tmp_path}"))


def test_an_unpaired_dataset_is_refused_before_scoring(root):
    (root / "camvid/testannot/Seq05VD_f00002.png").unlink()
    with pytest.raises(DataError, match="Seq05VD_f00002"):
        find_domains(["camvid-day"], recipe(f"data.root={root}"))
