"""Which backends there are. Each says so in its own file below ``foundation/``; here the files are read, not run.

    BACKEND = Backend("segmenter", "superpixels", "superpixels", stand_in="...")  # in segmenters/superpixels.py

So a new backend is one new file, and a recipe is checked before torch is imported.
"""

import ast
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

FOUNDATION = Path(__file__).parents[1] / "foundation"


@dataclass(frozen=True)
class Backend:
    """A row of the registry, written with plain values only.

    Beside it the file has ``build`` (its arguments are those of the role's door), and may have ``place`` (name, source,
    revision -> a path, a hub repository or None) and ``check``. ``foundation/registry.py`` calls them.
    """

    role: str  # vision, text, writer, generator, segmenter or restyler
    name: str  # what a recipe says; "sam/MODEL" where the model is open
    label: str  # what results call it; {model}, {file} (its last part) and {weights} are filled in
    stand_in: str | None = None  # what it really is, where it stands in for what the paper uses
    better: str | None = None  # what the paper or its field uses instead
    needs: tuple[str, ...] = ()  # modules beyond the plain installation
    install: str | None = None  # how to have them
    files: tuple[str, ...] = ()  # weights inside a package: the package, the path in it, its distribution
    takes: tuple[str, ...] = ()  # a segmenter: points, masks, names; a restyler: image or prompt; a generator: scenes
    build: str = "build"  # the function of the file that makes it
    module: str = ""  # the file as an import path, filled in here

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


@cache
def rows() -> tuple[Backend, ...]:
    """All rows: stand-ins first, then what has one name, then what has models of its own."""
    found = []
    for path in sorted(FOUNDATION.glob("*/*.py")):
        for call in _calls(path):
            row = Backend(
                *map(ast.literal_eval, call.args),
                **{str(given.arg): ast.literal_eval(given.value) for given in call.keywords},
            )
            found.append(replace(row, module=f"clouds.foundation.{path.parent.name}.{path.stem}"))
    return tuple(sorted(found, key=lambda row: (row.stand_in is None, "/" in row.name)))


def _calls(path: Path) -> list[ast.Call]:
    text = path.read_text("utf-8")
    nodes = ast.walk(ast.parse(text)) if "Backend(" in text else ()
    return [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "Backend"]


def names(role: str) -> tuple[str, ...]:
    """What a recipe may say for ``role``."""
    return tuple(row.name for row in rows() if row.role == role)


def find(name: str, *roles: str) -> Backend | None:
    """The row that ``name`` of a recipe means, of one of ``roles`` (any if none is given)."""
    kind, slash, model = name.partition("/")
    found = (row for row in rows() if row.kind == kind and (row.role in roles or not roles))
    return next((row for row in found if ("/" in row.name and model.strip()) or (row.name == name and not slash)), None)


def takes(name: str) -> tuple[str, ...]:
    """What the segmenter or restyler ``name`` is asked with; code of one's own is asked with points."""
    row = find(name, "segmenter", "restyler")
    return row.takes if row else ("points",)
