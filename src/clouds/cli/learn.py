"""Verbs of the method: the demo, training, sweeps of it, scores, the report."""

import shlex
from pathlib import Path
from typing import Annotated

import clouds
from clouds.cli.options import (
    Cpus,
    Debug,
    Gpus,
    Hours,
    Json,
    Memory,
    Overrides,
    Sbatch,
    app,
    argument,
    option,
    out_option,
    shown,
    tell,
)
from clouds.errors import CloudsError, UsageError


@app.command()
def demo(
    overrides: Overrides = None,
    out: Annotated[Path, out_option("runs/demo")] = Path("runs/demo"),
    minutes: Annotated[
        float | None,
        option("--minutes M", "Size the work for M minutes here, 0.2 or more.  [default: ten on two idle cores]"),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the whole method with built-in defaults.

    Train, score unseen domains, write the report. If interrupted, run it again: it resumes.

    \b
    Examples:
      clouds demo
      clouds demo --minutes 2
      clouds demo data.root=/data
      clouds demo data.unlabelled=photos/ generate.count=0
    """
    result = clouds.api.demo(overrides, out, minutes)
    from clouds.evaluate.run import comparison_table

    tell(result, as_json, comparison_table(result), f"clouds predict {shown(out)} photos/ --out predictions")


@app.command()
def train(
    recipe: Annotated[str, argument("RECIPE|RUN", "A recipe, or with --resume a run folder.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, out_option("runs/RECIPE")] = None,
    start: Annotated[str | None, option("--from MODEL", "Start from a model: a run, a folder or a hub id.")] = None,
    resume: Annotated[bool, option("--resume", "Resume the run in this folder.")] = False,
    allow_change: Annotated[
        bool, option("--allow-change", "Resume in --out although settings differ; the run records it.")
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", "Measure time and memory of two steps; write and download nothing.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe: warm-up, then joint training.

    Make missing prompts and images first. Ctrl-C saves; the same command resumes.

    \b
    Examples:
      clouds train demo train.steps=200 --out runs/a
      clouds train runs/a --resume
      clouds train field.yaml --from runs/streets --out runs/field
      accelerate launch --num_processes 8 -m clouds train my.yaml
      clouds train gta-convnext-l --dry-run
    """
    overrides = [*(overrides or []), *(clouds.api.words({"train.start": start}) if start else [])]
    if dry_run:
        given = {"--out": out, "--resume": resume, "--allow-change": allow_change}
        _try_out(recipe, overrides, [name for name, value in given.items() if value], as_json)
        return
    if resume and (overrides or out):
        raise UsageError("--resume takes only a run folder: it uses the run's own settings and place")
    run = clouds.api.resume(recipe) if resume else clouds.api.train(recipe, overrides, out, None, allow_change)
    folder, then = shown(run.folder), f"clouds predict {shown(run.folder)} photos/ --out predictions"
    if run.recipe.evaluate.domains and not resume:
        then = f"clouds evaluate {folder} {shlex.quote(recipe)}, or {then}"
    elif run.recipe.model.classes == "cityscapes19":
        then = f"clouds evaluate {folder} town night, or {then}"
    tell({"run": str(run.folder.resolve())}, as_json, f"trained: {run.folder}", then)


def _try_out(recipe: str, overrides: list[str] | None, more: list[str], as_json: bool) -> None:
    if more:
        raise UsageError(f"--dry-run writes nothing and resumes nothing: leave out {' and '.join(more)}")
    result = clouds.api.dry_run(recipe, overrides)
    from clouds.check.dry_run import dry_run_text

    tell(result, as_json, dry_run_text(result), f"clouds train {shlex.join([recipe, *(overrides or [])])}")


@app.command()
def launch(
    recipe: Annotated[str, argument("RECIPE", "A shipped recipe's name or a YAML path.")],
    overrides: Overrides = None,
    on: Annotated[str, option("--on ENGINE", "local (processes here), slurm or ray.")] = "local",
    shards: Annotated[int, option("--shards N", "Of drawing images and finding regions.")] = 1,
    processes: Annotated[int, option("--processes M", "Of training.")] = 1,
    nodes: Annotated[int, option("--nodes N", "Of training, with --on slurm; they share the processes.")] = 1,
    out: Annotated[Path | None, out_option("runs/RECIPE", "RUN")] = None,
    cpus: Cpus = 0,
    gpus: Gpus = None,
    memory: Memory = 0,
    hours: Hours = 24,
    sbatch: Sbatch = None,
    cancel: Annotated[
        bool, option("--cancel-on-interrupt", "Ctrl-C has the jobs save and end; without it they go on.")
    ] = False,
    dry_run: Annotated[bool, option("--dry-run", "Show stages, needs and commands; do nothing.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run all stages of a recipe as jobs.

    Prompts, images in shards, audit, regions in shards, training, scores, report. Run again, it finds its jobs and
    goes on. A shard that fails is tried once more.

    \b
    Examples:
      clouds launch demo --shards 2 --out runs/demo
      clouds launch my.yaml --on slurm --shards 16 --processes 4 --hours 12 --sbatch partition=gpu
      clouds launch my.yaml --on slurm --processes 16 --nodes 2
      clouds launch my.yaml --on ray --shards 16 --out /shared/run
      clouds launch gta-rn50 data.root=/data --dry-run
    """
    from clouds.launch.graph import Needs
    from clouds.launch.launch import launch as run_launch
    from clouds.launch.launch import launch_text

    needs = Needs(cpus, gpus, memory, hours, nodes)
    result = run_launch(recipe, overrides or [], on, shards, out, processes, needs, sbatch, cancel, dry_run)
    then = "" if dry_run else f"clouds predict {shown(result['run'])} photos/ --out predictions"
    tell(result, as_json, launch_text(result), then)


@app.command()
def sweep(
    recipe: Annotated[str, argument("RECIPE", "A shipped recipe's name or a YAML path.")] = "",
    values: Annotated[
        list[str] | None, argument("KEY=A,B,C", "Values to try, in every combination; a single value is used for all.")
    ] = None,
    seeds: Annotated[str, option("--seeds N|0,3,7", "How many seeds, or which ones; '7,' is seed 7 alone.")] = "1",
    jobs: Annotated[int, option("--jobs K", "Jobs at a time; 1: one after the other, in this process.")] = 1,
    out: Annotated[Path | None, out_option("runs/RECIPE-sweep")] = None,
    minutes: Annotated[float | None, option("--minutes M", "Scale the demo's work, as in `clouds demo`.")] = None,
    share_warmup: Annotated[
        bool, option("--share-warmup", "Train one warm-up for all jobs with the same warm-up settings.")
    ] = False,
    shard: Annotated[str | None, option("--shard I/N", "Do every N-th job, starting at I, from 0.")] = None,
    on: Annotated[str | None, option("--on ENGINE", "A job each on local, slurm or ray, as `clouds launch`.")] = None,
    cpus: Cpus = 0,
    gpus: Gpus = None,
    memory: Memory = 0,
    hours: Hours = 24,
    sbatch: Sbatch = None,
    listing: Annotated[bool, option("--list", "Only show what is done; RECIPE is not needed.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train and score a recipe with several values and seeds.

    One run folder per combination and seed, one table at the end. If interrupted, run it again: it resumes.

    \b
    Examples:
      clouds sweep demo train.learning_rate=1e-3,3e-4 --seeds 3 --out runs/rates
      clouds sweep demo selftrain.max_swallow=0.15,0.3,null --share-warmup --jobs 2
      clouds sweep my.yaml model.adapt=lora,rein --seeds 0,3,7 --shard 0/4 --out /shared/adapt
      clouds sweep my.yaml model.adapt=lora,rein --seeds 3 --on slurm --hours 8 --sbatch partition=gpu
      clouds sweep --list --out runs/rates
    """
    from clouds.launch.graph import Needs

    needs = Needs(cpus, gpus, memory, hours)
    result = clouds.api.sweep(
        recipe, values or [], out, seeds, jobs, minutes, shard, listing, share_warmup, on, needs, sbatch or ()
    )
    from clouds.sweep import failure_text, sweep_table

    folder = out or Path("runs") / f"{Path(recipe).stem}-sweep"
    done = any(job["state"] == "done" for job in result["jobs"])
    tell(result, as_json, sweep_table(result), f"clouds report {shown(folder)}" if done else "")
    if not listing and (failed := failure_text(result)):
        raise CloudsError(failed)


@app.command()
def evaluate(
    words: Annotated[
        list[str],
        argument(
            "MODEL|DOMAIN|RECIPE|KEY=VALUE",
            "Models, as for predict; then domains, such as town or camvid-day, or a recipe for all its domains; "
            "then settings.",
        ),
    ],
    out: Annotated[
        Path | None,
        option("--out DIR", "Also write results.json there; for several models one each, and comparison.json."),
    ] = None,
    csv: Annotated[Path | None, option("--csv FILE", "Also write the scores as CSV.")] = None,
    latex: Annotated[Path | None, option("--latex FILE", "Also write the scores as LaTeX tables.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score models on domains.

    For each domain: IoU per class, its mean with a 95 % interval, boundary IoU, calibration. Several models are
    compared. Under torchrun the processes share the images.

    \b
    Examples:
      clouds evaluate runs/demo town night camvid-day data.root=/data
      clouds evaluate runs/demo/warmup runs/demo demo data.root=/data --out scores --csv scores.csv
    """
    result = clouds.api.evaluate(words, (), None, out, csv, latex)
    from clouds.evaluate.run import scores_table
    from clouds.evaluate.tables import evaluation_text

    if result:  # the main process alone has it
        text = scores_table(result) if "joint" in result else evaluation_text(result)
        tell(result, as_json, text, f"clouds predict {shown(words[0])} photos/ --out predictions")


@app.command()
def report(
    run: Annotated[Path, argument("RUN", "A run folder or a sweep folder.")],
    others: Annotated[list[Path] | None, argument("OTHER", "Runs to compare with.", show_default=False)] = None,
    out: Annotated[Path | None, option("--out DIR", "Where to write.  [default: RUN/report]")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run or a sweep.

    If you name other runs, the page compares them. For a sweep it shows the table.

    \b
    Examples:
      clouds report runs/demo
      clouds report runs/seed-0 runs/seed-1 runs/seed-2 --out comparison
      clouds report sweeps/rate
    """
    page = clouds.api.report(run, others or (), out)
    tell({"report": str(page.resolve())}, as_json, str(page), "open that page in a browser; it needs no other file")
