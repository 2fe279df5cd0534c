"""The command line: one short function a verb, no logic. Heavy imports happen inside the verbs."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clouds.errors import CloudsError, DataError, UsageError

app = typer.Typer(
    name="clouds",
    help="Label-free robustness for semantic segmentation: foundation models collaborate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as train.steps=200.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML path.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, alone, on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def out_option(default: str, metavar: str = "DIR") -> Any:
    return typer.Option("--out", metavar=metavar, help=f"Where to write.  [default: {default}]", show_default=False)


def tell(result: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else text)  # noqa: T201 - the verb's result goes to stdout


@app.command()
def demo(
    overrides: Overrides = None,
    out: Annotated[Path, out_option("runs/demo")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option("--minutes", help="Scale the work; the recipe is sized for 10.")] = 10,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the whole method on embedded defaults, score unseen domains, write the report.

    Examples:  clouds demo    clouds demo --minutes 2    clouds demo data.root=../shared/data
    """
    from clouds import pipeline

    result = pipeline.demo(overrides or [], out, minutes)
    tell(result, as_json, pipeline.comparison_table(result))


@app.command()
def check(
    what: Annotated[str, typer.Argument(metavar="RECIPE|DATASET", help="A recipe, or a dataset as camvid.")],
    overrides: Overrides = None,
    root: Annotated[Path | None, typer.Option("--root", metavar="PATH", help="The dataset's own folder.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every file, not a sample.")] = False,
    out: Annotated[Path, out_option("check")] = Path("check"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find, pair, decode and count what a recipe or a dataset needs; list every problem; draw a contact sheet.

    Examples:  clouds check camvid --root data/camvid    clouds check demo data.root=data --full
    """
    from clouds.check import check as look
    from clouds.check import check_table

    result = look(what, overrides or [], root, full, out)
    tell(result, as_json, check_table(result))
    raise typer.Exit(1 if result["problems"] else 0)


@app.command()
def classes(
    name: Annotated[str | None, typer.Argument(metavar="[LABEL_SET|DATASET]", help="As synthia16 or camvid.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the label sets and datasets there are, or how one folds the 19 Cityscapes classes.

    Examples:  clouds classes    clouds classes idd-lite
    """
    from clouds.data.tables import class_tables, tables_text

    result = class_tables(name)
    tell(result, as_json, tables_text(result, colour=sys.stdout.isatty()))


@app.command()
def prompts(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Annotated[Path, out_option("prompts.jsonl", "FILE")] = Path("prompts.jsonl"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask the prompt writer for scenes, check them, write them as JSON lines; show coverage and diversity.

    Examples:  clouds prompts demo prompts.count=20 --out prompts.jsonl
               clouds prompts demo prompts.writer=openai/llama3 prompts.base_url=http://localhost:11434/v1
    """
    from clouds.config import load_recipe
    from clouds.generate.prompts import write_prompts
    from clouds.generate.told import prompts_result, result_text

    result = prompts_result(write_prompts(load_recipe(recipe, overrides), out), out)
    tell(result, as_json, result_text(result, out))


@app.command()
def generate(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="As above; not needed with --adopt.")] = "",
    overrides: Overrides = None,
    out: Annotated[Path | None, out_option("generated")] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Draw part I of N, from 0.  [default: the launcher's]")
    ] = None,
    adopt: Annotated[
        Path | None, typer.Option("--adopt", metavar="DIR", help="Take over images made elsewhere, draw none.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="Prompts to draw or adopt with, one a line.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw the recipe's generated set: images and metadata.jsonl. Run again, it goes on.

    Examples:  clouds generate demo generate.count=50 --out generated --shard 0/4
               clouds generate --adopt their_images --prompts their_prompts.txt
    """
    from clouds.generate.sets import generate as make

    result = make(recipe, overrides or [], out, shard, adopt, prompts)
    tell(result, as_json, f"{result['images']} images in {result['folder']}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A recipe, or with --resume a run folder.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, out_option("runs/RECIPE")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run folder given.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Warm-up, then joint training; makes the prompts and images it does not find.

    Examples:  clouds train demo train.steps=200 --out runs/a    clouds train runs/a --resume
    """
    from clouds.config import load_recipe
    from clouds.pipeline import train as train_run
    from clouds.runs import load_run

    if resume:
        if overrides or out:
            raise UsageError("--resume takes a run folder alone: its settings and place are the run's own")
        run = Path(recipe)
        settings = load_run(run)
    else:
        settings = load_recipe(recipe, overrides)
        run = out or Path("runs") / settings.name
    train_run(settings, run)
    tell({"run": str(run.resolve())}, as_json, f"trained: {run}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder or a run folder.")],
    domains: Annotated[list[str], typer.Argument(metavar="DOMAIN... [KEY=VALUE]...", help="town, camvid-day, ...")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Also write results.json there.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model on domains: mean IoU with its 95 % interval, on each domain's own label set.

    Example:  clouds evaluate runs/demo town night camvid-day data.root=../shared/data
    """
    from clouds.evaluate import evaluate_model, results_table

    result = evaluate_model(model, domains, out)
    tell(result, as_json, results_table(result))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder or a run folder.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images, or folders of images.")],
    out: Annotated[Path, out_option("predictions")] = Path("predictions"),
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="KIND,...", help="labels, color, overlay, ids, scores.  [default: labels,overlay]"
        ),
    ] = None,
    shorter_side: Annotated[
        int | None,
        typer.Option("--shorter-side", metavar="N", help="Bring images to it; 0: own size.  [default: the model's]"),
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", metavar="N", help="Slide a window of this side, not whole images.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", metavar="N", help="Step of the window.  [default: 2/3 of it]")
    ] = None,
    scales: Annotated[
        str | None, typer.Option("--scales", metavar="X,...", help="Average over sizes, as 0.75,1,1.25.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirror image.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Files segmented at a time.")] = 1,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Other names to look for: scooter,road|street (text head only).")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Text tower's weights for new names, if not the recorded ones.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Segment images: train-id PNGs and colour overlays, or the formats asked for.

    Examples:  clouds predict runs/demo street.jpg photos/ --out predictions
               clouds predict runs/demo photos/ --format ids --window 768 --flip
               clouds predict runs/demo street.jpg --classes "scooter,road|street"
    """
    from clouds.predict_files import DEFAULT_KINDS, failure_text, predict_files, split_kinds, split_scales

    kinds = split_kinds(formats) if formats else DEFAULT_KINDS
    how: dict[str, Any] = {"shorter_side": shorter_side, "window": window, "stride": stride, "flip": flip or None}
    how["scales"] = split_scales(scales) if scales is not None else None
    done, failed = predict_files(model, inputs, out, kinds, batch_size, classes, weights, **how)
    result = {"images": len(done), "folder": str(out.resolve()), "failed": failed}
    tell(result, as_json, f"{len(done)} images segmented in {out}")
    if failed:
        raise DataError(failure_text(failed, len(done) + len(failed)))


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file of the published implementation.")],
    out: Annotated[Path, out_option("model")] = Path("model"),
    clip: Annotated[str | None, typer.Option("--clip", help="open_clip's model, if the tensors do not tell.")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="CLIP's (tag, hf-hub:org/name, path), if the file holds none.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Class names, as road|railroad,sidewalk  [default: the 19]")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint of the published implementation into a model folder.

    Example:  clouds import clouds_convnext_large.pth --out models/convnext-l
    """
    from clouds.model.imported import import_checkpoint
    from clouds.model.open_vocabulary import parse_names

    named = {"synonyms": parse_names(classes)} if classes is not None else {}
    found = import_checkpoint(checkpoint, out, clip, weights, **named)
    tell(found, as_json, f"{out}: {found['clip']}, {found['head']} head, {found['classes']} classes")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the run's report page again.

    Example:  clouds report runs/demo
    """
    from clouds.report import write_report

    page = write_report(run)
    tell({"report": str(page.resolve())}, as_json, str(page))


def _version(asked: bool) -> None:
    if asked:
        from clouds import __version__

        print(__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


INTERRUPTED = 130  # what typer returns on Ctrl-C


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit 0 when done, 1 when it failed, 2 when the request itself was wrong."""
    # OpenMP's waiting threads spin for milliseconds: on a busy machine that makes training steps several times slower,
    # while a short spin keeps the speed of an idle one (GNU OpenMP, which PyTorch brings on Linux)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(words))


def run(words: list[str]) -> int:
    try:
        code = app(args=words, prog_name="clouds", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        if "--debug" in words:
            raise
        return _fail("interrupted; finished work is kept, the same command goes on from there")
    except CloudsError as error:
        if "--debug" in words:
            raise
        _fail(str(error))
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        if "--debug" in words:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}; finished work is kept, run again when it is mended")
    except Exception as error:  # typer's own usage errors; it vendors click, so their class has no public name
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        return 2


def _fail(message: str) -> int:
    print(f"clouds: {message}", file=sys.stderr)  # noqa: T201
    return 1
