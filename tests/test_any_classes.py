"""Classes of one's own from end to end: check, train, evaluate, predict, report; what cannot be is named."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import clouds
from clouds import cli, pipeline
from clouds.config.load import load_recipe
from clouds.data.batches.batches import Batches
from clouds.data.images import write_png
from clouds.data.labelled import make_source, open_sets
from clouds.errors import UsageError
from clouds.evaluate.domains import unseen_domains
from clouds.model import vocabulary
from clouds.model.build import build_model
from clouds.model.folder import save_model
from clouds.model.start import start_from
from clouds.report import write_report
from conftest import small_model

SIZE = (64, 96)
CROP = {"synonyms": ["peanut plant"], "color": [0, 160, 0]}
CLASSES = {"soil": ["soil", "bare ground"], "crop": CROP, "weed": ["weed"]}
COLOURS = {"#000000": "soil", "#00ff00": "crop", "#ff0000": "weed"}
SMALL = {
    "model": {"hidden": 32, "queries": 8, "heads": 4, "pixel_layers": 1, "layers": 2, "pixel_ffn": 32, "ffn": 32},
    "augment": {"crop": [64, 64]}, "generate": {"size": [64, 64], "count": 2}, "loss": {"points": 64},
    "prompts": {"count": 2}, "evaluate": {"shorter_side": 64, "rendered_count": 1},
    "train": {"steps": 6, "batch_size": 2, "workers": 1, "checkpoint_every": 3, "log_every": 2},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_sentences():
    """One template of 14: the text tower embeds few sentences."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vocabulary, "TEMPLATES", vocabulary.TEMPLATES[:1])
        yield


def field(folder: Path, split: str, count: int, noise: int = 0) -> None:
    """Photographs of rows of crop with weeds between, and masks in colour, beside what tools leave there."""
    for k in range(count):
        rng = np.random.default_rng((noise, k))
        label = np.zeros(SIZE, np.uint8)
        for x in (16, 56):
            label[:, x + int(rng.integers(-4, 5)) :][:, :14] = 1
        y, x = rng.integers(0, 48, 2)
        label[y : y + 12, x : x + 12] = 2
        shade = np.array([[120, 90, 60], [40, 150, 50], [150, 170, 60]])[label] + rng.normal(noise, 10, (*SIZE, 3))
        write_png(folder / f"images/{split}/{k:03}.png", np.clip(shade, 0, 255).astype(np.uint8))
        mask = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)[label]
        write_png(folder / f"labels/{split}/{k:03}.png", mask)
    (folder / "labels" / split / "Thumbs.db").write_bytes(b"\0")


def recipe_file(folder: Path, **changes) -> Path:
    """A recipe of a field to learn from, another to be scored on."""
    place = {"dataset": "folder", "images": "images/{split}/{key}.{ext}", "labels": "labels/{split}/{key}.png",
             "encoding": "colour", "label_map": COLOURS}  # fmt: skip
    values = {
        "extends": "demo",
        **SMALL,
        "model": {**SMALL["model"], "classes": CLASSES},
        "data": {"source": {**place, "root": str(folder / "peanut"), "split": "train"}},
        "evaluate": {**SMALL["evaluate"], "domains": [
            {**place, "name": "peanut", "root": str(folder / "peanut"), "split": "val"},
            {**place, "name": "carrot", "root": str(folder / "carrot"), "split": "val"},
        ]},
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / "field.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fields")
    field(folder / "peanut", "train", 4)
    field(folder / "peanut", "val", 2)
    field(folder / "carrot", "val", 2, noise=20)
    return folder


@pytest.fixture(scope="module")
def trained(fields) -> tuple[Path, Path]:
    """The recipe, and a run of its warm-up."""
    recipe, run = recipe_file(fields), fields / "run"
    words = ["train.stage=warmup", f"train.validate_every={3}", "train.validate_on=[carrot]"]
    pipeline.train(load_recipe(str(recipe), words), run)
    return recipe, run


def ran(*words: object) -> str:
    """What a command prints on stdout; it must succeed."""
    code, out, complaint = called(words)
    assert code == 0, complaint
    return out


def failed(*words: object) -> str:
    """What a command complains of, on one line; it must fail."""
    code, _, complaint = called(words)
    assert code
    return " ".join(complaint.split())


def called(words) -> tuple[int, str, str]:
    out, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(complaint):
        code = cli.run([str(word) for word in words])
    return code, out.getvalue(), complaint.getvalue()


