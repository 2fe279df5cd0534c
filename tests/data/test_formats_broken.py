"""What is wrong in an export is named, a line each, with the record: before training, and by ``clouds check``."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clouds.cli as cli
from clouds.data import open_dataset
from clouds.errors import DataError
from fabricate import Files, as_folder, as_zip, png
from fabricate_formats import MADE, SIZE, image, labelme_json, labelme_shape


def problems(capsys: pytest.CaptureFixture[str], name: str, root: Path, *words: str) -> list[str]:
    """What ``clouds check`` lists."""
    out = str(root.parent / "out")
    assert cli.run(["check", name, *words, "--root", str(root), "--out", out, "--full", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["problems"]
    return [f"{each['path']}: {each['what']}".replace(f"{root}/", "") for each in found]


Change = Callable[[dict[str, Any]], None]


def _first(content: dict[str, Any]) -> dict[str, Any]:
    return content["annotations"][0]


COCO: dict[str, tuple[Change, str]] = {
    "a category twice": (lambda c: c["categories"].append({"id": 1, "name": "bus"}),
                         "labels.json: category id 1 is given twice, to 'tree' and 'bus'"),
    "names that differ in case": (lambda c: c["categories"].append({"id": 7, "name": "Car"}),
                                  "labels.json: its classes 'car' and 'Car' differ only in case or blanks; rename one"),
    "a category without a name": (lambda c: c["categories"].append({"id": 7}),
                                  "labels.json: category {'id': 7}: expected an id, a whole number, and a name"),
    "an unknown category": (lambda c: _first(c).update(category_id=5),
                            "labels.json: annotation 1: has category 5, which is not listed"),
    "an annotation of no image": (lambda c: _first(c).update(image_id=5),
                                  "labels.json: annotation 1: is of image 5, which is not listed"),
    "an image twice": (lambda c: c["images"].append(c["images"][0]),
                       "labels.json: image 1: its id is given twice, also to b.jpg"),
    "a file twice": (lambda c: c["images"].append(c["images"][0] | {"id": 2}),
                     "labels.json: image 2: is the second one of file_name b.jpg"),
    "a missing image": (lambda c: c["images"].append(c["images"][0] | {"id": 2, "file_name": "c.jpg"}),
                        "labels.json: image 2: its file c.jpg is not below ROOT"),
    "all images missing": (lambda c: c["images"][0].update(file_name="c.jpg"),
                           "labels.json: none of its 1 images is below ROOT, such as c.jpg; put them beside it, into "
                           "images/ or into train/"),
    "another size": (lambda c: (c["images"][0].update(height=47), c["annotations"].clear(), c["annotations"].append(
                         {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]})),
                     "labels.json: label is 64x47 but its image data/b.jpg is 64x48; not a pair"),
    "run lengths of another image": (
        lambda c: _first(c)["segmentation"].update(size=[64, 48]),
        "labels.json: annotation 1: its run lengths are of 48x64 pixels, its image is 64x48"),
    "cut run lengths": (lambda c: _first(c)["segmentation"].update(counts=_first(c)["segmentation"]["counts"][:-1]),
                        "labels.json: train/b: annotation 1: its run lengths are cut or damaged; export them again"),
    "run lengths of a part": (lambda c: _first(c)["segmentation"].update(counts=[0, 100]),
                              "labels.json: train/b: annotation 1: its run lengths fill 100 of 64x48 pixels; cut, or "
                              "of another image?"),
    "a corner that is not a number": (lambda c: _first(c).update(segmentation=[[1, 2, 3, float("nan"), 4, 5]]),
                                      "labels.json: train/b: a corner of annotation 1 is at nan; expected pixels, "
                                      "draw it again"),
    "half a corner": (lambda c: _first(c).update(segmentation=[[1, 2, 3]]),
                      "labels.json: annotation 1: its segmentation is neither polygons nor run lengths (ValueError('"
                      "cannot reshape array of size 3 into shape (2)'))"),
    "boxes alone": (lambda c: [each.update(segmentation=[]) for each in c["annotations"]],
                    "labels.json: its 2 annotations are boxes without a segmentation; there are no masks"),
    "no size": (lambda c: c["images"][0].update(height=None), "labels.json: image 1: has a size of 64xNone"),
}  # fmt: skip


@pytest.mark.parametrize("fault", COCO)
def test_coco(capsys: pytest.CaptureFixture[str], fault: str, tmp_path: Path) -> None:
    change, what = COCO[fault]
    files = MADE["coco of FiftyOne"][1]()
    content = json.loads(files["labels.json"])
    change(content)
    root = as_folder(files | {"labels.json": json.dumps(content).encode()}, tmp_path / "set")
    assert problems(capsys, "coco", root) == [what.replace("ROOT", str(root))]


def test_gaps_double_names_and_areas_beyond_numbers_are_no_fault(tmp_path: Path) -> None:
    files = MADE["coco of FiftyOne"][1]()
    content = json.loads(files["labels.json"])
    content["annotations"][0]["area"] = 10**400
    content["categories"].append({"id": 90, "name": "car"})
    content["annotations"][0]["category_id"] = 90
    data = open_dataset("coco", as_folder(files | {"labels.json": json.dumps(content).encode()}, tmp_path))
    assert data.label_set.classes == ("car", "tree", "background")
    assert (data.label(0) == 0).sum() == 100


BROKEN: dict[str, tuple[str, str, Callable[[Files], object], list[str]]] = {
    "panoptic, an unknown segment": (
        "coco", "panoptic",
        lambda f: f.update({"annotations/panoptic_val2017/000000000001.png": png(np.full((*SIZE, 3), 1, np.uint8))}),
        ["annotations/panoptic_val2017/000000000001.png: segments 65793 are not in its segments_info"],
    ),
    "panoptic, a PNG that is gone": (
        "coco", "panoptic", lambda f: f.pop("annotations/panoptic_val2017/000000000001.png"),
        ["annotations/panoptic_val2017.json: image 1: its segments' file 000000000001.png is not in "
         "annotations/panoptic_val2017/"],
    ),
    "voc, a list with names of another": (
        "voc", "voc of its site",
        lambda f: f.update({"VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": b"2007_000000\n2007_000001\n"}),
        ["VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt: lists 2007_000000 too, which train.txt lists; keep each in "
         "one"],
    ),
    "voc, a mask that is gone": (
        "voc", "voc of its site", lambda f: f.pop("VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"),
        ["VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt: lists 2007_000001, which has no label; expected "
         "SegmentationClass/2007_000001.png"],
    ),
    "a label map with two names of one colour": (
        "cvat", "masks of CVAT", lambda f: f.update({"labelmap.txt": b"background:0,0,0::\ncar:200,10,20::\n"
                                                     b"lorry:200,10,20::\ncar:1,2,3::\nbad\n"}),
        ["labelmap.txt line 3: gives lorry the colour (200, 10, 20) of car; their pixels cannot be distinguished",
         "labelmap.txt line 4: has car a second time; keep one",
         "labelmap.txt line 5: is 'bad'; expected name:red,green,blue::"],
    ),
    "a label map that lacks a colour": (
        "cvat", "masks of CVAT", lambda f: f.update({"labelmap.txt": b"background:0,0,0::\ncar:200,10,20::\n"}),
        ["SegmentationClass/sub/f 0.png: colours #0a781e are outside the label map; resized, or another palette?",
         "SegmentationClass/f1.png: label values 2 are outside this dataset's label map (it defines 0-1, 255); wrong "
         "kind of label file, or a wrong label map"],
    ),
    "CVAT, exported without images": (
        "cvat", "XML of CVAT", lambda f: f.pop("images/Validation/q1.jpg"),
        ["annotations.xml: image q1.jpg: its file is not below ROOT; export it with images"],
    ),
    "CVAT, a label that the task lacks": (
        "cvat", "XML of CVAT",
        lambda f: f.update({"annotations.xml": f["annotations.xml"].replace(b'mask label="car"', b'mask label="bus"')}),
        ["annotations.xml: image x/q 0.jpg: mask 2 (bus): its label is not among the task's",
         "annotations.xml: image q1.jpg: mask 2 (bus): its label is not among the task's"],
    ),
    "CVAT, cut run lengths": (
        "cvat", "XML of CVAT",
        lambda f: f.update({"annotations.xml": f["annotations.xml"].replace(b'rle="0, 100"', b'rle="0, 90"', 1)}),
        ["annotations.xml: Train/x/q 0: mask 2 (car): its run lengths fill 90 of 10x10 pixels; cut, or of another "
         "image?"],
    ),
    "CVAT for video": (
        "cvat", "XML of CVAT", lambda f: f.update({"annotations.xml": b"<annotations><track id='0'/></annotations>"}),
        ["annotations.xml: holds tracks of a video; export it as CVAT for images 1.1"],
    ),
    "labelme, a label outside the list": (
        "labelme", "labelme", lambda f: f.update({"labels.txt": b"car\n"}),
        [f"{n}: shape 1 (tree): its label is not in labels.txt" for n in ("a/p0.json", "c/p2.json", "json/p1.json")],
    ),
    "labelme, no picture anywhere": (
        "labelme", "labelme", lambda f: f.update({"c/p2.json": labelme_json("gone.jpg")}),
        ["c/p2.json: its image gone.jpg is not there, nor inside it"],
    ),
    "labelme, a label that is no text": (
        "labelme", "labelme",
        lambda f: f.update({"a/p0.json": labelme_json("p0.jpg", shapes=[{"label": ["car"], "points": [[1, 2]]}])}),
        ["a/p0.json: shape 1 (): its label is not in labels.txt"],
    ),
    "labelme, a circle of one point": (
        "labelme", "labelme",
        lambda f: f.update({"a/p0.json": labelme_json("p0.jpg", shapes=[labelme_shape("car", "circle", [[1, 2]])])}),
        ["a/p0.json: shape 1 (car): cannot be drawn (IndexError('index 1 is out of bounds for axis 0 with size 1'))"],
    ),
    "yolo, another count": (
        "yolo", "yolo of Roboflow", lambda f: f.update({"data.yaml": f["data.yaml"].replace(b"nc: 2", b"nc: 3")}),
        ["data.yaml: nc is 3, but names has 2 classes"],
    ),
    "yolo, names twice": (
        "yolo", "yolo of supervision", lambda f: f.update({"data.yaml": b"names: [car, car, Car]"}),
        ["data.yaml: names: car is given twice; rename one"],
    ),
    "yolo, names that differ in case": (
        "yolo", "yolo of supervision", lambda f: f.update({"data.yaml": b"names: [car, Car]"}),
        ["data.yaml: its classes 'car' and 'Car' differ only in case or blanks; rename one"],
    ),
    "yolo, a class beyond": (
        "yolo", "yolo of supervision", lambda f: f.update({"labels/a 0.txt": b"0 0 0 1 0 1 1\n2 0 0 1 0 1 1\n"}),
        ["labels/a 0.txt line 2: class 2; data.yaml names 2, 0 to 1"],
    ),
    "yolo, boxes": (
        "yolo", "yolo of supervision", lambda f: f.update({"labels/a 0.txt": b"0 0.5 0.5 0.2 0.2\n"}),
        ["labels/a 0.txt: holds boxes alone, class x y width height: a detection set, without masks; export it for "
         "segmentation"],
    ),
    "yolo, a box among polygons": (
        "yolo", "yolo of supervision", lambda f: f.update({"labels/a 0.txt": b"0 0 0 1 0 1 1\n0 0.5 0.5 0.2 0.2\n"}),
        ["labels/a 0.txt line 2: is a box, class x y width height; detection labels have no masks"],
    ),
    "yolo, no numbers": (
        "yolo", "yolo of supervision", lambda f: f.update({"labels/a 0.txt": b"0 a b c d e f\n"}),
        ["labels/a 0.txt line 1: '0 a b c d e f'; expected a class and shares of width and height"],
    ),
    "yolo, labels of another split": (
        "yolo", "yolo of Ultralytics", lambda f: f.update({"labels/train/val.txt": f.pop("labels/val/val.txt")}),
        ["images/val/val.jpg: has no label; expected labels/val/val.txt; there is labels/train/val.txt, of another "
         "split"],
    ),
    "yolo, a label of no image": (
        "yolo", "yolo of Ultralytics", lambda f: f.update({"labels/train/b.txt": b""}),
        ["labels/train/b.txt: is the label of no image"],
    ),
    "yolo, a split that is not there": (
        "yolo", "yolo of Ultralytics", lambda f: (f.pop("images/val/val.jpg"), f.pop("labels/val/val.txt")),
        ["my.yaml: val: images/val holds no image here"],
    ),
    "datumaro, an image without a mask": (
        "datumaro", "datumaro", lambda f: f.update({"train/images/image_7.png": image(7)}),
        ["train/images/image_7.png: has no label; expected train/masks/7.png"],
    ),
    "datumaro, a label of another split": (
        "datumaro", "datumaro",
        lambda f: [f.update({re.sub("image_|mask_", "", name): f.pop(name)}) for name in [*f]]
        and f.update({"train/images/7.png": image(7), "val/masks/7.png": f["val/masks/1.png"]}),
        ["train/images/7.png: has no label; expected train/masks/7.png; there is val/masks/7.png, of another split",
         "val/masks/7.png: is the label of no image; expected val/images/7.png"],
    ),
    "datumaro, one colour twice": (
        "datumaro", "datumaro",
        lambda f: [f.pop(n) for n in [*f] if n.startswith("val/")] and f.update({"train/dataset_meta.json": json.dumps(
            {"label_map": {"0": "a", "1": "b"}, "segmentation_colors": [[1, 2, 3], [1, 2, 3]]}).encode()}),
        ["train/dataset_meta.json: gives a and b one colour; their pixels cannot be distinguished"],
    ),
    "roboflow, other classes in a split": (
        "roboflow", "masks of Roboflow",
        lambda f: f.update({"valid/_classes.csv": b"Pixel Value, Class\n0, background\n"}),
        ["valid/_classes.csv: has other classes than train/_classes.csv"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_other_formats(capsys: pytest.CaptureFixture[str], fault: str, tmp_path: Path) -> None:
    name, kind, change, what = BROKEN[fault]
    files = MADE[kind][1]()
    change(files)
    root = as_folder(files, tmp_path / "set")
    assert sorted(problems(capsys, name, root)) == sorted(each.replace("ROOT", str(root)) for each in what)


@pytest.mark.parametrize("name", ["coco", "voc", "cvat", "labelme", "yolo", "datumaro", "roboflow"])
def test_another_kind_of_folder(capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path) -> None:
    root = as_folder({"photos/a.jpg": image(0)}, tmp_path / "set")
    (problem,) = problems(capsys, name, root)
    assert "; expected " in problem
    assert problem.endswith("there is photos/")


@pytest.mark.parametrize(("kind", "asked"), [
    ("yolo of Roboflow", "coco"), ("coco of its site", "yolo"), ("voc with a label map", "labelme"),
    ("XML of CVAT", "voc"), ("datumaro", "cvat"), ("masks of Roboflow", "datumaro"),
])  # fmt: skip
def test_a_set_of_another_format_is_called_by_its_name(
    capsys: pytest.CaptureFixture[str], kind: str, asked: str, tmp_path: Path
) -> None:
    (problem,) = problems(capsys, asked, as_folder(MADE[kind][1](), tmp_path / "set"))
    assert MADE[kind][0] in problem.partition("; it looks like a set of ")[2]


@pytest.mark.parametrize("name", ["coco", "labelme", "cvat", "yolo"])
def test_files_that_are_cut(capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path) -> None:
    json_file = "a.json", b'{"images": [{"id": 1}'
    cut = {"cvat": ("a.xml", b"<annotations><image"), "yolo": ("a.yaml", b"names: [a\n")}
    file, content = cut.get(name, json_file)
    root = as_folder({file: content, "a.jpg": image(0)}, tmp_path / "set")
    (problem,) = problems(capsys, name, root)
    assert problem.startswith(f"{file}: ")


def test_partial_passes_over_records_and_not_over_faults(tmp_path: Path) -> None:
    files = MADE["yolo of Ultralytics"][1]() | {"images/train/b.jpg": image(5)}
    root = as_folder(files, tmp_path)
    with pytest.raises(DataError, match=r"b\.jpg: has no label; expected labels/train/b\.txt; an image w"):
        open_dataset("yolo", root, "train")
    assert len(open_dataset("yolo", root, "train", partial=True)) == 1
    (root / "my.yaml").write_bytes(files["my.yaml"] + b"nc: 5\n")
    with pytest.raises(DataError, match="nc is 5, but names has 2 classes"):
        open_dataset("yolo", root, "train", partial=True)


@pytest.mark.parametrize("chunk", [1, 3, 64, 1 << 20])
def test_a_json_file_is_read_in_pieces(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clouds.data.archives import Archive, Folder
    from clouds.data.formats import json_stream
    from clouds.data.samples import Place

    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    monkeypatch.setattr(json_stream, "PIECE", chunk)
    content = {"a": [1, 23.5, {"b": ["ü", "]", '"']}], "n": 12345, "empty": [], "o": {"x": [1]}, "t": "é ]"}
    expected = [("a", 1), ("a", 23.5), ("a", content["a"][2]), ("n", 12345), ("o", {"x": [1]}), ("t", "é ]")]
    plain = json.dumps(content)
    for text in (plain, json.dumps(content, indent=2, ensure_ascii=False), f"\ufeff{plain}"):
        (tmp_path / "f.json").write_bytes(text.encode())
        as_zip({"f.json": text.encode()}, tmp_path / "f.zip")
        for files in (Folder(tmp_path), Archive(tmp_path / "f.zip")):
            file = json_stream.JsonFile(Place(files, "f.json"))
            found = list(file.entries())
            assert [(key, value) for key, value, _ in found] == expected
            assert list(pickle.loads(pickle.dumps(file)).values(span for *_, span in found)) == [v for _, v in expected]
    for cut in (json.dumps(content)[:-9], plain.replace("23.5", "23.5.")):
        (tmp_path / "f.json").write_bytes(cut.encode())
        with pytest.raises(ValueError, match=r" at byte \d+"):
            list(json_stream.JsonFile(Place(Folder(tmp_path), "f.json")).entries())
