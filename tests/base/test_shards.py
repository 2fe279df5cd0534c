"""A generated set made in parts: by shards, killed, beside one another, with images that fail; and sets adopted."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds import cli
from clouds.base.files import read_jsonl
from clouds.base.shards import WHOLE, Shard, held, parse_shard
from clouds.config.load import load_recipe
from clouds.data.images import write_png
from clouds.errors import CloudsError, UsageError
from clouds.foundation.generators.streets import StreetsGenerator
from clouds.generate.adopt import adopt
from clouds.generate.draw import draw, kept, read_set

PROMPTS = ["A photo of a village street in fog at night, cyclists.", "A photo of a wide boulevard at noon, trams."]
SMALL = ["generate.size=[32,48]", "augment.crop=[32,48]", "prompts.count=2"]


def settings(count: int = 6, *more: str):
    return load_recipe("demo", [*SMALL, f"generate.count={count}", *more])


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# -- which part is whose


@given(count=st.integers(1, 40), size=st.integers(1, 7), parts=st.integers(1, 9))
def test_every_batch_belongs_to_one_shard(count, size, parts):
    batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
    found = [k for i in range(parts) for batch in batches[i::parts] for k in batch]
    assert sorted(found) == list(range(count))


@pytest.mark.parametrize(
    ("text", "environment", "wanted"),
    [
        ("1/3", {"RANK": "0", "WORLD_SIZE": "2"}, Shard(1, 3)),
        (None, {"RANK": "1", "WORLD_SIZE": "2"}, Shard(1, 2)),
        (None, {"RANK": "0", "WORLD_SIZE": "1"}, WHOLE),
        (None, {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}, Shard(2, 4)),
        (None, {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, Shard(3, 8)),
        (None, {}, WHOLE),
        ("0/1", {}, WHOLE),
    ],
)
def test_a_shard_is_named_or_the_launchers(text, environment, wanted):
    assert parse_shard(text, environment) == wanted


@pytest.mark.parametrize("text", ["3/3", "x", "1", "-1/2", "1/0", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match=r"--shard: got .* expected i/n"):
        parse_shard(text, {})


def test_a_launcher_that_counts_oddly_is_refused():
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_ID=9 of SLURM_ARRAY_TASK_COUNT=4"):
        parse_shard(None, {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4"})


# -- parts add up


@pytest.mark.parametrize(("size", "order"), [(1, (0, 1, 2)), (2, (2, 0, 1)), (4, (2, 0, 1))])
def test_shards_together_are_one_run_byte_for_byte(tmp_path, size, order):
    recipe = settings(9, f"generate.batch_size={size}")
    whole = draw(recipe, PROMPTS, tmp_path / "whole")
    parts = {i: draw(recipe, PROMPTS, tmp_path / "parts", Shard(i, 3)) for i in order}
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert sorted((row for part in parts.values() for row in part), key=lambda r: r["file_name"]) == whole
    before = digests(tmp_path / "parts")
    assert draw(recipe, PROMPTS, tmp_path / "parts") == whole
    assert digests(tmp_path / "parts") == before


def test_shards_of_several_machines_are_put_together_when_their_folders_are(tmp_path):
    recipe = settings(7)
    whole = draw(recipe, PROMPTS, tmp_path / "whole")
    for i in range(2):
        draw(recipe, PROMPTS, tmp_path / f"machine{i}", Shard(i, 2))
        assert not (tmp_path / f"machine{i}" / "metadata.jsonl").exists()
        for path in (tmp_path / f"machine{i}").iterdir():
            (tmp_path / "all").mkdir(exist_ok=True)
            path.rename(tmp_path / "all" / path.name)
    assert draw(recipe, PROMPTS, tmp_path / "all") == whole
    assert digests(tmp_path / "all") == digests(tmp_path / "whole")


def test_a_lost_image_costs_its_batch_only(tmp_path, monkeypatch):
    recipe = settings(8, "generate.batch_size=3")
    draw(recipe, PROMPTS, tmp_path)
    before = digests(tmp_path)
    (tmp_path / "000004.png").unlink()
    drawn, real = [], StreetsGenerator.generate
    monkeypatch.setattr(StreetsGenerator, "generate", lambda self, p, s: drawn.append(len(p)) or real(self, p, s))
    draw(recipe, PROMPTS, tmp_path)
    assert drawn == [3]
    assert digests(tmp_path) == before


def test_two_processes_do_not_draw_the_same_shard_at_once(tmp_path):
    with held(tmp_path, Shard(0, 2)):
        draw(settings(4), PROMPTS, tmp_path, Shard(1, 2))
        with pytest.raises(UsageError, match=r"another process is drawing shard 0/2"):
            draw(settings(4), PROMPTS, tmp_path, Shard(0, 2))
    with held(tmp_path, WHOLE), pytest.raises(UsageError, match="this set there; wait for it, or split the set"):
        draw(settings(4), PROMPTS, tmp_path)
    assert len(draw(settings(4), PROMPTS, tmp_path)) == 4


DRAW = [sys.executable, "-m", "clouds", "generate", "demo", *SMALL, "generate.count=60", "--out"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kills", [2])
def test_killed_again_and_again_it_ends_as_one_run(tmp_path, kills):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*DRAW, str(tmp_path / "killed"), "--shard", "0/2"]
    landed = 0
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        begun = len(list((tmp_path / "killed").glob("*.png"))) if (tmp_path / "killed").exists() else 0
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            if len(list((tmp_path / "killed").glob("*.png"))) > begun + 5:
                break
            time.sleep(0.01)
        landed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert landed, "at least one kill fell into the work"
    for i in range(2):
        assert cli.run([*DRAW[3:], str(tmp_path / "killed"), "--shard", f"{i}/2"]) == 0
    assert cli.run([*DRAW[3:], str(tmp_path / "whole")]) == 0
    left = {name: digest for name, digest in digests(tmp_path / "killed").items() if name != "prompts.jsonl"}
    assert left == {n: d for n, d in digests(tmp_path / "whole").items() if n != "prompts.jsonl"}


# -- images that fail


def failing(monkeypatch, faults: dict[int, int]) -> None:
    """faults: seed's place -> how often it fails before it is drawn."""
    real, left = StreetsGenerator.generate, {}

    def generate(self, prompts, seeds):
        k = left.setdefault("call", 0)
        number = left.setdefault(seeds[0], k)
        left["call"] = max(left["call"], number + 1)
        if faults.get(number, 0) > 0:
            faults[number] -= 1
            raise RuntimeError("CUDA error: no luck")
        return real(self, prompts, seeds)

    monkeypatch.setattr(StreetsGenerator, "generate", generate)