def test_a_model_of_ones_own_classes_is_trained_scored_and_used(trained, tmp_path):
    recipe, run = trained
    model = clouds.load(run / "warmup")
    assert model.classes == ("soil", "crop", "weed")
    assert model.colors[1].tolist() == [0, 160, 0]
    scores = json.loads(ran("evaluate", run / "warmup", recipe, "--json"))
    assert [(row["name"], list(row["iou"])) for row in scores["domains"]] == [
        ("peanut", list(model.classes)), ("carrot", list(model.classes)),
    ]  # fmt: skip
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("val/carrot" in row for row in rows), "validation knows the recipe's domains"
    photo = next((recipe.parent / "carrot/images/val").glob("*.png"))
    ran("predict", run / "warmup", photo, "--out", tmp_path, "--format", "labels", "--format", "coco")
    labels = np.asarray(Image.open(tmp_path / f"{photo.stem}.png"))
    assert labels.shape == SIZE
    assert labels.max() < 3
    coco = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert [each["name"] for each in coco["categories"]] == list(model.classes)
    assert "ids" in failed("predict", run / "warmup", photo, "--out", tmp_path, "--format", "ids")


def test_check_and_classes_show_what_a_recipe_learns_and_scores(fields, tmp_path):
    recipe = recipe_file(fields)
    found = json.loads(ran("check", recipe, "--out", tmp_path, "--json"))
    assert found["problems"] == []
    assert list(found["histogram"]) == ["soil", "crop", "weed"]
    assert min(found["histogram"].values()) > 0
    assert [each["dataset"] for each in found["datasets"]] == ["folder", "peanut", "carrot"]
    tables = json.loads(ran("classes", recipe, "--json"))
    assert [row["name"] for row in tables["classes"]] == ["soil", "crop", "weed"]
    assert tables["sources"][0]["folds"] == {name: name for name in ("soil", "crop", "weed")}
    assert tables["not_taught"] == []
    assert "domain carrot" in ran("classes", recipe)


def test_masks_of_0_and_255_are_one_thing_and_the_rest(tmp_path):
    for k in range(3):
        label = np.zeros(SIZE, np.uint8)
        label[10:40, 10 + k : 50] = 255
        write_png(tmp_path / f"images/{k}.png", np.random.default_rng(k).integers(0, 255, (*SIZE, 3), np.uint8))
        write_png(tmp_path / f"labels/{k}.png", label)
    found = load_recipe("demo", ["model.classes={background: [background], person: [person]}"])
    assert found.model.label_set.classes == ("background", "person")
    (tmp_path / "r.yaml").write_text(
        "extends: demo\nmodel: {classes: {background: [background], person: [person]}}\n"
        f"data: {{source: {{dataset: folder, root: {tmp_path}, label_map: {{0: background, 255: person}}}}}}\n"
    )
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    source = make_source(recipe, open_sets(recipe), tmp_path / "none")
    assert np.unique(source.label(0)).tolist() == [0, 1]
    assert int((source.label(0) == 1).sum()) == 30 * 40


def test_a_street_model_learns_classes_that_its_streets_lack_from_another_source(tmp_path):
    """A class ``door`` and a class ``lane marking`` beside Cityscapes' names: each source knows some of them."""
    for k in range(2):
        label = np.zeros(SIZE, np.uint8)
        label[:32], label[20:30, 30:40], label[50:, 40:44] = 1, 2, 3
        write_png(tmp_path / f"images/{k}.png", np.random.default_rng(k).integers(0, 255, (*SIZE, 3), np.uint8))
        write_png(tmp_path / f"labels/{k}.png", label)
    names = ["road", "building", "door", "lane marking", "car"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({
        "extends": "demo", **SMALL, "model": {**SMALL["model"], "classes": {name: [name] for name in names}},
        "data": {"source_count": 2, "source_size": [64, 128], "source": [
            {"dataset": "streets", "label_map": {"sidewalk": "road", "truck": "car"}},
            {"dataset": "folder", "root": str(tmp_path),
             "label_map": {0: "road", 1: "building", 2: "door", 3: "lane marking"}},
        ]},
    }, sort_keys=False))  # fmt: skip
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    source = make_source(recipe, open_sets(recipe), tmp_path / "source")
    assert source.lacks.tolist() == [[False, False, True, True, False], [False, False, False, False, True]]
    assert set(np.unique(source.label(0))) <= {0, 1, 4, 255}
    assert set(np.unique(source.label(2))) == {0, 1, 2, 3}
    assert [each.label_set.classes for each in unseen_domains(recipe)] == [("road", "building", "car")] * 5
    data = Batches(source, [], recipe, 8, 0)
    for batch in map(data.__getitem__, range(8)):
        assert data.lacks(batch).tolist() == [source.lacks[int(n >= 2)].tolist() for n in batch["numbers"].tolist()]
    run = tmp_path / "run"
    pipeline.train(load_recipe(str(tmp_path / "r.yaml"), ["train.stage=warmup"]), run)
    assert clouds.load(run / "warmup").classes == tuple(names)
    page = write_report(run).read_text("utf-8")
    assert "lane marking" in page


