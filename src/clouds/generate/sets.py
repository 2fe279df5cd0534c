"""The generated set as training and the command line ask for it: drawn, drawn in part, there already, or adopted."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from clouds.base.files import write_json, write_jsonl
from clouds.base.locks import check_idle
from clouds.base.shards import Shard, parse_shard
from clouds.config.backends import takes
from clouds.config.load import load_recipe
from clouds.config.recipe import Recipe
from clouds.config.runs import GENERATED, PROMPTS, SOURCE, timed
from clouds.data.labelled import make_source, open_sets
from clouds.errors import CloudsError, UsageError
from clouds.foundation.generator import check_generator
from clouds.generate.adopt import adopt as adopt_set
from clouds.generate.adopt import read_lines
from clouds.generate.audit import audit_set
from clouds.generate.draw import Row, draw, kept, read_set
from clouds.generate.manifest import read_manifest, set_folder
from clouds.generate.prompts import prompts_of
from clouds.generate.restyle import check_looks
from clouds.generate.restyled_source import asked_for, restyle_source
from clouds.generate.subject import subject_of

AUDIT = "audit"  # a folder inside the set


def set_prompts(recipe: Recipe, out: Path) -> list[str]:
    """The prompts of the set that a run trains on: its own, written where they are missing, or those of the set named
    by ``generate.folder``."""
    if recipe.generate.folder is None:
        with timed(out, "prompts"):
            return prompts_of(recipe, out / PROMPTS)
    return list(dict.fromkeys(row["prompt"] for row in read_set(recipe.generate.folder)))


def draw_shard(recipe: Recipe, prompts: list[str], out: Path, shard: Shard) -> None:
    """Draw what is missing of a shard of the run's own set, ahead of ``set_images``; of a set that is there, nothing.
    """
    if recipe.generate.folder is None:
        with timed(out, "images") if shard.index == 0 else nullcontext():
            draw(recipe, prompts, out / GENERATED, shard)


def set_images(recipe: Recipe, prompts: list[str], out: Path) -> list[Path]:
    """The generated images to train on: those of ``generate.folder``, or drawn from the prompts into the run folder.

    With ``generate.audit`` the set is looked through first. CloudsError where an audit leaves less than a batch.
    """
    folder = recipe.generate.folder or out / GENERATED
    if recipe.generate.folder is None:
        with timed(out, "images"):
            rows = draw(recipe, prompts, folder)
        if not recipe.generate.audit:
            return _enough(kept(rows), rows, folder, recipe.train.batch_size)
    if recipe.generate.audit:
        write_audit(*audit_set(set_folder(folder), recipe.audit, subject=subject_of(recipe)), folder / AUDIT)
    return _enough(read_set(folder), read_manifest(folder)[0], folder, recipe.train.batch_size)


def _enough(rows: list[Row], whole: list[Row], folder: Path, batch: int) -> list[Path]:
    """The images of the rows; CloudsError where their audit left too few of the whole set."""
    dropped = sum(row.get("keep") is False for row in whole)
    if dropped and len(rows) < batch:
        raise CloudsError(
            f"{folder}: its audit left {len(rows)} of {len(whole)} images, fewer than train.batch_size={batch}; "
            f"{folder / AUDIT / 'audit.json'} says why. Draw more (generate.count) or "
            "relax the limits (audit.radius, ...)"
        )
    return [folder / row["file_name"] for row in rows]


def write_audit(result: dict[str, Any], images: list[Row], out: Path) -> None:
    """``audit.json`` and, a line an image, ``images.jsonl``."""
    write_jsonl(out / "images.jsonl", [{k: v for k, v in image.items() if k != "pixels"} for image in images])
    write_json(out / "audit.json", result)


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
    ``clouds generate --json`` prints. BusyError where that is a part of a run at work."""
    check_idle(out or adopt or Path("generated"))
    if adopt:
        if shard or overrides or name or source:
            raise UsageError("--adopt: takes --prompts and --out only; no recipe is needed, and nothing is drawn")
        rows = adopt_set(adopt, prompts, out)
        return {"images": len(rows), "failed": 0, "folder": str((out or adopt).resolve())}
    if not name:
        raise UsageError("name a recipe, such as `clouds generate demo`, or a set to take over: --adopt DIR")
    recipe, part, folder = load_recipe(name, overrides), parse_shard(shard), out or Path("generated")
    if not (source or recipe.generate.count):
        raise UsageError("generate.count: got 0; nothing is to be drawn. Photographs are trained on as they are")
    if not source:
        check_generator(recipe.generate, recipe.scene)
    check_looks(recipe, drawn=not source, source=source)
    if source:
        rows = _restyled(recipe, folder, part, prompts)
    else:
        texts = read_lines(prompts) if prompts else prompts_of(recipe, folder / PROMPTS)
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
    if "prompt" in takes(settings.backend):
        texts = read_lines(prompts) if prompts else prompts_of(recipe, folder / PROMPTS)
    return restyle_source(recipe, make_source(recipe, opened, folder / SOURCE), folder, texts, made, part)
