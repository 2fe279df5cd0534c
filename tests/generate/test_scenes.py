"""Prompts of any scene: streets as they were to the byte, fields from the grammar, a file and a chat server, and the
audit and the filling of a set of them."""

import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest

from chat_server import chat_server
from clouds import cli
from clouds.base.files import read_json, read_jsonl, write_jsonl
from clouds.check.doctor import examine
from clouds.check.training import check_training
from clouds.config.load import as_recipe, load_recipe
from clouds.config.recipe import Recipe
from clouds.config.scene import Scene, shipped_places, shipped_scene
from clouds.data.images import write_png
from clouds.errors import DataError, UsageError
from clouds.foundation.writers.conversation import conversation
from clouds.foundation.writers.grammar import Grammar
from clouds.generate.checks import Sieve, fault
from clouds.generate.prompts import Request, prompts_of, write_prompts
from clouds.generate.requests import lacking, read_request
from clouds.generate.subject import SUBJECT, Subject, subject_of, subject_of_set
from config.test_scene import YARD

SHOW = "Show in each photo:\n"
EACH = pytest.mark.parametrize("name", shipped_places())
CROPS = Subject(shipped_scene("crops"), ["soil", "crop", "weed"], [["soil"], ["crop"], ["weed", "weeds"]])


def digest(content: object) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def obliging(body, k):
    """A model that describes what it is asked for, but for every fifth."""
    said = [line.split(". ", 1)[-1] for line in body["messages"][-1]["content"].split(SHOW)[-1].splitlines()]
    return "Sure! Here are the scenes:\n" + "\n".join(
        f"{n}. A photo of a road {' and '.join(each.split(', '))}." for n, each in enumerate(said, 1) if n % 5
    )


# -- streets: digests of what commit cffdb0a wrote, before scenes were data


@pytest.mark.parametrize(("seed", "wanted"), [(0, "7bb5a073d3e0ff78"), (7, "fb37a1179ed131a9")])
def test_the_grammars_file_is_the_one_it_was(tmp_path, seed, wanted):
    prompts_of(load_recipe("demo", [f"seed={seed}", "prompts.count=300"]), tmp_path / "p.jsonl")
    assert digest((tmp_path / "p.jsonl").read_bytes()) == wanted


def test_what_is_filled_in_is_the_same_with_the_same_hash_of_settings(tmp_path):
    known = ["A photo of a village street in fog at night, cyclists."]
    request = Request({"weather": {"in fog": 5}, "classes": {"train": 3}}, known, "abc")
    write_prompts(load_recipe("demo", ["prompts.count=40"]), tmp_path / "p.jsonl", request)
    assert digest((tmp_path / "p.jsonl").read_bytes()) == "97ca142ec44cbcdf"


def test_a_chat_server_is_asked_the_same_and_its_answers_are_judged_the_same(tmp_path):
    with chat_server(scenes=obliging) as server:
        words = ["prompts.writer=openai/tiny", f"prompts.base_url={server.url}", "prompts.count=40", "prompts.rounds=2"]
        written = write_prompts(load_recipe("demo", words), tmp_path / "p.jsonl")
    assert digest([body for _, _, body in server.asked]) == "c53227c3ac9ad93d"
    rows = [{key: value for key, value in row.items() if key != "recipe"} for row in written.rows]
    assert digest([rows, dict(written.rejected)]) == "f2a80cd4d7dd9017"


def test_answers_and_prompts_of_before_are_taken_as_they_are(tmp_path):
    said = ["A photo of a wide boulevard at noon, trams.", "A photo of a village street in fog at night, cyclists."]
    about = {"recipe": "bc5344139543a9f2", "n": 2, "model": "tiny", "revision": None, "seed": 1}
    call = {**about, "answers": ["\n".join(said)]}
    write_jsonl(tmp_path / "p.answers.jsonl", [call])
    words = ["prompts.writer=openai/tiny", "prompts.base_url=http://127.0.0.1:9/v1", "prompts.count=2"]
    assert prompts_of(load_recipe("demo", [*words, "prompts.rounds=1"]), tmp_path / "p.jsonl") == said
    row = {"prompt": "A street I like.", "attributes": {}, "classes": [], "writer": "grammar", "seed": 0}
    write_jsonl(tmp_path / "g.jsonl", [row])
    assert prompts_of(load_recipe("demo", ["prompts.count=1"]), tmp_path / "g.jsonl") == ["A street I like."]


