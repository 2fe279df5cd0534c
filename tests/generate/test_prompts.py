"""prompts.jsonl from a writer: asked, checked, asked again, filled, kept, and gone on with after a stop."""

import json
from collections import Counter

import pytest

from chat_server import chat_server
from clouds.base.files import read_jsonl
from clouds.cli import run
from clouds.config.load import load_recipe
from clouds.config.scene import shipped_scene
from clouds.errors import BackendError, DataError, UsageError
from clouds.foundation.writers.grammar import Grammar
from clouds.generate.checks import fault
from clouds.generate.prompts import answers_file, prompts_of, prompts_result, write_prompts
from clouds.streets import VOCABULARY, attributes

KEY = "sk-very-secret-0123456789"
SCENES = "Show in each photo:\n"


def obliging(body, k):
    """A model that describes what it is asked for."""
    asked = body["messages"][-1]["content"].split(SCENES)[1].splitlines()
    said = [line.split(". ", 1)[1] for line in asked]
    return "Sure! Here are the scenes:\n" + "\n".join(
        f"{n}. A photo of a road {' and '.join(each.split(', '))}." for n, each in enumerate(said, 1)
    )


def dull(body, k):
    return "1. A photo of a village street in fog at night, cyclists.\n2. Nothing.\n3. A street with guns and men."


def recipe(server, *more):
    return load_recipe("demo", ["prompts.writer=openai/tiny", f"prompts.base_url={server.url}", "prompts.count=25",
                                "prompts.retries=0", *more])  # fmt: skip


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("CLOUDS_API_KEY", KEY)


def test_rows_carry_attributes_and_where_they_come_from(tmp_path):
    path = tmp_path / "p.jsonl"
    with chat_server(scenes=obliging) as server:
        prompts = prompts_of(recipe(server, "seed=3"), path)
    rows = read_jsonl(path)
    assert [row["prompt"] for row in rows] == prompts
    assert len(set(prompts)) == 25
    for row in rows:
        assert row["attributes"] == attributes(row["prompt"])
        assert {"road"} <= set(row["classes"])
        assert (row["writer"], row["model"], row["revision"], row["seed"], row["filled"]) == (
            "openai", "tiny", None, 3, False)  # fmt: skip
    heard = Counter(phrase for row in rows for phrase in row["attributes"]["place"])
    assert heard.keys() == VOCABULARY["place"].keys()


def test_what_was_never_spoken_of_is_asked_for_again(tmp_path):
    def stubborn(body, k):  # says everything twice over but speaks of nights only when little else is asked
        text = obliging(body, k)
        return text if k > 2 else text.replace("at night", "now").replace("at dawn", "now")

    with chat_server(scenes=stubborn) as server:
        written = write_prompts(recipe(server), tmp_path / "p.jsonl")
    later = [body["messages"][-1]["content"].split(SCENES)[1] for _, _, body in server.asked[3:]]
    assert "at night" in later[0] and "at dawn" in later[0]  # noqa: PT018
    spoken = {phrase for row in written.rows for phrase in row["attributes"].get("light", [])}
    assert spoken == VOCABULARY["light"].keys()
    assert len(written.rows) == 25


def test_what_a_dull_writer_leaves_is_filled_and_marked(tmp_path, capsys):
    path = tmp_path / "p.jsonl"
    with chat_server(scenes=dull) as server:
        result = prompts_result(write_prompts(recipe(server, "prompts.rounds=2"), path), path)
    rows = read_jsonl(path)
    assert len(rows) == 25 == len({row["prompt"] for row in rows})
    mine = [row for row in rows if not row["filled"]]
    assert 0 < len(mine) < 5
    assert {row["writer"] for row in rows if row["filled"]} == {"grammar"}
    assert all(row["model"] is None for row in rows if row["filled"])
    assert result["filled"] == 25 - len(mine)
    assert result["acceptance"] == pytest.approx(len(mine) / result["lines"], abs=1e-4)
    assert {"too short", "unsafe", "duplicate"} <= result["rejected"].keys()
    assert sum(result["rejected"].values()) + len(mine) == result["lines"]
    assert result["after"]["vendi"] > 2 * result["before"]["vendi"]
    assert result["after"]["evenness"]["place"] > result["before"]["evenness"]["place"]
    assert "the grammar writes the other" in capsys.readouterr().err


