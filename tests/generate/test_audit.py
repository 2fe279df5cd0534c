"""A generated set looked through: what is found, what is written, what is asked for, and what training makes of it."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import clouds.check.generated_set
import tiny_clip
from browser import Browser, browser  # noqa: F401 - browser is a fixture
from clouds import cli
from clouds.base.files import read_json, read_jsonl, write_jsonl
from clouds.config.label_sets import NAMES
from clouds.config.load import load_recipe
from clouds.config.recipe import Audit, Recipe
from clouds.data.images import write_png
from clouds.errors import BackendError, CloudsError, DataError, UsageError
from clouds.foundation.image_vectors import Clip, Embedded
from clouds.foundation.writers.grammar import Grammar
from clouds.generate.audit import Judge, audit_set
from clouds.generate.coverage import most_even
from clouds.generate.draw import draw, kept, read_set
from clouds.generate.manifest import read_manifest, set_folder
from clouds.generate.prompts import Request, write_prompts
from clouds.generate.requests import lacking
from clouds.generate.sets import set_images, set_prompts
from clouds.generate.subject import subject_of
from conftest import small_model
from report.test_report import Page

STREETS = subject_of(Recipe())
PROMPTS = Grammar().write([], 12, 0)
SMALL = ["generate.size=[64,64]", "augment.crop=[64,64]", "prompts.count=12"]


def recipe(count: int = 16, *more: str):
    return load_recipe("demo", [*SMALL, f"generate.count={count}", *more])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "set"
    draw(recipe(), PROMPTS, folder)
    return folder


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    target = tmp_path / "set"
    target.mkdir()
    for path in drawn.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    return target


def rows_of(folder: Path) -> dict[str, dict]:
    return {row["file_name"]: row for row in read_jsonl(folder / "metadata.jsonl")}


def put(folder: Path, k: int, pixels: np.ndarray) -> None:
    """Another image in place of the k-th, as its maker would record it."""
    path = folder / f"{k:06d}.png"
    cv2.imwrite(str(path), pixels)
    rows = read_jsonl(folder / "metadata.jsonl")
    rows[k]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_jsonl(folder / "metadata.jsonl", rows)


def pixels(folder: Path, k: int) -> np.ndarray:
    return cv2.imread(str(folder / f"{k:06d}.png"))


def why(folder: Path, k: int) -> str:
    return "; ".join(rows_of(folder)[f"{k:06d}.png"]["why"])


# -- what is found


def test_a_set_as_drawn_is_kept_whole_and_its_rows_are_otherwise_untouched(folder):
    before = read_jsonl(folder / "metadata.jsonl")
    result, images = audit_set(folder, Audit())
    assert (result["images"], result["kept"], result["dropped"], result["reasons"]) == (16, 16, 0, {})
    after = read_jsonl(folder / "metadata.jsonl")
    assert after == [row | {"keep": True, "why": []} for row in before]
    assert len(images) == 16
    assert result["clip"] is None
    assert "clip" not in result["numbers"]


def test_every_kind_of_fault_is_found_and_named(folder):
    put(folder, 1, pixels(folder, 0))
    put(folder, 2, np.clip(pixels(folder, 3).astype(int) + 12, 0, 255).astype(np.uint8))
    put(folder, 4, np.full((64, 64, 3), 90, np.uint8))
    flat = np.full((64, 64, 3), 90, np.uint8)
    flat[::2] = 96
    put(folder, 5, flat)
    put(folder, 6, pixels(folder, 6)[:32])
    data = (folder / "000007.png").read_bytes()
    (folder / "000007.png").write_bytes(data[: len(data) // 2])
    (folder / "000008.png").unlink()
    cv2.imwrite(str(folder / "000009.png"), pixels(folder, 9)[:, ::-1])
    (folder / "stray.png").write_bytes(data)
    result, _ = audit_set(folder, Audit())
    assert why(folder, 1) == "duplicate of 000000.png"
    twins = [why(folder, 2), why(folder, 3)]
    assert sorted(map(bool, twins)) == [False, True]
    assert any(text.startswith("near-duplicate of 00000") for text in twins)
    for k, said in {4: "blank: grey values spread by 0.0", 5: "low contrast: 0.024", 6: "size: 64x32 pixels where",
                    7: "broken: ", 8: "gone", 9: "changed: "}.items():  # fmt: skip
        assert why(folder, k).startswith(said), k
    assert result["reasons"].keys() == {"duplicate", "near-duplicate", "blank", "low contrast", "size", "broken",
                                        "gone", "changed"}  # fmt: skip
    assert result["files"]["strays"] == ["stray.png"]
    assert (folder / "stray.png").exists()
    assert [row["file_name"] for row in read_set(folder)] == [n for n, row in rows_of(folder).items() if row["keep"]]


def test_of_duplicates_the_largest_and_sharpest_is_kept(folder):
    put(folder, 0, cv2.GaussianBlur(pixels(folder, 3), (0, 0), 0.8))
    audit_set(folder, Audit())
    assert why(folder, 0).startswith("near-duplicate of 000003.png")
    assert why(folder, 3) == ""


def test_limits_are_settings(folder):
    assert audit_set(folder, Audit(blank=250))[0]["reasons"] == {"blank": 16}
    assert audit_set(folder, Audit(blank=0, radius=0))[0]["kept"] == 16


# -- again, after a stop, and with the generator


def test_a_second_audit_measures_nothing_that_is_known(folder, monkeypatch):
    first, _ = audit_set(folder, Audit(), Embedded())
    manifest = (folder / "metadata.jsonl").read_bytes()
    put(folder, 2, 255 - pixels(folder, 2))
    looked = []
    monkeypatch.setattr("clouds.generate.audit.look", lambda data, name: looked.append(name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        audit_set(folder, Audit())
    assert looked == ["000002.png"]
    monkeypatch.undo()
    embedder = Embedded()
    asked = []
    monkeypatch.setattr(embedder, "embed", lambda image: asked.append(1) or np.ones(320, np.float32) / 320**0.5)
    audit_set(folder, Audit(), embedder)
    assert len(asked) == 1
    assert manifest != (folder / "metadata.jsonl").read_bytes()
    assert first["diversity"]["vendi"] > 1


@pytest.mark.parametrize("cut", [3, 40])
def test_an_audit_stopped_in_the_middle_ends_like_one_never_stopped(folder, cut):
    whole = audit_set(folder, Audit())
    cache = next((folder / ".audit").glob("look-*"))
    cache.write_bytes(cache.read_bytes()[:-cut] if cut > 3 else cache.read_bytes() + b'["abc", {"si')
    assert audit_set(folder, Audit()) == whole
    assert len(cache.read_bytes().splitlines()) == 16
    assert cache.read_bytes().endswith(b"\n")


def test_generating_again_keeps_verdicts_and_draws_what_was_broken_anew(folder, drawn):
    data = (folder / "000007.png").read_bytes()
    (folder / "000007.png").write_bytes(data[:200])
    (folder / "000008.png").unlink()
    put(folder, 4, pixels(folder, 5))
    audit_set(folder, Audit())
    assert (why(folder, 5), why(folder, 4)) == ("duplicate of 000004.png", "")
    draw(recipe(), PROMPTS, folder)
    rows = rows_of(folder)
    assert (folder / "000007.png").read_bytes() == data
    assert "keep" not in rows["000007.png"]
    assert "keep" not in rows["000008.png"]
    assert rows["000005.png"]["keep"] is False
    assert rows["000000.png"]["keep"] is True
    audit_set(folder, Audit())
    assert (why(folder, 7), why(folder, 8)) == ("", "")


# -- what else is in the folder


def test_a_manifest_cut_in_the_middle_of_a_line_is_mended_and_said(folder, capsys):
    path = folder / "metadata.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-50])
    result, _ = audit_set(folder, Audit())
    assert (result["images"], result["files"]["strays"]) == (15, ["000015.png"])
    assert "last line was cut" in capsys.readouterr().err
    assert (folder / "metadata.damaged.jsonl").read_bytes() == data[:-50]
    assert len(read_set(folder)) == 15
    assert len(draw(recipe(), PROMPTS, folder)) == 16


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_manifest_in_an_odd_encoding_is_read_and_written_as_utf8(folder, encoding):
    path = folder / "metadata.jsonl"
    rows = read_jsonl(path)
    rows[0]["prompt"] = "A photo of a café on a street\u00a0with cars."
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode(encoding))
    result, _ = audit_set(folder, Audit())
    assert result["files"]["mended"]
    assert read_jsonl(path)[0]["prompt"] == rows[0]["prompt"]


@pytest.mark.parametrize(("text", "error", "said"), [
    ("", UsageError, "an empty set"), ("\n\n", UsageError, "an empty set"),
    ('{"file_name": "a.png"}\nnonsense\n{"file_name": "b.png"}\n', DataError, "line 2: is not JSON"),
    ('{"prompt": "x"}\n', DataError, "line 1: expected a row with a file_name"),
    ("[1]\n", DataError, "line 1: expected"),
    ('{"file_name": "../../etc/x.png"}\n', DataError, "is outside the set"),
    ('{"file_name": "/etc/x.png"}\n', DataError, "is outside the set"),
    ('{"file_name": "\\ud800.png"}\n', DataError, "is outside the set"),
    ('{"file_name": "a.png", "size": 5}\n', DataError, "line 1: size is 5"),
    ('{"file_name": "a.png", "why": 5}\n', DataError, "line 1: why is 5"),
    ("[" * 99999 + "\n{}\n", DataError, "line 1: is not JSON"),
    ('{"file_name": "a.png", "prompt": 3}\n', DataError, "prompt is 3"), ("\0\0", DataError, "zero bytes"),
])  # fmt: skip
def test_a_manifest_that_is_none_is_named(folder, text, error, said):
    (folder / "metadata.jsonl").write_text(text)
    for read in (read_manifest, read_set):  # the audit's reader and training's
        with pytest.raises(error, match=said):
            read(folder)
    assert (folder / "metadata.jsonl").read_text() == text


def test_a_folder_without_a_manifest_says_what_to_do(tmp_path, drawn):
    with pytest.raises(UsageError, match="no such folder"):
        set_folder(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no metadata\.jsonl; draw a set with `clouds generate`, or adopt"):
        set_folder(tmp_path)
    (tmp_path / "metadata-00000-of-00002.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds parts of a set only"):
        set_folder(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "generated").symlink_to(drawn)
    assert set_folder(tmp_path / "run") == tmp_path / "run" / "generated"


def test_a_set_without_a_readable_image_drops_all_and_says_so(folder):
    for path in folder.glob("*.png"):
        path.write_bytes(b"no picture")
    result, _ = audit_set(folder, Audit(), Embedded())
    assert (result["kept"], result["reasons"], result["diversity"]["vendi"]) == (0, {"broken": 16}, 0.0)


def test_rows_that_failed_stay_as_they_are(folder):
    rows = read_jsonl(folder / "metadata.jsonl")
    rows[3] = {**rows[3], "failed": "no memory"}
    write_jsonl(folder / "metadata.jsonl", rows)
    result, _ = audit_set(folder, Audit())
    assert (result["failed"], result["images"]) == (1, 16)
    assert read_jsonl(folder / "metadata.jsonl")[3] == rows[3]


# -- with networks


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip.register(folder)
    path = folder / "tiny-resnet.pt"
    torch.save(tiny_clip.clip("tiny-resnet").state_dict(), path)
    return path


@pytest.mark.parametrize("size", [(64, 64), (80, 123)])
def test_clip_scores_are_open_clips_own(clip_file, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    ours = Clip("open_clip/tiny-resnet", str(clip_file))
    model = open_clip.create_model("tiny-resnet", pretrained=str(clip_file)).eval()
    prepare = open_clip.image_transform(64, is_train=False, mean=None, std=None)
    with torch.no_grad():
        image = model.encode_image(prepare(Image.fromarray(picture))[None], normalize=True)[0]
        text = model.encode_text(open_clip.get_tokenizer("tiny-resnet")([PROMPTS[0]]), normalize=True)[0]
    vector = ours.embed(picture)
    assert np.allclose(vector, image.numpy(), atol=1e-5)
    assert ours.score(vector, PROMPTS[0]) == pytest.approx(100 * max(float(image @ text), 0), abs=0.01)


def test_a_clip_scores_every_image_and_may_drop_some(folder, clip_file):
    clip = Clip("open_clip/tiny-resnet", str(clip_file))
    result, images = audit_set(folder, Audit(), Embedded(), clip)
    scores = sorted(image["clip"] for image in images)
    assert result["numbers"]["clip"]["images"] == 16
    assert result["diversity"]["embedding"] == result["clip"] == clip.name
    limit = scores[4] + 0.005
    result, _ = audit_set(folder, Audit(clip=limit), Embedded(), clip)
    assert result["reasons"] == {"CLIP score": sum(score < limit for score in scores)}


def test_a_clip_that_cannot_be_is_named(folder, clip_file):
    for name, weights, said in (("RN50", None, "expected open_clip/MODEL"),
                                ("open_clip/tiny-resnet", None, "--weights: needed for open_clip/tiny-resnet"),
                                ("open_clip/tiny-resnet", "/nowhere.pt", "the path of a file that exists"),
                                ("open_clip/RN5", None, "unknown to open_clip")):  # fmt: skip
        with pytest.raises(UsageError, match=f"--clip.*{said}"):
            Clip(name, weights)
    with pytest.raises(BackendError, match="--clip open_clip/RN50-quickgelu"):
        Clip("open_clip/RN50-quickgelu")
    with pytest.raises(UsageError, match="without --clip"):
        clouds.check.generated_set.audit(folder, [], weights="openai")


def test_a_teacher_tells_classes_confidence_and_agreement(folder, model_folder):
    result = clouds.check.generated_set.audit(folder, [], model=model_folder)
    teacher, numbers = result["teacher"], result["numbers"]
    assert list(teacher["classes"]) == list(NAMES)
    assert sum(each["pixels"] for each in teacher["classes"].values()) == pytest.approx(1, abs=1e-3)
    assert 0 < numbers["confidence"]["min"] <= numbers["confidence"]["max"] <= 1
    never = {name for name, each in teacher["classes"].items() if each["images"] == 0}
    assert never
    assert never <= result["request"]["wanted"]["classes"].keys()
    assert result["request"]["count"] > 0


def test_agreement_is_of_the_pixels_that_refinement_decided(folder):
    def see(image):
        return {"classes": [0.5, 0.5], "confidence": 0.9, "decided": 0.5, "agreement": image[0, 0, 0] / 255}

    teacher = Judge("t", ("road", "lava"), {"model": "x"}, see)
    result, images = audit_set(folder, Audit(agreement=0.4), teacher=teacher)
    low = sum(image["agreement"] < 0.4 for image in images)
    assert result["reasons"].get("agreement", 0) == low > 0


def test_a_model_of_other_classes_is_said_and_counted_by_its_own_names(folder, tmp_path, capsys):
    from clouds.model.folder import save_model

    model = small_model(classes=["road", "lava"], synonyms=[["road"], ["lava"]], colors=[[1, 2, 3], [9, 0, 0]])
    save_model(model, tmp_path / "other")
    result = clouds.check.generated_set.audit(folder, [], model=tmp_path / "other")
    assert list(result["teacher"]["classes"]) == ["road", "lava"]
    assert "knows 1 classes that the set's prompts do not (lava)" in capsys.readouterr().err
    assert "lava" not in result["request"]["wanted"].get("classes", {})


def test_a_source_stands_beside_with_as_many_images(folder, tmp_path):
    for k in range(5):
        cv2.imwrite(str(tmp_path / f"same{k}.jpg"), pixels(folder, 0))
    (tmp_path / "photos").mkdir()
    for k in range(5):
        (tmp_path / f"same{k}.jpg").rename(tmp_path / "photos" / f"same{k}.jpg")
    found = clouds.check.generated_set.audit(folder, [], source=str(tmp_path / "photos"))["diversity"]
    assert (found["images"], found["source"]["images"], found["source"]["vendi"]) == (5, 5, 1.0)
    assert found["vendi"] > 1
    rendered = ["data.source_count=3", "data.source_size=[32,64]"]
    assert clouds.check.generated_set.audit(folder, rendered, source="demo")["diversity"]["source"]["images"] == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"--source: .*: holds no .png, .* .avif image"):
        clouds.check.generated_set.audit(folder, [], source=str(tmp_path / "empty"))


# -- the request and its answer


def test_what_is_rare_is_asked_for():
    prompts = ["A photo of a road in fog at night, cars.", "A photo of a road in fog at noon, cars."] * 10
    request = lacking(STREETS, prompts)
    assert request["wanted"]["classes"].keys() >= {"train", "person"}
    assert "car" not in request["wanted"]["classes"]
    assert "in fog" not in request["wanted"]["weather"]
    assert request["count"] >= sum(request["wanted"]["weather"].values())
    assert lacking(STREETS, []) == {"count": 0, "wanted": {}}


def audit_json(path: Path, folder: Path, **request) -> Path:
    path.write_text(json.dumps({"folder": str(folder), "request": request}))
    return path


def test_fill_writes_as_many_as_asked_for_of_what_is_lacking(folder, tmp_path, capsys):
    file = audit_json(tmp_path / "audit.json", folder, count=6, wanted={"classes": {"motorcycle": 5}})
    out = tmp_path / "more.jsonl"
    assert cli.run(["prompts", "demo", "--fill", str(file), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == 6
    rows = read_jsonl(out)
    assert sum("motorcycle" in row["classes"] for row in rows) >= 5
    assert not {row["prompt"] for row in rows} & set(PROMPTS)
    assert {(row["writer"], row["filled"]) for row in rows} == {("grammar", False)}
    before = out.read_bytes()
    assert cli.run(["prompts", "demo", "--fill", str(file), "--out", str(out)]) == 0
    assert out.read_bytes() == before
    assert cli.run(["prompts", "demo", "prompts.count=3", "--fill", str(file), "--out", str(out)]) == 0
    assert len(read_jsonl(out)) == 3


def test_fill_tells_a_model_what_is_lacking(tmp_path):
    from chat_server import chat_server
    from generate.test_prompts import SCENES, obliging
    from generate.test_prompts import recipe as asking

    request = Request({"classes": {"train": 8}, "weather": {"in fog": 8}}, [], "abc")
    with chat_server(scenes=obliging) as server:
        written = write_prompts(asking(server, "prompts.count=8", "prompts.rounds=1"), tmp_path / "p.jsonl", request)
    asked = " ".join(body["messages"][-1]["content"].split(SCENES)[1] for _, _, body in server.asked)
    assert asked.count("in fog") == 8
    assert sum("train" in row["classes"] for row in written.rows) == 8


def test_fill_with_nothing_to_fill_writes_nothing(tmp_path, capsys):
    file = audit_json(tmp_path / "audit.json", tmp_path, count=0, wanted={})
    assert cli.run(["prompts", "demo", "--fill", str(file), "--out", str(tmp_path / "p.jsonl")]) == 0
    assert "has no gaps to fill" in capsys.readouterr().out
    assert not (tmp_path / "p.jsonl").exists()


ODD = '{"request": {"count": 1, "wanted": {"smell": {"x": 1}}}, "folder": "."}'


@pytest.mark.parametrize("text", ["{}", "[]", ODD])
def test_fill_of_what_is_no_audit_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert cli.run(["prompts", "demo", "--fill", str(tmp_path / "a.json"), "--out", str(tmp_path / "p.jsonl")]) == 1
    assert cli.run(["prompts", "demo", "--fill", str(tmp_path / "none"), "--out", str(tmp_path / "p.jsonl")]) == 2


def test_the_heap_chooses_as_looking_at_all_does():
    prompts = Grammar().write([], 80, 5)
    spoken = [[(a, p) for a, found in STREETS.mentions(text).items() for p in found] for text in prompts]
    heard: dict = {}
    left, chosen = set(range(80)), []
    for _ in range(30):
        best = max(left, key=lambda k: (sum(1 / (1 + heard.get(each, 0)) ** 2 for each in spoken[k]), -k))
        left.discard(best)
        chosen.append(best)
        for each in spoken[best]:
            heard[each] = heard.get(each, 0) + 1
    assert most_even(STREETS, prompts, 30) == sorted(chosen)


# -- training


def trained_on(chosen, out):
    return set_images(chosen, set_prompts(chosen, out), out)


def test_training_leaves_out_what_was_dropped_and_says_how_many(folder, capsys):
    put(folder, 1, pixels(folder, 0))
    images = trained_on(recipe(16, f"generate.folder={folder}", "generate.audit=true"), folder.parent)
    assert len(images) == 15
    assert "1 of 16 generated images are left out" in capsys.readouterr().err
    assert (folder / "audit" / "audit.json").exists()
    assert len(kept([{"file_name": "x"}])) == 1


def test_a_run_audits_its_own_set_before_training(tmp_path):
    images = trained_on(recipe(6, "generate.audit=true"), tmp_path)
    assert (len(read_jsonl(tmp_path / "prompts.jsonl")), len(images)) == (12, 6)
    assert {row["keep"] for row in read_jsonl(tmp_path / "generated" / "metadata.jsonl")} == {True}
    assert trained_on(recipe(6, "generate.audit=true"), tmp_path) == images


def test_an_audit_that_leaves_less_than_a_batch_is_an_error(folder):
    chosen = recipe(16, f"generate.folder={folder}", "generate.audit=true", "audit.blank=250")
    with pytest.raises(CloudsError, match=r"left 0 of 16 images, fewer than train\.batch_size=4"):
        trained_on(chosen, folder.parent)


# -- the page


@pytest.fixture(scope="module")
def page(drawn, tmp_path_factory, model_folder) -> Path:
    target = tmp_path_factory.mktemp("paged") / "set"
    target.mkdir()
    for path in drawn.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    put(target, 1, pixels(target, 0))
    (target / "000002.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    rows = read_jsonl(target / "metadata.jsonl")
    rows[3]["prompt"] = "<script>alert('x')</script> \"q\" & {{ 7*7 }} \ud800"
    (target / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = clouds.check.generated_set.audit(target, [], model=model_folder, out=target / "looked")
    assert {path.name for path in (target / "looked").iterdir()} == {"audit.json", "images.jsonl", "index.html"}
    assert read_json(target / "looked" / "audit.json")["kept"] == result["kept"] == 14
    return Path(result["page"])


class AuditPage(Page):
    VOID, SHAPES = (*Page.VOID, "input"), (*Page.SHAPES, "rect")


def test_the_page_tells_what_was_dropped_and_loads_nothing(page):
    html = page.read_text("utf-8")
    parsed = AuditPage(html)
    for said in ("14 of 16 images are fit to train on", "duplicate of 000000.png", "no CLIP was given",
                 "<script>alert('x')</script> \"q\" & {{ 7*7 }}", "Classes the teacher sees", "Refinement"):
        assert said in parsed.text, said
    assert "<script" not in html
    assert "default-src 'none'" in html
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith(("data:", "#"))
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert all(each["alt"] and each["width"] and "loading" not in each for each in images)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in parsed.tags if tag == "a"} <= set(ids)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_a_browser_and_keys_open_an_image(browser: Browser, page, width, scheme):  # noqa: F811
    browser.open(page, width, scheme)
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    shown = "getComputedStyle(document.querySelector('.wall li.yes')).display"
    assert browser.ask(shown) != "none"
    browser.ask("document.getElementById('show-dropped').click()")
    assert browser.ask(shown) == "none"
    assert browser.ask("document.querySelectorAll('.wall summary')[0].tabIndex") == 0
    trouble = [event for event in browser.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert trouble == []


def test_a_folder_of_photographs_is_looked_through_and_left_as_it_is(tmp_path, capsys):
    folder = tmp_path / "photographs"
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    write_png(folder / "a" / "one.png", smooth)
    write_png(folder / "again.png", cv2.resize(smooth, (80, 60), interpolation=cv2.INTER_AREA))
    write_png(folder / "blank.png", np.full((40, 50, 3), 7, np.uint8))
    write_png(folder / "other.png", cv2.resize(rng.integers(0, 255, (5, 7, 3), np.uint8), (90, 70)))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("beside")
    before = sorted(folder.rglob("*"))
    assert cli.run(["audit", str(folder), "--out", str(tmp_path / "audit"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["kept"], result["photographs"]) == (5, 2, True)
    assert result["reasons"] == {"near-duplicate": 1, "blank": 1, "broken": 1}
    assert result["request"] == {"prompts": 0, "count": 0, "wanted": {}}
    assert sorted(folder.rglob("*")) == before
    verdicts = {row["file_name"]: row["why"] for row in read_jsonl(tmp_path / "audit" / "images.jsonl")}
    assert verdicts["again.png"][0].startswith("near-duplicate of a/one.png")
    assert cli.run(["audit", str(folder), "--out", str(tmp_path / "audit")]) == 0
    said = capsys.readouterr().out
    assert "3 of 5 photos are bad; training uses them unless you delete them:" in said
    assert "  again.png: near-duplicate of a/one" in said
    assert "prompt" not in said.replace(str(tmp_path), "")
    page = (tmp_path / "audit" / "index.html").read_text().partition("</style>")[2]
    assert "audit of photos" in page
    assert not [word for word in ("prompt", "under-covered", "generated set") if word in page]
