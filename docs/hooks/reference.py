"""Reference pages from the code: where a page says ``<!-- verbs -->``, ``<!-- settings -->`` or ``<!-- recipes -->``,
the verbs of the command line, the settings' types or the shipped recipes stand in the site."""

import inspect
import re
import types
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from clouds.cli import app
from clouds.config.kinds import Mark, Settings, group_of
from clouds.config.load import recipe_names
from clouds.config.recipe import LabelledSet, Recipe, UnlabelledSet


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    up = "../" * page.file.src_uri.count("/")
    for marker, make in (("verbs", verbs), ("settings", settings), ("recipes", recipes)):
        if f"<!-- {marker} -->" in markdown:
            text = re.sub(r"(?<![\w/.(])docs/([\w-]+\.md)", rf"[\1]({up}\1)", make()) if marker != "recipes" else make()
            markdown = markdown.replace(f"<!-- {marker} -->", text)
    return markdown


def verbs() -> str:
    group = typer.main.get_command(app)
    return "\n".join(_verb(name, command) for name, command in group.commands.items())  # type: ignore[attr-defined]


def _verb(name: str, command: Any) -> str:
    about, examples = split_help(command.help or "")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and each.name != "debug"]
    usage = " ".join([f"clouds {name}", *map(_shape, arguments), "[OPTION]..."])
    lines = [f"## clouds {name}", "", about, "", "```text", usage, "```", ""]
    if examples:
        lines += ["```sh", *examples, "```", ""]
    lines += ["| word | what it is | default |", "|---|---|---|"]
    lines += [_row(f"`{each.metavar}`", each.help or "", "") for each in arguments]
    for each in options:
        words = ", ".join(each.opts) + ("" if each.is_flag else f" {each.metavar or each.name.upper()}")
        text, _, default = (each.help or "").partition("  [default: ")
        if not default and each.show_default and each.default not in (None, False):
            default = str(each.default)
        lines.append(_row(f"`{words}`", text, default.removesuffix("]")))
    return "\n".join([*lines, ""])


def _shape(argument: Any) -> str:
    """How often a word is given, as usage lines say it: MODEL, [RECIPE], INPUT..., [KEY=VALUE]..."""
    word = str(argument.metavar)
    if not argument.required:
        word = f"[{word}]"
    elif "|" in word:
        word = f"{{{word}}}"
    return word + ("..." if argument.nargs == -1 else "")


def split_help(text: str) -> tuple[str, list[str]]:
    """A verb's docstring -> what it does, its examples one a line."""
    about, _, examples = re.sub(r"[\f\b]", "", text).partition("Examples:")
    return " ".join(about.split()), [line.strip() for line in examples.splitlines() if line.strip()]


def settings() -> str:
    parts = [_group("", Recipe, "## The recipe itself {: #recipe }")]
    parts += [_group("", LabelledSet, "## An entry of `data.source` {: #labelled-set }")]
    parts += [_group("", UnlabelledSet, "## An entry of `data.unlabelled` {: #unlabelled-set }")]
    return "\n".join(parts)


def _group(key: str, model: type[Settings], title: str = "") -> str:
    """What a group is about, a row a key, then the groups in it."""
    title = title or f"##{'#' * key.count('.')} `{key}` {{: #{key} }}"
    lines = [title, "", inspect.cleandoc(model.__doc__ or ""), "", "| key | values | default | what it is |",
             "|---|---|---|---|"]  # fmt: skip
    groups = []
    for name, field in model.model_fields.items():
        full = f"{key}.{name}" if key else name
        if inner := group_of(field):
            groups.append(_group(full, inner))
            continue
        value = None if field.is_required() else _plain(field.get_default(call_default_factory=True))
        text = " ".join([field.description or "", *(m.value for m in field.metadata if isinstance(m, Mark))])
        lines.append(_row(f"`{full}`", _values(field.annotation, field.metadata), f"`{value}`" if value else "", text))
    return "\n".join([*lines, "", *groups])


KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path",
         dict: "keys and values"}  # fmt: skip
BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below", "multiple_of": "in steps of"}


def _values(kind: Any, metadata: Sequence[Any] = ()) -> str:
    """What a value of a type may be, in words."""
    inside = get_args(kind)
    if get_origin(kind) is Annotated:
        return _values(inside[0], [*inside[1:], *metadata])
    if get_origin(kind) in (types.UnionType, Union):
        return " or ".join("null" if each is types.NoneType else _values(each, metadata) for each in inside)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{name}`" for name in inside)
    if get_origin(kind) is tuple:
        count = "list of" if inside[-1] is Ellipsis else f"{len(inside)} of:"
        return f"{count} {_values(inside[0])}"
    if get_origin(kind) is list:
        return "a name, a set (below), or a list of those"
    metadata = [each for one in metadata for each in (one.metadata if isinstance(one, FieldInfo) else [one])]
    for validator in metadata:  # config.kinds.one_of says what it allows when asked for what it does not
        if getattr(getattr(validator, "func", None), "__name__", "") == "known":
            try:
                validator.func("?")
            except ValueError as allowed:
                return ", ".join(f"`{name}`" for name in str(allowed).removeprefix("expected ").split(" or "))
    words = [KINDS[get_origin(kind) or kind]]
    for name, word in BOUNDS.items():
        words += [f"{word} {_plain(getattr(each, name))}" for each in metadata if getattr(each, name, None) is not None]
    words += [f"matching `{each.pattern}`" for each in metadata if getattr(each, "pattern", None)]
    return " ".join(words)


def _plain(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, Settings):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value if v not in (None, "")) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if value == 2**63:
        return "2^63"
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if isinstance(
        value, bool | types.NoneType) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |"


def recipes() -> str:
    folder = resources.files("clouds.config") / "recipes"
    texts = {name: (folder / f"{name}.yaml").read_text("utf-8") for name in recipe_names()}
    return "\n".join(f"### {name}\n\n```yaml\n{text.rstrip()}\n```\n" for name, text in texts.items())
