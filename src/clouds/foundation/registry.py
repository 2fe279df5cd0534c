"""Every backend of every role, and all that is asked of one by its name.

A row stands in the backend's own file (``config/backends.py`` says how it is read). What results call a backend, where
its files are, whether its package is there and how it is made: the doors, ``clouds doctor`` and the report ask here.
"""

import importlib.util
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from clouds.base.text import did_you_mean
from clouds.config.backends import Backend, find, names, rows, takes
from clouds.config.plugins import OWN, is_plugged, plugged
from clouds.config.recipe import Recipe
from clouds.errors import BackendError, UsageError
from clouds.foundation.weights import package_file

KEYS = {  # role of a row -> the setting that names its backend
    "vision": "model.vision",
    "text": "model.text",
    "writer": "prompts.writer",
    "generator": "generate.generator",
    "segmenter": "selftrain.segmenter",
    "restyler": "generate.restyle.backend",
}


class Role(NamedTuple):
    """What is done in a role, and the counts of a run's ``work`` that prove it."""

    duty: str
    work: tuple[str, ...] = ()


ROLES = {  # as results call them
    "vision": Role("Frozen features that the decoder reads"),
    "text": Role("Class names become the classifier"),
    "prompts": Role("Scene prompts for variety", ("prompts_written",)),
    "images": Role("Unlabelled images from the prompts", ("images_drawn", "images_trained_on")),
    "segmenter": Role(
        "Crisp masks from points in each pseudo-label", ("components_refined", "pixels_decided", "pixels_changed")
    ),
}


class Chosen(NamedTuple):
    """The backend that a recipe takes for a role; ``role`` is that of its row, ``key`` another than that of KEYS."""

    role: str
    name: str
    source: str | None = None
    revision: str | None = None
    key: str = ""

    @property
    def label(self) -> str:
        weights = self.revision if self.role == "segmenter" else self.source or default_weights(self.name)
        return backend_name(self.name, weights)

    def place(self) -> Path | str | None:
        return place(*self)


def cast(recipe: Recipe) -> dict[str, Chosen]:
    """Who plays which role; nobody writes and draws where photographs are all there is."""
    model, prompts, generate, selftrain = recipe.model, recipe.prompts, recipe.generate, recipe.selftrain
    given = (model.weights, model.revision) if model.text == model.vision else (None, None)
    found = {
        "vision": Chosen("vision", model.vision, model.weights, model.revision),
        "text": Chosen("text", model.text, *given),
        "prompts": Chosen("writer", prompts.writer, prompts.base_url, prompts.revision),
        "images": Chosen("generator", generate.generator, None, generate.revision),
        "segmenter": Chosen("segmenter", selftrain.segmenter, None, selftrain.segmenter_revision),
    }
    if not recipe.draws:
        del found["images"]
        if recipe.data.restyle is None or "prompt" not in takes(recipe.data.restyle.backend):
            del found["prompts"]
    elif look := generate.restyle:
        found["restyled images"] = Chosen("restyler", look.backend, None, look.revision)
    if look := recipe.data.restyle:
        found["restyled source"] = Chosen("restyler", look.backend, None, look.revision, "data.restyle.backend")
    return found


def backends(recipe: Recipe) -> dict[str, str]:
    """What results call the backend of each role."""
    return {role: chosen.label for role, chosen in cast(recipe).items()}


def row_of(role: str, name: str, key: str = "") -> Backend:
    """The row of ``name``; UsageError naming ``key`` and what is allowed where there is none."""
    if row := find(name, role):
        return row
    allowed = (*names(role), *([OWN] if role != "restyler" else []))
    kind, slash, model = name.partition("/")
    kinds = [each.partition("/")[0] for each in allowed]
    near = did_you_mean(kind, kinds, "{}") if kind not in kinds else ""
    hint = f"did you mean {near}{slash}{model}? " if near else ""
    raise UsageError(f"{key or KEYS[role]}: unknown {name!r}; {hint}allowed: {', '.join(allowed)}")


def check(role: str, name: str) -> None:
    """Raises UsageError unless ``name`` plays ``role``; loads nothing, but imports code of one's own."""
    if is_plugged(name):
        plugged(name, KEYS[role])
    elif own := hook(role, name, "check"):
        own(name, KEYS[role])


def builder(role: str, name: str, key: str = "") -> Callable[..., Any]:
    """What makes the backend ``name``; UsageError for an unknown one, BackendError where its package is missing."""
    row = row_of(role, name, key)
    _demand(row, key)
    made: Callable[..., Any] = hook(role, name, row.build)
    return made


def place(
    role: str, name: str, source: str | None = None, revision: str | None = None, key: str = ""
) -> Path | str | None:
    """Where a backend's files are: a path, a hub repository, None for what needs none.

    Raises UsageError for what cannot be, BackendError for a package or a server that is not there.
    """
    row = None if is_plugged(name) else row_of(role, name, key)
    if revision is not None and (row is None or "/" not in row.name):
        raise UsageError(f"{KEYS[role]}: got the revision {revision!r}, but {name} takes none; leave it out")
    if row is None:
        plugged(name, KEYS[role])
        return None
    _demand(row, key)
    check(role, name)
    if own := hook(role, name, "place"):
        found: Path | str | None = own(name, source, revision)
        return found
    model = name.partition("/")[2]
    path = package_file(*row.files) if row.files else Path(model).expanduser()
    return (path if path.exists() else model) if model or row.files else None


def hook(role: str, name: str, attribute: str) -> Any:
    """What the file that has the row of ``name`` calls ``attribute``, None where it has none."""
    return getattr(import_module(row_of(role, name).module), attribute, None)


def _demand(row: Backend, key: str) -> None:
    """Raises BackendError unless the modules that a backend needs are installed."""
    missing = [module for module in row.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise BackendError(
            f"{key or KEYS[row.role]}: {row.kind} needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}, "
            f"not installed here. Install with: {row.install}"
        )


def default_weights(name: str) -> str | None:
    """The paper's weights of a backbone or text tower, timm's own, or an open_clip model's only ones; None for what
    brings its own. UsageError where there are several."""
    row = find(name, "vision", "text")
    own = getattr(import_module(row.module), "default_weights", None) if row and "/" in row.name else None
    return own(name) if own else None


def backend_name(name: str, weights: str | None = None) -> str:
    """What results and the report call the backend ``name`` with these weights (tag, hub id or path; a segmenter's
    revision).

    Only a published tag makes an open_clip network "CLIP"; any other file could hold anything. A segmenter is called
    by its family and hub id; with local weights, which could be anything, only its architecture is named. Code of
    somebody's own is called by its import path.
    """
    if is_plugged(name):
        return name
    row, model = find(name), name.partition("/")[2]
    if row is None:
        raise KeyError(name)
    label, file, clip = row.label, model.rpartition("/")[2], ""
    if row.role == "segmenter" and model:
        if Path(model).expanduser().exists():
            label = f"{row.kind} architecture ({{model}})"
        model += f" at {weights}" if weights else ""
    elif row.role == "vision" and model:
        where = weights or "random weights"
        shown = where if where.startswith("hf-hub:") else where.replace("\\", "/").rpartition("/")[2]
        clip = "CLIP " if weights == shown and "." not in shown and ":" not in shown and "SigLIP" not in model else ""
        weights = shown
    return label.format(model=model, file=file, weights=weights, clip=clip)


def stand_in(label: str | None) -> str | None:
    """What the backend that results call ``label`` is in honest words, where it stands in for another."""
    return next((row.stand_in for row in rows() if row.stand_in and (label or "").startswith(row.label)), None)
