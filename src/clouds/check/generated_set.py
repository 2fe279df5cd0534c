"""The audit of a generated set, with what a model sees in it: wired from rooms that do not know each other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clouds.base.arrays import Pixels
from clouds.base.files import sha256
from clouds.base.locks import check_idle
from clouds.base.machine import usable_device
from clouds.base.progress import loading, say
from clouds.base.shards import MANIFEST, PARTS
from clouds.base.text import some
from clouds.config.load import is_recipe, load_recipe
from clouds.config.recipe import Recipe, SelfTrain
from clouds.config.runs import GENERATED, RECIPE
from clouds.data.images import read_image
from clouds.data.labelled import open_sets
from clouds.data.rendered import draw_source
from clouds.data.walk import find_images
from clouds.errors import UsageError
from clouds.foundation.embeddings import build_segmenter
from clouds.foundation.segmenter import PromptableSegmenter, segmenter_identity
from clouds.generate.audit import Judge, audit_set
from clouds.generate.manifest import set_folder
from clouds.generate.sets import AUDIT, write_audit
from clouds.generate.subject import subject_of, subject_of_set
from clouds.model.place import is_exported, model_folder
from clouds.report.audit_page import write_audit_page
from clouds.selftrain.refine import refine_map

if TYPE_CHECKING:
    from clouds.model.segmenter import Segmenter


def audit(
    folder: Path, overrides: list[str], model: str | Path | None = None, clip: str | None = None,
    weights: str | None = None, source: str | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Audit a generated set with what is given, write its page; the object that ``clouds audit --json`` prints.

    A folder of photographs without a manifest is looked through likewise; all that is written is in the audit's folder.
    overrides: of the demo's recipe, or of the one that stands before them. Limits, refinement and device count, and for
    a set that was not drawn here what it shows. source: a recipe or a folder of images, whose diversity stands beside.
    Raises UsageError or DataError before any long work.
    """
    if folder.is_file():
        raise UsageError(f"{folder}: is a file; expected a folder of photos or a generated set. `clouds check` looks "
                         "through archives and videos: data.unlabelled=FILE")  # fmt: skip
    photographs = photographs_in(folder, out or folder / AUDIT)
    folder = folder if photographs else set_folder(folder)
    check_idle(out or folder / AUDIT if photographs else folder)
    own = bool(overrides) and is_recipe(overrides[0])
    name, *overrides = overrides if own else ("demo", *overrides)
    recipe = load_recipe(name, overrides)
    usable_device(recipe.train.device)
    if weights and not clip:
        raise UsageError(f"--weights: got {weights!r} without --clip; name the model too: --clip open_clip/MODEL")
    beside = source_pictures(source, overrides) if source else None
    named = own or any(each.startswith("scene=") for each in overrides)
    subject = subject_of(recipe) if named else subject_of_set(folder)
    teacher = build_judge(model, recipe, subject.classes) if model else None
    loading("PyTorch")
    from clouds.foundation.image_vectors import Clip, Embedded  # what is wrong is said before

    seen_by = Clip(clip, weights) if clip else None
    result, images = audit_set(folder, recipe.audit, Embedded(), seen_by, teacher, beside, subject, photographs)
    write_audit(result, images, out or folder / AUDIT)
    page = write_audit_page(folder, result, images, out or folder / AUDIT)
    return {**result, "audit": str((out or folder / AUDIT).resolve() / "audit.json"), "page": str(page)}


def photographs_in(folder: Path, out: Path) -> tuple[list[str], Path] | None:
    """The pictures of a folder that holds no manifest and no run, and where its audit is written; None where there are
    none, and for a generated set, whole or in parts."""
    known = [folder / MANIFEST, folder / GENERATED / MANIFEST, folder / RECIPE]
    if not folder.is_dir() or any(path.is_file() for path in known) or next(folder.glob(PARTS), None):
        return None
    try:
        return [path.relative_to(folder).as_posix() for path in find_images(folder, out=out)], out
    except UsageError:
        return None


