"""The recording car's own bonnet, taken out of the labels."""

import numpy as np
import pytest

import tiny
from clouds.config.label_sets import NAMES
from clouds.config.load import load_recipe
from clouds.data.images import write_png
from clouds.data.labelled import make_source, open_sets
from clouds.data.own_car import find_own_car, without
from clouds.errors import DataError, UsageError

ROAD, CAR, BUS = (NAMES.index(name) for name in ("road", "car", "bus"))
VEHICLES = np.array([CAR, BUS])


def recording(count, bonnet=True, size=(60, 80)):
    """Label maps of roads with a car somewhere, and a bonnet over the lowest fifth."""
    rng, maps = np.random.default_rng(0), []
    for _ in range(count):
        label = np.full(size, ROAD, np.uint8)
        y, x = rng.integers(5, 30), rng.integers(0, 60)
        label[y : y + 10, x : x + 15] = rng.choice([CAR, BUS])
        if bonnet:
            label[48:, 10:70] = CAR
        maps.append(label)
    return maps


def test_the_bonnet_is_found_and_other_cars_stay():
    maps = recording(20)
    own = find_own_car(maps, VEHICLES)
    expected = np.zeros((60, 80), bool)
    expected[47:, 9:71] = True  # with its rim
    assert np.array_equal(own, expected)
    cleaned = without(maps[0], own)
    assert (cleaned[own] == 255).all()
    assert np.array_equal(cleaned[~own], maps[0][~own])
    assert np.isin(cleaned, [CAR, BUS]).any()
    assert (maps[0][48:, 10:70] == CAR).all()  # what was read is left as it is


def test_some_images_may_lack_it():
    maps = recording(19)
    maps.append(recording(1, bonnet=False)[0])
    assert find_own_car(maps, VEHICLES) is not None


def test_a_car_parked_ahead_in_every_image_is_no_own_car():
    maps = recording(20, bonnet=False)
    for label in maps:
        label[20:40, 30:50] = CAR
    assert find_own_car(maps, VEHICLES) is None


TWO_SIZES = [*recording(9), *recording(1, size=(60, 81))]


@pytest.mark.parametrize("maps", [recording(20, bonnet=False), recording(4), TWO_SIZES])
def test_where_nothing_can_be_said_there_is_none(maps):
    assert find_own_car(maps, VEHICLES) is None


def test_a_label_of_another_size_is_left_alone():
    label = recording(1, size=(30, 30))[0]
    assert without(label, find_own_car(recording(20), VEHICLES)) is label


def source_of(tmp_path, maps, *settings):
    for k, label in enumerate(maps):
        write_png(tmp_path / "set" / "images" / f"{k:02d}.png", np.repeat(label[..., None] * 9, 3, axis=2))
        write_png(tmp_path / "set" / "labels" / f"{k:02d}.png", label)
    words = ["dataset: folder", f"root: {tmp_path / 'set'}", "images: 'images/{key}.png'", "labels: 'labels/{key}.png'"]
    source = f"data.source=[{{{', '.join([*words, *settings])}}}]"
    recipe = load_recipe("demo", [source, f"data.cache={tmp_path / 'cache'}"])
    return make_source(recipe, open_sets(recipe), tmp_path / "rendered")


@pytest.mark.parametrize("setting", ["own_car: keep", "own_car: ignore"])
def test_a_source_leaves_it_out_where_the_recipe_says_so(tmp_path, setting):
    maps = recording(12)
    source = source_of(tmp_path, maps, setting)
    ignored = setting.endswith("ignore")
    for _ in range(2):  # decoded, then from the cache
        for k, label in enumerate(maps):
            found = source[k][1]
            assert (found[47:, 9:71] == 255).all() == ignored
            assert np.array_equal(found[:40], label[:40])


def test_asking_for_it_in_vain_is_an_error_that_names_the_set(tmp_path):
    with pytest.raises(DataError, match="folder: own_car=ignore, but no vehicle stands at the bottom"):
        source_of(tmp_path, recording(12, bonnet=False), "own_car: ignore")


def test_an_unknown_word_is_refused():
    with pytest.raises(UsageError, match="own_car"):
        tiny.recipe("data.source=[{dataset: streets, own_car: drop}]")
