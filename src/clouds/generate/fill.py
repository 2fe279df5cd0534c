"""``clouds prompts``: a recipe's prompts, or with ``--fill`` those that an audit asks for."""

from pathlib import Path

from clouds.config.load import load_recipe
from clouds.generate import prompts
from clouds.generate.prompts import Request, Written
from clouds.generate.request import read_request


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
