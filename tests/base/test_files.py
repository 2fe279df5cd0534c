"""Files appear whole or not at all; what is read is checked; progress speaks on stderr only."""

import errno
import io
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.base import progress
from clouds.base.files import (
    make_folder,
    read_json,
    read_jsonl,
    sweep_temporaries,
    whole_file,
    whole_folder,
    write_json,
    write_jsonl,
    write_text,
)
from clouds.base.journal import Journal
from clouds.base.text import columns, did_you_mean, some
from clouds.errors import DataError, UsageError

rows_of_text = st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3), max_size=4)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_file_is_written_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    write_text(path, "wörld")
    assert path.read_bytes() == "wörld".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["a.txt"]


def test_until_the_block_ends_the_old_file_stands(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", ["a" * 251 + ".txt", "\u20ac" * 85, os.fsdecode(b"stra\xdfe.txt")])
def test_a_name_may_be_as_long_as_names_may_be_and_no_utf8(tmp_path, name):
    write_text(tmp_path / name, "\udcdf")
    with whole_folder(tmp_path / name[:-1]) as temporary:
        (temporary / "x").touch()
    assert names(tmp_path) == sorted([name, name[:-1]])


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert getattr(caught.value, "filename", str(path)) == str(path)  # a full disk names the file
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    folder = tmp_path / "model"
    for content in ("first", "second"):
        with whole_folder(folder) as temporary:
            (temporary / content).write_text(content)
    assert names(tmp_path) == ["model"]
    assert names(folder) == ["second"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_the_old_folder_and_no_temporary_one(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()

    def fill():
        with whole_folder(folder) as temporary:
            (temporary / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert names(tmp_path) == ["model"]
    assert names(folder) == ["old"]


def test_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    texts = [str(i) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("below", ["", "sub", "sub/deep"])
def test_a_file_in_the_way_of_a_folder_is_named(tmp_path, below):
    blocking = tmp_path / "file"
    blocking.touch()
    with pytest.raises(UsageError, match="is a file where a folder is needed") as caught:
        make_folder(blocking / below)
    assert str(caught.value).startswith(f"{blocking}:")


def test_a_folder_in_the_way_of_a_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="is a folder where a file is to be written"):
        write_text(tmp_path, "x")
    assert names(tmp_path) == []


@given(rows=rows_of_text)
def test_rows_survive_the_round_trip(rows, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows
    assert Journal(path).rows == rows


@given(rows=rows_of_text.filter(bool), data=st.data())
def test_a_journal_cut_anywhere_keeps_its_whole_rows_and_goes_on(rows, data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    write_jsonl(path, rows)
    content = path.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(cut)
    whole = rows[: cut.count(b"\n")]
    journal = Journal(path)
    assert (journal.rows, journal.cut) == (whole, not cut.endswith(b"\n") and cut != b"")
    assert path.read_bytes() == cut, "reading changes nothing"
    journal.add(rows[0], {"half": "\ud800"})
    assert Journal(path).rows == journal.rows == [*whole, rows[0], {"half": "\ud800"}]


def test_a_cut_row_is_an_error_where_it_is_not_expected(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    with pytest.raises(DataError, match=r"rows\.jsonl: cannot be read"):
        read_jsonl(path)


def test_json_is_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ä": [1, None]}


@pytest.mark.parametrize(("content", "said"), [(None, "not there"), (b"{", "cannot be read"), (b"\xff", "cannot")])
def test_an_unreadable_file_is_named(tmp_path, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    for read in (read_json, read_jsonl):
        with pytest.raises(DataError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (4000, "1:06:40")])
def test_the_clock_reads_minutes_and_hours(seconds, shown):
    assert progress.clock(seconds) == shown


def test_progress_off_a_terminal_is_plain_lines_on_stderr(capsys):
    assert list(progress.track(range(3), "drawing", 5, done=2, unit="images")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("drawing: 5/5, ")
    assert err.endswith(" images/s, 0:00 left\n")
    assert len(err.splitlines()) == 1


def test_long_work_is_reported_every_few_seconds_with_the_time_left(capsys, monkeypatch):
    now = iter([0.0, 6.0, 12.0, 18.0, 24.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    list(progress.track(range(4), "x", 4))
    assert capsys.readouterr().err.splitlines() == ["x: 2/4, 0.2 it/s, 0:12 left", "x: 4/4, 0.2 it/s, 0:00 left"]


def test_work_of_unknown_length_is_counted_and_an_estimate_may_be_too_low(capsys, monkeypatch):
    now = iter([0.0, 6.0, 12.0, 18.0] * 2)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    assert list(progress.track(range(3), "x", None)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == ["x: 2, 0.2 it/s"]
    assert list(progress.track(range(3), "x", 1)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines()[-1] == "x: 3/1, 0.2 it/s, 0:00 left"


def test_finished_work_is_silent(capsys):
    assert list(progress.track([], "x", 4, done=4)) == []
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar_on_stderr(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.track("abc", "drawing", 3)) == ["a", "b", "c"]
    assert "drawing" in screen.getvalue()
    assert "3/3" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_progress_reads_ahead_of_nobody():
    taken = []

    def items():
        for i in range(3):
            taken.append(i)
            yield i

    steps = progress.track(items(), "x", 3)
    assert next(iter(steps)) == 0
    assert taken == [0]


def test_json_files_end_in_a_newline_and_keep_their_letters(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"a": "é"}])
    assert (tmp_path / "a.jsonl").read_text() == json.dumps({"a": "é"}, ensure_ascii=False) + "\n"


def test_words_hint_list_and_align():
    assert did_you_mean("gta", ["gta5", "acdc"]) == "did you mean gta5? "
    assert did_you_mean("ab", ["abc", "abd"], "; {}?", most=2) == "; abd or abc?"
    assert did_you_mean("x", ["gta5"]) == ""
    assert [some(list("abcd"), most) for most in (2, 4)] == ["a, b and 2 more", "a, b, c, d"]
    assert columns([["name", "n"], ["a", "10"]]) == ["name   n", "a     10"]


@pytest.mark.parametrize(("hours", "left"), [(-9, True), (0, True), (9, True), (48, False)])
def test_a_clock_that_was_set_spares_what_others_write_and_nothing_else(tmp_path, hours, left):
    path = tmp_path / ".name-0123abcd.png"
    path.touch()
    os.utime(path, (time.time() - 3600 * hours,) * 2)
    sweep_temporaries(tmp_path, older=86400)
    assert path.exists() == left
    sweep_temporaries(tmp_path)  # nobody else writes there
    assert not path.exists()
