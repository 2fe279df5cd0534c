"""The application and the options that verbs share."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from clouds.base.progress import say

app = typer.Typer(
    name="clouds",
    help="Semantic segmentation for places that nobody has labelled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def option(usage: str, help: str, **others: Any) -> Any:
    """An option by what its users write, as "--seed N" or "--json"."""
    name, _, metavar = usage.partition(" ")
    return typer.Option(name, metavar=metavar or None, help=help, **others)


def argument(metavar: str, help: str, **others: Any) -> Any:
    return typer.Argument(metavar=metavar, help=help, **others)


def out_option(default: str, metavar: str = "DIR") -> Any:
    return option(f"--out {metavar}", f"Where to write.  [default: {default}]", show_default=False)


Overrides = Annotated[list[str] | None, argument("KEY=VALUE", "Settings, such as train.steps=200.")]
RecipeName = Annotated[str, argument("RECIPE", "A shipped recipe's name or a YAML path.")]
ModelName = Annotated[
    str, argument("MODEL", "A model or run folder, an exported .onnx or .xml, or the hub's owner/name[@revision].")
]
ModelFolder = Annotated[str, argument("MODEL", "A model or run folder, or the hub's owner/name[@revision].")]
Device = Annotated[str, option("--device NAME", "cpu, mps, cuda or cuda:N.")]
Cpus = Annotated[int, option("--cpus K", "Cores of each job or process.  [default: a share of all here; 1]")]
Gpus = Annotated[int | None, option("--gpus K", "GPUs of each job or process.  [default: 1 where the recipe uses one]")]
Memory = Annotated[float, option("--memory GB", "Of each job or process.  [default: the engine's]")]
Hours = Annotated[float, option("--hours H", "A job that takes longer saves and is queued again.")]
Sbatch = Annotated[
    list[str] | None, option("--sbatch NAME=VALUE", "An option of sbatch, as partition=gpu; may be repeated.")
]
Json = Annotated[bool, option("--json", "Print only one JSON object on stdout.")]
Debug = Annotated[bool, option("--debug", "Show the traceback of an error.")]


def tell(result: dict[str, Any], as_json: bool, text: str, then: str = "") -> None:
    """Print a verb's result on stdout; ``then``, the next sensible command, on stderr, where scripts do not read."""
    print(json.dumps(result) if as_json else text, flush=True)  # noqa: T201 - the verb's result goes to stdout
    if then and not as_json:
        say(f"next: {then}")


def shown(path: Path | str) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