def test_a_failed_image_is_tried_again(tmp_path, monkeypatch):
    failing(monkeypatch, {2: 2})
    assert all("failed" not in row for row in draw(settings(5), PROMPTS, tmp_path))


def test_one_that_goes_on_failing_is_recorded_and_tried_by_the_next_run(tmp_path, monkeypatch, capsys):
    whole = draw(settings(5), PROMPTS, tmp_path / "whole")
    with monkeypatch.context() as patched:
        failing(patched, {2: 3})
        rows = draw(settings(5), PROMPTS, tmp_path / "set")
    assert "no luck" in rows[2]["failed"]
    assert [row["file_name"] for row in kept(rows)] == [row["file_name"] for row in whole if row != whole[2]]
    assert "000002.png: CUDA error: no luck; recorded as failed after 3 tries" in capsys.readouterr().err
    assert len(read_set(tmp_path / "set")) == 4
    assert draw(settings(5), PROMPTS, tmp_path / "set") == whole
    assert digests(tmp_path / "set") == digests(tmp_path / "whole")


def test_nothing_but_failures_is_an_error(tmp_path, monkeypatch):
    failing(monkeypatch, dict.fromkeys(range(9), 99))
    with pytest.raises(CloudsError, match="no image could be drawn; the first one: CUDA error"):
        draw(settings(3), PROMPTS, tmp_path)


# -- sets that are there already


