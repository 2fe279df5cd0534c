"""Verbs that look at data or make it: classes, check, prompts, generate, regions, audit."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import clouds
from clouds.base.text import counted
from clouds.cli.options import Debug, Json, Overrides, RecipeName, app, argument, option, out_option, shown, tell


@app.command()
def classes(
    name: Annotated[
        str | None, argument("LABEL_SET|DATASET|RECIPE", "A name such as synthia16, camvid or demo.")
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List label sets and datasets.

    With a name: how it maps to the 19 Cityscapes classes. With a recipe: its model's classes, and how each source
    and domain maps to them.

    \b
    Examples:
      clouds classes
      clouds classes idd-lite
      clouds classes crops.yaml
    """
    from clouds.data.class_tables import class_tables, tables_text

    result = class_tables(name, overrides or [])
    tell(result, as_json, tables_text(result, colour=sys.stdout.isatty()))


@app.command()
def check(
    what: Annotated[str, argument("RECIPE|DATASET", "A recipe, or a dataset such as camvid.")],
    overrides: Overrides = None,
    root: Annotated[
        Path | None,
        option("--root PATH", "The dataset's own folder or archive; without it, its folder below data.root."),
    ] = None,
    full: Annotated[bool, option("--full", "Decode every pair, not only 100 of each split.")] = False,
    out: Annotated[Path, out_option("check")] = Path("check"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check data before training.

    Find, pair and decode the files of a recipe or a dataset, list every problem, draw a contact sheet.

    \b
    Examples:
      clouds check camvid --root data/camvid
      clouds check demo data.root=data --full
    """
    result = clouds.api.check(what, overrides, root, full, out)
    from clouds.check.data import check_table

    if result["problems"]:
        then = "fix what is listed, then run the same command"
    elif "recipe" in result:
        then = f"clouds train {shlex.join([what, *(overrides or [])])} --dry-run"
    else:
        place = result["root"]
        then = f"clouds train demo {shown(f'data.source=[{{dataset: {what}, root: {place}}}]')} --dry-run"
    tell(result, as_json, check_table(result), then)
    raise typer.Exit(1 if result["problems"] else 0)


@app.command()
def prompts(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Annotated[Path, out_option("prompts.jsonl", "FILE")] = Path("prompts.jsonl"),
    fill: Annotated[
        Path | None, option("--fill AUDIT.json", "Write prompts for the gaps that this audit found.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write scene prompts as JSON lines.

    Ask the recipe's prompt writer, check its lines, show coverage and diversity.

    \b
    Examples:
      clouds prompts demo prompts.count=20 --out prompts.jsonl
      clouds prompts demo scene=crops --out fields.jsonl
      clouds prompts demo prompts.writer=openai/llama3 prompts.base_url=http://localhost:11434/v1
      clouds prompts demo --fill generated/audit/audit.json --out more.jsonl
    """
    result = clouds.api.prompts(recipe, overrides, out, fill)
    if result["file"] is None:
        tell(result, as_json, f"{fill}: has no gaps to fill")
        return
    from clouds.generate.prompts import result_text

    tell(result, as_json, result_text(result, out), f"clouds generate {shown(recipe)} --prompts {shown(out)}")


@app.command()
def generate(
    recipe: Annotated[str, argument("RECIPE", "A shipped recipe's name or a YAML path; none with --adopt.")] = "",
    overrides: Overrides = None,
    out: Annotated[Path | None, out_option("generated; with --adopt: DIR itself")] = None,
    shard: Annotated[str | None, option("--shard I/N", "Draw part I of N, from 0.  [default: the launcher's]")] = None,
    adopt: Annotated[Path | None, option("--adopt DIR", "Use images made elsewhere; draw none.")] = None,
    prompts: Annotated[Path | None, option("--prompts FILE", "The prompts: one per line, or .jsonl.")] = None,
    source: Annotated[
        bool, option("--restyle-source", "Make the variants of data.restyle instead of drawing prompts.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Generate the recipe's images, with a manifest.

    Write images and metadata.jsonl. --shard splits the work. If interrupted, run it again: it resumes.

    \b
    Examples:
      clouds generate demo generate.count=50 --out generated --shard 0/4
      clouds generate --adopt their_images --prompts their_prompts.txt
      clouds generate demo data.restyle.backend=colour-statistics --restyle-source --out restyled
    """
    result = clouds.api.draw(recipe, overrides, out, shard, adopt, prompts, source)
    then = f"clouds audit {shown(out or adopt or 'generated')}"
    tell(result, as_json, f"{counted(result['images'], 'image')} in {result['folder']}", "" if source else then)


@app.command()
def regions(
    what: Annotated[str, argument("RECIPE|SET", "A folder of generated images, or a recipe that names one.")],
    overrides: Overrides = None,
    out: Annotated[Path, out_option("regions")] = Path("regions"),
    shard: Annotated[str | None, option("--shard I/N", "Do part I of N, from 0.  [default: the launcher's]")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the regions of a set's images before training.

    For training with selftrain.refinement=regions or smooth. If interrupted, run it again: it resumes.

    \b
    Examples:
      clouds regions generated selftrain.segmenter=sam/facebook/sam-vit-base --out regions --shard 0/4
      clouds train demo selftrain.refinement=regions selftrain.regions_folder=regions
    """
    from clouds.selftrain.region_files import find_set_regions

    result = find_set_regions(what, overrides or [], shard, out)
    text = f"{counted(result['images'], 'image')} in {out}, {result['made']} of them done now, "
    text += f"{result['regions']:g} regions each"
    then = f"clouds train RECIPE selftrain.refinement=regions selftrain.regions_folder={shown(out)}"
    tell(result, as_json, text, then)


@app.command()
def audit(
    folder: Annotated[Path, argument("DIR", "A generated set, a run with one, or a folder of photos.")],
    overrides: Annotated[
        list[str] | None, argument("RECIPE|KEY=VALUE", "A recipe, if the set is not of streets; settings.")
    ] = None,
    model: Annotated[
        str | None, option("--model MODEL", "Count what this model, no exported file, sees in the images.")
    ] = None,
    clip: Annotated[str | None, option("--clip open_clip/MODEL", "Score how well images fit their prompts.")] = None,
    weights: Annotated[str | None, option("--weights FROM", "CLIP's weights: a tag, hf-hub:org/name, a path.")] = None,
    source: Annotated[str | None, option("--source RECIPE|DIR", "Images whose diversity to compare with.")] = None,
    out: Annotated[Path | None, out_option("DIR/audit")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find broken, blank and duplicate images.

    Mark the images to train on and show what the set covers. In a folder of photos, only list the bad ones.

    \b
    Examples:
      clouds audit generated
      clouds audit adopted fields.yaml
      clouds audit generated --model runs/demo --source demo audit.radius=8
      clouds audit generated --clip open_clip/RN50-quickgelu --weights openai audit.clip=18
    """
    from clouds.check.generated_set import audit as look_through
    from clouds.generate.audit import audit_text

    result = look_through(folder, overrides or [], model, clip, weights, source, out)
    tell(result, as_json, audit_text(result), f"open {shown(result['page'])} in a browser")