def build_judge(folder: str | Path, recipe: Recipe, classes: Sequence[str]) -> Judge:
    """A model folder, run or hub id as the teacher of an audit, with the recipe's segmenter and refinement."""
    from clouds.predict.predictor import load

    if is_exported(folder):
        raise UsageError(f"--model: {folder} is an exported file; name the model folder or run that it was made of")
    inner, chosen = model_folder(folder), recipe.selftrain
    predictor = load(inner, recipe.train.device)
    refinement = chosen.model_dump(
        mode="json", include={"segmenter", "segmenter_revision", "points", "strategy", "floor", "max_swallow"}
    )
    if chosen.overlaps != "ignore":  # unsaid where it is, so that what was judged before stands
        refinement["overlaps"] = chosen.overlaps
    if chosen.second_pass:
        refinement["second_pass"] = True
    if chosen.segmenter_dtype != "float32":
        refinement["segmenter_dtype"] = chosen.segmenter_dtype
    segmenter = build_segmenter(recipe)
    if "/" in chosen.segmenter:  # a file of that name may be another one
        refinement["identity"] = segmenter_identity(segmenter)
    settings = {"model": sha256(inner / "model.safetensors"), "refinement": refinement}
    if strange := [name for name in predictor.classes if name not in classes]:
        shown = some(strange, 5)
        say(f"{folder}: knows {len(strange)} classes that the set's prompts do not ({shown}); counted, never asked for")
    see = judge(predictor.model, segmenter, chosen)
    return Judge(str(folder), predictor.classes, settings, see)


def source_pictures(source: str, overrides: list[str]) -> tuple[str, int, Callable[[int], Pixels]]:
    """A recipe's labelled images, or those of a folder: (name, how many, read the k-th)."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        files = find_images(folder, "--source: ")
        return folder.name, len(files), lambda k: read_image(files[k])
    if not is_recipe(source):
        raise UsageError(f"--source: {source}: no such folder, and no recipe; expected images, or a recipe with some")
    recipe = load_recipe(source, overrides)
    sets = open_sets(recipe)
    lengths = [recipe.data.source_count if each is None else len(each) for each in sets]

    def read(k: int) -> Pixels:
        for each, length in zip(sets, lengths, strict=True):
            if k < length:
                return each.image(k) if each is not None else draw_source(recipe, k)[0]
            k -= length
        raise IndexError(k)

    return source, sum(lengths), read


SEED = 0  # of the prompt points: an audit that is run again sees the same


def judge(
    model: "Segmenter", segmenter: PromptableSegmenter, settings: SelfTrain
) -> Callable[[Pixels], dict[str, Any]]:
    """-> see(image (H, W, 3) uint8): {"classes": share of the pixels of each of the model's classes,
    "confidence": mean over the pixels, "decided": share of pixels that refinement decided, "agreement": share of those
    that it gave the teacher's class, None where it decided none}."""
    import torch

    from clouds.selftrain.teacher import predictions

    def see(image: Pixels) -> dict[str, Any]:
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).to(model.mean.device)
        labels, confidence = (found[0].cpu().numpy() for found in predictions(model, batch))
        refined = refine_map(
            labels,
            segmenter.encode(image),
            segmenter,
            seed=SEED,
            points=settings.points,
            floor=settings.floor,
            strategy=settings.strategy,
            overlaps=settings.overlaps,
            max_swallow=settings.max_swallow,
        )
        shares = np.bincount(labels.ravel(), minlength=len(model.classes)) / labels.size
        return {
            "classes": [round(float(share), 5) for share in shares],
            "confidence": round(float(confidence.mean()), 4),
            "decided": round(refined.decided, 4),
            "agreement": round(1 - refined.changed / refined.decided, 4) if refined.decided else None,
        }

    return see
