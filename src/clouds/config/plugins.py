"""Backends and datasets of one's own: ``module:name``, an import path, in place of a name that CLOUDS knows.

Importing a module runs it, so only what a person names is imported: a recipe's settings, the words of a command, the
modules listed in CLOUDS_TRUST. A model folder, which may come from anybody, gets only what is imported already.
"""

import hashlib
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from clouds.base.text import did_you_mean
from clouds.errors import BackendError, CloudsError, UsageError, cause

OWN = "MODULE:NAME"  # how messages write such a path
TRUST = "CLOUDS_TRUST"
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.ASCII)


class Role(NamedTuple):
    """What a class must have to play a role: methods, which are looked for before it is made, and attributes."""

    methods: tuple[str, ...]
    attributes: tuple[str, ...]


ROLES = {
    "model.vision": Role(("features", "state_dict"), ("channels", "mean", "std")),
    "model.text": Role(("embed",), ("dim",)),
    "prompts.writer": Role(("write",), ("model", "revision", "scenes")),
    "generate.generator": Role(("generate",), ("record",)),
    "selftrain.segmenter": Role(("encode", "masks"), ("name",)),
}


def is_plugged(name: str) -> bool:
    """Whether ``name`` is an import path, ``module:name``."""
    return bool(_PATH.fullmatch(name))


def plugged(path: str, key: str, named: bool = True) -> Any:
    """What the import path stands for, a class with its role's methods where ``key`` is one of ``ROLES``.

    named: whether a person named it, so that its module may be imported; the current folder is searched last. Raises
    UsageError for a module, name or method that is not there, BackendError for a module that must not be imported.
    """
    module_name, _, name = path.partition(":")
    may = named or _trusted(module_name)
    module = _imported(module_name, f"{key}: {path}") if may else sys.modules.get(module_name)
    if module is None:
        raise BackendError(
            f"{key}: {path} is not part of CLOUDS, and a model's files may not import code. If you trust module "
            f"{module_name}, import it before you load the model, or on the command line set {TRUST}={module_name}"
        )
    if not hasattr(module, name):
        hint = did_you_mean(name, dir(module), f"; did you mean {module_name}:{{}}?")
        raise UsageError(f"{key}: {path}: module {module_name} ({_file(module)}) has no {name}{hint}")
    found = getattr(module, name)
    if key in ROLES:
        methods = ROLES[key].methods
        if not isinstance(found, type):
            got = type(found).__name__
            raise UsageError(f"{key}: {path}: expected a class with {' and '.join(methods)}, got a {got}")
        if lacking := [method for method in methods if not callable(getattr(found, method, None))]:
            raise UsageError(f"{key}: {path}: the class has no {' and no '.join(lacking)}; see docs/howto.md")
    return found


def make(path: str, key: str, *arguments: Any, named: bool = True) -> Any:
    """An object of the class that plays the role ``key``; BackendError where it cannot be made, UsageError where it
    lacks an attribute."""
    kind = plugged(path, key, named)
    try:
        made = kind(*arguments)
    except CloudsError:
        raise
    except Exception as error:  # anything may go wrong in it
        raise BackendError(f"{key}: {path} could not be made ({cause(error)}); --debug shows where") from error
    if lacking := [name for name in ROLES[key].attributes if not hasattr(made, name)]:
        raise UsageError(f"{key}: {path}: its objects have no {' and no '.join(lacking)}; see docs/howto.md")
    return made


def code_of(kind: type) -> str:
    """A name for the class and what its file says, for what is kept of its work: another text, another name."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        return f"{name} {hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()[:16]}"
    except (OSError, TypeError):  # typed into a notebook
        return name


def _imported(name: str, what: str) -> ModuleType:
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)  # last: a file that lies around cannot take the place of an installed package
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing != name and not name.startswith(f"{missing}."):
            raise UsageError(f"{what}: importing {name} needs {missing}, which is not installed") from error
        raise UsageError(
            f"{what}: there is no module {missing} here ({here}), on PYTHONPATH or installed; expected {OWN}, "
            "such as my_file:MyClass for class MyClass in ./my_file.py"
        ) from error
    except Exception as error:  # importing runs it
        raise UsageError(f"{what}: importing {name} failed ({cause(error)}); --debug shows where") from error


def _trusted(name: str) -> bool:
    listed = {each.strip() for each in os.environ.get(TRUST, "").split(",")} - {""}
    return any(name == each or name.startswith(f"{each}.") for each in listed)


def _file(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or "built in")