# -- any scene


@EACH
def test_every_phrase_alone_is_found_as_itself(name):
    subject = Subject(shipped_scene(name), [], [])
    for attribute, phrases in subject.scene.attributes.items():
        for phrase in phrases:
            assert phrase in subject.phrases.found(f"A photo: {phrase.upper()}, please.").get(attribute, []), phrase


@EACH
def test_the_grammar_says_every_attribute_evenly_and_nothing_else(name):
    subject = Subject(shipped_scene(name), [], [])
    scene = subject.scene
    prompts = Grammar(scene=scene).write((), 400, 0)
    assert len(set(prompts)) == 400
    assert Grammar(scene=scene).write((), 40, 0) == prompts[:40]
    frame = set("".join(f"{part.before} {part.after} " for part in scene.parts).replace(",", " ").split())
    heard: Counter[tuple[str, str]] = Counter()
    for text in prompts:
        spoken = subject.phrases.found(text)
        for attribute in scene.attributes:
            said = len(spoken.get(attribute, []))
            least, most = int(attribute not in scene.sometimes), 3 if attribute in scene.several else 1
            assert least <= said <= most, (attribute, text)
        rest = text
        for phrase in itertools.chain(*spoken.values()):
            rest = rest.replace(phrase, "", 1)
        assert set(rest.replace(",", " ").replace(".", " ").split()) <= {*frame, "and"} - {"."}, text
        heard.update((attribute, phrase) for attribute, found in spoken.items() for phrase in found)
        assert fault(text, scene) is None, text
    for attribute, phrases in scene.attributes.items():
        counts = [heard[attribute, phrase] for phrase in phrases]
        if attribute in scene.several:  # "no weeds" silences others
            assert max(counts) <= 2 * min(counts)
        else:
            assert max(counts) <= min(counts) + 2, attribute


def test_checks_go_by_the_words_of_the_scene():
    field, street = "A photo of carrot plants in dry soil at noon.", "A photo of a street with cars at noon, in fog."
    assert fault(field, CROPS.scene) is None
    assert fault(street, CROPS.scene) == "off-topic"
    assert fault("A photo of a salad with carrots and soil on a plate.", CROPS.scene) == "off-topic"
    assert fault(street, shipped_scene()) is None
    assert fault(field, shipped_scene()) == "off-topic"
    sieve = Sieve(CROPS.scene)
    assert [sieve.take(line) for line in (street, field)] == ["off-topic", None]


def test_mentions_are_phrases_of_the_scene_and_classes_of_the_model():
    found = CROPS.mentions("Peanuts with yellowed leaves and thistles in wet earth, from a drone at dusk.")
    assert found == {
        "crop": ["peanut plants"], "growth": ["with yellow leaves"], "weeds": ["thistles"],
        "soil": ["wet dark soil"], "view": ["from a drone"], "light": ["in low evening sun"],
        "classes": ["soil", "weed"],
    }  # fmt: skip
    assert CROPS.mentions("Bare clay, no weeds.")["weeds"] == ["no weeds"]
    assert CROPS.mentions("Bare clay, no weeds.")["classes"] == ["soil"]
    stranger = Subject(CROPS.scene, ["stone"], [["rock", "pebble"]])
    assert [stranger.mentions(text)["classes"] for text in ("a stone", "two pebble heaps", "soil")] == [
        ["stone"], ["stone"], []
    ]  # fmt: skip