def published(folder: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        write_png(folder / name, np.full((32, 48, 3), 10 * k, np.uint8))
    return folder


@pytest.mark.parametrize("first", [0, 1])
def test_the_authors_set_is_adopted_by_its_names(tmp_path, first):
    folder = published(tmp_path / "set", [f"im_{k}_p{k % 3 + first}.png" for k in range(6)])
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbfa foggy road\r\n\r\na rainy bridge\r\nsnow, Stra\xc3\x9fe\r\n")
    assert cli.run(["generate", "--adopt", str(folder), "--prompts", str(tmp_path / "prompts.txt"), "--json"]) == 0
    rows = read_jsonl(folder / "metadata.jsonl")
    texts = ["a foggy road", "a rainy bridge", "snow, Straße"]
    assert {row["file_name"]: row["prompt"] for row in rows} == {
        f"im_{k}_p{k % 3 + first}.png": texts[k % 3] for k in range(6)
    }
    assert all(row["size"] == [32, 48] and row["generator"] == "adopted" for row in rows)
    for row in rows:
        assert hashlib.sha256((folder / row["file_name"]).read_bytes()).hexdigest() == row["sha256"]


def test_other_images_take_lines_in_order_or_none(tmp_path):
    folder = published(tmp_path / "set", ["b.png", "a.png"])
    (tmp_path / "p.txt").write_bytes("first\nzweite stra\xdfe".encode("latin-1"))
    assert [row["prompt"] for row in adopt(folder, tmp_path / "p.txt", tmp_path / "out")] == ["first", "zweite straße"]
    assert not (folder / "metadata.jsonl").exists()
    assert sorted(digests(tmp_path / "out")) == ["a.png", "b.png", "metadata.jsonl"]
    assert [row["prompt"] for row in adopt(folder, None)] == ["", ""]
    (tmp_path / "p.txt").write_text("one\ntwo\nthree")
    with pytest.raises(UsageError, match=r"3 lines for 2 images"):
        adopt(published(tmp_path / "more", ["x.png", "y.png"]), tmp_path / "p.txt")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--adopt", "nowhere"], "nowhere is not a folder"),
        (["demo", "--adopt", "."], "takes --prompts and --out only"),
        ([], "name a recipe"),
        (["demo", "--shard", "4/4"], "expected i/n"),
        (["demo", "--prompts", "lost.txt"], r"lost\.txt is not a file"),
        (["demo", "generate.generator=oil"], "unknown 'oil'"),
    ],
)
def test_requests_that_make_no_sense_exit_with_2(tmp_path, monkeypatch, capsys, words, complaint):
    import re

    monkeypatch.chdir(tmp_path)
    assert cli.run(["generate", *words]) == 2
    assert re.search(complaint, capsys.readouterr().err)


def test_a_set_with_an_image_gone_is_named(tmp_path):
    draw(settings(3), PROMPTS, tmp_path)
    (tmp_path / "000001.png").unlink()
    with pytest.raises(UsageError, match=r"000001\.png: gone, as 1 of"):
        read_set(tmp_path)
    with pytest.raises(UsageError, match="holds no metadata"):
        read_set(tmp_path / "none")


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_prompts_of_a_file_are_drawn(tmp_path, capsys, kind):
    file = tmp_path / f"p.{kind}"
    file.write_text({"txt": "{}\n", "jsonl": '{{"prompt": "{}"}}\n'}[kind].format("A photo of a bridge in snow."))
    words = ["generate", "demo", *SMALL, "generate.count=2", "--prompts", str(file), "--json"]
    assert cli.run([*words, "--out", str(tmp_path / "set")]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": 2, "failed": 0, "folder": str(tmp_path / "set")}
    assert {row["prompt"] for row in read_set(tmp_path / "set")} == {"A photo of a bridge in snow."}


def test_lines_follow_numbers_as_people_count(tmp_path):
    folder = published(tmp_path / "set", [f"{k}.png" for k in range(1, 13)])
    (tmp_path / "p.txt").write_text("".join(f"prompt {k}\n" for k in range(1, 13)))
    rows = adopt(folder, tmp_path / "p.txt", tmp_path / "out")
    assert {row["file_name"]: row["prompt"] for row in rows} == {f"{k}.png": f"prompt {k}" for k in range(1, 13)}
