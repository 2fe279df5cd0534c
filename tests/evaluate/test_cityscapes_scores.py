"""Our scores beside those of Cityscapes' own evaluation (cityscapesscripts), of the same files."""

import numpy as np
import pytest
from PIL import Image

import fabricate
from clouds.config.label_sets import IGNORE, NAMES
from clouds.evaluate.domains import photo_domain
from clouds.evaluate.scores import evaluate

theirs = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")

IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]  # label ids of the 19, as published
VOID = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]
SIZE = (64, 128)


def label_ids(rng: np.random.Generator) -> np.ndarray:
    """A map of patches: all 19 classes and all voids, some classes rare."""
    values = np.concatenate([np.resize(IDS + VOID, 60), rng.choice(IDS, 68, p=rng.dirichlet(np.full(19, 0.3)))])
    patches = rng.permutation(values).reshape(8, 16)
    return patches.repeat(8, 0).repeat(8, 1).astype(np.uint8)


def with_errors(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Outlines moved, pixels of any class anywhere, and some of no class at all."""
    wrong = rng.choice(IDS + VOID, SIZE)
    return np.where(rng.random(SIZE) < 0.2, wrong, np.roll(truth, (2, -3), (0, 1))).astype(np.uint8)


class Shown:
    """A predictor that answers with the maps it was given, in order."""

    classes = NAMES

    def __init__(self, maps: list[np.ndarray]) -> None:
        self.maps = iter(maps)

    def predict(self, image):
        self.labels = next(self.maps)
        self.scores = np.full(self.labels.shape, 0.5, np.float32)
        return self


def ours(root, predictions: list[np.ndarray]):
    """``predictions`` in label ids."""
    table = np.full(256, IGNORE, np.uint8)
    table[IDS] = np.arange(19)
    (score,) = evaluate(Shown([table[each] for each in predictions]), [photo_domain("cityscapes", root)], "x")
    return score


@pytest.mark.parametrize("count", [1, 5])
def test_scores_are_those_of_cityscapes_own_evaluation(tmp_path, count):
    rng, predictions, files, pairs = np.random.default_rng(count), [], {}, []
    for k in range(count):
        key = f"val/bonn/bonn_{k:06}_000019"
        truth = label_ids(rng)
        predictions.append(with_errors(truth, rng))
        files |= {f"leftImg8bit/{key}_leftImg8bit.png": fabricate.png(fabricate.picture(k, SIZE)),
                  f"gtFine/{key}_gtFine_labelIds.png": fabricate.png(truth)}  # fmt: skip
        pairs.append((tmp_path / f"{k}.png", tmp_path / f"cityscapes/gtFine/{key}_gtFine_labelIds.png"))
        Image.fromarray(predictions[-1]).save(pairs[-1][0])
    fabricate.as_folder(files, tmp_path / "cityscapes")

    args = theirs.args
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    official = theirs.evaluateImgLists(*([str(path) for path in each] for each in zip(*pairs, strict=True)), args)
    official_iou = {name: official["classScores"][name] for name in NAMES}
    assert sum(0 < value < 1 for value in official_iou.values()) == 19, "all classes occur, and none is perfect"

    score = ours(tmp_path, predictions)
    assert score.row.iou == pytest.approx(official_iou, abs=1e-6)
    assert score.row.miou == pytest.approx(official["averageScoreClasses"], abs=1e-6)
    counted = np.array(official["confMatrix"], np.int64)[IDS]
    assert np.array_equal(score.counts[:, :19], counted[:, IDS])
    assert np.array_equal(score.counts[:, 19], counted[:, VOID].sum(1))


def test_a_class_that_is_predicted_but_never_there_is_zero_to_cityscapes_and_left_out_by_us():
    """The one difference, which docs/evaluation.md tells."""
    counts = np.zeros((34, 34), np.ulonglong)
    counts[7, 7], counts[7, 8] = 3, 1  # the road is there; a quarter of it is called sidewalk
    theirs.generateMatrix(theirs.args)
    found = {label: theirs.getIouScoreForLabel(label, counts, theirs.args) for label in (7, 8, 11)}
    assert (found[7], found[8]) == (0.75, 0)
    assert np.isnan(found[11])
    assert theirs.getScoreAverage(found, theirs.args) == 0.375
    from clouds.evaluate.metrics import mean_iou

    assert mean_iou(np.pad(counts[np.ix_([7, 8], [7, 8])], ((0, 0), (0, 1))).astype(np.int64)) == 0.75
