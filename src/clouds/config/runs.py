"""The run folder: where each part of a run is, and how the folder is opened for one recipe.

``records`` says what the files hold.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clouds.base.files import sweep_temporaries
from clouds.base.machine import commit, hardware, versions
from clouds.base.processes import main_process
from clouds.base.strict_yaml import parse_yaml
from clouds.config.kinds import WHOLE, Mark, keys_of
from clouds.config.load import as_recipe
from clouds.config.recipe import Recipe
from clouds.config.records import Change, Provenance, Seconds, Spent, read_record, write_record
from clouds.config.removed import without_removed
from clouds.errors import DataError, UsageError

RECIPE = "recipe.yaml"  # Provenance
SPEED = "speed.json"  # {"seconds"} of each part of the work, on the machine that a demo was sized for
PROMPTS = "prompts.jsonl"  # Prompt, a line each
GENERATED = "generated"  # images and their metadata.jsonl, Drawn
PHOTOGRAPHS = "photographs.jsonl"  # UnlabelledPhoto, a line each
FRAMES = "frames"  # a folder a video, of data.unlabelled
SOURCE = "source"  # the rendered source: images/ and labels/ of the same names
RESTYLED = "restyled"  # source images in other styles and their metadata.jsonl, RestyledImage
REGIONS = "regions"  # of generated images, where refinement is by regions
CLASS_PIXELS = "class_pixels.npz"  # of the source, where rare classes are drawn more often
METRICS = "metrics.jsonl"  # Step
NOT_FINITE = "not-finite"  # NotFinite, a file a step
CHECKPOINTS = "checkpoints"
BEST = "best"  # a model a stage, the best on the source's validation split
PSEUDO = "pseudo"  # a folder a panel: image.png, teacher.png, refined.png, masks.png, points.json
WORK = "work.json"  # WorkSummary
DRIFT = "drift.json"  # Drift
SECONDS = "seconds.json"  # Spent
EVALUATION = "evaluation"  # warmup.json and joint.json, Evaluation
EXAMPLES = "evaluation/examples"  # DOMAIN/KIND-RANK/: photo.png, truth.png, warmup.png, joint.png, example.json
EXAMPLE = "example.json"  # Example
REPORT = "report"  # index.html
JOB = "job.json"  # SweepJob, of a run of a sweep
SWEEP = "sweep.json"  # Sweep, in a sweep's folder

# by stage of training
MODELS = {"warmup": "warmup", "joint": "model"}  # the folder of its model
RESULTS = {"warmup": "results-warmup.json", "joint": "results.json"}  # Results
STAGE_NAMES = {"warmup": "Warm-up", "joint": "Joint"}

WORTH_NOTING = 0.05  # seconds

RUNNING = frozenset(keys_of(Recipe, Mark.RESUMABLE))
SCORING = frozenset(keys_of(Recipe, Mark.SCORING))


def open_run(recipe: Recipe, out: Path, allow_change: bool = False) -> None:
    """Make the run folder, or check that the one there was made by the same settings.

    What only concerns how a machine works may differ, and what concerns scoring: then old scores are dropped. Anything
    else raises UsageError naming the keys, unless ``allow_change``: then the change is written down.
    """
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{out}: its name is not UTF-8, which model files need; choose another --out") from None
    path = out / RECIPE
    for name in ("", CHECKPOINTS, BEST, FRAMES, f"{SOURCE}/images", f"{SOURCE}/labels", PSEUDO, EVALUATION):
        sweep_temporaries(out / name)
    for name in (GENERATED, RESTYLED, REGIONS):  # other processes may draw their shards there
        sweep_temporaries(out / name, older=86400)
    settings = recipe.model_dump(mode="json")
    changes: list[Change] = []
    if path.exists():
        changed = differences(recipe, out)
        hard = [key for key in changed if not _in(RUNNING | SCORING, key)]
        if hard and not allow_change:
            text = ", ".join(f"{key} ({changed[key][0]} there, {changed[key][1]} now)" for key in hard)
            raise UsageError(
                f"{out}: holds a run of other settings: {text}. Choose another --out, delete it, or resume it with "
                "the new settings by --allow-change"
            )
        if not changed:
            return
        before = read_record(path, Provenance)
        changes = [*(before.changes if before else ())]
        if hard:
            changes.append(Change(commit=commit(), was={key: changed[key][0] for key in hard}))
        if not all(_in(RUNNING, key) for key in changed):
            for name in RESULTS.values():
                (out / name).unlink(missing_ok=True)
    elif out.is_dir() and any(not item.name.startswith(".") and item.name != SPEED for item in out.iterdir()):
        raise UsageError(f"{out}: is not empty and holds no CLOUDS run (no recipe.yaml); choose another --out")
    made = Provenance(
        **({"changes": changes} if changes else {}),
        recipe=recipe.name, seed=recipe.seed, commit=commit(), versions=versions(), hardware=hardware(),
        settings=settings,
    )  # fmt: skip
    write_record(path, made)


def joint_begun(out: Path) -> bool:
    """Whether a run has taken steps of joint training that it goes on from."""
    checkpoints = (out / CHECKPOINTS).glob("joint-*")
    return any(checkpoints) or (out / WORK).exists() or (out / MODELS["joint"]).exists()


def differences(recipe: Recipe, out: Path) -> dict[str, tuple[Any, Any]]:
    """Settings that a recipe does not share with the run in a folder, by key in order: (there, now)."""
    defaults = flat(Recipe().model_dump(mode="json"), lists=True)  # of settings that are younger than the run
    old = flat(_settings(out / RECIPE), lists=True)
    new = flat(recipe.model_dump(mode="json"), lists=True)
    items = {match[0] for key in old if (match := _ITEM.match(key))}
    groups = {key[:k] for key in old for k, letter in enumerate(key) if letter == "."}

    def before(key: str) -> Any:
        item = _ITEM.match(key)
        absent = key in groups or (item and item[0] not in items)  # a name now, keys there, as scene
        return old.get(key, None if absent else defaults.get(_ITEM.sub(r"\1.0.", key)))

    every = old.keys() | new.keys() | defaults.keys()
    lists = {match[1] for key in every if (match := _ITEM.match(key))}  # which stand as their entries, if not empty
    unlike = sorted(key for key in every - lists if before(key) != new.get(key))
    return {key: (before(key), new.get(key)) for key in unlike}


def load_run(out: Path) -> Recipe:
    """The recipe a run folder was made with."""
    path = out / RECIPE
    if not path.is_file():
        raise UsageError(f"{out}: holds no CLOUDS run (no recipe.yaml there)")
    return as_recipe(_settings(path), str(path))


def _settings(path: Path) -> dict[str, Any]:
    """The settings written into a run's ``recipe.yaml``."""
    try:
        settings = parse_yaml(path.read_bytes())["settings"]
        if isinstance(settings, dict):
            return without_removed(settings, str(path))
        problem = "its settings are no keys and values"
    except (ValueError, KeyError, TypeError) as error:
        problem = f"no settings can be read from it: {error!r}"
    raise DataError(f"{path}: {problem}; it is not what CLOUDS wrote. Restore it or choose another --out")


