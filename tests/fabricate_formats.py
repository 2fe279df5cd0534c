"""Tiny sets as annotation tools export them: the same two scenes in every format.

Each picture shows a tree and, on it, a car; all else is background. The layouts were taken from files that the tools
themselves wrote (supervision, datasets, labelme), from the templates in their packages (fiftyone's for CVAT's XML) and
from the specifications that the tools publish (CVAT, Ultralytics, Datumaro, Roboflow, COCO, Pascal VOC).
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from fabricate import Files, jpg, png
from fabricate import picture as noise

SIZE = (48, 64)
TREE, CAR = (30, 10, 59, 39), (40, 15, 49, 24)  # left, top, right, bottom, all of them inside
CLASSES = ("car", "tree")
COLORS = {"background": (0, 0, 0), "car": (200, 10, 20), "tree": (10, 120, 30)}


def names() -> np.ndarray:
    """(H, W) of names: what every label must read as."""
    found = np.full(SIZE, "background", dtype="<U10")
    for name, (left, top, right, bottom) in (("tree", TREE), ("car", CAR)):
        found[top : bottom + 1, left : right + 1] = name
    return found


def indices(*order: str) -> np.ndarray:
    """The same as numbers of ``order``."""
    return np.stack([names() == name for name in order]).argmax(0).astype(np.uint8)


def image(seed: int) -> bytes:
    return jpg(noise(seed, SIZE))


def corners(box: tuple[int, int, int, int]) -> list[list[float]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def coco(files: list[str], rle: bool = False, first: int = 1) -> dict[str, Any]:
    """An instance file; the small one is listed first, so that the order in the file is not that of painting."""
    annotations = []
    for number, _ in enumerate(files, 1):
        for category, box in ((first, CAR), (first + 1, TREE)):
            left, top, right, bottom = box
            w, h = right - left + 1, bottom - top + 1
            segmentation: Any = [[float(v) for corner in corners(box) for v in corner]]
            if rle:
                mask = np.zeros(SIZE, np.uint8)
                mask[top : bottom + 1, left : right + 1] = 1
                segmentation = coco_mask.encode(np.asfortranarray(mask))
                segmentation["counts"] = segmentation["counts"].decode()
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": [left, top, w, h],
                "area": float(w * h), "segmentation": segmentation, "iscrowd": 0,
            })  # fmt: skip
    return {
        "info": {}, "licenses": [],
        "categories": [{"id": first + k, "name": name, "supercategory": "x"} for k, name in enumerate(CLASSES)],
        "images": [{"id": k, "file_name": f, "height": SIZE[0], "width": SIZE[1]} for k, f in enumerate(files, 1)],
        "annotations": annotations,
    }  # fmt: skip


def coco_supervision() -> Files:
    return {"images/a 0.jpg": image(0), "images/a 1.jpg": image(1),
            "annotations.json": dump(coco(["a 0.jpg", "a 1.jpg"]))}  # fmt: skip


def coco_official() -> Files:
    """As the set's site: years in the names, captions beside, ids of categories with gaps."""
    files: Files = {"annotations/captions_train2017.json": b"{}", "annotations/person_keypoints_train2017.json": b"{}"}
    for seed, split in enumerate(("train2017", "val2017")):
        content = coco([f"{split}_000.jpg"], rle=seed == 1)
        for each in content["categories"]:
            each["id"] *= 17
        for each in content["annotations"]:
            each["category_id"] *= 17
        files |= {f"{split}/{split}_000.jpg": image(seed), f"annotations/instances_{split}.json": dump(content)}
    return files


def coco_roboflow() -> Files:
    """With the project's own name as category 0, which no annotation has."""
    files: Files = {}
    for seed, split in enumerate(("train", "valid")):
        content = coco([f"{split}_jpg.rf.1.jpg"])
        content["categories"] = [{"id": 0, "name": "things", "supercategory": "none"}, *content["categories"]]
        files |= {f"{split}/{split}_jpg.rf.1.jpg": image(seed), f"{split}/_annotations.coco.json": dump(content)}
    return files