def test_a_chat_model_is_asked_with_the_scenes_words_and_examples():
    one, many = conversation(["fog"], CROPS.scene), conversation(["fog", "rain"], CROPS.scene)
    assert one[-1]["content"].startswith(f"Describe in one sentence a photo of {CROPS.scene.picture}. It shows: fog")
    assert f"Describe 2 different photos of {CROPS.scene.pictures}. One" in many[-1]["content"]
    assert [turn["content"] for turn in one if turn["role"] == "assistant"] == [*CROPS.scene.examples.values()]
    assert not any("street" in turn["content"] for turn in (*one, *many))


def test_a_scene_without_examples_shows_two_sentences_of_the_grammar():
    yard = Scene.model_validate(YARD)
    turns = conversation(["hens, at noon"], yard)
    grammar = Grammar(scene=yard).sentences(2, 0)
    assert [turn["content"] for turn in turns if turn["role"] == "assistant"] == list(grammar)
    assert [turn["content"].split("It shows: ")[1] for turn in turns if turn["role"] == "user"] == [
        *grammar.values(), "hens, at noon"
    ]  # fmt: skip
    assert turns[-1]["content"].startswith("Describe in one sentence a photo of a yard with hens. ")


# -- crops from end to end


def recipe(*words) -> Recipe:
    return load_recipe("demo", ["scene=crops", "prompts.count=30", *words])


def test_the_grammar_writes_a_field_and_the_command_says_how_even(tmp_path, capsys):
    path = tmp_path / "p.jsonl"
    words = ["prompts", "demo", "scene=crops", "prompts.count=30", "--out", str(path), "--json"]
    assert cli.run(words) == 0
    result, rows = json.loads(capsys.readouterr().out), read_jsonl(path)
    assert result["after"]["coverage"].keys() == {*CROPS.scene.attributes, "classes"}
    assert result["after"]["coverage"]["crop"] == 1
    assert all(row["attributes"].keys() <= CROPS.scene.attributes.keys() for row in rows)
    assert {row["subject"] for row in rows} == {rows[0]["subject"]}
    streets = prompts_of(load_recipe("demo", ["prompts.count=30"]), path)
    assert not set(streets) & {row["prompt"] for row in rows}
    assert "subject" not in read_jsonl(path)[0]
    assert prompts_of(recipe(), path) == [row["prompt"] for row in rows]


def test_another_text_of_a_scene_asks_anew(tmp_path):
    path = tmp_path / "p.jsonl"
    first = as_recipe({"scene": YARD, "prompts": {"count": 6}}, "yard")
    prompts_of(first, path)
    rows = read_jsonl(path)
    rows[0]["prompt"] = "A yard I like."
    write_jsonl(path, rows)
    assert prompts_of(first, path)[0] == "A yard I like."
    longer = YARD | {"sentence": "A nice photo of {birds} in a yard[ in {season}], {light}."}
    changed = prompts_of(as_recipe({"scene": longer, "prompts": {"count": 6}}, "yard"), path)
    assert all(prompt.startswith("A nice photo") for prompt in changed)


def test_a_small_scene_says_how_many_sentences_it_has(tmp_path):
    with pytest.raises(UsageError, match=r"prompts\.count: .*13 different prompts; .*scene\.attributes"):
        prompts_of(as_recipe({"scene": YARD, "prompts": {"count": 13}}, "yard"), tmp_path / "p.jsonl")
    assert len(prompts_of(as_recipe({"scene": YARD, "prompts": {"count": 12}}, "yard"), tmp_path / "p.jsonl")) == 12
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]


