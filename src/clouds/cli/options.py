"""The application and the options that verbs share."""

import json
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="clouds",
    help="Label-free robustness for semantic segmentation: foundation models collaborate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, as train.steps=200.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML path.")]
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model or run folder, or the hub's owner/name[@revision].")
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, mps, cuda or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, alone, on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def out_option(default: str, metavar: str = "DIR") -> Any:
    return typer.Option("--out", metavar=metavar, help=f"Where to write.  [default: {default}]", show_default=False)


def tell(result: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else text, flush=True)  # noqa: T201 - the verb's result goes to stdout