def coco_fiftyone() -> Files:
    return {"data/b.jpg": image(0), "labels.json": dump(coco(["b.jpg"], rle=True, first=0))}


def coco_panoptic() -> Files:
    files: Files = {}
    for seed, split in enumerate(("train2017", "val2017")):
        segments = np.zeros((*SIZE, 3), np.uint8)
        own = names()
        for name, number in (("background", 70_000), ("tree", 300), ("car", 5)):
            segments[own == name] = (number % 256, number // 256 % 256, number // 65536)
        info = [{"id": number, "category_id": key, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]}
                for number, key in ((70_000, 9), (300, 2), (5, 1))]  # fmt: skip
        name = f"{seed:012d}"
        content = {
            "images": [{"id": seed, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]}],
            "annotations": [{"image_id": seed, "file_name": f"{name}.png", "segments_info": info}],
            "categories": [{"id": 9, "name": "background", "isthing": 0, "color": [0, 0, 0]},
                           {"id": 2, "name": "tree", "isthing": 1, "color": [10, 120, 30]},
                           {"id": 1, "name": "car", "isthing": 1, "color": [200, 10, 20]}],
        }  # fmt: skip
        files |= {f"{split}/{name}.jpg": image(seed), f"annotations/panoptic_{split}.json": dump(content),
                  f"annotations/panoptic_{split}/{name}.png": png(segments)}  # fmt: skip
    return files


def painted(colors: dict[str, tuple[int, int, int]] = COLORS) -> np.ndarray:
    """(H, W, 3): the label map in colours."""
    own, found = names(), np.zeros((*SIZE, 3), np.uint8)
    for name, color in colors.items():
        found[own == name] = color
    return found


def labelmap() -> bytes:
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{','.join(map(str, color))}::" for name, color in COLORS.items()]
    return "\n".join(lines).encode()


def cvat_masks() -> Files:
    """Segmentation mask 1.1, exported with its images; one mask of one channel, as CVAT reads them too."""
    return {
        "labelmap.txt": labelmap(), "ImageSets/Segmentation/default.txt": b"sub/f 0\nf1\n",
        "SegmentationClass/sub/f 0.png": png(painted()), "SegmentationObject/sub/f 0.png": png(painted()),
        "SegmentationClass/f1.png": png(indices(*COLORS)), "SegmentationObject/f1.png": png(painted()),
        "JPEGImages/sub/f 0.jpg": image(0), "JPEGImages/f1.jpg": image(1),
    }  # fmt: skip


def voc() -> Files:
    """VOC2012: palette PNG, and no file of the classes; "tree" is its potted plant."""
    files: Files = {}
    import io

    from PIL import Image

    for seed, split in enumerate(("train", "val")):
        raw = np.zeros(SIZE, np.uint8)
        raw[names() == "tree"], raw[names() == "car"], raw[0] = 16, 7, 255
        picture = Image.fromarray(raw)
        picture.putpalette(voc_palette())
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        name = f"2007_{seed:06d}"
        top = "VOCdevkit/VOC2012/"
        files |= {f"{top}JPEGImages/{name}.jpg": image(seed), f"{top}SegmentationClass/{name}.png": buffer.getvalue(),
                  f"{top}ImageSets/Segmentation/{split}.txt": f"{name}\n".encode()}  # fmt: skip
    files[f"{top}ImageSets/Segmentation/trainval.txt"] = b"2007_000000\n2007_000001\n"
    files[f"{top}JPEGImages/2008_000001.jpg"] = image(7)  # most of its images have no masks
    return files


def voc_palette() -> list[int]:
    """As the development kit makes it."""
    found = []
    for index in range(256):
        shade, rest = [0, 0, 0], index
        for k in range(8):
            for channel in range(3):
                shade[channel] |= (rest >> channel & 1) << (7 - k)
            rest >>= 3
        found += shade
    return found


