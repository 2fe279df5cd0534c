"""Sets as annotation tools export them read where they lie: unpacked, in archives, with the classes of their files."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clouds.check.inspect import inspect_set
from clouds.data import open_dataset
from clouds.data.datasets import Segmentation, dataset_spec
from clouds.data.formats import coco, json_stream, labelme
from clouds.data.formats.found import FoundSpec
from clouds.data.formats.tree import Tree
from clouds.errors import DataError, UsageError
from fabricate import as_folder, as_zip, png
from fabricate_formats import MADE, SIZE, TREE, image, names, noise, yolo_text


def shown(data: Segmentation, index: int) -> np.ndarray:
    """(H, W) of names of classes, "" where a label is ignored."""
    own = np.array([*data.label_set.classes, *[""] * (256 - len(data.label_set.classes))])
    return own[data.label(index)]


def expected(kind: str) -> np.ndarray:
    found = names()
    if kind == "voc of its site":
        found = np.where(found == "tree", "pottedplant", found)
        found[0] = ""  # its border
    return found


@pytest.mark.parametrize("packed", ["folder", "zip", "zip with a top folder"])
@pytest.mark.parametrize("kind", MADE)
def test_every_split_reads_as_it_was_drawn(kind: str, packed: str, tmp_path: Path) -> None:
    name, make, splits = MADE[kind]
    root = as_folder(make(), tmp_path / "set") if packed == "folder" else tmp_path / "set.zip"
    if packed != "folder":
        as_zip(make(), root, top="export/" if "top" in packed else "")
    before = sorted(tmp_path.rglob("*"))
    spec = dataset_spec(name, root=root)
    assert {split: len(open_dataset(name, root, split)) for split in spec.splits} == splits
    for split in splits:
        data = pickle.loads(pickle.dumps(open_dataset(name, root, split)))
        assert len(set(data.names)) == len(data)
        for k in range(len(data)):
            image, label = data[k]
            assert image.shape == (3, *SIZE)
            assert np.array_equal(shown(data, k), expected(kind)), (kind, data.names[k])
            assert label.numpy().max() < 255 or kind == "voc of its site"
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written


@pytest.mark.parametrize("kind", MADE)
def test_check_finds_no_fault(kind: str, tmp_path: Path) -> None:
    name, make, splits = MADE[kind]
    root = as_folder(make(), tmp_path)
    found = inspect_set(name, root, dataset_spec(name, root=root), full=True)
    assert found.problems == []
    assert found.splits == {split: count for split, count in splits.items() if split != "trainval"}
    assert found.counts[list(found.label_set.classes).index("car")] == 100 * found.pairs


def test_a_split_may_be_called_as_its_files_call_it(tmp_path: Path) -> None:
    root = as_folder(MADE["coco of its site"][1](), tmp_path)
    assert open_dataset("coco", root, "val2017").names == ["val2017/val2017_000"]
    assert open_dataset("coco", root).split == "val"
    with pytest.raises(UsageError, match="coco has no split 'test'; it has train, val"):
        open_dataset("coco", root, "test")


def test_what_is_lost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_dataset("cvat", as_folder(MADE["XML of CVAT"][1](), tmp_path / "cvat"), "train")
    open_dataset("labelme", as_folder(MADE["labelme"][1](), tmp_path / "labelme"))
    said = capsys.readouterr().err
    assert "2 elements <box> have no outline and are passed over" in said
    assert "3 shapes of type linestrip have no inside and are passed over" in said


def test_classes_without_pixels_of_their_own_stay_out_of_the_way(tmp_path: Path) -> None:
    root = as_folder(MADE["coco of Roboflow"][1](), tmp_path)
    assert open_dataset("coco", root).label_set.classes == ("things", "car", "tree", "background")


def test_colours_come_from_the_files(tmp_path: Path) -> None:
    for kind in ("masks of CVAT", "XML of CVAT", "panoptic", "datumaro"):
        name, make, _ = MADE[kind]
        label_set = open_dataset(name, as_folder(make(), tmp_path / kind)).label_set
        assert dict(zip(label_set.classes, label_set.colors, strict=True))["car"] == (200, 10, 20), kind


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    root = as_folder(MADE["yolo of supervision"][1](), tmp_path)
    assert open_dataset("yolo", root).label_set.classes == ("car", "tree", "background")
    (root / "data.yaml").write_text("nc: 2\nnames: [car, large tree]\n")
    assert open_dataset("yolo", root).label_set.classes == ("car", "large tree", "background")


def test_samples_of_one_file_are_kept_apart_in_a_cache(tmp_path: Path) -> None:
    from clouds.data.cache import DecodedCache
    from clouds.data.source import Source

    files = MADE["coco of supervision"][1]()
    import json

    content = json.loads(files["annotations.json"])
    content["annotations"] = content["annotations"][:2]  # the second image shows nothing
    root = as_folder(files | {"annotations.json": json.dumps(content).encode()}, tmp_path / "set")
    data = open_dataset("coco", root)
    source = Source([data], DecodedCache(tmp_path / "cache", 1 << 30), data.label_set)
    for _ in range(2):
        assert [len(np.unique(source.label(k))) for k in range(2)] == [3, 1]


def test_spec_says_what_there_is(tmp_path: Path) -> None:
    root = as_folder(MADE["voc of its site"][1](), tmp_path)
    spec = dataset_spec("voc", root=root)
    assert isinstance(spec, FoundSpec)
    assert (spec.scored, spec.asked) == ("val", {"trainval"})
    with pytest.raises(UsageError, match="voc: say where it is"):
        dataset_spec("voc")
    with pytest.raises(UsageError, match="voc has no option columns; it has none: its own files say all"):
        dataset_spec("voc", options={"columns": ["a", "b"]}, root=root)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        dataset_spec("voc", root=tmp_path / "nowhere")


def test_archives_of_coco_lie_beside_each_other(tmp_path: Path) -> None:
    files = MADE["panoptic"][1]()
    for split in ("train2017", "val2017"):
        as_zip({n: c for n, c in files.items() if n.startswith(f"{split}/")}, tmp_path / f"{split}.zip")
        pictures = {n.removeprefix("annotations/"): c for n, c in files.items() if f"panoptic_{split}/" in n}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        as_zip(pictures, tmp_path / "annotations" / f"panoptic_{split}.zip")
        (tmp_path / "annotations" / f"panoptic_{split}.json").write_bytes(files[f"annotations/panoptic_{split}.json"])
    data = open_dataset("coco", tmp_path, "train")
    assert np.array_equal(shown(data, 0), names())


def test_instances_are_read_where_asked(tmp_path: Path) -> None:
    files = MADE["coco of its site"][1]() | MADE["panoptic"][1]()
    root = as_folder(files, tmp_path)
    assert open_dataset("coco", root, "train").names == ["train2017/000000000000"]
    chosen = open_dataset("coco", root, "train", annotations="annotations/instances_{split}.json")
    assert chosen.names == ["train2017/train2017_000"]
    with pytest.raises(DataError, match=r"no JSON file is stuff\*; there is annotations/"):
        open_dataset("coco", root, annotations="stuff*")


def test_labelme_shapes(tmp_path: Path) -> None:
    """Circles, masks and turned boxes, as labelme's own tool paints them; __ignore__ is no class."""
    import base64

    from fabricate_formats import image, labelme_json, labelme_shape

    hole = np.ones((4, 4), np.uint8)
    hole[1, 1] = 0
    shapes = [
        labelme_shape("sun", "circle", [[10.0, 10.0], [14.0, 10.0]]),
        labelme_shape("spot", "mask", [[30, 20], [33, 23]], base64.b64encode(png(hole * 255)).decode()),
        labelme_shape("box", "oriented_rectangle", [[40, 5], [50, 5], [50, 9], [40, 9]]),
        labelme_shape("__ignore__", "rectangle", [[0, 40], [63, 47]]),
    ]
    root = as_folder({"p.jpg": image(0), "p.json": labelme_json("p.jpg", shapes=shapes)}, tmp_path)
    data = open_dataset("labelme", root)
    found = shown(data, 0)
    assert data.label_set.classes == ("box", "spot", "sun", "background")
    assert (found[10, 14], found[10, 15], found[6, 10]) == ("sun", "background", "sun")
    assert (found[20, 30], found[21, 31], found[23, 33]) == ("spot", "background", "spot")
    assert (found == "box").sum() == 5 * 11
    assert (found[40:] == "").all()


