"""What scripts and users rely on, as it was last agreed: verbs, options, settings with their defaults, the Python API.

A difference here is a change of the surface. Is it meant, say so in CHANGELOG.md and write the new one down:

    python tests/test_surface.py
"""

import difflib
import inspect
from pathlib import Path

import typer

import clouds
from clouds.cli import app
from clouds.config.load import recipe_names
from clouds.config.recipe import Recipe
from clouds.config.runs import flat

KEPT = Path(__file__).with_name("surface.txt")


def surface() -> list[str]:
    return [*verbs(), *settings(), *python()]


def verbs() -> list[str]:
    lines: list[str] = []
    for name, command in typer.main.get_command(app).commands.items():
        for each in command.params:
            if each.param_type_name == "argument":
                lines.append(f"clouds {name}: {each.name.upper()}")
            else:
                default = each.default.as_posix() if isinstance(each.default, Path) else each.default
                lines.append(f"clouds {name}: {'/'.join([*each.opts, *each.secondary_opts])} = {default!r}")
    return sorted(lines)


def settings() -> list[str]:
    values = flat(Recipe().model_dump(mode="json"))
    return [*(f"recipe {name}" for name in sorted(recipe_names())), *(f"{k} = {values[k]!r}" for k in sorted(values))]


def python() -> list[str]:
    lines = []
    for name in sorted(clouds.__all__):
        found = getattr(clouds, name)
        if name == "api":
            lines += [line for part in sorted(found.__all__) for line in _lines(f"api.{part}", getattr(found, part))]
        elif name != "data":  # which has a list of its own, of datasets
            lines += _lines(name, found)
    return lines


def _lines(name: str, found) -> list[str]:
    lines = [f"clouds.{name}{_signature(found)}"]
    if inspect.isclass(found):
        parts = {name: value for each in reversed(found.__mro__[:-1]) for name, value in vars(each).items()}
        for part, value in sorted(parts.items()):
            if part.startswith("_") and part != "_repr_png_":
                continue
            is_call = inspect.isfunction(value) or isinstance(value, classmethod | staticmethod)
            lines.append(f"clouds.{name}.{part}{_signature(getattr(found, part)) if is_call else ''}")
    return lines


def _signature(call) -> str:
    """Names, kinds and defaults; types are the type checker's."""
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in
                  inspect.signature(call).parameters.values()]  # fmt: skip
    return str(inspect.Signature(parameters))


def test_the_surface_is_the_agreed_one():
    agreed, now = KEPT.read_text("utf-8").splitlines(), surface()
    changes = [line for line in difflib.unified_diff(agreed, now, "agreed", "now", lineterm="", n=0) if line[0] in "+-"]
    assert not changes, "\n".join([__doc__ or "", *changes])


if __name__ == "__main__":
    KEPT.write_text("\n".join(surface()) + "\n", "utf-8")
