"""Settings as data: a recipe is a YAML file, checked against the types of ``recipe`` before any work starts."""

import difflib
import re
import reprlib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clouds.base.progress import say
from clouds.base.strict_yaml import parse_yaml
from clouds.config.kinds import WHOLE, Settings, keys_of
from clouds.config.plugins import ROLES, is_plugged, plugged
from clouds.config.recipe import DomainSet, LabelledSet, Recipe, UnlabelledSet
from clouds.config.removed import REMOVED
from clouds.errors import UsageError


def recipe_names() -> list[str]:
    """The recipes shipped with the package."""
    folder = resources.files("clouds.config") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def is_recipe(word: str) -> bool:
    """Whether a word names a recipe: a shipped one, or a YAML file that may not be there."""
    return word in recipe_names() or Path(word).suffix in (".yaml", ".yml")


def load_recipe(recipe: str, overrides: list[str] | None = None) -> Recipe:
    """A shipped recipe's name or a YAML path, plus ``key.sub=value`` overrides, checked.

    A recipe may build on another: ``extends: gta-rn50`` (or a path) takes what is not said from there.

    Raises UsageError that lists every unknown key and bad value at once, with what is allowed.
    """
    values = _read(recipe)
    _apply(values, overrides or [])
    return as_recipe(values, recipe)


