"""Prompts, generated images and the rendered source: fixed by (recipe, k), and work that goes on where it stopped."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from clouds.base.files import read_jsonl
from clouds.config.label_sets import IGNORE, NAMES
from clouds.config.load import load_recipe
from clouds.config.recipe import Generate, Prompts
from clouds.config.scene import Scene, shipped_scene
from clouds.data.rendered import render_source
from clouds.errors import DataError, UsageError
from clouds.foundation.generator import build_generator
from clouds.foundation.generators.streets import StreetsGenerator
from clouds.foundation.writer import build_writer
from clouds.foundation.writers.grammar import Grammar
from clouds.generate import draw as images_module
from clouds.generate.draw import draw, image_seed
from clouds.generate.prompts import prompts_of
from clouds.streets import attributes
from clouds.testing import GeneratorContract, WriterContract

CONTRACT = {"file_name", "prompt", "seed", "generator", "revision", "steps", "guidance", "sha256"}


def settings(count: int = 3, *more: str):
    sizes = ["generate.size=[32, 48]", "augment.crop=[32, 48]", "data.source_size=[32, 64]", "data.source_count=3"]
    return load_recipe("demo", [*sizes, f"generate.count={count}", "prompts.count=2", *more])


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ages(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*.png"))}


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[str, int]]:
    """Every (prompt, seed) that is really drawn."""
    calls: list[tuple[str, int]] = []
    real = StreetsGenerator.generate

    def generate(self, prompts, seeds):
        calls.extend(zip(prompts, seeds, strict=True))
        return real(self, prompts, seeds)

    monkeypatch.setattr(StreetsGenerator, "generate", generate)
    return calls


PROMPTS = ["A photo of a village street in fog at night, cyclists.", "A photo of a wide boulevard at noon, trams."]


# -- the grammar


def test_prompts_follow_from_the_seed():
    assert Grammar().write(NAMES, 30, 4) == Grammar().write(NAMES, 30, 4)
    assert Grammar().write(NAMES, 30, 4) != Grammar().write(NAMES, 30, 5)


def test_more_prompts_than_there_are_sentences_is_refused():
    few = {"place": ["a road"], "weather": ["in fog"], "light": ["at noon"], "season": ["in winter"],
           "camera": ["blurred"], "actors": ["cars"]}  # fmt: skip
    streets = shipped_scene().model_dump(mode="json")
    grammar = Grammar(scene=Scene.model_validate(streets | {"attributes": few}))
    assert len(grammar.write(NAMES, 4, 0)) == 4
    with pytest.raises(UsageError, match=r"prompts\.count.* 5 different prompts; ask for fewer"):
        grammar.write(NAMES, 5, 0)


@pytest.mark.parametrize(("build", "said"), [
    (lambda: build_writer(Prompts.model_construct(writer="poet")), r"prompts\.writer: unknown 'poet'; allowed: gramm"),
    (lambda: build_generator(Generate(generator="oil")), r"generate\.generator: unknown 'oil'; allowed: streets"),
    (lambda: build_generator(Generate(generator="diffusers/")), r"unknown .diffusers/.; .*allowed: streets, "),
    (lambda: build_generator(Generate(generator="diffusers/x")), r"'x' is not a folder, nor a hub id"),
])  # fmt: skip
def test_an_unknown_backend_is_refused(build, said):
    with pytest.raises(UsageError, match=said):
        build()


# -- prompts.jsonl


def test_prompts_are_kept_with_their_attributes_and_origin(tmp_path):
    path = tmp_path / "prompts.jsonl"
    prompts = prompts_of(settings(), path)
    rows = read_jsonl(path)
    assert [row["prompt"] for row in rows] == prompts
    assert all(row["attributes"] == attributes(row["prompt"]) for row in rows)
    assert all((row["writer"], row["seed"]) == ("grammar", 0) for row in rows)


def test_kept_prompts_are_used_again(tmp_path):
    path = tmp_path / "prompts.jsonl"
    prompts_of(settings(), path)
    rows = read_jsonl(path)
    rows[1]["prompt"] = "A street I like."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prompts_of(settings(), path)[1] == "A street I like."


@pytest.mark.parametrize("change", ["seed=1", "prompts.count=3"])
def test_prompts_of_other_settings_are_written_anew(tmp_path, change):
    path = tmp_path / "prompts.jsonl"
    before = prompts_of(settings(), path)
    assert prompts_of(settings(3, change), path) != before
    assert prompts_of(settings(), path) == before


def test_a_folder_in_place_of_the_prompt_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is a folder where a file"):
        prompts_of(settings(), tmp_path)


# -- the generated set


class TestStreets(GeneratorContract):
    generator_name = "streets"


class TestGrammar(WriterContract):
    writer_name = "grammar"


def test_the_manifest_says_of_each_image_what_the_contract_asks(tmp_path):
    rows = draw(settings(), PROMPTS, tmp_path)
    assert read_jsonl(tmp_path / "metadata.jsonl") == rows
    assert [row["file_name"] for row in rows] == ["000000.png", "000001.png", "000002.png"]
    assert [row["prompt"] for row in rows] == [PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    for row in rows:
        assert row.keys() >= CONTRACT
        content = (tmp_path / row["file_name"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).shape == (32, 48, 3)
        assert row["generator"] == "streets renderer"
    assert len({row["seed"] for row in rows}) == 3


def test_two_runs_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        draw(settings(), PROMPTS, tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_another_seed_gives_other_images(tmp_path):
    first, second = (draw(settings(3, f"seed={seed}"), PROMPTS, tmp_path / str(seed)) for seed in (0, 1))
    assert not {row["sha256"] for row in first} & {row["sha256"] for row in second}


def test_image_k_is_the_same_however_many_are_asked_for(tmp_path):
    few, many = draw(settings(2), PROMPTS, tmp_path / "few"), draw(settings(5), PROMPTS, tmp_path / "many")
    assert many[:2] == few


def test_asking_for_more_later_draws_only_those(tmp_path, drawn):
    draw(settings(2), PROMPTS, tmp_path)
    before = ages(tmp_path)
    drawn.clear()
    rows = draw(settings(4), PROMPTS, tmp_path)
    assert drawn == [(PROMPTS[k % 2], image_seed(0, k)) for k in (2, 3)]
    assert before.items() <= ages(tmp_path).items()
    assert read_jsonl(tmp_path / "metadata.jsonl") == rows


def test_a_finished_set_is_left_alone(tmp_path, drawn):
    rows = draw(settings(), PROMPTS, tmp_path)
    manifest = (tmp_path / "metadata.jsonl").stat().st_mtime_ns
    drawn.clear()
    assert draw(settings(), PROMPTS, tmp_path) == rows
    assert drawn == []
    assert (tmp_path / "metadata.jsonl").stat().st_mtime_ns == manifest


def test_a_manifest_cut_in_a_line_costs_that_image_only(tmp_path, drawn):
    rows = draw(settings(), PROMPTS, tmp_path)
    manifest = tmp_path / "metadata.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    drawn.clear()
    assert draw(settings(), PROMPTS, tmp_path) == rows
    assert drawn == [(rows[2]["prompt"], rows[2]["seed"])]
    assert read_jsonl(manifest) == rows


def test_an_image_deleted_behind_the_manifests_back_is_drawn_again(tmp_path, drawn):
    rows = draw(settings(), PROMPTS, tmp_path)
    before = digests(tmp_path)
    (tmp_path / "000001.png").unlink()
    drawn.clear()
    assert draw(settings(), PROMPTS, tmp_path) == rows
    assert drawn == [(rows[1]["prompt"], rows[1]["seed"])]
    assert digests(tmp_path) == before


def test_an_image_without_a_row_is_drawn_again(tmp_path, drawn):
    rows = draw(settings(), PROMPTS, tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "000001.png").write_bytes(b"half")
    drawn.clear()
    assert draw(settings(), PROMPTS, tmp_path) == rows
    assert len(drawn) == 3
    assert hashlib.sha256((tmp_path / "000001.png").read_bytes()).hexdigest() == rows[1]["sha256"]


@pytest.mark.parametrize(("key", "stale"), [
    ("prompt", "A photo of something else."), ("seed", 1), ("revision", "0"), ("size", [16, 16]),
    ("generator", "stable diffusion"),
])  # fmt: skip
def test_a_row_of_other_settings_is_drawn_again(tmp_path, drawn, key, stale):
    rows = draw(settings(), PROMPTS, tmp_path)
    manifest = tmp_path / "metadata.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in (rows[0], rows[1] | {key: stale}, rows[2])))
    drawn.clear()
    assert draw(settings(), PROMPTS, tmp_path) == rows
    assert drawn == [(rows[1]["prompt"], rows[1]["seed"])]


def test_what_an_audit_added_to_a_row_stays(tmp_path):
    rows = draw(settings(), PROMPTS, tmp_path)
    rows[1] |= {"keep": False, "why": "dark"}
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert draw(settings(4), PROMPTS, tmp_path)[:3] == rows


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_stopped_in_the_middle_it_keeps_what_is_finished_and_goes_on(tmp_path, monkeypatch, drawn, stop):
    whole = draw(settings(4), PROMPTS, tmp_path / "whole")
    folder = tmp_path / "stopped"
    real = images_module.write_png

    def write(path, image):
        if path.name == "000002.png":
            raise stop
        return real(path, image)

    with monkeypatch.context() as patched:
        patched.setattr(images_module, "write_png", write)
        with pytest.raises(type(stop)):
            draw(settings(4), PROMPTS, folder)
    shown = [name for name in digests(folder) if not name.startswith(".")]
    assert sorted(shown) == ["000000.png", "000001.png", "metadata.jsonl"]
    assert read_jsonl(folder / "metadata.jsonl") == whole[:2]
    drawn.clear()
    assert draw(settings(4), PROMPTS, folder) == whole
    assert len(drawn) == 2
    assert digests(folder) == digests(tmp_path / "whole")


def test_a_manifest_cut_by_one_kill_survives_the_next(tmp_path, monkeypatch):
    rows = draw(settings(4), PROMPTS, tmp_path)
    manifest = tmp_path / "metadata.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows[:2])[:-20])
    real = images_module.write_png
    with monkeypatch.context() as patched:
        patched.setattr(images_module, "write_png", lambda at, image: real(at, image) if "1" in at.name else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            draw(settings(4), PROMPTS, tmp_path)
    assert read_jsonl(manifest) == rows[:2]
    assert draw(settings(4), PROMPTS, tmp_path) == rows


def test_a_damaged_manifest_is_named(tmp_path):
    draw(settings(), PROMPTS, tmp_path)
    manifest = tmp_path / "metadata.jsonl"
    manifest.write_text("{\n" + manifest.read_text())
    with pytest.raises(DataError, match=r"metadata\.jsonl: cannot be read"):
        draw(settings(), PROMPTS, tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file where a folder is needed"):
        draw(settings(), PROMPTS, tmp_path / "file")


def test_seeds_are_32_bits_and_differ_by_run_and_image():
    seeds = [image_seed(run, k) for run in (0, 1, 10**6) for k in range(1000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


# -- the rendered source


def test_the_source_is_pairs_of_image_and_label_fixed_by_the_recipe(tmp_path):
    pairs = render_source(settings(), tmp_path / "a")
    assert len(pairs) == 3
    for image, label in pairs:
        assert image.shape == (3, 32, 64)
        assert set(np.unique(label).tolist()) <= {*range(len(NAMES)), IGNORE}
    render_source(settings(), tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    render_source(settings(3, "seed=1"), tmp_path / "c")
    assert not set(digests(tmp_path / "a").values()) & set(digests(tmp_path / "c").values())


@pytest.mark.parametrize("lost", ["images/000001.png", "labels/000001.png"])
def test_a_lost_half_of_a_pair_is_rendered_again(tmp_path, lost):
    render_source(settings(), tmp_path)
    before, untouched = digests(tmp_path), (tmp_path / "images" / "000000.png").stat().st_mtime_ns
    (tmp_path / lost).unlink()
    render_source(settings(), tmp_path)
    assert digests(tmp_path) == before
    assert (tmp_path / "images" / "000000.png").stat().st_mtime_ns == untouched


def test_a_full_disk_leaves_no_half_written_scene(tmp_path, monkeypatch):
    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            render_source(settings(), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert render_source(settings(), tmp_path)[0][0].shape == (3, 32, 64)
