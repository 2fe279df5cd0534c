"""What a sweep is to do: every combination and seed as a job with a checked recipe and a folder of its own."""

import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clouds.base.strict_yaml import Loader
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import RUNNING, SCORING, differences
from clouds.config.sizing import scaled
from clouds.errors import UsageError

LONGEST_VALUE, LONGEST_NAME = 32, 160  # characters; file systems take 255 bytes


@dataclass(frozen=True)
class Job:
    """One run of a sweep: ``settings`` are the values of the swept keys, as the recipe understands them."""

    name: str
    settings: dict[str, Any]
    seed: int
    recipe: Recipe


def plan(
    recipe: str, words: list[str], seeds: list[int], minutes: float | None, swept: list[str]
) -> tuple[list[str], list[Job]]:
    """(the swept keys, the jobs: combinations in order, the seeds of each together); raises UsageError naming every
    combination that cannot be."""
    keys, combined = combinations(words, swept)
    faults: dict[str, str] = {}
    jobs: list[Job] = []
    known: dict[str, str] = {}
    for overrides in combined:
        shown = " ".join(overrides[len(overrides) - len(keys) :])
        try:
            settings = load_recipe(recipe, overrides)
            if minutes is not None:
                if settings.name != "demo":
                    raise UsageError("--minutes scales the demo, which is sized for 10; other recipes have train.steps")
                settings = scaled(settings, minutes, overrides)
            if settings.train.stage != "both":
                raise UsageError(
                    f"train.stage: got {settings.train.stage!r}; a sweep trains and scores both stages, leave it out"
                )
        except UsageError as error:
            faults.setdefault(str(error), shown)
            continue
        values = settings.model_dump(mode="json")
        chosen = {key: _value(values, key) for key in keys}
        text = json.dumps(chosen, sort_keys=True)
        if text in known:
            raise UsageError(f"{shown} and {known[text]} are the same settings; leave one out")
        known[text] = shown
        jobs += [Job(job_name(chosen, seed), chosen, seed, settings.model_copy(update={"seed": seed}))
                 for seed in seeds]
    if faults:
        lines = [f"{shown}: {fault}" if shown and len(combined) > 1 else fault for fault, shown in faults.items()]
        raise UsageError("\n".join(lines))
    if len({job.name.casefold() for job in jobs}) < len(jobs):  # file systems may not tell a from A
        raise UsageError("values that differ by upper and lower case alone need sweeps, and --out, of their own")
    return keys, jobs