def test_without_fill_too_few_is_an_error_that_counts_the_reasons(tmp_path):
    path = tmp_path / "p.jsonl"
    said = r"of 25 prompts could be used \(.*unsafe.*prompts\.fill=true"
    with chat_server(scenes=dull) as server, pytest.raises(BackendError, match=said):
        prompts_of(recipe(server, "prompts.fill=false", "prompts.rounds=2"), path)
    assert not path.exists()


@pytest.mark.parametrize("cut", [0, 30])
def test_stopped_in_the_middle_it_asks_nothing_twice_and_ends_the_same(tmp_path, capsys, cut):
    whole, path = tmp_path / "whole" / "p.jsonl", tmp_path / "p.jsonl"
    with chat_server(scenes=obliging) as server:
        prompts_of(recipe(server), whole)
        asked = [body for _, _, body in server.asked]
        server.asked.clear()
        server.plan[:] = ["fine", (400, {}, b"stop")]
        with pytest.raises(BackendError, match="stop"):
            prompts_of(recipe(server), path)
        kept = answers_file(path)
        if cut:
            kept.write_bytes(kept.read_bytes()[:-cut])
            assert len(server.asked) == 2
        server.asked.clear()
        capsys.readouterr()
        prompts_of(recipe(server), path)
        assert path.read_bytes() == whole.read_bytes()
        assert kept.read_bytes() == answers_file(whole).read_bytes()
        assert [body for _, _, body in server.asked] == asked[0 if cut else 1 :]
    assert ("its last line was cut" in capsys.readouterr().err) == bool(cut)


def test_finished_prompts_need_no_server_and_keep_what_somebody_edited(tmp_path):
    path = tmp_path / "p.jsonl"
    with chat_server(scenes=obliging) as server:
        first = write_prompts(recipe(server), path)
    rows = read_jsonl(path)
    rows[2]["prompt"] = "A street I like."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = write_prompts(recipe(server), path)
    assert (again.rows, again.lines, again.rejected) == (rows, first.lines, first.rejected)
    answers_file(path).unlink()
    assert prompts_of(recipe(server), path)[2] == "A street I like."


@pytest.mark.parametrize("change", ["seed=1", "prompts.count=4", "prompts.temperature=0.1", "prompts.writer=openai/b"])
def test_other_settings_ask_anew(tmp_path, capsys, change):
    path = tmp_path / "p.jsonl"
    with chat_server(scenes=obliging) as server:
        prompts_of(recipe(server), path)
        before = len(server.asked)
        prompts_of(recipe(server, change), path)
        assert len(server.asked) > before
    assert "answers for other settings; asking again" in capsys.readouterr().err


def test_how_long_and_often_it_tries_is_no_other_setting(tmp_path):
    path = tmp_path / "p.jsonl"
    with chat_server(scenes=obliging) as server:
        prompts_of(recipe(server), path)
        before = len(server.asked)
        prompts_of(recipe(server, "prompts.timeout=9", "prompts.retries=3"), path)
    assert len(server.asked) == before


@pytest.mark.parametrize("damage", ['{"n": 1}\n', "[]\n", "{\n"])
def test_damaged_answers_are_named(tmp_path, damage):
    path = tmp_path / "p.jsonl"
    answers_file(path).write_text(damage)
    with chat_server() as server, pytest.raises(DataError, match=r"p\.answers\.jsonl: .*delete it"):
        prompts_of(recipe(server), path)