def test_a_scene_whose_sentences_are_off_its_own_subject_is_refused_before_work(tmp_path):
    strange = as_recipe({"scene": YARD | {"on_subject": ["farm"]}}, "yard")
    said = r"scene: none of its sentences passes .*'A photo of .* in a yard.*' \(off-topic\)\. Fix scene\.sentence"
    with pytest.raises(UsageError, match=said):
        prompts_of(strange, tmp_path / "p.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_classes_of_a_recipe_are_what_its_prompts_are_counted_by(tmp_path):
    words = recipe().model_dump(mode="json") | {"model": {"classes": {"soil": ["ground"], "weed": ["weeds"]}}}
    written = write_prompts(as_recipe(words, "mine"), tmp_path / "p.jsonl")
    assert written.subject.topics["classes"] == ["soil", "weed"]
    assert {name for row in written.rows for name in row["classes"]} == {"soil", "weed"}


def test_a_text_file_about_fields_is_kept_and_one_about_streets_is_not(tmp_path):
    file = tmp_path / "mine.txt"
    lines = Grammar(scene=CROPS.scene).write((), 40, 5)
    file.write_text("\n".join([*lines, *Grammar().write((), 3, 0)]))
    written = write_prompts(recipe(f"prompts.writer=file/{file}"), tmp_path / "p.jsonl")
    assert written.rejected == {"off-topic": 3}
    assert {row["prompt"] for row in written.rows} <= set(lines)
    assert len(written.rows) == 30


def test_a_chat_server_is_asked_for_fields_and_the_grammar_fills_in_fields(tmp_path):
    with chat_server(scenes=obliging) as server:
        words = ["prompts.writer=openai/tiny", f"prompts.base_url={server.url}", "prompts.rounds=1"]
        written = write_prompts(recipe(*words), tmp_path / "p.jsonl")
    assert all(CROPS.scene.pictures in body["messages"][-1]["content"] for _, _, body in server.asked)
    asked = "\n".join(body["messages"][-1]["content"].split(SHOW)[1] for _, _, body in server.asked)
    assert all(phrase in asked for phrase in CROPS.scene.attributes["crop"])
    filled = [row for row in written.rows if row["filled"]]
    assert 0 < len(filled) < len(written.rows) == 30
    assert all(set(row["attributes"]) & {"crop", "soil"} for row in filled)


def drawn_set(folder, prompts) -> None:
    """A set of a generator that draws noise, with the note that drawing writes."""
    rows = []
    for k, prompt in enumerate(prompts):
        image = np.random.default_rng(k).integers(0, 256, (48, 64, 3)).astype(np.uint8)
        sha = write_png(folder / f"{k}.png", image)
        rows.append({"file_name": f"{k}.png", "prompt": prompt, "sha256": sha})
    write_jsonl(folder / "metadata.jsonl", rows)


def test_a_set_says_what_it_shows_and_its_audit_and_filling_go_by_that(tmp_path, capsys):
    folder, more = tmp_path / "set", tmp_path / "more.jsonl"
    folder.mkdir()
    drawn_set(folder, [text for text in Grammar(scene=CROPS.scene).write((), 60, 0) if "peanut" not in text])
    assert cli.run(["audit", str(folder), "scene=crops", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["coverage"].keys() == {*CROPS.scene.attributes, "classes"}
    assert "peanut plants" in result["request"]["wanted"]["crop"]
    page = (folder / "audit" / "index.html").read_text("utf-8")
    assert "peanut plants" in page
    mine = tmp_path / "fields.yaml"
    mine.write_text("{scene: crops, model: {classes: {soil: [ground], weed: [weeds]}}}")
    assert cli.run(["audit", str(folder), str(mine), "audit.blank=3", "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert (own["coverage"].pop("classes").keys(), own["limits"]["blank"]) == ({"soil", "weed"}, 3)
    assert own["coverage"].items() <= result["coverage"].items()
    fill = ["--fill", str(folder / "audit" / "audit.json"), "--out", str(more)]
    result = own
    assert cli.run(["prompts", "demo", *fill]) == 1
    assert "which the recipe's scene (streets) and classes do not know" in capsys.readouterr().err
    assert cli.run(["prompts", str(mine), *fill]) == 0
    rows = read_jsonl(more)
    assert len(rows) == result["request"]["count"]
    assert sum("peanut plants" in row["attributes"]["crop"] for row in rows) >= result["request"]["wanted"]["crop"][
        "peanut plants"]  # fmt: skip


class Painter:
    """A generator that paints noise; named by its import path."""

    def __init__(self, settings):
        self.size, self.record = settings.size, {"generator": "noise", "revision": "1"}

    def generate(self, prompts, seeds):
        return [np.random.default_rng(s).integers(0, 256, (*self.size, 3)).astype(np.uint8) for s in seeds]


def test_drawing_notes_what_a_set_of_another_scene_shows(tmp_path, capsys):
    small = ["generate.size=[64,64]", "augment.crop=[64,64]", "generate.count=3", "prompts.count=3"]
    painted = [f"generate.generator={__name__}:Painter", *small]
    assert cli.run(["generate", "demo", "scene=crops", *painted, "--out", str(tmp_path / "fields")]) == 0
    assert read_json(tmp_path / "fields" / SUBJECT)["scene"] == "crops"
    assert subject_of_set(tmp_path / "fields").scene is shipped_scene("crops")
    assert cli.run(["audit", str(tmp_path / "fields")]) == 0
    assert "growth" in read_json(tmp_path / "fields" / "audit" / "audit.json")["coverage"]
    assert cli.run(["generate", "demo", *small, "--out", str(tmp_path / "fields")]) == 0
    assert not (tmp_path / "fields" / SUBJECT).exists()
    (tmp_path / "fields" / SUBJECT).write_text('{"scene": "moon"}')
    with pytest.raises(DataError, match=f"{SUBJECT}: does not say what the set shows; delete it"):
        subject_of_set(tmp_path / "fields")
    capsys.readouterr()


def test_a_request_of_a_set_of_another_scene_is_refused_by_name(tmp_path):
    request = {"folder": "gone", "request": lacking(CROPS, Grammar(scene=CROPS.scene).write((), 20, 0))}
    (tmp_path / "audit.json").write_text(json.dumps(request))
    with pytest.raises(DataError, match=r"--fill: .*asks for \w+: .*scene=NAME"):
        read_request(tmp_path / "audit.json", subject_of(Recipe()))
    assert read_request(tmp_path / "audit.json", CROPS)[0] == request["request"]["count"]


# -- what is drawn


@pytest.mark.parametrize("scene", ["crops", YARD])
def test_the_street_renderer_asked_for_another_scene_says_so_before_any_work(tmp_path, scene, capsys):
    values = load_recipe("demo").model_dump(mode="json") | {"scene": scene}
    asked = as_recipe(values, "mine")
    said = r"generate\.generator: streets draws streets only, not the scene .*generate\.generator=diffusers/"
    with pytest.raises(UsageError, match=said):
        check_training(asked, tmp_path / "run")
    check_training(as_recipe(values | {"train": values["train"] | {"stage": "warmup"}}, "mine"), tmp_path / "run")
    check_training(as_recipe(values | {"generate": values["generate"] | {"folder": "x"}}, "mine"), tmp_path / "run")
    if scene == "crops":
        assert cli.run(["generate", "demo", "scene=crops", "--out", str(tmp_path / "set")]) == 2
        assert cli.run(["train", "demo", "scene=crops", "--out", str(tmp_path / "run")]) == 2
        assert "streets draws streets only" in capsys.readouterr().err
        assert any("streets draws streets only" in problem for problem in examine("demo", ["scene=crops"])["problems"])
    assert list(tmp_path.iterdir()) == []


def test_styles_that_the_street_renderer_draws_are_for_streets(tmp_path):
    words = ["scene=crops", "train.stage=warmup", "data.restyle.backend=colour-statistics"]
    with pytest.raises(UsageError, match=r"data\.restyle\.styles: null takes styles from the street renderer"):
        check_training(load_recipe("demo", words), tmp_path / "run")
    check_training(load_recipe("demo", words[1:]), tmp_path / "run")
