"""What a set shows too little of, as a request that ``clouds prompts --fill`` answers."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clouds.base.files import read_json
from clouds.base.locks import check_idle
from clouds.base.shards import MANIFEST
from clouds.config.load import load_recipe
from clouds.config.scene import CLASSES
from clouds.errors import DataError, UsageError
from clouds.generate import prompts
from clouds.generate.manifest import read_manifest
from clouds.generate.prompts import Request, Written
from clouds.generate.subject import Subject, subject_of

LEAST = 0.5  # times the mean of its kind: what fewer prompts speak of is under-covered
Wanted = dict[str, dict[str, int]]  # {topic: {phrase: how many prompts are missing}}


def lacking(subject: Subject, prompts: Sequence[str], seen: Mapping[str, float] | None = None) -> dict[str, Any]:
    """{"wanted": what is under-covered and by how many prompts, "count": how many prompts say all of it}.

    Under-covered is what fewer than ``LEAST`` times the mean of its kind speak of. seen: share of images in which a
    teacher sees each class, which then counts instead of what prompts say; names of no class are left out.
    """
    counts: dict[str, Mapping[str, float]] = dict(subject.counted(prompts))
    if seen is not None:
        counts[CLASSES] = {name: share * len(prompts) for name, share in seen.items() if name in subject.classes}
    wanted: Wanted = {}
    needed = [0]
    for topic, heard in counts.items():
        enough = LEAST * sum(heard.values()) / max(len(heard), 1)
        missing = {name: math.ceil(enough - n) for name, n in heard.items() if n < enough}
        if missing:
            wanted[topic] = missing
            needed.append(sum(missing.values()) * (2 if topic in subject.scene.sometimes else 1))
    return {"count": max(needed), "wanted": wanted}


def read_request(path: Path, subject: Subject) -> tuple[int, Wanted, list[str], str]:
    """Of an ``audit.json``: how many prompts, what they should speak of, the prompts of the set as far as its folder
    is still there, and a digest of the request. UsageError or DataError for anything else, and for a request that the
    subject does not know."""
    if not path.is_file():
        raise UsageError(f"--fill: {path} is not a file; expected the audit.json of `clouds audit`")
    try:
        content = read_json(path)
        request, folder = content["request"], Path(content["folder"])
        count, wanted = int(request["count"]), {str(a): _counts(each) for a, each in request["wanted"].items()}
    except (DataError, KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"--fill: {path}: holds no request of an audit; expected the audit.json of `clouds audit`"
        raise DataError(message) from error
    for topic, each in wanted.items():
        if strange := [phrase for phrase in each if phrase not in subject.topics.get(topic, ())]:
            raise DataError(
                f"--fill: {path}: asks for {topic}: {strange[0]}, which the recipe's scene "
                f"({subject.scene.name}) and classes do not know; name the recipe of the set, or its scene=NAME"
            )
    text = json.dumps([count, wanted], sort_keys=True)
    rows = read_manifest(folder)[0] if (folder / MANIFEST).is_file() else []
    known = list(dict.fromkeys(str(row["prompt"]) for row in rows if row.get("prompt")))
    return count, wanted, known, hashlib.sha256(text.encode()).hexdigest()[:16]


def _counts(each: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(n) for name, n in each.items()}


def prompts_for(name: str, overrides: list[str], out: Path, fill: Path | None) -> Written | None:
    """The prompts of a recipe, written to ``out``; with ``fill``, an ``audit.json``, as many as it asks for unless
    ``prompts.count`` is given. None where it asks for nothing and no count is given."""
    recipe = load_recipe(name, overrides)
    check_idle(out)
    if fill is None:
        return prompts.write_prompts(recipe, out)
    count, wanted, known, digest = read_request(fill, subject_of(recipe))
    if not any(each.startswith("prompts.count=") for each in overrides):
        if not count:
            return None
        recipe = recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"count": count})})
    return prompts.write_prompts(recipe, out, Request(wanted, known, digest))