def test_the_key_is_in_no_file_and_no_output(tmp_path, capsys):
    with chat_server((500, {}, KEY.encode()), scenes=lambda body, k: f"1. A street in fog with cars, {KEY}.") as server:
        words = ["prompts.writer=openai/tiny", f"prompts.base_url={server.url}", "prompts.count=3", "prompts.rounds=1"]
        assert run(["prompts", "demo", *words, "--out", str(tmp_path / "p.jsonl"), "--json"]) == 0
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    assert len(list(tmp_path.iterdir())) == 2
    assert all(KEY not in file.read_text() for file in tmp_path.iterdir())


# -- text files


LINES = [*Grammar().write([], 4, 5), "A café on a narrow street in an old town at dusk, with cyclists."]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_text_file_is_read_as_editors_leave_it(tmp_path, encoding, ending):
    file = tmp_path / "mine.txt"
    file.write_bytes(ending.join(["", *LINES, "", "  ", LINES[0].lower(), "short"]).encode(encoding))
    recipe = load_recipe("demo", [f"prompts.writer=file/{file}", "prompts.count=5"])
    written = write_prompts(recipe, tmp_path / "p.jsonl")
    assert [row["prompt"] for row in written.rows] == LINES
    assert written.rejected == {"duplicate": 1, "too short": 1}
    assert {(row["writer"], row["model"], len(row["revision"])) for row in written.rows} == {("file", "mine.txt", 64)}


def test_of_a_long_file_the_most_even_choice_is_kept_in_its_order(tmp_path):
    file = tmp_path / "mine.txt"
    lines = Grammar().write([], 200, 1)
    file.write_text("\n".join(lines))
    words = [f"prompts.writer=file/{file}", "prompts.count=15"]
    prompts = prompts_of(load_recipe("demo", words), tmp_path / "p.jsonl")
    assert prompts == sorted(prompts, key=lines.index)
    assert all(fault(prompt, shipped_scene()) is None for prompt in prompts)
    first = {p for text in lines[:15] for p in attributes(text)["actors"]}
    assert len({p for text in prompts for p in attributes(text)["actors"]}) > len(first)


def test_an_edited_file_is_read_anew(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(LINES))
    words = [f"prompts.writer=file/{file}", "prompts.count=5"]
    assert prompts_of(load_recipe("demo", words), tmp_path / "p.jsonl") == LINES
    file.write_text("\n".join(LINES[::-1]))
    assert prompts_of(load_recipe("demo", words), tmp_path / "p.jsonl") == LINES[::-1]


@pytest.mark.parametrize(("content", "said", "kind"), [
    (None, "no such file; expected a text file, one prompt per line", UsageError),
    (b" \n\r\n", "holds no line of text", DataError), (b"\x89PNG\0\0", "is not a text file", DataError),
])  # fmt: skip
def test_a_file_that_is_none_is_refused_before_work(tmp_path, content, said, kind, capsys):
    file = tmp_path / "mine.txt"
    if content is not None:
        file.write_bytes(content)
    words = ["demo", f"prompts.writer=file/{file}", "prompts.count=5"]
    with pytest.raises(kind, match=said):
        prompts_of(load_recipe(*words[:1], words[1:]), tmp_path / "p.jsonl")
    code = run(["train", *words, "--out", str(tmp_path / "run")])
    assert code == (2 if kind is UsageError else 1)
    assert not (tmp_path / "run").exists()
    assert said in capsys.readouterr().err


def test_a_run_older_than_these_settings_goes_on(tmp_path):
    import yaml

    from clouds.config.runs import open_run

    open_run(load_recipe("demo"), tmp_path)
    saved = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    saved["settings"]["prompts"] = {"writer": "grammar", "count": 60}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(saved))
    open_run(load_recipe("demo"), tmp_path)
    with pytest.raises(UsageError, match=r"prompts\.temperature \(0\.8 there, 0\.5 now\)"):
        open_run(load_recipe("demo", ["prompts.temperature=0.5"]), tmp_path)
