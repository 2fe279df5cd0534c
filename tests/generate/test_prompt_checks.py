"""Answers of language models: taken apart in any form, each line checked, twins found by any route."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.config.scene import shipped_scene
from clouds.generate.checks import ALIKE, REASONS, Sieve, fault, jaccard, parse_list, shingles

STREETS = shipped_scene()
GOOD = "A photo of a wide boulevard in the rain at dusk, with buses and cyclists."
OTHER = "Snow covers a quiet village street on a winter morning while a truck waits at the crossing."


@pytest.mark.parametrize("form", [
    "1. {}\n2. {}", "1) {}\n2) {}", "(1) {}\n(2) {}", "- {}\n- {}", "* {}\n* {}", "• {}\r\n• {}", "{}\n\n{}\n",
    "Scene 1: {}\nScene 2: {}", "Prompt 1. {}\nPrompt 2. {}", '1. "{}"\n2. "{}"', "1. **{}**\n2. **{}**",
    "- 1. {}\n- 2. {}", "> 1. {}\n> 2. {}", '["{}", "{}"]', '[{{"prompt": "{}", "id": 7}}, {{"prompt": "{}"}}]',
    '```json\n["{}",\n "{}"]\n```', "```\n1. {}\n2. {}\n```", 'Sure:\n["{}", "{}"]\nMore?', '["{}", "{}", "A ph',
    '["{}", "{}",]', "\ufeff1.\t{}\n2.\u00a0{}", "#1. {}\n#2. {}",
])  # fmt: skip
def test_a_list_is_read_in_any_form(form):
    assert parse_list(form.format(GOOD, OTHER)) == [GOOD, OTHER]


@pytest.mark.parametrize("form", [
    '<think>\n["a draft of a street at night", "two"]\n</think>\n1. {0}\n2. {1}',
    "I could describe a road with {1}\n</think>\n1. {0}\n2. {1}",
    "[THINK]a street in the rain[/THINK]{0}\n{1}",
    "<reasoning>a road at night, with cars</reasoning>\n- {0}\n- {1}\n<think>more of a road",
    "<|channel|>analysis<|message|>a road<|end|><|start|>assistant<|channel|>final<|message|>{0}\n{1}<|return|>",
    "1. {0}<|im_end|>\n2. {1}</s>",
    '{{"prompt": "{0}"}}\n{{"prompt": "{1}"}}',
    '{{"1": "{0}", "2": "{1}"}}',
    '{{"scenes": {{"scene_1": "{0}", "scene_2": "{1}"}}}}',
    "| 1 | {0} |\n| 2 | {1} |",
])  # fmt: skip
def test_thoughts_tokens_and_the_forms_of_servers_leave_the_scenes(form):
    assert parse_list(form.format(GOOD, OTHER)) == [GOOD, OTHER]


def test_what_stands_around_a_list_is_left_to_the_checks():
    lines = parse_list(f"Sure! Here are two scenes:\n\n1. {GOOD}\n2. {OTHER}\n\nLet me know if you need more!")
    assert [fault(line, STREETS) for line in lines] == ["chatter", None, None, "chatter"]


@pytest.mark.parametrize("line", ["24 cars wait", "10:30 in the morning", "[In the rain] a street", "2 lanes"])
def test_numbers_and_brackets_that_are_no_list_stay(line):
    assert parse_list(line) == [line]


@given(st.text())
def test_nothing_breaks_the_parser_or_the_checks(text):
    for line in parse_list(text):
        assert line == line.strip()
        assert "\n" not in line
        assert fault(line, STREETS) in {None, *REASONS}


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_gives_lines(value):
    assert all(isinstance(line, str) and line for line in parse_list(json.dumps([value, "a b"])))


WORDS = ["cars", "street", "night", "rain", "people", "wait", "slowly", "under", "tall", "trees", "near", "old", "vans"]
SENTENCE = st.lists(st.sampled_from(WORDS), min_size=2, max_size=12).map(" ".join)


@given(st.lists(SENTENCE, min_size=1, max_size=8))
def test_numbered_bulleted_and_json_lists_say_the_same(sentences):
    forms = ["\n".join(f"{k}. {s}" for k, s in enumerate(sentences, 1)), "\n".join(f"- {s}" for s in sentences),
             json.dumps(sentences), "```json\n" + json.dumps(sentences, indent=1) + "\n```"]  # fmt: skip
    assert [parse_list(form) for form in forms] == [sentences] * 4


@pytest.mark.parametrize(("line", "reason"), [
    (GOOD, None), (OTHER, None),
    ("A rainy street.", "too short"),
    ("A street with " + "cars and buses and trams and " * 20, "too long"),
    ("Here are five scenes of streets in the city:", "chatter"),
    ("I cannot describe streets with people in them.", "chatter"),
    ("What does the street look like at night?", "chatter"),
    ("A street in the city https://example.org with cars.", "markup"),
    ("<b>A street</b> with cars in the rain at night", "markup"),
    ("Une rue étroite sous une pluie battante, voitures garées", "not English"),
    ("Улица в старом городе под дождём ночью, машины", "not English"),
    ("10 20 30 40 50 60 70", "not English"),
    ("A busy street after an explosion, with corpses on the road.", "unsafe"),
    ("Two NUDE people walk across a street in the rain.", "unsafe"),
    ("A kitchen with a street view and a bowl of fruit on the table.", "off-topic"),
    ("A delicious bowl of soup with bread on a wooden table.", "off-topic"),
    ("A street the street the street the street the street the street.", "repeats itself"),
])  # fmt: skip
def test_each_fault_has_its_reason(line, reason):
    assert fault(line, STREETS) == reason


@pytest.mark.parametrize("line", ["Scene of a busy street with cars in fog.", "Heavy traffic at night, under neon."])
def test_plain_openings_are_no_chatter(line):
    assert fault(line, STREETS) is None


def test_words_within_words_are_no_fault():
    assert fault("A photo of a road in Middlesex near Scunthorpe with a grapevine wall and cars.", STREETS) is None


@pytest.mark.parametrize(("twin", "reason"), [
    (GOOD, "duplicate"), (GOOD.upper(), "duplicate"), (GOOD.replace(",", " -"), "duplicate"),
    (GOOD.replace("a wide", "the wide"), "near-duplicate"),
    ("A picture: " + GOOD.removeprefix("A photo of "), "near-duplicate"),
    (GOOD.replace("boulevard", "alley").replace("dusk", "noon"), None),
])  # fmt: skip
def test_twins_are_distinguished_from_relatives(twin, reason):
    sieve = Sieve(STREETS)
    assert sieve.take(GOOD) is None
    assert sieve.take(twin) == reason
    assert sieve.seen == 2
    assert sum(sieve.rejected.values()) == (reason is not None)


BRIEF = "a wide boulevard, in the rain, at dusk, buses"


@pytest.mark.parametrize(("line", "copied"), [
    (BRIEF, True), (BRIEF.capitalize() + ".", True), (BRIEF.replace("buses", "buses waiting in a row"), True),
    (GOOD, False),
    ("A wide boulevard in the rain, at dusk, with buses.", False),
])  # fmt: skip
def test_a_line_that_only_repeats_what_was_asked_is_said(line, copied):
    assert Sieve(STREETS).take(line, ["a road, in fog", BRIEF]) == ("echo" if copied else None)
    assert Sieve(STREETS).take(line, []) is None


@given(st.lists(SENTENCE, max_size=30), st.sampled_from([0.5, 0.7, ALIKE, 1.0]))
def test_the_index_finds_just_the_twins_that_comparing_all_pairs_finds(sentences, alike):
    sieve, kept = Sieve(STREETS, alike), []
    for sentence in sentences:
        mine = shingles(sentence)
        assert (sieve.twin(sentence) is not None) == any(jaccard(mine, other) >= alike for other in kept)
        sieve.keep(sentence)
        kept.append(mine)