def test_polygons_beyond_the_image_are_counted(tmp_path: Path) -> None:
    files = MADE["yolo of supervision"][1]()
    files["labels/a 0.txt"] += b"\n1 -0.5 0 1.5 0 1.5 0.1 -0.5 0.1"
    root = as_folder(files, tmp_path)
    found = inspect_set("yolo", root, dataset_spec("yolo", root=root), full=True)
    assert found.problems == []
    (note,) = found.notes
    assert note.startswith("1 shape reaches beyond its image and is clipped, such as line 3 of ")
    assert "a 0.txt" in note


def test_a_photograph_that_asks_to_be_turned(tmp_path: Path) -> None:
    """Shares of a YOLO label count on the picture as it is shown."""
    import io

    from PIL import Image

    files = MADE["yolo of supervision"][1]()
    buffer, how = io.BytesIO(), Image.Exif()
    how[0x0112] = 6
    Image.fromarray(np.zeros((SIZE[1], SIZE[0], 3), np.uint8)).save(buffer, "JPEG", exif=how)
    root = as_folder(files | {"images/a 0.jpg": buffer.getvalue()}, tmp_path)
    data = open_dataset("yolo", root, exif="apply")
    assert data[0][0].shape == (3, *SIZE)
    assert np.array_equal(shown(data, 0), names())
    with pytest.raises(DataError, match="its EXIF orientation is 6"):
        open_dataset("yolo", root)[0]


