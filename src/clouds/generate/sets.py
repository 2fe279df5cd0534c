"""The generated set as training and the command line ask for it: drawn, drawn in part, there already, or adopted."""

from pathlib import Path
from typing import Any

from clouds.config import load_recipe
from clouds.data.source import make_source, open_sets
from clouds.errors import UsageError
from clouds.generate.adopt import adopt as adopt_set
from clouds.generate.adopt import read_lines
from clouds.generate.images import draw, kept, read_set
from clouds.generate.looks import check_looks
from clouds.generate.prompts import prompts_of
from clouds.generate.restyled_source import asked_for, restyle_source
from clouds.generate.shards import Shard, parse_shard
from clouds.settings import Recipe


def generated_set(recipe: Recipe, out: Path) -> tuple[int, list[Path]]:
    """How many prompts, and the images to train on: the recipe's own set, or drawn into the run folder."""
    if folder := recipe.generate.folder:
        rows = read_set(folder)
        return len({row["prompt"] for row in rows}), [folder / row["file_name"] for row in rows]
    prompts = prompts_of(recipe, out / "prompts.jsonl")
    rows = kept(draw(recipe, prompts, out / "generated"))
    return len(prompts), [out / "generated" / row["file_name"] for row in rows]


def generate(
    name: str,
    overrides: list[str],
    out: Path | None,
    shard: str | None,
    adopt: Path | None,
    prompts: Path | None,
    source: bool = False,
) -> dict[str, Any]:
    """Draw a recipe's set, or a shard of it, or adopt one, or restyle its ``source``; the object that
    ``clouds generate --json`` prints."""
    if adopt:
        if shard or overrides or name or source:
            raise UsageError("--adopt: takes --prompts and --out only; no recipe is needed, and nothing is drawn")
        rows = adopt_set(adopt, prompts, out)
        return {"images": len(rows), "failed": 0, "folder": str((out or adopt).resolve())}
    if not name:
        raise UsageError("name a recipe, as `clouds generate demo`, or a set to take over: --adopt DIR")
    recipe, part, folder = load_recipe(name, overrides), parse_shard(shard), out or Path("generated")
    check_looks(recipe, drawn=not source, source=source)
    if source:
        rows = _restyled(recipe, folder, part, prompts)
    else:
        texts = read_lines(prompts) if prompts else prompts_of(recipe, folder / "prompts.jsonl")
        rows = draw(recipe, texts, folder, part)
    done = [row for row in rows if "failed" not in row]
    return {"images": len(done), "failed": len(rows) - len(done), "folder": str(folder.resolve())}


def _restyled(recipe: Recipe, folder: Path, part: Shard, prompts: Path | None) -> list[dict[str, Any]]:
    """A shard of the restyled source, its prompts and the rendered source below ``folder`` where it needs them."""
    settings, opened, made = asked_for(recipe), open_sets(recipe), list[Path]()
    if settings.styles == "generated":
        if recipe.generate.folder is None:
            raise UsageError("data.restyle.styles: generated; say which set: generate.folder=SET, of `clouds generate`")
        made = [recipe.generate.folder / row["file_name"] for row in read_set(recipe.generate.folder)]
    texts: list[str] = []
    if settings.backend.startswith("diffusers/"):
        texts = read_lines(prompts) if prompts else prompts_of(recipe, folder / "prompts.jsonl")
    return restyle_source(recipe, make_source(recipe, opened, folder / "source"), folder, texts, made, part)
