"""One warm-up for all jobs of a sweep that would train the very same one.

The warm-up stage learns from the labelled source alone. The settings named in ``JOINT_ONLY`` are read by what comes
after it, so two recipes that differ in nothing else have equal warm-ups, byte for byte (tested).
"""

import hashlib
import json
import shutil
from pathlib import Path

from filelock import FileLock

from clouds.base.files import make_folder
from clouds.base.progress import say
from clouds.config.recipe import Audit, Generate, Prompts, Recipe, SelfTrain
from clouds.config.runs import RUNNING, flat
from clouds.model.folder import has_model
from clouds.pipeline import train

JOINT_ONLY = ("prompts.", "generate.", "audit.", "selftrain.", "train.joint_learning_rate")
FOLDER = "warmup-"  # no job's name begins so: that is a key or seed


def warmup_recipe(recipe: Recipe) -> Recipe | None:
    """The recipe of a job's warm-up, the same for all jobs that can share it: ``JOINT_ONLY`` at their defaults.

    None where the warm-up may depend on more: restyled source images can take the generated ones as their styles.
    """
    if recipe.data.restyle is not None:
        return None
    return recipe.model_copy(update={
        "prompts": Prompts(),
        "generate": Generate(size=recipe.augment.crop),
        "audit": Audit(),
        "selftrain": SelfTrain(),
        "train": recipe.train.model_copy(update={"stage": "warmup", "joint_learning_rate": None}),
    })  # fmt: skip


def warmup_folder(recipe: Recipe, out: Path) -> Path:
    """Where the warm-up of this recipe stands: a name that follows from every setting that can change it."""
    settings = {key: value for key, value in flat(recipe.model_dump(mode="json")).items() if key not in RUNNING}
    return out / f"{FOLDER}{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]}"


def share_warmup(recipe: Recipe, run: Path, out: Path) -> None:
    """Give a run that has not begun its warm-up the sweep's, trained now if it is the first to ask.

    Several processes may ask: one trains, the others wait for it.
    """
    shared = warmup_recipe(recipe)
    if shared is None or has_model(run / "warmup") or (run / "checkpoints").exists():
        return
    folder = warmup_folder(shared, out)
    make_folder(out)
    with FileLock(out / f".{folder.name}.lock"):  # stays: who waits for a lock must not get one that was deleted
        if not has_model(folder / "warmup"):
            say(f"{folder}: the warm-up that jobs of these settings share")
            train(shared, folder)
    for name in ("metrics.jsonl", "class_pixels.npz"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, run / name)
    if (folder / "source").exists():
        shutil.copytree(folder / "source", run / "source", dirs_exist_ok=True)
    # last, and whole: with it the run counts as warmed up
    shutil.copytree(folder / "warmup", run / ".warmup", dirs_exist_ok=True)
    (run / ".warmup").rename(run / "warmup")
