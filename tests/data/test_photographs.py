"""Photographs without labels: what is found beside what lies there, read upright, written down, cut into crops."""

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fabricate
import tiny
from clouds.base.files import read_jsonl
from clouds.config.recipe import Augment
from clouds.data.batches.batches import Batches
from clouds.data.batches.unlabelled import VIEWS, Pool, Unlabelled, unlabelled_images, view_of
from clouds.data.cache import DecodedCache
from clouds.data.images import decode_image, header_size, write_png
from clouds.data.photographs import (
    Photograph,
    find_photographs,
    fingerprints,
    look_at,
    photograph,
    read_photographs,
)
from clouds.errors import DataError, UsageError
from clouds.selftrain.region_files import regions_of_set

SIZES = {"a.jpg": (90, 120), "b.png": (200, 150), "more/c.JPG": (64, 300), "more/d.jpeg": (30, 40)}


def jpeg(array: np.ndarray, **more) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", **more)
    return buffer.getvalue()


def scene(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return tiny.picture(tiny.label_map(*size, seed), seed)


def photos(folder: Path) -> Path:
    """Four photographs of different sizes, and what lies beside them on real disks."""
    for k, (name, size) in enumerate(SIZES.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fabricate.png(scene(size, k)) if name.endswith("png") else jpeg(scene(size, k)))
    for name in (".thumbnails/a.jpg", "@eaDir/a.jpg", "__MACOSX/._a.jpg", "._a.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(jpeg(scene((8, 8))))
    for name in ("Thumbs.db", "captions.txt", "a.json", "e.gif", "old.zip"):
        (folder / name).write_bytes(b"beside")
    return folder


def sets(*chosen: str, out: Path | None = None, **more):
    return find_photographs(tiny.recipe(f"data.unlabelled=[{', '.join(chosen)}]", *more.get("also", [])).data, out)


def names(found) -> list[str]:
    return [place.name for place in found.places]


def known(each: Photograph) -> tuple[str, tuple[int, int], str]:
    return str(each), each.size, each.sha256


def test_a_folder_holds_its_photographs_and_a_line_counts_the_rest(tmp_path, capsys):
    (found,) = find_photographs(tiny.recipe(f"data.unlabelled={photos(tmp_path / 'p')}").data)
    assert names(found) == ["a.jpg", "b.png", "more/c.JPG", "more/d.jpeg"]
    said = capsys.readouterr().err
    assert "1 .gif (convert to .png or .jpg)" in said
    assert "1 .zip (name archives as sets of their own)" in said


def test_what_the_run_writes_into_the_folder_is_no_photograph(tmp_path):
    folder = photos(tmp_path / "p")
    write_png(folder / "runs" / "a" / "source" / "0.png", scene((64, 64)))
    (found,) = sets(f"{{folder: {folder}}}", out=folder / "runs" / "a")
    assert names(found) == list(SIZES)


def test_what_other_runs_wrote_below_the_folder_is_no_photograph(tmp_path, capsys):
    folder = photos(tmp_path / "p")
    for run, beside in (("runs/a", "prompts.jsonl"), ("old", "checkpoints")):
        write_png(folder / run / "source" / "labels" / "0.png", tiny.label_map(64, 64, 0))
        write_png(folder / run / "pseudo" / "000000-0" / "masks.png", tiny.label_map(64, 64, 0))
        (folder / run / "recipe.yaml").write_text("settings: {}")
        (folder / run / beside).mkdir()
    (folder / "more" / "recipe.yaml").write_text("extends: demo")  # somebody's own, beside the photos
    (found,) = sets(f"{{folder: {folder}}}")
    assert names(found) == list(SIZES)
    assert "2 that a run wrote" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_an_archive_is_read_in_place(tmp_path, kind, capsys):
    folder, archive = photos(tmp_path / "p"), tmp_path / f"p.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted(folder.rglob("*")):
                opened.write(path, path.relative_to(folder))
    elif kind == "tar":  # as `tar cf p.tar -C set .` packs a generated set
        (folder / "metadata.jsonl").write_text("{}\n")
        with tarfile.open(archive, "w") as opened:
            opened.add(folder, ".")
    else:
        with tarfile.open(archive, "w:gz") as opened:
            opened.add(folder, "p")
    recipe = tiny.recipe(f"data.unlabelled={archive}")
    (mine,) = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    assert [each.size for each in mine] == list(SIZES.values())
    assert (mine[0].pixels() == decode_image((folder / "a.jpg").read_bytes(), "a")).all()
    assert "left out: 1 .gif" in capsys.readouterr().err
    (row, *_) = read_jsonl(tmp_path / "run" / "photographs.jsonl")
    assert (row["file"], row["member"]) == (str(archive), "p/a.jpg" if kind == "tar.gz" else "a.jpg")


def test_a_datasets_images_are_found_with_or_without_their_labels(tmp_path):
    root = fabricate.as_folder(fabricate.make("cityscapes").files, tmp_path / "data" / "cityscapes")
    given = {"also": [f"data.root={root.parent}"]}
    (whole,) = sets("{dataset: cityscapes}", **given)
    (val,) = sets("{dataset: cityscapes, split: val}", **given)
    assert whole.places
    assert {place.name.split("/")[1] for place in whole.places} == {"train"}
    assert {place.name.split("/")[1] for place in val.places} == {"val"}
    shutil.rmtree(root / "gtFine")
    (alone,) = sets("{dataset: cityscapes}", **given)
    assert names(alone) == names(whole)


@pytest.mark.parametrize(("chosen", "said"), [
    ("{folder: none}", "data.unlabelled.0: none: not there, seen from .*; expected a folder, an archive"),
    ("{folder: cityscapes}", r"for the dataset write data.unlabelled=\[\{dataset: cityscapes\}\]"),
    ("{folder: notes.txt}", "holds no photos that can be read"),
    ("{folder: empty}", "data.unlabelled.0: empty: holds no .png, .jpg, .jpeg"),
    ("{dataset: citiscapes}", "unknown dataset 'citiscapes'; did you mean cityscapes"),
    ("{dataset: cityscapes}", "cityscapes needs data.root=PATH"),
    ("{dataset: cityscapes, split: vall}", "has no split 'vall'"),
])  # fmt: skip
def test_what_holds_no_photographs_is_named(tmp_path, monkeypatch, chosen, said):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("notes.txt").write_text("x")
    with pytest.raises(UsageError, match=said):
        sets(chosen)


@pytest.mark.parametrize(("settings", "said"), [
    (["data.unlabelled=[{weight: 2}]"], r"data\.unlabelled\.0\.folder: got neither folder nor dataset"),
    (["data.unlabelled=[{folder: a, dataset: camvid}]"], "got both folder and dataset; expected one of them"),
    (["data.unlabelled=''"], r"data\.unlabelled\.0\.folder: got ''; expected a path; the current folder is \."),
    (["data.unlabelled=[{folder: ''}]"], "expected a path"),
    (["data.root=''"], r"data\.root: got ''; expected a path"),
    (["data.unlabelled=[{folder: a.mp4, every: 0.0001}]"], r"every: got 0\.0001"),
    (["data.unlabelled=[{folder: a, split: val}]"], "split and root are a dataset's"),
    (["data.unlabelled=[{folder: a, wieght: 2}]"], r"did you mean data\.unlabelled\.0\.weight"),
    (["data.unlabelled=[3]"], "expected a folder, archive or video"),
    (["generate.count=0"], r"generate\.count: got 0 without data\.unlabelled"),
    (["generate.count=0", "data.unlabelled=a", "data.restyle.backend=colour-statistics",
      "data.restyle.styles=generated"],
     "got 'generated' with generate.count=0"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        tiny.recipe(*settings)


def test_without_drawings_their_size_need_not_fit_the_crop():
    assert tiny.recipe("data.unlabelled=a", "generate.count=0", "augment.crop=[32,64]").augment.crop == (32, 64)


def test_a_photograph_is_read_upright(tmp_path):
    image = scene((60, 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(jpeg(image, exif=exif, quality=95))
    (found,) = sets(f"{{folder: {tmp_path}}}")
    turned = photograph(found.places[0], next(look_at(found.places)))
    assert turned.size == (90, 60)
    stored = decode_image((tmp_path / "a.jpg").read_bytes(), "a")
    assert (turned.pixels() == np.rot90(stored, -1)).all()


# -- the record


def test_the_record_says_where_each_is_from_and_serves_a_run_that_goes_on(tmp_path, monkeypatch):
    recipe = tiny.recipe(f"data.unlabelled={photos(tmp_path / 'p')}")
    run = tmp_path / "run"
    (first,) = read_photographs(recipe, find_photographs(recipe.data), run)
    rows = read_jsonl(run / "photographs.jsonl")
    assert [row["file"] for row in rows] == [str(tmp_path / "p" / name) for name in SIZES]
    assert [tuple(row["size"]) for row in rows] == list(SIZES.values())
    assert [row["bytes"] for row in rows] == [(tmp_path / "p" / name).stat().st_size for name in SIZES]
    os.utime(run / "photographs.jsonl", (2e9, 2e9))
    monkeypatch.setattr("clouds.data.photographs.look_at", lambda places: pytest.fail("looked at again"))
    (again,) = read_photographs(recipe, find_photographs(recipe.data), run)
    assert list(map(known, again)) == list(map(known, first))


def test_before_joint_training_the_photographs_of_now_count(tmp_path, capsys):
    folder = photos(tmp_path / "p")
    (folder / "b.png").write_bytes(b"no picture")
    recipe = tiny.recipe(f"data.unlabelled={folder}", "data.max_bad=0.5")
    run = tmp_path / "run"
    (first,) = read_photographs(recipe, find_photographs(recipe.data), run)
    assert len(first) == 3
    write_png(folder / "b.png", scene((70, 80)))  # mended
    assert len(read_photographs(recipe, find_photographs(recipe.data), run)[0]) == 4
    assert "not the photos that this run began with; joint training begins with those of now" in capsys.readouterr().err
    (folder / "a.jpg").write_bytes(jpeg(scene((50, 60))))  # another picture
    (folder / "b.png").rename(folder / "z.png")
    (now,) = read_photographs(recipe, find_photographs(recipe.data), run)
    assert (now[0].place.name, now[0].size) == ("a.jpg", (50, 60))
    assert [Path(row["file"]).name for row in read_jsonl(run / "photographs.jsonl")][-1] == "z.png"


def test_a_photograph_of_the_same_size_in_bytes_is_another_one(tmp_path, capsys):
    """As BMP and TIFF files are after faces were blurred in them."""
    folder, run = tmp_path / "p", tmp_path / "run"
    folder.mkdir()
    recipe = tiny.recipe(f"data.unlabelled={folder}", "data.max_bad=0.5")

    def write(seed: int, *names: str) -> None:
        for name in names:
            Image.fromarray(scene((64, 96), seed)).save(folder / name)

    def read() -> list[Photograph]:
        return read_photographs(recipe, find_photographs(recipe.data), run)[0]

    write(0, "a.bmp", "b.bmp")
    read()
    write(1, "a.bmp")
    assert [each.pixels().mean() for each in read()] == [scene((64, 96), k).mean() for k in (1, 0)]
    assert "joint training begins with those of now" in capsys.readouterr().err
    (run / "checkpoints" / "joint-000002").mkdir(parents=True)
    write(2, "b.bmp")
    assert len(read()) == 2
    assert "1 changed" in capsys.readouterr().err


def test_a_name_that_is_no_utf8_is_a_name(tmp_path):
    folder, run = tmp_path / "p", tmp_path / "run"
    folder.mkdir()
    name = os.fsdecode("stra\xdfe.jpg".encode("latin-1"))
    (folder / name).write_bytes(jpeg(scene((64, 96))))
    with tarfile.open(tmp_path / "p.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as packed:
        packed.add(folder / name, "stra\xdfe.jpg")
    recipe = tiny.recipe(f"data.unlabelled=[{folder}, {tmp_path / 'p.tar'}]")
    for _ in range(2):
        found = read_photographs(recipe, find_photographs(recipe.data), run)
        assert [len(each) for each in found] == [1, 1]
        assert all(each[0].pixels().shape == (64, 96, 3) for each in found)
    assert len(fingerprints(run)) == 1


def test_joint_training_goes_on_with_the_photographs_it_began_with(tmp_path, capsys):
    folder, run = photos(tmp_path / "p"), tmp_path / "run"
    few, many = (tiny.recipe(f"data.unlabelled={folder}", f"data.max_bad={share}") for share in (0.4, 0.5))
    (first,) = read_photographs(few, find_photographs(few.data), run)
    (run / "checkpoints" / "joint-000002").mkdir(parents=True)
    record = (run / "photographs.jsonl").read_bytes()
    (folder / "b.png").rename(folder / "z.png")
    (folder / "a.jpg").write_bytes(jpeg(scene((50, 60))))
    lost = r"of the 4 photos .*, 1 gone \(.*b\.png\) and 1 changed \(.*a\.jpg\)\. Restore them; or skip them, "
    remedy = (r"by the command that began the run with a higher data\.max_bad; or begin joint training anew, after the "
              r"same warm-up: delete .*/run/checkpoints/joint-\* and resume")  # fmt: skip
    with pytest.raises(UsageError, match=lost + remedy):
        read_photographs(few, find_photographs(few.data), run)
    (again,) = read_photographs(many, find_photographs(many.data), run)
    said = capsys.readouterr().err
    assert "1 gone" in said
    assert "since joint training began: skipped" in said
    assert "1 new (" in said
    assert list(map(known, again)) == list(map(known, first)), "numbers of looks stay what they were"
    for each, why in zip(again, ("another content", r"b\.png: cannot be read"), strict=False):
        with pytest.raises(DataError, match=why):
            each.pixels()
    assert (run / "photographs.jsonl").read_bytes() == record
    other = tiny.recipe(f"data.unlabelled=[{{folder: {folder}}}, {{folder: {folder / 'more'}}}]")
    with pytest.raises(UsageError, match="names other sets than joint training began with"):
        read_photographs(other, find_photographs(other.data), run)


def test_a_photograph_that_left_its_archive_is_skipped(tmp_path):
    packed, run = tmp_path / "p.zip", tmp_path / "run"
    for names in (["a.jpg", "b.jpg", "c.jpg"], ["a.jpg", "c.jpg"]):
        with zipfile.ZipFile(packed, "w") as archive:
            for k, name in enumerate(names):
                archive.writestr(name, jpeg(scene((60, 80), k if name == "a.jpg" else 9)))
        recipe = tiny.recipe(f"data.unlabelled={packed}", "data.max_bad=0.4")
        (found,) = read_photographs(recipe, find_photographs(recipe.data), run)
        (run / "checkpoints" / "joint-000002").mkdir(parents=True, exist_ok=True)
    assert len(found) == 3
    found[0].pixels()
    with pytest.raises(DataError, match=r"p\.zip.*b\.jpg"):
        found[1].pixels()
    found[2].pixels()


def test_few_bad_ones_are_left_out_and_many_end_the_run_before_it_begins(tmp_path, capsys):
    folder = photos(tmp_path / "p")
    (folder / "b.png").write_bytes(b"no picture")
    few, many = (tiny.recipe(f"data.unlabelled={folder}", f"data.max_bad={share}") for share in (0.25, 0.2))
    (found,) = read_photographs(few, find_photographs(few.data), tmp_path / "few")
    assert len(found) == 3
    assert "left out: " in capsys.readouterr().err
    assert "b.png" in read_jsonl(tmp_path / "few" / "photographs.jsonl")[1]["problem"]
    with pytest.raises(DataError, match=r"1 of 4 photos cannot be opened.*data\.max_bad(.|\n)*b\.png"):
        read_photographs(many, find_photographs(many.data), tmp_path / "many")
    assert not (tmp_path / "many" / "photographs.jsonl").exists()


def test_damaged_pixels_are_found_before_training(tmp_path, capsys):
    folder, run = photos(tmp_path / "p"), tmp_path / "run"
    whole = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")  # a header and an end as they should be
    recipe = tiny.recipe(f"data.unlabelled={folder}", "data.max_bad=0.4")
    for _ in range(2):
        (found,) = read_photographs(recipe, find_photographs(recipe.data), run)
        assert len(found) == 3
        said = capsys.readouterr().err
        assert "left out: " in said
        assert "a.jpg" in said
        assert "not the photos" not in said
    (folder / "a.jpg").write_bytes(whole)
    assert len(read_photographs(recipe, find_photographs(recipe.data), run)[0]) == 4


def test_frames_of_a_video_are_taken_every_so_often_and_once(tmp_path):
    pytest.importorskip("av")
    from clouds.predict.video import video_writer

    folder = tmp_path / "clips"
    folder.mkdir()
    with video_writer(folder / "drive.mp4") as write:
        for k in range(10):
            write(np.full((64, 96, 3), 20 * k, np.uint8), k / 2)
    write_png(folder / "still.png", scene((64, 96)))
    recipe = tiny.recipe(f"data.unlabelled=[{{folder: {folder}, every: 2}}]")
    run = tmp_path / "run"
    (found,) = read_photographs(recipe, find_photographs(recipe.data), run)
    rows = read_jsonl(run / "photographs.jsonl")
    assert [row.get("seconds") for row in rows] == [None, 0.0, 2.0, 4.0]
    assert {row["file"] for row in rows[1:]} == {str(folder / "drive.mp4")}
    grey = [int(each.pixels().mean()) for each in found[1:]]
    assert np.abs(np.array(grey) - [0, 80, 160]).max() < 8
    before = {path: path.stat().st_mtime_ns for path in (run / "frames").rglob("*.jpg")}
    (run / "photographs.jsonl").unlink()
    (again,) = read_photographs(recipe, find_photographs(recipe.data), run)
    assert list(map(known, again)) == list(map(known, found))
    assert {path: path.stat().st_mtime_ns for path in (run / "frames").rglob("*.jpg")} == before


def video(path: Path, seconds: float, first: int = 0, **options) -> None:
    from clouds.predict.video import video_writer

    with video_writer(path, **options) as write:
        for k in range(int(seconds * 2)):
            write(np.full((64, 96, 3), first + 10 * k % 200, np.uint8), k / 2)


def test_a_video_that_changed_is_another_one_until_joint_training_begins(tmp_path, capsys):
    pytest.importorskip("av")
    clips, run = tmp_path / "clips", tmp_path / "run"
    clips.mkdir()
    recipe = tiny.recipe(f"data.unlabelled={clips}", "data.max_bad=0.9")

    def read() -> list[Photograph]:
        return read_photographs(recipe, find_photographs(recipe.data), run)[0]

    video(clips / "a.mp4", 5)
    (clips / "b.mp4").write_bytes(b"cut")
    assert len(read()) == 3
    assert "left out: " in capsys.readouterr().err
    assert len(read()) == 3
    said = capsys.readouterr().err
    assert "b.mp4" in said, "said each time"
    assert "not the photos" not in said
    video(clips / "b.mp4", 3)  # mended
    assert len(read()) == 5
    assert "not the photos that this run began with" in capsys.readouterr().err
    video(clips / "a.mp4", 9)
    assert len(read()) == 7
    (run / "checkpoints" / "joint-000002").mkdir(parents=True)
    kept = {path: path.read_bytes() for path in (run / "frames").rglob("*.jpg")}
    lost = sorted(path for path in kept if path.parent.name.startswith("b-"))[0]
    lost.unlink()
    assert len(read()) == 7
    assert {path: path.read_bytes() for path in (run / "frames").rglob("*.jpg")} == kept, "taken again"


def test_a_video_that_ends_early_gives_what_it_has(tmp_path, capsys):
    av = pytest.importorskip("av")
    path, run = tmp_path / "dash.mp4", tmp_path / "run"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.gop_size = 96, 64, 4
        for k in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene((64, 96), k), "rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    recipe = tiny.recipe(f"data.unlabelled={path}")
    (found,) = read_photographs(recipe, find_photographs(recipe.data), run)
    assert 5 <= len(found) <= 9
    said = capsys.readouterr().err
    if "or only in part" in said:  # not every version of FFmpeg minds
        assert "used up to 0:" in said


# -- crops


def of(size: tuple[int, int], digest: str = "ab" * 32) -> Photograph:
    return Photograph(None, size, digest)  # type: ignore[arg-type] - the geometry reads no file


@pytest.mark.parametrize("size", [(480, 640), (64, 64), (20, 500), (3000, 40), (64, 65)])
def test_a_crop_lies_inside_its_photograph_at_scales_that_differ(size):
    augment = Augment(scale=(0.5, 2.0), crop=(64, 96))
    views = [view_of(of(size), k, augment, 128, 5) for k in range(VIEWS)]
    factors = []
    for view in views:
        assert view.size == (64, 96)
        edges = np.add(view.corner, view.size)
        assert (edges <= view.scaled).all()
        factors.append(view.scaled[0] / size[0])
        assert view.scaled[1] / size[1] == pytest.approx(factors[-1], rel=0.05)
    assert factors == sorted(factors)
    fits = max(64 / size[0], 96 / size[1])
    low, high = (max(factor * 128 / min(size), fits) for factor in (0.5, 2.0))
    for k, factor in enumerate(factors):
        begin, end = (low + (high - low) * part / VIEWS for part in (k, k + 1))
        assert begin * 0.97 <= factor <= end * 1.03


def test_a_crop_follows_from_seed_content_and_number():
    augment = Augment(scale=(0.5, 2.0), crop=(64, 64))
    views = {(seed, digest, k): view_of(of((200, 300), digest), k, augment, 96, seed)
             for seed in (0, 1) for digest in ("ab" * 32, "cd" * 32) for k in range(VIEWS)}  # fmt: skip
    assert len({(view.scaled, view.corner) for view in views.values()}) == len(views)
    assert view_of(of((200, 300)), 1, augment, 96, 0) == views[0, "ab" * 32, 1]


def pool(folder: Path, **more) -> Pool:
    (found,) = sets(f"{{folder: {folder}}}")
    return Pool([photograph(p, look) for p, look in zip(found.places, look_at(found.places), strict=True)], **more)


def test_looks_are_numbered_drawings_first_then_the_crops_of_each_photograph(tmp_path):
    drawn = tiny.generated_set(tmp_path / "g", 2)
    augment = tiny.recipe().augment
    made = Unlabelled(drawn, augment, [pool(photos(tmp_path / "p"), weight=2.0)], 64, 1)
    looks = [made.look(k) for k in range(2 + 4 * VIEWS)]
    assert looks[:2] == drawn
    rng = np.random.default_rng(0)
    shown = {made.draw(3, rng) for _ in range(50)}
    assert shown == set(range(2 + VIEWS, 2 + 2 * VIEWS))
    assert {str(looks[k]) for k in shown} == {str(tmp_path / "p" / "b.png")} == {made.name(3)}
    assert made.counts([0, 2, 3, 2 + VIEWS]) == (1, 2)
    assert all(made.pixels(k).shape == (64, 64, 3) for k in range(len(looks)))
    assert (made.pixels(5) == made.pixels(5)).all()
    kept = Unlabelled(drawn, augment, made.pools, 64, 1, DecodedCache(tmp_path / "cache", 2**30))
    for _ in range(2):  # decoded, then out of the cache
        assert (kept.pixels(4) == made.pixels(4)).all()


def test_a_photograph_that_changed_under_the_run_is_named(tmp_path):
    made = Unlabelled([], tiny.recipe().augment, [pool(photos(tmp_path / "p"))], 64, 1)
    (tmp_path / "p" / "a.jpg").write_bytes(jpeg(scene((50, 50))))
    with pytest.raises(DataError, match=r"a\.jpg: has another content"):
        made.pixels(0)


# -- batches


def test_sets_are_drawn_from_by_weight(tmp_path):
    source, drawn = tiny.source_set(tmp_path / "s", 5), tiny.generated_set(tmp_path / "g", 3)
    chosen = f"[{{folder: {photos(tmp_path / 'p')}, weight: 3}}, {{folder: {photos(tmp_path / 'q')}}}]"
    recipe = tiny.recipe(f"data.unlabelled={chosen}", "train.generated_weight=2", "train.batch_size=8")
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    data = Batches(source, unlabelled_images(recipe, drawn, found, source), recipe, 1, 0)
    which = np.searchsorted([5, 8, 12, 16], [data.order(k) for k in range(4000)], side="right")
    assert np.abs(np.bincount(which, minlength=4) / 4000 - np.array([1, 2, 3, 1]) / 7).max() < 0.03


@pytest.mark.parametrize(("weights", "words", "shares"), [
    ("", ["generate.count=0"], [1 / 2, 0, 1 / 4, 1 / 4]),
    ("", [], [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
    (", weight: 3", [], [1 / 5, 1 / 10, 3 / 5, 1 / 10]),
    ("", ["train.generated_weight=2"], [1 / 4, 1 / 2, 1 / 8, 1 / 8]),
])  # fmt: skip
def test_sets_without_labels_share_a_weight_and_do_not_crowd_out_the_labels(tmp_path, weights, words, shares):
    source, drawn = tiny.source_set(tmp_path / "s", 5), tiny.generated_set(tmp_path / "g", 3)
    chosen = f"[{{folder: {photos(tmp_path / 'p')}{weights}}}, {{folder: {photos(tmp_path / 'q')}}}]"
    recipe = tiny.recipe(f"data.unlabelled={chosen}", *words, "train.batch_size=8")
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    drawn = drawn if recipe.draws else []
    data = Batches(source, unlabelled_images(recipe, drawn, found, source), recipe, 1, 0)
    ends = np.cumsum([5, len(drawn), 4, 4])
    which = np.searchsorted(ends, [data.order(k) for k in range(4000)], side="right")
    assert np.abs(np.bincount(which, minlength=4) / 4000 - shares).max() < 0.03


def test_a_batch_with_photographs_depends_on_its_step_alone(tmp_path):
    source = tiny.source_set(tmp_path / "s", 3)
    words = ["generate.count=0", "train.batch_size=8", "selftrain.mix=0"]
    recipe = tiny.recipe(f"data.unlabelled={photos(tmp_path / 'p')}", *words)
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")

    def made() -> Batches:
        return Batches(source, unlabelled_images(recipe, [], found, source), recipe, 9, 4)

    batch, again = [made()[k] for k in range(5)][4], made()[4]
    assert len(batch["slots"])
    assert all((batch[key] == again[key]).all() for key in batch)
    assert batch["clean"].shape[1:] == (3, 64, 64)
    labels = batch["labels"][batch["slots"]]
    assert (labels == 255).all(), "a photograph brings no label"
    unlabelled = unlabelled_images(recipe, [], found, source)
    for look, clean in zip(batch["ids"].tolist(), batch["clean"].numpy(), strict=True):
        assert (clean.transpose(1, 2, 0) == unlabelled.pixels(look)).all()


def test_objects_are_pasted_onto_photographs_and_not_onto_drawings_unless_the_recipe_says(tmp_path):
    source, drawn = tiny.source_set(tmp_path / "s", 3), tiny.generated_set(tmp_path / "g", 2)
    pasted = {}
    for mix in ("null", "0", "0.5"):
        recipe = tiny.recipe(f"data.unlabelled={photos(tmp_path / 'p')}", "train.batch_size=40", f"selftrain.mix={mix}")
        found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
        data = Batches(source, unlabelled_images(recipe, drawn, found, source), recipe, 1, 4)
        batch = data[0]
        slots, looks = (batch[key].tolist() for key in ("slots", "ids"))
        kinds = {True: [], False: []}
        for slot, look in zip(slots, looks, strict=True):
            kinds[look >= len(drawn)].append(bool((batch["labels"][slot] != 255).any()))
        pasted[mix] = {kind: sum(found) / len(found) for kind, found in kinds.items()}
    assert pasted["0"] == {True: 0, False: 0}
    assert pasted["null"][False] == 0
    assert 0.2 < pasted["null"][True] == pasted["0.5"][True] < 0.8
    assert pasted["0.5"][False] > 0


def test_processes_share_a_batch_with_photographs(tmp_path):
    source, drawn = tiny.source_set(tmp_path / "s", 3), tiny.generated_set(tmp_path / "g", 2)
    recipe = tiny.recipe(f"data.unlabelled={photos(tmp_path / 'p')}", "train.batch_size=8")
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    whole, *parts = [
        Batches(source, unlabelled_images(recipe, drawn, found, source), recipe, 9, 4, process=process)[2]
        for process in ((0, 1), (0, 2), (1, 2))
    ]
    for k, part in enumerate(parts):
        assert (part["images"] == whole["images"][k::2]).all()
        assert (part["numbers"] == whole["numbers"][k::2]).all()
    assert sorted(torch.cat([part["ids"] for part in parts]).tolist()) == sorted(whole["ids"].tolist())


def test_a_photograph_that_turns_out_bad_is_replaced_by_another_one(tmp_path, capsys):
    source = tiny.source_set(tmp_path / "s", 2)
    folder = photos(tmp_path / "p")
    recipe = tiny.recipe(f"data.unlabelled={folder}", "generate.count=0", "train.batch_size=8", "data.max_bad=0.2")
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    data = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(data[: len(data) // 2] + data[-2:])  # its header and end are whole
    batches = Batches(source, unlabelled_images(recipe, [], found, source), recipe, 9, 4)
    seen = {batches.name(k) for step in range(4) for k in batches[step]["numbers"].tolist()}
    assert len(batches.bad) == 1
    assert str(folder / "a.jpg") not in seen
    assert seen & {str(folder / name) for name in SIZES}
    assert capsys.readouterr().err.count("skipped: ") == 1


def test_a_set_that_is_there_with_other_sizes_is_cut_like_photographs(tmp_path, capsys):
    source = tiny.source_set(tmp_path / "s", 2)
    folder = tmp_path / "g"
    for k in range(4):
        write_png(folder / f"{k}.png", scene((80, 100), k))
    recipe = tiny.recipe(f"generate.folder={folder}")
    drawn = sorted(folder.glob("*.png"))
    found = unlabelled_images(recipe, drawn, [], source)
    assert "4 of 4 images are not 64x64, the first one 100x80: the set is scaled and cropped" in capsys.readouterr().err
    assert (found.sizes, found.photographs) == ([0, 4], 0)
    assert found.counts(range(2 * VIEWS)) == (2, 0)
    assert [found.pixels(k).shape for k in range(VIEWS)] == [(64, 64, 3)] * VIEWS
    fits = unlabelled_images(recipe, tiny.generated_set(tmp_path / "fits", 3), [], source)
    assert fits.sizes == [3]


def test_the_shorter_side_is_the_sources_own_unless_the_recipe_says(tmp_path):
    source = tiny.source_set(tmp_path / "s", 2, size=(96, 128))
    Path(source.sets[0].samples[0].image.files.path / source.sets[0].samples[0].image.name).write_bytes(b"damaged")
    for settings, side in (([], 96), (["augment.shorter_side=80"], 80)):
        recipe = tiny.recipe(f"data.unlabelled={photos(tmp_path / 'p')}", *settings)
        found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
        assert unlabelled_images(recipe, [], found, source).side == side


def test_a_header_tells_the_size_and_nothing_else_is_read(tmp_path):
    write_png(tmp_path / "a.png", scene((30, 50)))
    (tmp_path / "b.jpg").write_bytes(jpeg(scene((20, 70))))
    (tmp_path / "c.png").write_bytes(b"damaged")
    os.truncate(tmp_path / "a.png", 60)
    assert [header_size(tmp_path / name) for name in ("a.png", "b.jpg", "c.png")] == [(30, 50), (20, 70), None]


def test_the_looks_that_a_stage_draws_are_known_ahead(tmp_path):
    source, drawn = tiny.source_set(tmp_path / "s", 3), tiny.generated_set(tmp_path / "g", 2)
    recipe = tiny.recipe(
        f"data.unlabelled={photos(tmp_path / 'p')}", "train.batch_size=4", "selftrain.mix=0.5", "augment.distort=0.5"
    )
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    unlabelled = unlabelled_images(recipe, drawn, found, source)
    of_two = [Batches(source, unlabelled, recipe, 5, 4, process=(rank, 2)) for rank in (0, 1)]
    shown = {look for data in of_two for step in range(5) for look in data[step]["ids"].tolist()}
    assert sorted(shown) == of_two[0].looks() == of_two[1].looks()
    assert 3 < len(shown) < 2 + len(SIZES) * VIEWS


def test_regions_are_found_of_the_looks_that_are_drawn_and_of_another_one_when_it_is_needed(tmp_path):
    folder = photos(tmp_path / "p")
    source = tiny.source_set(tmp_path / "s", 2)
    recipe = tiny.recipe(f"data.unlabelled={folder}", "generate.count=0", "selftrain.refinement=smooth")
    found = read_photographs(recipe, find_photographs(recipe.data), tmp_path / "run")
    unlabelled = unlabelled_images(recipe, [], found, source)
    regions = regions_of_set(recipe, unlabelled.look, [1, 6], tmp_path / "run")
    kept = list((tmp_path / "run" / "regions").rglob("*.npz"))
    assert len(kept) == 2
    assert len(regions(6)) > 0
    assert list((tmp_path / "run" / "regions").rglob("*.npz")) == kept
    assert len(regions(3)) > 0, "in place of a file that cannot be read"
    assert len(list((tmp_path / "run" / "regions").rglob("*.npz"))) == 3