def _value(values: dict[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def job_name(settings: dict[str, Any], seed: int) -> str:
    """A folder's name: ``train.learning_rate=0.001-seed0``. It follows from this job alone, whatever else is swept."""
    name = "-".join([*(f"{key}={value_name(value)}" for key, value in settings.items()), f"seed{seed}"])
    return name if len(name) <= LONGEST_NAME else f"{name[:100]}~{_digest(name)}-seed{seed}"


def value_name(value: Any) -> str:
    """A value as part of a file name: letters, digits and ``._+-``, with a hash after what had to be changed."""
    plain = isinstance(value, list) and all(not isinstance(each, list | dict) for each in value)
    text = "+".join(map(_plain, value)) if plain else _plain(value)
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "_", text)[:LONGEST_VALUE]
    exact = safe == text != "" and not (isinstance(value, str) and "+" in value)
    return safe if exact else f"{safe}~{_digest(json.dumps(value))}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def hard_changes(recipe: Recipe, run: Path, apart: list[str]) -> dict[str, tuple[Any, Any]]:
    """Settings of a run's folder that a job of this recipe must share with it, as {key: (there, now)}; keys in
    ``apart``, and all below them, may differ."""
    return {
        key: pair
        for key, pair in differences(recipe, run).items()
        if key not in RUNNING and not any(key == each or key.startswith(f"{each}.") for each in apart)
    }


def check_fits(jobs: list[Job], out: Path, keys: list[str]) -> None:
    """Raises UsageError where runs in the sweep's folder were made by other settings: one table must not mix them.

    A job that is in the plan may be scored anew by other settings; a run beside the plan must fit it in all but the
    swept keys.
    """
    planned = {job.name: job for job in jobs}
    runs = sorted(path.parent for path in out.glob("*/recipe.yaml"))
    for run in runs:
        if run.name.startswith(FOLDER):  # a shared warm-up: its name says which settings it has
            continue
        job = planned.get(run.name)
        changed = hard_changes(job.recipe if job else jobs[0].recipe, run, [] if job else [*keys, "seed"])
        changed = {key: pair for key, pair in changed.items() if not (job and key in SCORING)}
        if changed:
            text = ", ".join(f"{key} ({there} there, {now} now)" for key, (there, now) in changed.items())
            raise UsageError(f"{run}: was made by other settings: {text}. Choose another --out, or delete that folder")


FOLDER = "warmup-"  # no job's name begins so: that is a key or seed


def split_word(word: str) -> tuple[str, list[str]]:
    """``key=a,[b,c],"d,e"`` -> (key, the texts of its values), each to be read as YAML.

    The values are a YAML list without its brackets, so a comma inside brackets or quotes parts nothing. A text without
    any comma is one value, whatever it holds. Raises UsageError naming the word.
    """
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise UsageError(f"{word!r}: expected key=value or key=a,b,c, such as train.learning_rate=1e-3,3e-4")
    if "," not in text:
        return key, [text]
    try:
        node = yaml.compose(f"[{text}]", Loader=Loader)
    except yaml.YAMLError as error:
        problem = "two commas with nothing between" if re.search(r"(^|,)\s*,", text) else getattr(error, "problem", "")
        raise UsageError(
            f"{word!r}: no list of values ({problem or error}); expected {key}=a,b,c, and quotes around a value that "
            "holds a comma, a bracket or a sign of YAML"
        ) from error
    # what closes the list early, as in a],[b, is not the list that was meant
    if not isinstance(node, yaml.SequenceNode) or node.end_mark.index != len(text) + 2:
        raise UsageError(f"{word!r}: its brackets do not match; expected {key}=a,b,c")
    if text.rstrip().endswith(","):
        raise UsageError(f"{word!r}: ends with a comma; add a value, or remove the comma")
    return key, [f"[{text}]"[value.start_mark.index : value.end_mark.index] for value in node.value]


def combinations(words: list[str], swept: list[str]) -> tuple[list[str], list[list[str]]]:
    """Words -> (the keys that take several values, one list of ``key=value`` a combination, the last key fastest).

    Keys in ``swept`` count as such with one value too, and come first, in that order. Raises UsageError for a word that
    is none, a key given twice and a value given twice.
    """
    values: dict[str, list[str]] = {}
    for word in words:
        key, texts = split_word(word)
        if key == "seed":
            raise UsageError(f"{word!r}: the seeds of a sweep come from --seeds 3 or --seeds 0,3,7")
        if key in values:
            raise UsageError(f"{word!r}: {key} is given twice; write all its values in one word, {key}=a,b")
        if twice := {text for text in texts if texts.count(text) > 1}:
            raise UsageError(f"{word!r}: {', '.join(sorted(twice))} is there twice")
        values[key] = texts
    keys = [key for key in swept if key in values]
    keys += [key for key, texts in values.items() if len(texts) > 1 and key not in swept]
    fixed = [f"{key}={texts[0]}" for key, texts in values.items() if key not in keys]
    chosen = itertools.product(*(values[key] for key in keys))
    return keys, [fixed + [f"{key}={text}" for key, text in zip(keys, texts, strict=True)] for texts in chosen]


def parse_seeds(text: str) -> list[int]:
    """``3`` -> [0, 1, 2]; ``0,3,7`` -> these; ``7,`` -> [7]. Raises UsageError for anything else."""
    if re.fullmatch(r"\s*\d{1,9}\s*", text) and int(text) > 0:
        return list(range(int(text)))
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*,?\s*", text) or "," not in text:
        raise UsageError(f"--seeds: got {text!r}; expected how many (3), or which ones (0,3,7; for one alone 7,)")
    seeds = [int(part) for part in text.split(",") if part.strip()]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds: got {text!r}; a seed is there twice")
    return seeds
