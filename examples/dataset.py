"""KITTI's semantic segmentation benchmark as a dataset: one row of CLOUDS' table, kept outside of it.

    clouds check dataset:KITTI --root /data/kitti
    clouds train demo data.source=dataset:KITTI data.root=/data
    clouds evaluate runs/demo dataset:KITTI data.root=/data

``/data/kitti`` holds training/ as unpacked from data_semantics.zip, or that archive. The 200 labelled frames come in
one folder; every tenth is held back here as "val".
"""

from clouds.data.codes import CITYSCAPES_IDS
from clouds.data.layouts import Layout, Spec

KITTI = Spec(
    folder="kitti",
    label_set="cityscapes19",
    layouts=(
        Layout(
            images="training/image_2/{key}.{ext}",
            labels="training/semantic/{key}.png",
            values=CITYSCAPES_IDS,  # what a label file stores -> class; a value that is not listed is an error
            split_keys={"train": r"\d{5}[1-9]_", "val": r"\d{5}0_"},
        ),
    ),
    splits={"train": ("train",), "val": ("val",)},
    scored="val",
    licence="CC BY-NC-SA 3.0",
    home="https://www.cvlibs.net/datasets/kitti/eval_semseg.php",
)
