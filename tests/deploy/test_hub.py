"""Models on the hub: pushed with a card written from their run, and loaded, against a server that speaks its API."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import clouds
import fabricated_run
import tiny
from clouds.cli import run as command
from clouds.config.recipe import Recipe
from clouds.config.runs import load_run, open_run
from clouds.deploy.push import push
from clouds.errors import BackendError, DataError, UsageError
from clouds.model.place import is_hub_id, model_folder
from clouds.report.card import origin, without_places, write_card
from hub_server import TOKEN, hub_server


@pytest.fixture
def run(tmp_path, model_folder) -> Path:
    """A run folder with a model, its warm-up, results, and a recipe with this machine's paths in it."""
    folder = fabricated_run.make_run(tmp_path / "my run")
    (folder / "recipe.yaml").unlink()
    shutil.move(folder, tmp_path / "parts")
    sources = [{"dataset": "synthia", "root": "/home/me/sets/synthia"}, {"dataset": "urbansyn"}, "streets"]
    data = {"root": "/home/me/sets", "source": sources}
    open_run(Recipe.model_validate({"name": "mine", "seed": 3, "data": data, "prompts": {"base_url": "http://me:1/v1"}}),
             folder)  # fmt: skip
    shutil.copytree(tmp_path / "parts", folder, dirs_exist_ok=True)
    for name in ("model", "warmup"):
        shutil.copytree(model_folder, folder / name)
    results = json.loads((folder / "results.json").read_text())
    results["missing"] = [{"name": "acdc", "why": "no folder /home/me/sets/acdc"}]
    (folder / "results.json").write_text(json.dumps(results))
    return folder


MANY = """
import contextlib, io, json, sys
from clouds.cli import run
runs = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    runs.append({"returncode": code, "stdout": out.getvalue(), "stderr": err.getvalue()})
print(json.dumps(runs))
"""


def elsewhere(hub, home: Path, *commands: tuple, token: str = TOKEN, **more: str) -> list[SimpleNamespace]:
    """Commands in a process of their own, whose hub is the server's: the client reads its address when imported."""
    known = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    how = {**known, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1",
           "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": token, **more}  # fmt: skip
    words = json.dumps([[str(word) for word in words] for words in commands])
    done = subprocess.run([sys.executable, "-c", MANY, words], env=how, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [SimpleNamespace(**runs) for runs in json.loads(done.stdout)]


# -- there and back


@pytest.mark.slow
@pytest.mark.long
def test_what_is_pushed_is_loaded_by_its_id_at_its_revision_and_offline(run, model_folder, tmp_path):
    photo = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)).save(photo)
    with hub_server() as hub:
        words = ("push", run, "me/my-model", "--private", "--license", "mit", "--json")
        [sent] = elsewhere(hub, tmp_path / "home", words)
        assert sent.returncode == 0, sent.stderr
        result = json.loads(sent.stdout)
        files = hub.repositories["me/my-model"]["commits"][result["commit"]]
        assert hub.repositories["me/my-model"]["private"]
        assert result["url"] == f"{hub.url}/me/my-model"
        names = ["README.md", "config.json", "model.safetensors", "recipe.yaml", "results.json"]
        assert sorted(files) == [row["name"] for row in result["files"]] == names
        assert {row["name"]: row["bytes"] for row in result["files"]} == {n: len(data) for n, data in files.items()}
        assert files["model.safetensors"] == (model_folder / "model.safetensors").read_bytes()
        assert b"/home/me" not in b"".join(data for name, data in files.items() if name != "model.safetensors")

        old = result["commit"]
        hub.put("me/my-model", {"config.json": b"{}"})  # a later commit that is broken
        words = ("predict", f"me/my-model@{old}", photo, "--out", tmp_path / "out", "--json")
        latest = ("predict", "me/my-model", photo, "--out", tmp_path / "new")
        done, newest = elsewhere(hub, tmp_path / "reader", words, latest)
        assert done.returncode == 0, done.stderr
        expected = clouds.load(model_folder).predict(photo)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), expected.labels)
        assert newest.returncode == 1
        assert "not a CLOUDS model configuration" in newest.stderr

        words = ("evaluate", f"me/my-model@{old}", "town", "evaluate.rendered_count=1", "--json")
        [scored] = elsewhere(hub, tmp_path / "reader", words, HF_HUB_OFFLINE="1")  # from the cache
        assert scored.returncode == 0, scored.stderr
        row = json.loads(scored.stdout)
        assert (row["model"], row["seed"]) == (f"me/my-model@{old}", 3)


