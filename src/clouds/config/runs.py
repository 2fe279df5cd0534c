"""The run folder: opened for one recipe, with the provenance every number needs (commit, versions, hardware)."""

from pathlib import Path
from typing import Any

import yaml

from clouds.base.files import write_text
from clouds.base.machine import commit, hardware, versions
from clouds.config.kinds import Mark, keys_of
from clouds.config.load import as_recipe
from clouds.config.recipe import Recipe
from clouds.config.removed import without_removed
from clouds.errors import DataError, UsageError

RUNNING = frozenset(keys_of(Recipe, Mark.RESUMABLE))
SCORING = frozenset(keys_of(Recipe, Mark.SCORING))


def open_run(recipe: Recipe, out: Path, allow_change: bool = False) -> None:
    """Make the run folder, or check that the one there was made by the same settings.

    What only concerns how a machine works may differ, and what concerns scoring: then old scores are dropped. Anything
    else raises UsageError naming the keys, unless ``allow_change``: then the change is written down.
    """
    path = out / "recipe.yaml"
    settings = recipe.model_dump(mode="json")
    changes: list[dict[str, Any]] = []
    if path.exists():
        changed = differences(recipe, out)
        hard = [key for key in changed if key not in RUNNING | SCORING]
        if hard and not allow_change:
            text = ", ".join(f"{key} ({changed[key][0]} there, {changed[key][1]} now)" for key in hard)
            raise UsageError(
                f"{out}: holds a run of other settings: {text}. Choose another --out, delete it, or go on with "
                "the new ones by --allow-change"
            )
        if not changed:
            return
        changes = (yaml.safe_load(path.read_text("utf-8")).get("changes") or []) + (
            [{"commit": commit(), "was": {key: changed[key][0] for key in hard}}] if hard else []
        )
        if not changed.keys() <= RUNNING:
            for name in ("results.json", "results-warmup.json"):
                (out / name).unlink(missing_ok=True)
    elif out.is_dir() and any(not item.name.startswith(".") for item in out.iterdir()):
        raise UsageError(f"{out}: is not empty and holds no CLOUDS run (no recipe.yaml); choose another --out")
    text = yaml.safe_dump(
        {
            **({"changes": changes} if changes else {}),
            "recipe": recipe.name,
            "seed": recipe.seed,
            "commit": commit(),
            "versions": versions(),
            "hardware": hardware(),
            "settings": settings,
        },
        sort_keys=False,
    )
    write_text(path, text)


def differences(recipe: Recipe, out: Path) -> dict[str, tuple[Any, Any]]:
    """Settings that a recipe does not share with the run in a folder, by key in order: (there, now)."""
    defaults = Recipe().model_dump(mode="json")  # of settings that are younger than the run
    old = {**flat(defaults), **flat(_settings(out / "recipe.yaml"))}
    new = flat(recipe.model_dump(mode="json"))
    unlike = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return {key: (old.get(key), new.get(key)) for key in unlike}


def load_run(out: Path) -> Recipe:
    """The recipe a run folder was made with."""
    path = out / "recipe.yaml"
    if not path.is_file():
        raise UsageError(f"{out}: holds no CLOUDS run (no recipe.yaml there)")
    return as_recipe(_settings(path), str(path))


def _settings(path: Path) -> dict[str, Any]:
    """The settings written into a run's ``recipe.yaml``."""
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))["settings"]
        if isinstance(settings, dict):
            return without_removed(settings, str(path))
        problem = "its settings are no keys and values"
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        problem = f"no settings can be read from it: {error!r}"
    raise DataError(f"{path}: {problem}; it is not what CLOUDS wrote. Restore it or choose another --out")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: {"train.steps": 200, ...}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