def test_training_starts_from_a_model_of_other_classes(trained, tmp_path):
    recipe, run = trained
    words = [f"train.start={run / 'warmup'}", "model.head=linear"]
    warm = "train.stage=warmup"  # the renderer draws nothing that this model has
    assert "its network differs in model.head (text there, linear here)" in failed("train", recipe, warm, *words)
    old = clouds.load(run / "warmup").model
    same = build_model(load_recipe(str(recipe), words[:1]))
    assert all(torch.equal(a, b) for a, b in zip(same.state_dict().values(), old.state_dict().values(), strict=True))
    (tmp_path / "two.yaml").write_text(f"extends: {recipe}\nmodel: {{classes: {{weed: [weed], stone: [stone]}}}}\n")
    two = build_model(load_recipe(str(tmp_path / "two.yaml"), words[:1]))
    assert two.classes == ["weed", "stone"]
    assert torch.equal(two.vocabulary[0], old.vocabulary[list(old.classes).index("weed") + 1]), "soil has two words"
    unlike = [n for n, t in two.state_dict().items() if n != "vocabulary" and not torch.equal(t, old.state_dict()[n])]
    assert unlike == []
    assert "holds no model" in failed("train", recipe, warm, f"train.start={tmp_path}", "--out", tmp_path / "run")


def test_a_linear_heads_rows_follow_the_classes_names(tmp_path):
    old = small_model(head="linear", classes=["soil", "crop"], synonyms=[["soil"], ["crop"]], colors=[[0, 0, 0]] * 2)
    save_model(old, tmp_path / "old")
    names = ["weed", "crop", "stone"]
    new = small_model(seed=5, head="linear", classes=names, synonyms=[[n] for n in names], colors=[[0, 0, 0]] * 3)
    fresh = new.state_dict()["head.decoder.class_head.linear.weight"].clone()
    start_from(new, str(tmp_path / "old"))
    rows, known = (m.state_dict()["head.decoder.class_head.linear.weight"] for m in (new, old))
    assert torch.equal(rows[[1, 3]], known[[1, 2]]), "crop and void"
    assert torch.equal(rows[[0, 2]], fresh[[0, 2]])


TRAINED = [
    ({"data": {}}, "streets draws streets, which show none of the model's classes (soil, crop, weed)"),
    ({"data": {"source": {"dataset": "streets"}}}, "streets teaches none of the model's classes (soil, crop, weed)"),
    ({"data": {"source": {"dataset": "gta5", "label_map": {7: "road"}}}}, "has names of classes on both sides"),
    ({"data": {"source": {"dataset": "folder", "root": ".", "label_map": {0: "lorry"}}}}, "'lorry' is not a class of"),
    ({"evaluate": {"domains": []}}, "evaluate.domains: got []"),
    ({"evaluate": {"domains": [{"name": "a b", "dataset": "folder"}]}}, "evaluate.domains.0.name: got 'a b'"),
    ({"evaluate": {"domains": [{"name": "a", "dataset": "folder", "rot": "x"}]}}, "mean evaluate.domains.0.root? "),
    ({"evaluate": {"domains": [{"name": "a", "dataset": "folder"}] * 2}}, "a is named twice"),
]
SCORED = [
    ({"domains": ["town"]}, "town: no class of cityscapes19"),
    ({"domains": ["peanut"]}, "unknown domain 'peanut'"),
    ({"domains": [{"name": "x", "dataset": "gta5", "label_map": {"road": "lorry"}}]}, "x: gta5 needs data.root=PATH"),
    ({"domains": [{"name": "x", "dataset": "streets"}]}, "x: streets is rendered; name it alone"),
    ({"domains": None}, "no domain is known for the classes soil, crop, weed"),
]


@pytest.mark.parametrize(("changes", "complaint"), TRAINED)
def test_what_cannot_be_learned_is_named_before_any_work(fields, tmp_path, changes, complaint):
    recipe = recipe_file(fields, **changes)
    stage = [] if "draws streets" in complaint else ["train.stage=warmup"]
    assert complaint in failed("train", recipe, *stage, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("changes", "complaint"), SCORED)
def test_what_cannot_be_scored_is_named_before_any_work(fields, tmp_path, changes, complaint):
    recipe = recipe_file(fields, evaluate=changes)
    with pytest.raises(UsageError) as error:
        unseen_domains(load_recipe(str(recipe)))
    assert complaint in str(error.value)