def _read(recipe: str, folder: Path = Path(), below: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a recipe says, laid over the recipe that it ``extends``; a path there is seen from the file that names it.

    below: the recipes that led here, by name or path.
    """
    path = folder / Path(recipe).expanduser()
    shipped = recipe in recipe_names()
    if not shipped and not (is_recipe(recipe) and path.is_file()):
        where = f"{below[-1]}: extends: " if below else ""
        near = difflib.get_close_matches(recipe, recipe_names(), 1)
        why = f"; did you mean {near[0]}?" if near else f"; there is no {path}" if is_recipe(recipe) else ""
        names = ", ".join(recipe_names())
        raise UsageError(f"{where}recipe {recipe!r}: neither a shipped one ({names}) nor a YAML file{why}")
    origin = recipe if shipped else str(path.resolve())
    if origin in below:
        raise UsageError(f"recipe {below[0]}: extends itself: {' -> '.join([*below, origin])}; one has to stand alone")
    place: Any = resources.files("clouds.config") / "recipes" / f"{recipe}.yaml" if shipped else path
    try:
        values = parse_yaml(place.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected keys and values, got {type(values).__name__}")
    values = {"name": recipe if shipped else path.stem, **values}
    if (base := values.pop("extends", None)) is None:
        return values
    if not isinstance(base, str):
        raise UsageError(f"{path}: extends: got {base!r}; expected a shipped recipe's name or the path of a YAML file")
    return _laid_over(_read(base, path.parent, (*below, origin)), values)


def _laid_over(base: dict[str, Any], values: dict[str, Any], group: str = "") -> dict[str, Any]:
    """``base`` with the keys of ``values`` in place of its own, group by group."""
    merged = dict(base)
    for key, value in values.items():
        old, name = base.get(key), f"{group}{key}"
        if isinstance(old, dict) and isinstance(value, dict) and name not in WHOLE:
            merged[key] = _laid_over(old, value, f"{name}.")
        else:
            merged[key] = value
    return merged


def dataset_recipe(name: str, overrides: list[str], root: Path | None = None) -> Recipe:
    """The defaults with one labelled set at ``root``; ``overrides``: its keys (split=val) or data's (data.root=...)."""
    chosen: dict[str, Any] = {"dataset": name}
    values: dict[str, Any] = {"name": name, "data": {}}
    _apply(values, [each for each in overrides if each.startswith("data.")])
    _apply(chosen, [each for each in overrides if not each.startswith("data.")])
    values["data"]["source"] = [chosen | {"root": root} if root else chosen]
    return as_recipe(values, name)


def set_recipe(folder: Path, overrides: list[str]) -> Recipe:
    """The defaults with the generated set in ``folder``, plus ``overrides``."""
    values: dict[str, Any] = {"name": folder.name, "generate": {"folder": folder}}
    _apply(values, overrides)
    return as_recipe(values, str(folder))


def as_recipe(values: dict[str, Any], origin: str) -> Recipe:
    """Values -> Recipe; raises UsageError naming every fault. Modules that a recipe names are imported here."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        faults = [_explain(dict(fault)) for fault in error.errors()]
        raise UsageError(f"recipe {origin}: " + "\n  ".join(["", *faults] if len(faults) > 1 else faults)) from error
    for key in ROLES:
        group, _, name = key.partition(".")
        if is_plugged(chosen := getattr(getattr(recipe, group), name)):
            plugged(chosen, key)
    return recipe


def _apply(values: dict[str, Any], overrides: list[str]) -> None:
    """Set each ``key.sub=value``; of a key given twice the last one counts, and that is said."""
    seen = set()
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise UsageError(f"{override!r}: expected key=value, such as train.steps=200")
        if key in seen:
            say(f"{override!r}: {key} is given twice; the last one counts")
        seen.add(key)
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise UsageError(f"{override!r}: the value is not valid YAML ({error})") from error
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            below = {} if place.get(parent) is None else place[parent]  # also where a recipe says null
            if not isinstance(below, dict):
                raise UsageError(f"{override!r}: {parent} holds a value, not keys")
            place[parent] = place = dict(below)  # a copy: an alias of YAML may name the same keys elsewhere
        if isinstance(value, dict) and key not in WHOLE:
            raise UsageError(f"{override!r}: set one key at a time, such as {key}.{next(iter(value), 'sub')}=...")
        place[next((old for old in place if str(old) == last), last)] = value  # the 1 of a label_map is a number


_shown = reprlib.Repr()  # a few lines of YAML can name a value without end
_shown.maxlevel, _shown.maxdict, _shown.maxlist, _shown.maxstring, _shown.maxother = 4, 20, 20, 300, 300


def _explain(fault: dict[str, Any]) -> str:
    """One of pydantic's faults in our words: the key, what it got, what it may be."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        of: dict[Any, type[Settings]] = {
            "source": LabelledSet, "unlabelled": UnlabelledSet, "domains": DomainSet
        }  # fmt: skip
        return f"{key}: {_unknown(key, of.get(fault['loc'][1]) if len(fault['loc']) > 3 else None)}"
    what = str(fault["msg"]).removeprefix("Value error, ")
    if not key:
        return what
    if fault["type"] == "model_type":
        what = f"expected keys, such as {next(k for k in keys_of(Recipe) if k.startswith(key))}"
    if fault["type"] == "bool_parsing":
        what = "expected a boolean, true or false"
    got = _shown.repr(fault["input"])
    got = re.sub(r"(//)[^/@]*@|[?#][^']*", r"\1***", got) if "://" in got else got
    return f"{key}: got {got}; {what[0].lower()}{what[1:]}"


def _unknown(key: str, entry: type[Settings] | None) -> str:
    """What to write instead of a key that there is not; entry: it stands in one of a list of such."""
    if key in REMOVED:
        return f"was removed; {REMOVED[key]!r} is built in; leave it out"
    group, dot, name = key.rpartition(".")
    keys = [group + dot + field for field in entry.model_fields] if entry else keys_of(Recipe)
    here = [k.removeprefix(group + dot).partition(".")[0] for k in keys if k.startswith(group + dot)]
    near = [k for k in keys if k.rpartition(".")[2] == name]  # of this name, in the outermost group that has one
    near = [k for k in near if k.count(".") == min(map(str.count, near, "." * len(near)))]
    near = near or difflib.get_close_matches(key, keys if group else [*Recipe.model_fields, *keys], n=1, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown key; {hint}allowed: {', '.join(group + dot + k for k in dict.fromkeys(here))}"
