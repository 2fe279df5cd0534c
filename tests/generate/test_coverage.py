"""What a set of prompts speaks of, how evenly and how differently: against hand-worked numbers."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.config.label_sets import NAMES
from clouds.config.recipe import Recipe
from clouds.foundation.writers.grammar import Grammar
from clouds.generate.coverage import briefs, distinct, evenness, most_even, summary, vendi
from clouds.generate.subject import subject_of
from clouds.streets import VOCABULARY

STREETS = subject_of(Recipe())
FOG = "A photo of a village street in fog at night, cyclists."


def test_a_prompt_mentions_phrases_and_classes():
    found = STREETS.mentions(FOG)
    assert (found["place"], found["weather"], found["actors"]) == (["a village street"], ["in fog"], ["cyclists"])
    assert set(found["classes"]) == {"road", "building", "rider", "bicycle"}


def test_what_is_denied_is_not_mentioned():
    assert "person" not in STREETS.mentions("A photo of a road at night, no people.")["classes"]
    assert "car" not in STREETS.mentions("A road at night without cars.")["classes"]


@pytest.mark.parametrize("name", NAMES)
def test_each_class_is_heard_by_its_name(name):
    assert name in STREETS.mentions(f"A photo of a {name} seen at noon.")["classes"]


@pytest.mark.parametrize(("counts", "wanted"), [
    ([5, 5, 5, 5], 1.0), ([7, 0, 0, 0], 0.0), ([], 0.0), ([0, 0], 0.0), ([3], 0.0), ([2, 2, 0, 0], 0.5),
    ([1, 3], -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)),
])  # fmt: skip
def test_evenness_is_normalised_entropy(counts, wanted):
    assert evenness(counts) == pytest.approx(wanted)


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_evenness_stays_between_0_and_1(counts):
    assert 0 <= evenness(counts) <= 1


def test_distinct_counts_runs_of_words():
    assert distinct(["a b a b", "a b"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct(["one"], 2) == distinct([], 1) == 0


def test_vendi_counts_the_unlike_rows():
    one, two = np.eye(4, dtype=np.float32)[:2]
    assert vendi(np.stack([one] * 5)) == pytest.approx(1)
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.stack([one, one, two, two])) == pytest.approx(2)
    half = np.array([math.cos(math.pi / 3), math.sin(math.pi / 3)])  # eigenvalues of [[1, .5], [.5, 1]] / 2: 3/4, 1/4
    wanted = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert vendi(np.stack([np.array([1.0, 0.0]), half])) == pytest.approx(wanted)
    assert vendi(np.zeros((0, 4))) == 0


def test_vendi_is_the_same_by_rows_or_by_columns():
    rows = np.random.default_rng(0).normal(size=(30, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wide = np.pad(rows, ((0, 0), (0, 40)))
    assert vendi(rows) == pytest.approx(vendi(wide))


def test_a_summary_tells_a_varied_set_from_a_dull_one():
    embedded = []

    def embed(texts):
        embedded.append(len(texts))
        return np.eye(len(texts))

    varied, dull = summary(STREETS, Grammar().write([], 60, 0), embed), summary(STREETS, [FOG] * 60, embed)
    for attribute in (*VOCABULARY, "classes"):
        assert varied["coverage"][attribute] > dull["coverage"][attribute]
        assert varied["evenness"][attribute] >= dull["evenness"][attribute]
    assert varied["coverage"]["place"] == 1
    assert dull["coverage"]["place"] == pytest.approx(1 / len(VOCABULARY["place"]), abs=1e-4)
    assert varied["distinct_2"] > dull["distinct_2"]
    assert (varied["vendi"], embedded) == (60, [60, 60])
    assert summary(STREETS, [], embed)["vendi"] is None


def test_real_embeddings_call_the_grammar_more_varied_than_one_street():
    from clouds.foundation.backbone import build_text

    embed = build_text("all-minilm-l6-v2").embed
    dull = [f"A photo of a village street in fog at night, {n} cyclists." for n in range(12)]
    assert summary(STREETS, Grammar().write([], 12, 0), embed)["vendi"] > 1.5 * summary(STREETS, dull, embed)["vendi"]


def test_briefs_ask_first_for_what_nobody_spoke_of():
    rng = np.random.default_rng(0)
    places = list(VOCABULARY["place"])
    spoken = [f"A photo of {place} in fog at night, cars." for place in places[:-2]]
    asked = briefs(STREETS, spoken, 2, rng)
    assert {STREETS.mentions(each)["place"][0] for each in asked} == set(places[-2:])
    assert all(STREETS.mentions(each)["weather"] != ["in fog"] and "at night" not in each for each in asked)


def test_briefs_alone_cover_everything_evenly():
    heard = STREETS.counted(briefs(STREETS, [], 60, np.random.default_rng(1)))
    for attribute in ("place", "weather", "light", "actors"):
        counts = [heard[attribute][phrase] for phrase in VOCABULARY[attribute]]
        assert max(counts) <= 2 * min(counts), attribute
    assert min(heard["classes"].values()) > 0


def test_the_most_even_choice_drops_what_is_said_twice():
    prompts = ["A street in fog at night, cars."] * 3 + ["A road in the rain at noon, buses.", "A lane at dawn, trams."]
    assert most_even(STREETS, prompts, 3) == [0, 3, 4]
    assert most_even(STREETS, prompts, 9) == [0, 1, 2, 3, 4]
    assert most_even(STREETS, prompts[3:], 1, [prompts[3]]) == [1]
    assert Counter(most_even(STREETS, prompts, 0)) == {}