@pytest.mark.slow
@pytest.mark.long
def test_a_hub_that_refuses_is_said_in_one_message(model_folder, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with hub_server() as hub:
        hub.put("me/data", {"README.md": b"no model"})
        refused, nothing, other = elsewhere(
            hub, tmp_path / "home", ("push", model_folder, "me/mine"), ("predict", "me/nothing", tmp_path / "a.png"),
            ("predict", "me/data", tmp_path / "a.png"), token="hf_of_another",
        )  # fmt: skip
        assert refused.returncode == nothing.returncode == 1
        assert re.search(r"clouds: me/mine: not pushed \(.*\)\. Pushing needs .* `hf auth login`", refused.stderr)
        assert "Traceback" not in refused.stderr
        assert "me/nothing: no such folder here, and the hub gave no model of that name" in nothing.stderr
        assert "me/data: the hub's repository holds no config.json and no model.safetensors" in other.stderr


def test_without_a_network_one_message_says_so(model_folder):
    for act in (lambda: clouds.load("me/never-seen"), lambda: push(model_folder, "me/mine")):
        with pytest.raises(BackendError, match=r"me/(never-seen: no such folder here|mine: not pushed)") as caught:
            act()
        assert "\n" not in str(caught.value)
        assert "network" in str(caught.value)


@pytest.mark.parametrize(("word", "is_id"), [
    ("me/name", True), ("me/na.me-1_x@main", True), ("me/name@refs/pr/1", True), ("name", False), ("a/b/c", False),
    ("/a/b", False), ("./a", False), ("../a", False), ("~/a", False), ("a/", False), ("me/name@", False),
    (Path("me/name"), False), ("me/a b", False),
])  # fmt: skip
def test_hub_ids(word, is_id):
    assert is_hub_id(word) is is_id


def test_a_folder_of_that_name_comes_before_the_hub(tmp_path, monkeypatch, model_folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "me/name")
    assert model_folder_of("me/name") == Path("me/name")
    assert clouds.load("me/name").classes == clouds.load(model_folder).classes


model_folder_of = model_folder  # the fixture of this name hides it


# -- the card


def test_a_dry_run_writes_the_card_lists_the_files_and_asks_no_hub(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(["push", str(run), "me/mine", "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    assert sorted(p.name for p in Path("card").iterdir()) == ["README.md", "config.json", "recipe.yaml", "results.json"]
    assert re.search(r"model\.safetensors\s+[\d,]+ bytes\n", out)
    assert "nothing sent: a dry run" in out
    assert (tmp_path / "card" / "recipe.yaml").read_text() == yaml.safe_dump(
        without_places(yaml.safe_load((run / "recipe.yaml").read_text())), sort_keys=False)  # fmt: skip
    assert load_run(tmp_path / "card").data.root == Path("sets")
    assert load_run(tmp_path / "card").prompts.base_url == Recipe().prompts.base_url


def test_the_card_says_what_the_run_recorded(run):
    text = write_card(origin(run), "me/mine", "cc-by-nc-4.0")
    card = ModelCard(text)
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.library_name == "clouds"
    assert card.data.pipeline_tag == "image-segmentation"
    scores = {result.dataset_name: result.metric_value for result in card.data.eval_results}
    assert scores["town"] == 45
    assert {"fog": 32.5, "camvid-dusk": 20}.items() <= scores.items()
    assert "| town | cityscapes19 | 12 | 45.0 | 44.0 to 46.0 | 40.0 |" in text
    assert "Shorter side 256, whole image, scales 0.75 1, mirrored too, scored at the label's own size." in text
    assert "Model: jointly trained; seed 3" in text
    assert "| synthia | train | CC BY-NC-SA 3.0 |" in text
    assert "| urbansyn | train | CC BY-SA 4.0 |" in text
    assert "| streets | rendered |" in text
    assert "Recipe `mine`, seed 3" in text
    assert "Not scored, as the data was not there: acdc." in text
    assert "The smallest of its test sets has 12 images" in text
    assert "published under `cc-by-nc-4.0`" in text
    assert "/home/me" not in text
    assert "\n## Data\n\n| learned from" in text, "a table or heading needs an empty line before it"


def test_names_in_the_card_can_break_neither_its_tables_nor_its_page(run):
    results = json.loads((run / "results.json").read_text())
    results["domains"][0]["name"] = "a|b\n## <script>"
    (run / "results.json").write_text(json.dumps(results))
    text = write_card(origin(run), "me/mine")
    assert "| a\\|b ## &lt;script> |" in text
    assert "<script>" not in text.partition("---\n\n")[2]
    assert ModelCard(text).data.model_name == "mine"


def test_the_warm_up_is_pushed_with_its_own_results(run):
    text = write_card(origin(run / "warmup"), "me/mine")
    assert "| town | cityscapes19 | 12 | 40.0 | 39.0 to 41.0 |\n" in text
    assert "Model: warm-up only" in text
    assert "Self-training added" not in text
    assert "has named no licence" in text
    assert ModelCard(text).data.license is None


def test_a_bare_model_folder_has_a_card_that_claims_nothing(model_folder):
    text = write_card(origin(model_folder), "me/mine")
    for said in ("No results lie with this model", "what it learned from is not recorded", "It was not scored"):
        assert said in text
    assert "mIoU" not in text


def test_what_drew_the_images_is_no_path_in_the_card(tmp_path, run):
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    results = json.loads((mine / "results.json").read_text())
    results["backends"] |= {"images": "/home/alice/sd2 (diffusers)", "segmenter": "mobile-sam//home/alice/x.pt"}
    (mine / "results.json").write_text(json.dumps(results))
    text = write_card(origin(mine), "me/mine")
    assert "alice" not in text
    assert "sd2 (diffusers)" in text


def test_paths_become_names_and_addresses_go():
    runs = {"a": "/home/me/x.bin", "b": ["~/y", "C:\\me\\z", "hf-hub:org/name", "openai"], "base_url": "http://me"}
    assert without_places(runs) == {"a": "x.bin", "b": ["y", "z", "hf-hub:org/name", "openai"]}
    for told, shown in [
        ("/home/me/sd 2 (diffusers)", "sd 2 (diffusers)"), ("mobile-sam//home/me/x.pt", "mobile-sam/x.pt"),
        ("mobile-sam architecture (/home/me/x.pt)", "mobile-sam architecture (x.pt)"), ("file//mnt/a b", "file/a b"),
        ("open_clip/C:\\me\\w.bin", "open_clip/w.bin"), ("lite0 (ImageNet)", "lite0 (ImageNet)"),
        ("https://arxiv.org/abs/1", "https://arxiv.org/abs/1"), ("hf-hub:a/b", "hf-hub:a/b"), ("a (b) c", "a (b) c"),
    ]:  # fmt: skip
        assert without_places(told) == shown


# -- refused before anything is sent


@pytest.mark.parametrize("name", ["mine", "a/b/c", "me/mine@main", "me/", "https://huggingface.co/me/mine", "me/a b"])
def test_what_is_no_repository_is_refused(model_folder, name):
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        push(model_folder, name, dry_run=True)


def test_what_is_no_model_is_refused(tmp_path, run):
    with pytest.raises(UsageError, match="holds no model"):
        push(tmp_path, "me/mine", dry_run=True)
    tiny.change_config(run / "model")
    (run / "model" / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        push(run, "me/mine", dry_run=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("file", "text"), [
    ("recipe.yaml", "[1"), ("recipe.yaml", "- 1"), ("results.json", "[]"),
    ("model/config.json", "[]"), ("model/config.json", '{"vision": 3}'), ("model/config.json", "[" * 100_000),
])  # fmt: skip
def test_damaged_records_are_named(run, file, text):
    (run / file).write_text(text)
    with pytest.raises(DataError, match=re.escape(str(run / file))):
        push(run, "me/mine", dry_run=True)