def cvat_xml() -> Files:
    """CVAT for images 1.1: a polygon, a run-length mask, a box, a z order against the order in the file."""
    runs = f"0, {100}"
    left, top, _, _ = CAR
    shape = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(TREE))
    images = "".join(f"""
  <image id="{k}" name="{name}" subset="{subset}" task_id="1" width="64" height="48">
    <mask label="car" source="manual" occluded="0" rle="{runs}" left="{left}" top="{top}" width="10" height="10"
     z_order="2"></mask>
    <polygon label="tree" source="manual" occluded="0" points="{shape}" z_order="1">
      <attribute name="age">1</attribute></polygon>
    <box label="car" source="manual" occluded="0" xtl="1.0" ytl="1.0" xbr="9.0" ybr="9.0" z_order="0"></box>
  </image>""" for k, name, subset in ((0, "x/q 0.jpg", "Train"), (1, "q1.jpg", "Validation")))  # fmt: skip
    labels = "".join(f"<label><name>{n}</name><color>#{bytes(COLORS[n]).hex()}</color><type>any</type><attributes>"
                     "</attributes></label>" for n in CLASSES)  # fmt: skip
    xml = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><project><id>3</id><name>n</name><labels>{labels}</labels></project></meta>{images}
</annotations>"""
    return {"annotations.xml": xml.encode(), "images/Train/x/q 0.jpg": image(0), "images/Validation/q1.jpg": image(1)}


def labelme_json(path: str, data: bytes | None = None, shapes: list[dict[str, Any]] | None = None) -> bytes:
    """As labelme 6 writes it."""
    own = shapes if shapes is not None else [
        labelme_shape("tree", "rectangle", [[30, 39], [59, 10]]), labelme_shape("car", "polygon", corners(CAR)),
        labelme_shape("car", "linestrip", [[1, 1], [5, 5]]),
    ]  # fmt: skip
    return dump({
        "version": "6.3.1", "flags": {}, "shapes": own, "imagePath": path,
        "imageData": base64.b64encode(data).decode() if data else None, "imageHeight": SIZE[0], "imageWidth": SIZE[1],
    })  # fmt: skip


def labelme_shape(label: str, kind: str, points: list[list[float]], mask: str | None = None) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
            "mask": mask}  # fmt: skip


def labelme() -> Files:
    """JSON files beside the images and in a folder of their own; one whose picture is inside alone."""
    return {
        "a/p0.jpg": image(0), "a/p0.json": labelme_json("p0.jpg"),
        "images/p1.jpg": image(1), "json/p1.json": labelme_json("..\\images\\p1.jpg", image(1)),
        "c/p2.json": labelme_json("gone.jpg", image(2)), "labels.txt": b"__ignore__\n_background_\ncar\ntree\n",
    }  # fmt: skip


def yolo_text() -> bytes:
    lines = []
    for k, box in enumerate((CAR, TREE)):
        shares = (f"{x / SIZE[1]:.5f} {y / SIZE[0]:.5f}" for x, y in corners(box))
        lines.append(f"{k} {' '.join(shares)}")
    return "\n".join(lines).encode()


def yolo_ultralytics() -> Files:
    files: Files = {"my.yaml": b"path: ../datasets/my\ntrain: images/train\nval: images/val\ntest:\nnames:\n"
                    b"  0: car\n  1: tree\n"}  # fmt: skip
    for seed, split in enumerate(("train", "val")):
        files |= {f"images/{split}/{split}.jpg": image(seed), f"labels/{split}/{split}.txt": yolo_text()}
    return files | {"labels/train.cache": b"\x00"}


def yolo_roboflow() -> Files:
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['car', 'tree']\n\n" \
        "roboflow:\n  workspace: w\n  version: 1\n"  # fmt: skip
    files: Files = {"data.yaml": yaml.encode()}
    for seed, split in enumerate(("train", "valid")):
        files |= {f"{split}/images/{split}.jpg": image(seed), f"{split}/labels/{split}.txt": yolo_text()}
    return files


def yolo_supervision() -> Files:
    return {"data.yaml": b"nc: 2\nnames: [car, tree]\n", "images/a 0.jpg": image(0), "labels/a 0.txt": yolo_text()}


def yolo_list() -> Files:
    return {"data.yaml": b"path: /home/me/set\ntrain: train.txt\nnames: [car, tree]\n",
            "train.txt": b"./images/a.jpg\n./images/b.jpg\n", "images/a.jpg": image(0), "labels/a.txt": yolo_text(),
            "images/b.jpg": image(1), "labels/b.txt": yolo_text()}  # fmt: skip


def yolo_masks() -> Files:
    """Ultralytics' semantic sets."""
    files: Files = {"s.yaml": b"path: s\ntrain: images/train\nval: images/val\nmasks_dir: masks\nnames:\n"
                    b"  0: background\n  1: car\n  2: tree\n"}  # fmt: skip
    for seed, split in enumerate(("train", "val")):
        mask = png(indices("background", "car", "tree"))
        files |= {f"images/{split}/{split}.jpg": image(seed), f"masks/{split}/{split}.png": mask}
    return files