_ITEM = re.compile(r"(.*?)\.\d+\.")  # one of a list of settings, as data.source.0.


def _in(keys: frozenset[str], key: str) -> bool:
    """Whether a key, or the list that it stands in, is among ``keys``."""
    item = _ITEM.match(key)
    return key in keys or (item is not None and item[1] in keys)


def flat(values: dict[str, Any], prefix: str = "", lists: bool = False) -> dict[str, Any]:
    """Nested settings as one level: {"train.steps": 200, ...}; with ``lists`` also "data.source.0.dataset"."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if prefix + key in WHOLE:
            found[prefix + key] = [[*pair] for pair in value.items()] if isinstance(value, dict) else value
            continue
        if lists and isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = {str(k): item for k, item in enumerate(value)}
        found |= flat(value, f"{prefix}{key}.", lists) if isinstance(value, dict) else {prefix + key: value}
    return found


def add_seconds(out: Path, part: str, seconds: float) -> None:
    """Add to what a part of the run took so far."""
    spent = spent_seconds(out)
    write_record(out / SECONDS, Spent(seconds={**spent, part: round(spent.get(part, 0.0) + seconds, 3)}))


def spent_seconds(out: Path) -> Seconds:
    """What each part of the run took so far, over all sessions; {} where nothing was noted."""
    found = read_record(out / SECONDS, Spent)
    return dict(found.seconds) if found else {}


@contextmanager
def timed(out: Path, part: str) -> Iterator[None]:
    """Add what a block takes to the part's seconds, also where it ends by an error or a signal; of several processes
    the main one does.

    Less than a twentieth of a second is nothing: the part was done already.
    """
    began = time.monotonic()
    try:
        yield
    finally:
        spent = time.monotonic() - began
        if spent >= WORTH_NOTING and out.is_dir() and main_process():
            add_seconds(out, part, spent)