def test_images_of_two_splits_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = MADE["yolo of supervision"][1]() | {"data.yaml": b"train: images\nval: images\nnames: [car, tree]\n"}
    open_dataset("yolo", as_folder(files, tmp_path))
    assert "1 images are in train and in val, such as " in capsys.readouterr().err


def test_crowds_lie_below(tmp_path: Path) -> None:
    import json

    files = MADE["coco of FiftyOne"][1]()
    content = json.loads(files["labels.json"])
    content["annotations"].append({
        "id": 9, "image_id": 1, "category_id": 0, "iscrowd": 1, "area": 10, "bbox": [0, 0, 64, 48],
        "segmentation": {"counts": [0, 48 * 64], "size": [48, 64]},
    })  # fmt: skip
    data = open_dataset("coco", as_folder(files | {"labels.json": json.dumps(content).encode()}, tmp_path))
    left, top, right, bottom = TREE
    inside = np.zeros(SIZE, bool)
    inside[top : bottom + 1, left : right + 1] = True
    assert np.array_equal(shown(data, 0), np.where(inside, names(), "car"))


def _polygons(count: int, root: Path) -> Path:
    """A file of so many polygons of 60 corners in four images, one image after the other."""
    import json

    from fabricate_formats import image

    rng = np.random.default_rng(0)
    annotations = [
        {"id": k, "image_id": k % 4, "category_id": 1 + k % 2, "segmentation": [rng.integers(0, 48, 120).tolist()]}
        for k in range(count)
    ]
    content = {
        "annotations": annotations, "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}],
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": SIZE[0], "width": SIZE[1]} for k in range(4)],
    }  # fmt: skip
    pictures = {f"images/{k}.jpg": image(k) for k in range(4)}
    return as_folder({"a.json": json.dumps(content).encode()} | pictures, root)


