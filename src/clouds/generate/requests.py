"""What a set shows too little of, as a request that ``clouds prompts --fill`` answers."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clouds.base.files import read_json
from clouds.base.shards import MANIFEST
from clouds.config.load import load_recipe
from clouds.data.classes import NAMES
from clouds.errors import DataError, UsageError
from clouds.generate import prompts
from clouds.generate.coverage import ATTRIBUTES, SOMETIMES, counted, phrases
from clouds.generate.manifest import read_manifest
from clouds.generate.prompts import Request, Written

LEAST = 0.5  # times the mean of its kind: what fewer prompts speak of is under-covered
Wanted = dict[str, dict[str, int]]  # {attribute: {phrase: how many prompts are missing}}


def lacking(prompts: Sequence[str], seen: Mapping[str, float] | None = None) -> dict[str, Any]:
    """{"wanted": what is under-covered and by how many prompts, "count": how many prompts say all of it}.

    Under-covered is what fewer than ``LEAST`` times the mean of its kind speak of. seen: share of images in which a
    teacher sees each class, which then counts instead of what prompts say; names outside the 19 are left out.
    """
    counts: dict[str, Mapping[str, float]] = dict(counted(prompts))
    if seen is not None:
        counts["classes"] = {name: share * len(prompts) for name, share in seen.items() if name in NAMES}
    wanted: Wanted = {}
    needed = [0]
    for attribute, heard in counts.items():
        enough = LEAST * sum(heard.values()) / max(len(heard), 1)
        missing = {name: math.ceil(enough - n) for name, n in heard.items() if n < enough}
        if missing:
            wanted[attribute] = missing
            needed.append(sum(missing.values()) * (2 if attribute in SOMETIMES else 1))
    return {"count": max(needed), "wanted": wanted}


def read_request(path: Path) -> tuple[int, Wanted, list[str], str]:
    """Of an ``audit.json``: how many prompts, what they should speak of, the prompts of the set as far as its folder
    is still there, and a digest of the request. UsageError or DataError for anything else."""
    if not path.is_file():
        raise UsageError(f"--fill: {path} is no file; expected the audit.json of `clouds audit`")
    try:
        content = read_json(path)
        request, folder = content["request"], Path(content["folder"])
        count, wanted = int(request["count"]), {str(a): _counts(a, each) for a, each in request["wanted"].items()}
    except (DataError, KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"--fill: {path}: holds no request of an audit; expected the audit.json of `clouds audit`"
        raise DataError(message) from error
    text = json.dumps([count, wanted], sort_keys=True)
    rows = read_manifest(folder)[0] if (folder / MANIFEST).is_file() else []
    known = list(dict.fromkeys(str(row["prompt"]) for row in rows if row.get("prompt")))
    return count, wanted, known, hashlib.sha256(text.encode()).hexdigest()[:16]


def _counts(attribute: str, each: Mapping[str, Any]) -> dict[str, int]:
    if attribute not in ATTRIBUTES or not set(each) <= set(phrases(attribute)):
        raise ValueError(f"{attribute}: {', '.join(each)}")
    return {name: int(n) for name, n in each.items()}


def prompts_for(name: str, overrides: list[str], out: Path, fill: Path | None) -> Written | None:
    """The prompts of a recipe, written to ``out``; with ``fill``, an ``audit.json``, as many as it asks for unless
    ``prompts.count`` is given. None where it asks for nothing and no count is given."""
    if fill is None:
        return prompts.write_prompts(load_recipe(name, overrides), out)
    count, wanted, known, digest = read_request(fill)
    if not any(each.startswith("prompts.count=") for each in overrides):
        if not count:
            load_recipe(name, overrides)  # which may be wrong all the same
            return None
        overrides = [*overrides, f"prompts.count={count}"]
    return prompts.write_prompts(load_recipe(name, overrides), out, Request(wanted, known, digest))
