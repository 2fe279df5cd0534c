"""`clouds refine`: label files in, refined ones and a page out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
import tiny_sam
from clouds import cli
from clouds.data.images import write_png
from clouds.deploy import refine_files as module
from clouds.deploy.refine_files import refine_files
from clouds.errors import UsageError
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.superpixels import Superpixels
from clouds.selftrain.refine import refine_map


def pairs(root: Path, names=("a", "sub/b", "c"), table=None) -> tuple[Path, Path]:
    """images/NAME.png and labels/NAME.png of small scenes; labels one pixel off, some unknown."""
    for k, name in enumerate(names):
        label = tiny.label_map(48, 64, seed=k)
        write_png(root / "images" / f"{name}.png", tiny.picture(label, k))
        label = np.roll(label, 2, axis=1)
        label[:5, :5] = 255
        write_png(root / "labels" / f"{name}.png", label if table is None else table[label])
    return root / "images", root / "labels"


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def run(capsys, *words):
    code = cli.run([str(word) for word in words])
    return code, *capsys.readouterr()


def test_folders_are_refined_as_the_function_does(capsys, tmp_path):
    images, labels = pairs(tmp_path)
    code, text, err = run(capsys, "refine", images, labels, "--out", tmp_path / "out", "--json")
    found = json.loads(text)
    assert (code, found["images"], found["made"], found["failed"], found["unmatched"]) == (0, 3, 3, [], 0)
    assert found["segmenter"] == "superpixels"
    assert "refining: 3/3" in err
    segmenter, shares = Superpixels(), []
    for name in ("a", "sub/b", "c"):
        wanted = refine_map(
            read(labels / f"{name}.png"), segmenter.encode(read(images / f"{name}.png")), segmenter, seed=0
        )
        refined = read(tmp_path / "out" / f"{name}.png")
        assert np.array_equal(refined, wanted.labels)
        assert (refined != 255).any()
        shares.append([wanted.changed, wanted.decided, wanted.disputed])
    assert [found[key] for key in ("changed", "decided", "disputed")] == pytest.approx(np.mean(shares, axis=0).tolist())


def test_two_files_and_every_option(capsys, tmp_path):
    images, labels = pairs(tmp_path, ("a",))
    how = ("--strategy", "central", "--points", 3, "--floor", 0.01, "--max-swallow", 1, "--overlaps", "reference")
    how = (*how, "--seed", 4)
    code, text, _ = run(capsys, "refine", images / "a.png", labels / "a.png", "--out", tmp_path / "out", *how)
    assert code == 0
    assert re.match(r"1 label maps refined in .*out: \d+\.\d % of pixels decided, ", text)
    segmenter = Superpixels()
    wanted = refine_map(
        read(labels / "a.png"), segmenter.encode(read(images / "a.png")), segmenter, seed=4, strategy="central",
        points=3, floor=0.01, max_swallow=None, overlaps="reference",
    )  # fmt: skip
    assert np.array_equal(read(tmp_path / "out" / "a.png"), wanted.labels)


def test_any_class_ids_keep_their_numbers(tmp_path):
    images, labels = pairs(tmp_path, table=np.uint8([254, 100, 30, 77] + [0] * 251 + [255]))
    result = refine_files(images, labels, tmp_path / "out", floor=0.001)
    assert result["decided"] > 0.3
    assert set(np.unique(read(tmp_path / "out" / "a.png"))) <= {254, 100, 30, 77, 255}
    assert "class 254" in (tmp_path / "out" / "index.html").read_text()


def test_palettes_are_read_as_indices(tmp_path):
    images, labels = pairs(tmp_path, ("a",))
    plain = refine_files(images, labels, tmp_path / "plain")
    colored = Image.fromarray(read(labels / "a.png")).convert("L")
    colored.putpalette(list(range(256))[::-1] * 3)
    colored.save(labels / "a.png")
    assert Image.open(labels / "a.png").mode == "P"
    assert refine_files(images, labels, tmp_path / "palette")["changed"] == plain["changed"]
    assert np.array_equal(read(tmp_path / "plain" / "a.png"), read(tmp_path / "palette" / "a.png"))
    palettes = [Image.open(path).getpalette() for path in (labels / "a.png", tmp_path / "palette" / "a.png")]
    assert palettes[0] == palettes[1]
    assert Image.open(tmp_path / "plain" / "a.png").mode == "L"  # grey as it came


def test_labels_are_read_as_datasets_read_them(tmp_path):
    images, labels = pairs(tmp_path, ("a",))
    refine_files(images, labels, tmp_path / "plain")
    plain = read(labels / "a.png")
    for kind, stored in (("grey as RGB", np.dstack([plain] * 3)), ("16 bits", plain.astype(np.uint16))):
        Image.fromarray(stored).save(labels / "a.png")
        assert not refine_files(images, labels, tmp_path / kind)["failed"]
        assert np.array_equal(read(tmp_path / "plain" / "a.png"), read(tmp_path / kind / "a.png"))


def test_what_cannot_be_refined_is_named_and_the_rest_is_done(capsys, tmp_path):
    names = ("colour", "deep", "fine", "other size", "torn")
    images, labels = pairs(tmp_path, names)
    Image.fromarray(np.full((48, 64, 3), (7, 7, 9), np.uint8)).save(labels / "colour.png")
    Image.fromarray(np.full((48, 64), 700, np.uint16)).save(labels / "deep.png")
    write_png(labels / "other size.png", np.zeros((20, 30), np.uint8))
    (images / "torn.png").write_bytes((images / "torn.png").read_bytes()[:90])
    code, text, err = run(capsys, "refine", images, labels, "--out", tmp_path / "out", "--json")
    found = json.loads(text)
    assert (code, found["images"], len(found["failed"])) == (1, 1, 4)
    for name, said in (
        ("colour", "a colour image; expected one channel of class indices"),
        ("deep", "label values up to 700; expected 0..255"),
        ("other size", "label is 30x20 but its image "),
        ("torn", "the end of the file is missing"),
    ):
        assert any(said in each["what"] and Path(each["path"]).stem == name for each in found["failed"]), name
    assert "clouds: 4 of 5 images could not be read" in err
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["fine.png"]


def test_files_without_a_partner_are_said(capsys, tmp_path):
    images, labels = pairs(tmp_path, ("a", "b", "c"))
    (images / "b.png").rename(images / "x.png")
    (images / "a.png").rename(images / "a.PNG")
    code, text, err = run(capsys, "refine", images, labels, "--out", tmp_path / "out", "--json")
    assert (code, json.loads(text)["images"], json.loads(text)["unmatched"]) == (0, 2, 2)
    assert f"left out, without a partner of the same name: {images / 'x.png'}, {labels / 'b.png'}" in err


def test_requests_that_cannot_be_are_refused_before_work(capsys, tmp_path):
    images, labels = pairs(tmp_path, ("a", "b"))
    (tmp_path / "none").mkdir()
    Image.open(images / "b.png").convert("RGB").save(tmp_path / "both.jpg")
    out = tmp_path / "out"
    for words, said in (
        ((images, tmp_path / "gone"), "gone: no such file or folder"),
        ((images, labels / "a.png"), "expected two folders or two files"),
        ((images, tmp_path / "none"), "none: holds no .png, .jpg, .jpeg, .tif"),
        ((images, labels, "--strategy", "middle"), "random, central, eroded"),
        ((images, labels, "--overlaps", "drop"), "ignore, reference"),
        ((images, labels, "--points", 0), "points per component must be at least 1"),
        ((images, labels, "--floor", 2), "floor: got 2; expected a share"),
        ((images, labels, "--max-swallow", -1), "max-swallow: got -1; expected a share"),
        ((images, labels, "--segmenter", "sam9/x"), "unknown 'sam9/x'; did you mean sam/x?"),
        ((images, labels, "--segmenter", "sam3-text/a/b"), "takes class names and no points; use sam3/MODEL"),
        ((images, labels, "--second-pass"), "second pass: superpixels takes no mask"),
        ((images, labels, "--device", "cuda:77"), "--device: cuda:77 cannot be used here"),
        ((images, labels, "--dtype", "int8"), "--dtype: got 'int8'; expected float32, float16, bfloat16"),
    ):
        code, _, err = run(capsys, "refine", *words, "--out", out)
        assert (code, said in err, err.count("\n")) == (2, True, 1), err
    assert not out.exists()
    before = (labels / "a.png").read_bytes()
    code, _, err = run(capsys, "refine", images, labels, "--out", labels)
    assert (code, "an input would be overwritten" in err) == (2, True)
    assert (labels / "a.png").read_bytes() == before
    Image.open(tmp_path / "both.jpg").save(images / "a.jpg")
    with pytest.raises(UsageError, match="two files of one name"):
        refine_files(images, labels, out)


def test_it_goes_on_and_makes_anew_only_what_changed(tmp_path, monkeypatch):
    images, labels = pairs(tmp_path)
    out, calls, real = tmp_path / "out", [], module.refine_map

    def counting(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(module, "refine_map", counting)
    with pytest.raises(KeyboardInterrupt):
        refine_files(images, labels, out)
    first = refine_files(images, labels, out)
    assert (first["images"], first["made"], len(calls)) == (3, 1, 4)
    again = refine_files(images, labels, out)
    assert (again["made"], len(calls)) == (0, 4)
    assert {**again, "made": 1} == first
    (out / "a.png").write_bytes(b"")
    write_png(labels / "c.png", np.zeros((48, 64), np.uint8))
    assert refine_files(images, labels, out)["made"] == 2
    assert refine_files(images, labels, out, seed=1)["made"] == 3
    assert not list(out.rglob(".*lock")) + list(out.rglob(".*-*.png"))


def test_sam_and_a_second_pass(tmp_path):
    name = f"sam/{tiny_sam.save('sam', tmp_path / 'sam')}"
    images, labels = pairs(tmp_path, ("a",))
    once = refine_files(images, labels, tmp_path / "once", name, max_swallow=1.0)
    twice = refine_files(images, labels, tmp_path / "once", name, second_pass=True, max_swallow=1.0)
    assert twice["made"] == 1, "other settings, made anew"
    assert once["segmenter"] == twice["segmenter"] == load_segmenter(name).name
    segmenter = load_segmenter(name, second_pass=True)
    wanted = refine_map(
        read(labels / "a.png"), segmenter.encode(read(images / "a.png")), segmenter, seed=0, max_swallow=None
    )
    assert np.array_equal(read(tmp_path / "once" / "a.png"), wanted.labels)


def test_the_page_stands_alone_and_shows_what_changed_most(tmp_path, monkeypatch):
    from clouds.report import refined

    images, labels = pairs(tmp_path, ("<b>x", "two", "three"))
    monkeypatch.setattr(refined, "PICTURED", 2)
    result = refine_files(images, labels, tmp_path / "out", floor=0.001)
    page = Path(result["page"]).read_text()
    assert page.count("<img") == 8
    assert "loading=" not in page  # a print or a capture of the whole page shows them
    assert not re.search(r"<script|https?://|<b>x", page)
    assert "The 2 maps that changed most" in page
    assert all(f"<bdi>{name}</bdi></th>" in page for name in ("&lt;b&gt;x", "two", "three"))
    assert "0 road" in page
    refine_files(images, labels, tmp_path / "out", floor=0.001)
    assert Path(result["page"]).read_text() == page


def test_more_classes_than_a_palette_has_room_for(tmp_path):
    labels = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)
    write_png(tmp_path / "images" / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    write_png(tmp_path / "labels" / "a.png", labels)
    assert refine_files(tmp_path / "images", tmp_path / "labels", tmp_path / "out", floor=0.0)["images"] == 1