def datumaro() -> Files:
    meta = {"label_map": {str(k): n for k, n in enumerate(COLORS)}, "segmentation_colors": [*COLORS.values()],
            "background_label": "0"}  # fmt: skip
    files: Files = {}
    for seed, split in enumerate(("train", "val")):
        files |= {f"{split}/dataset_meta.json": dump(meta), f"{split}/images/image_{seed}.png": png(noise(seed, SIZE)),
                  f"{split}/masks/mask_{seed}.png": png(painted() if seed else indices(*COLORS))}  # fmt: skip
    return files


def roboflow_masks() -> Files:
    files: Files = {}
    for seed, split in enumerate(("train", "valid")):
        files |= {f"{split}/_classes.csv": b"Pixel Value, Class\n0, background\n1, car\n2, tree\n",
                  f"{split}/k.jpg": image(seed), f"{split}/k_mask.png": png(indices(*COLORS))}  # fmt: skip
    return files


Made = tuple[str, Callable[[], Files], dict[str, int]]  # format, its files, images by split
MADE: dict[str, Made] = {
    "coco of supervision": ("coco", coco_supervision, {"train": 2}),
    "coco of its site": ("coco", coco_official, {"train": 1, "val": 1}),
    "coco of Roboflow": ("coco", coco_roboflow, {"train": 1, "val": 1}),
    "coco of FiftyOne": ("coco", coco_fiftyone, {"train": 1}),
    "panoptic": ("coco", coco_panoptic, {"train": 1, "val": 1}),
    "voc of its site": ("voc", voc, {"train": 1, "val": 1, "trainval": 2}),
    "voc with a label map": ("voc", cvat_masks, {"default": 2}),
    "masks of CVAT": ("cvat", cvat_masks, {"default": 2}),
    "XML of CVAT": ("cvat", cvat_xml, {"train": 1, "val": 1}),
    "labelme": ("labelme", labelme, {"train": 3}),
    "yolo of Ultralytics": ("yolo", yolo_ultralytics, {"train": 1, "val": 1}),
    "yolo of Roboflow": ("yolo", yolo_roboflow, {"train": 1, "val": 1}),
    "yolo of supervision": ("yolo", yolo_supervision, {"train": 1}),
    "yolo by a list": ("yolo", yolo_list, {"train": 2}),
    "semantic yolo": ("yolo", yolo_masks, {"train": 1, "val": 1}),
    "datumaro": ("datumaro", datumaro, {"train": 1, "val": 1}),
    "masks of Roboflow": ("roboflow", roboflow_masks, {"train": 1, "val": 1}),
    "any of Roboflow": ("roboflow", coco_roboflow, {"train": 1, "val": 1}),
}  # fmt: skip