def _shapes(count: int, root: Path) -> Path:
    """The same in four files of labelme."""
    from fabricate_formats import image, labelme_json, labelme_shape

    rng = np.random.default_rng(0)
    shapes = [labelme_shape(f"{k % 2}", "polygon", rng.integers(0, 48, (60, 2)).tolist()) for k in range(count // 4)]
    files = {f"{k}.json": labelme_json(f"{k}.jpg", shapes=shapes) for k in range(4)}
    return as_folder(files | {f"{k}.jpg": image(k) for k in range(4)}, root)


@pytest.mark.parametrize(("read", "make"), [(coco.read, _polygons), (labelme.read, _shapes)])
def test_memory_grows_by_tens_of_bytes_a_shape(
    read: Callable[[Tree], FoundSpec], make: Callable[[int, Path], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    monkeypatch.setattr(json_stream, "CHUNK", 1 << 16)
    peaks, kept, sizes = [], [], []
    for count in (500, 1500):
        tree = Tree(make(count, tmp_path / str(count)))
        tracemalloc.start()
        found = read(tree)
        kept.append(tracemalloc.get_traced_memory()[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(len(pickle.dumps(found)))
    grown = [(large - small) / 1000 for small, large in ((peaks if read is coco.read else kept), kept, sizes)]
    assert max(grown) < 100, grown  # bytes; the text is 500, its numbers as an array 960


def test_annotations_that_lie_apart_in_the_file_are_of_one_image(tmp_path: Path) -> None:
    import json

    apart = open_dataset("coco", _polygons(40, tmp_path / "apart"))
    content = json.loads((tmp_path / "apart" / "a.json").read_text())
    content["annotations"].sort(key=lambda each: each["image_id"])
    as_folder({"a.json": json.dumps(content, indent=1).encode()}, tmp_path / "sorted")
    (tmp_path / "apart" / "images").rename(tmp_path / "sorted" / "images")
    together = open_dataset("coco", tmp_path / "sorted")
    labels = [together.label(k) for k in range(4)]
    assert all(np.array_equal(apart.label(k), labels[k]) for k in range(4))
    assert not np.array_equal(labels[0], labels[1])


def test_an_annotation_file_that_changes_in_use_is_noticed(tmp_path: Path) -> None:
    root = _polygons(4, tmp_path)
    data = open_dataset("coco", root)
    (root / "a.json").write_text(" " + (root / "a.json").read_text())
    with pytest.raises(DataError, match=r"a\.json: was changed while it was in use; start again"):
        data.label(0)
    assert open_dataset("coco", root).label(0).shape == SIZE


def test_a_yolo_list_of_another_machine(tmp_path: Path) -> None:
    """Train and val have images of one name; what a list names and is not here is said."""
    files = {"data.yaml": b"path: /content/set\ntrain: train.txt\nval: val.txt\nnames: [car, tree]\n"}
    for split in ("train", "val"):
        lines = [f"/content/set/images/{split}/{k}.jpg" for k in (1, 2, 3)]
        files[f"{split}.txt"] = "\n".join(lines).encode()
        for k in (1, 2):
            files |= {f"images/{split}/{k}.jpg": image(k), f"labels/{split}/{k}.txt": yolo_text()}
    root = as_folder(files, tmp_path)
    for split in ("train", "val"):
        found = inspect_set("yolo", root, dataset_spec("yolo", root=root), splits=[split], full=True)
        assert found.splits == {split: 2}
        assert [problem.what for problem in found.problems] == [
            f"{split}: {split}.txt lists /content/set/images/{split}/3.jpg, which is not here"
        ]


def test_datumaro_numbers_are_those_of_its_label_map(tmp_path: Path) -> None:
    meta = {"label_map": {"1": "car", "4": "tree"}, "background_label": "1"}
    mask = np.full(SIZE, 1, np.uint8)
    mask[:5] = 4
    files = {"train/dataset_meta.json": json.dumps(meta).encode(), "train/images/a.png": png(noise(0, SIZE)),
             "train/masks/a.png": png(mask)}  # fmt: skip
    data = open_dataset("datumaro", as_folder(files, tmp_path))
    assert {name: int((shown(data, 0) == name).sum()) for name in ("car", "tree")} == {
        "car": int((mask == 1).sum()), "tree": int((mask == 4).sum())
    }  # fmt: skip


def test_labels_that_name_one_image_are_told(tmp_path: Path) -> None:
    """cam2's photo is missing: its label must not be learned with cam1's photo of the same name."""
    images = [{"id": k, "file_name": f"cam{k}/001.jpg", "height": SIZE[0], "width": SIZE[1]} for k in (1, 2)]
    shapes = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [[1, 1, 20, 1, 20, 20]]} for k in (1, 2)]
    content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "car"}]}
    files = {"annotations.json": json.dumps(content).encode(), "images/cam1/001.jpg": image(1)}
    root = as_folder(files, tmp_path)
    found = inspect_set("coco", root, dataset_spec("coco", root=root), full=True)
    (problem,) = found.problems
    assert problem.path.endswith("images/cam1/001.jpg")
    assert "cam1/001 and train/cam2/001 all name it; expected an image for each" in problem.what
    assert found.pairs == 0


def test_the_area_of_run_lengths_orders_them(tmp_path: Path) -> None:
    height, width = SIZE
    runs = {"counts": [0, height * width], "size": [height, width]}
    shapes = [
        {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [[4, 4, 14, 4, 14, 14, 4, 14]], "area": 100},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": runs, "area": 0},
    ]
    content = {"images": [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}], "annotations": shapes,
               "categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}]}  # fmt: skip
    files = {"annotations.json": json.dumps(content).encode(), "images/a.jpg": image(1)}
    drawn = shown(open_dataset("coco", as_folder(files, tmp_path)), 0)
    assert drawn[9, 9] == "car"
    assert (drawn == "road").sum() > 0.9 * drawn.size


def test_an_ellipse_of_cvat_is_turned(tmp_path: Path) -> None:
    height, width = SIZE
    xml = (f'<annotations><image id="0" name="a.jpg" width="{width}" height="{height}"><ellipse label="stone" cx="30" '
           'cy="24" rx="20" ry="4" rotation="90.0" z_order="0"/></image></annotations>')  # fmt: skip
    files = {"annotations.xml": xml.encode(), "images/a.jpg": image(1)}
    rows, columns = np.nonzero(shown(open_dataset("cvat", as_folder(files, tmp_path)), 0) == "stone")
    assert (abs(columns - 30).max() <= 5, abs(rows - 24).max() >= 18) == (True, True)


@pytest.mark.parametrize(("line", "said"), [
    ("0 5 5 30 5 30 30", "30; expected shares of width and height, 0 to 1, and no pixels"),
    ("1.7 0.1 0.1 0.5 0.1 0.5 0.5", "expected a class and shares"),
])  # fmt: skip
def test_yolo_lines_that_are_no_shares_are_refused(tmp_path: Path, line: str, said: str) -> None:
    files = MADE["yolo of supervision"][1]() | {"labels/a 0.txt": b"\xef\xbb\xbf" + line.encode()}
    with pytest.raises(DataError, match=said):
        open_dataset("yolo", as_folder(files, tmp_path)).label(0)


def test_an_image_whose_shape_cannot_be_drawn_is_left_out_of_a_partial_set(tmp_path: Path) -> None:
    height, width = SIZE
    ring = [[4, 4, 14, 4, 14, 14, 4, 14]]
    shapes = [{"id": k, "image_id": k, "category_id": k, "segmentation": ring} for k in (1, 2)]  # no category 2
    images = [{"id": k, "file_name": f"{k}.jpg", "height": height, "width": width} for k in (1, 2)]
    content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "car"}]}
    root = as_folder({"annotations.json": json.dumps(content).encode(), "1.jpg": image(1), "2.jpg": image(2)},
                     tmp_path / "coco")  # fmt: skip
    assert [sample.image.name for sample in open_dataset("coco", root, partial=True).samples] == ["1.jpg"]
    good = '<polygon label="car" points="4,4;14,4;14,14" z_order="0"/>'
    tags = "".join(f'<image id="{k}" name="{k}.jpg" width="{width}" height="{height}">{good}{bad}</image>' for k, bad in
                   ((1, ""), (2, '<polygon label="car" points="4,x;14,4" z_order="0"/>')))  # fmt: skip
    root = as_folder({"annotations.xml": f"<annotations>{tags}</annotations>".encode(), "1.jpg": image(1),
                      "2.jpg": image(2)}, tmp_path / "cvat")  # fmt: skip
    assert [sample.image.name for sample in open_dataset("cvat", root, partial=True).samples] == ["1.jpg"]
