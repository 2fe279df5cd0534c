"""``evaluate.protocol``: a model whose opinion is known, scored as each publication scores, beside scores by hand."""

import io
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import fabricate
from clouds.cli import run as cli
from clouds.config.label_sets import NAMES
from clouds.config.load import load_recipe
from clouds.errors import UsageError
from clouds.evaluate.domains import find_domains
from clouds.evaluate.protocols import PROTOCOLS, view_of
from clouds.evaluate.scores import evaluate, results
from clouds.evaluate.tables import results_table
from clouds.model.inference import Inference
from clouds.predict.predictor import Predictor

STEP = 13  # grey levels of a class: half way between two of them no level lies


class Reader(Predictor):
    """Sees class k where the image is red 13 k + 6; notes the sizes it is shown."""

    def __init__(self, classes=3):
        self.classes, self.colors, self.device = NAMES[:classes], np.zeros((classes, 3), np.uint8), torch.device("cpu")
        self.inference, self._renamed, self.seen = Inference(32), {}, set()

    def semantic(self, images, ensemble=False):
        self.seen.add(tuple(images.shape[-2:]))
        return (images[:, :1] // STEP == torch.arange(len(self.classes)).view(-1, 1, 1)).float()


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def strips(*classes):
    """64 x 128 pixels, four strips."""
    return np.repeat(np.repeat(np.array([classes], np.uint8), 32, 1), 64, 0)


@pytest.fixture
def root(tmp_path):
    """A photo in three parts, labelled road, road, sidewalk, sidewalk and seen as road, road, sidewalk, building."""
    photo = np.zeros((64, 128, 3), np.uint8)
    photo[..., 0] = STEP * strips(0, 0, 1, 2) + 6
    image, label = png(photo), png(strips(0, 0, 1, 1))
    vistas, key = {0: 13, 1: 2}, "aachen/aachen_000000_000019"
    old = png(np.vectorize(vistas.get)(strips(0, 0, 1, 1)).astype(np.uint8))
    for folder, paths in {
        "cityscapes": {f"leftImg8bit/val/{key}_leftImg8bit.png": image,
                       f"gtFine/val/{key}_gtFine_labelTrainIds.png": label},
        "bdd100k": {"images/10k/val/a.jpg": image, "labels/sem_seg/masks/val/a.png": label,
                    "images/10k/train/b.jpg": image, "labels/sem_seg/masks/train/b.png": label},
        "acdc": {"rgb_anon/fog/val/GOPR0475/a_rgb_anon.png": image,
                 "gt/fog/val/GOPR0475/a_gt_labelTrainIds.png": label},
        "mapillary": {"validation/images/a.jpg": image, "validation/labels/a.png": old},
    }.items():  # fmt: skip
        fabricate.as_folder(paths, tmp_path / folder)
    return tmp_path


DOMAINS = ("cityscapes", "bdd100k", "acdc-fog", "mapillary")
# protocol -> of each domain the pixels that are scored, and the sizes that the model sees
OWN, HALF = 64 * 128, 32 * 64
SEES = {
    "clouds": [(1024 * 2048, (1024, 2048))] * 4,
    "rein": [(OWN, (512, 512)), (OWN, (512, 512)), (OWN, (480, 512)), (HALF, (512, 512))],
    "rein-1024": [(OWN, (1024, 1024)), (OWN, (1024, 1024)), (OWN, (960, 1024)), (HALF, (1024, 1024))],
    "soma": [(OWN, (512, 512)), (OWN, (512, 512)), (OWN, (480, 512)), (HALF, (512, 512))],
    "soma-1024": [(OWN, (1024, 1024)), (OWN, (1024, 1024)), (OWN, (960, 1024)), (HALF, (1024, 1024))],
    "cityscapes": [(OWN, (64, 128))] * 4,
}


@pytest.mark.parametrize("protocol", SEES)
def test_a_score_is_that_of_the_publication(protocol, root):
    """Road 1, sidewalk 1/2; building is never there, yet predicted: 0 with mmsegmentation and cityscapesscripts, left
    out with detectron2, as with us."""
    assert SEES.keys() == PROTOCOLS.keys()
    recipe = load_recipe("demo", [f"evaluate.protocol={protocol}", f"data.root={root}"])
    domains, missing = find_domains(DOMAINS, recipe)
    assert missing == []
    table = "mapillary" if protocol in ("clouds", "cityscapes") else "mapillary-rein"
    assert [domain.name for domain in domains] == [*DOMAINS[:3], table]
    for domain, (pixels, size) in zip(domains, SEES[protocol], strict=True):
        model = Reader()
        (scored,) = evaluate(model, [domain], "x")
        assert scored.row.images == 1  # of BDD100K the 1000 of val, not those of train too
        assert scored.counts.sum() == pixels, domain.name
        assert model.seen == {size}, domain.name
        assert (scored.row.iou["road"], scored.row.iou["sidewalk"]) == (1, 1 / 2), domain.name
        absent = None if protocol == "clouds" else 0
        assert scored.row.iou["building"] == absent
        assert scored.row.miou == pytest.approx(3 / 4 if absent is None else 1 / 2)
        assert scored.row.ci95 == pytest.approx((scored.row.miou, scored.row.miou))


def test_windows_images_and_labels_are_resized_as_each_publication_does(root):
    """Beside the same steps written out, on noise, where filters differ."""
    rng = np.random.default_rng(0)
    photo, label = rng.integers(0, 247, (1200, 1800, 3), np.uint8), rng.integers(0, 19, (1200, 1800)).astype(np.uint8)
    rein = view_of("rein", "mapillary-rein")
    small, few = rein.prepare(photo, label)
    assert np.array_equal(small, np.asarray(Image.fromarray(photo).resize((900, 600), Image.BICUBIC)))
    assert np.array_equal(few, label[1::2, 1::2])  # the nearest of two is the second
    model = Reader(19).with_inference(**vars(rein.inference()))
    seen = cv2.resize(small, (768, 512))  # within 1024 x 512: its shorter side fills the box
    votes = torch.from_numpy(np.eye(19, dtype=np.float32)[seen[..., 0] // STEP]).permute(2, 0, 1)[None]
    own = torch.nn.functional.interpolate(votes, (600, 900), mode="bilinear", align_corners=False)
    assert np.array_equal(model.predict(small).labels, own.argmax(1)[0].numpy())
    clouds = view_of("clouds", "bdd100k")
    small, few = clouds.prepare(photo, label)
    assert np.array_equal(small, np.asarray(Image.fromarray(photo).resize((1536, 1024), Image.BILINEAR)))
    assert np.array_equal(few, np.asarray(Image.fromarray(label).resize((1536, 1024), Image.NEAREST)))
    assert np.array_equal(Reader(19).with_inference(**vars(clouds.inference())).predict(small).labels,
                          small[..., 0] // STEP)  # fmt: skip


def test_the_table_says_which_protocol(root):
    recipe = load_recipe("demo", ["evaluate.protocol=rein", f"data.root={root}"])
    scores = evaluate(Reader(), find_domains(DOMAINS, recipe).domains, "x")
    found = results(scores, model="m", seed=0, inference=Inference(64), backends={}, protocol="rein")
    assert found.protocol["name"] == "rein"
    assert found.protocol["domains"]["mapillary-rein"] == {
        "shorter_side": 512, "window": 512, "stride": 341, "scales": [1.0], "flip": False, "within": [1024, 512],
        "filter": "OpenCV's bilinear", "scored_at": "half the label's size",
        "absent_classes": "count as 0 where they are predicted",
    }  # fmt: skip
    last = results_table(found.model_dump()).splitlines()[-1]
    assert "protocol rein; cityscapes: within 1024 x 512, window 512, stride 341, OpenCV's bilinear filter, " in last
    assert "bdd100k: within 1280 x 720" in last


def test_the_command_scores_by_a_protocol(root, model_folder, capsys):
    words = ["evaluate", str(model_folder), "acdc-fog", f"data.root={root}", "evaluate.protocol=cityscapes"]
    assert cli([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["domains"]["acdc-fog"]["scored_at"] == "the label's own size"
    assert cli(words) == 0
    assert "protocol cityscapes; acdc-fog: own size, whole image, scored at" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "said"), [
    ("window=512", r"evaluate\.window: got 512; evaluate\.protocol=rein sets how images are seen: leave it out "
                   r"\(evaluate\.window=null\), or the protocol \(evaluate\.protocol=null\)"),
    ("scales=[0.75,1]", r"evaluate\.scales: got \(0\.75, 1\.0\).*evaluate\.scales=\[1\.0\]"),
    ("flip=true", r"evaluate\.flip=false"),
    ("ensemble=true", r"evaluate\.ensemble: got True"),
    ("protocol=mmseg", r"evaluate\.protocol: got 'mmseg'"),
])  # fmt: skip
def test_a_key_that_the_protocol_sets_is_refused_beside_it(word, said):
    with pytest.raises(UsageError, match=said):
        load_recipe("demo", ["evaluate.protocol=rein", f"evaluate.{word}"])
