"""What this machine has, and which backend each role of a recipe would use here: ``clouds doctor``.

Loads no model and fetches nothing.
"""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from clouds.base.hub import hub_problem
from clouds.base.machine import usable_device, versions
from clouds.base.progress import loading
from clouds.base.text import counted
from clouds.config.backends import find, rows
from clouds.config.load import load_recipe
from clouds.config.plugins import is_plugged
from clouds.errors import CloudsError
from clouds.foundation.generator import check_generator
from clouds.foundation.registry import KEYS, Chosen, cast

READY, FETCH, MISSING = "ready", "to be fetched", "missing"

OPTIONAL = {  # module that no backend is made of: what it is for, how to have it
    "peft": ("model.adapt=lora or soma", "pip install 'clouds[adapt]'"),
    "av": ("videos in clouds predict", "pip install 'clouds[video]'"),
    "datasets": ("the format huggingface", "pip install 'clouds[datasets]'"),
    "onnx": ("clouds export", "pip install 'clouds[export]'"),
    "fastapi": ("clouds serve", "pip install 'clouds[serve]'"),
    "tensorboard": ("train.trackers=[tensorboard]", "pip install 'clouds[track]'"),
}


def examine(name: str = "demo", overrides: list[str] | None = None) -> dict[str, Any]:
    """The object that ``clouds doctor --json`` prints; ``ok`` says that every role's backend can be had here."""
    recipe = load_recipe(name, overrides or [])
    loading("PyTorch, and asking the model hub")
    hub = hub_state()
    roles = []
    unused: tuple[str, ...] = ()
    if recipe.train.stage == "warmup":  # learns from the source alone, which may be restyled after drawn images
        unused = ("segmenter", "restyled images", *(() if recipe.data.restyle else ("prompts", "images")))
    for role, chosen in cast(recipe).items():
        if role in unused:
            continue
        state = _state(chosen, hub["cached"], hub["reachable"])
        row = find(chosen.name, chosen.role)
        if is_plugged(chosen.name) and state["state"] == READY:
            state["note"] = "code of your own"
        better = row.better if row else None
        roles.append({"role": role, "backend": chosen.label, **state, "better": better})
    problems = [f"{role['role']}: {role['backend']}: {role['note']}" for role in roles if role["state"] == MISSING]
    device = recipe.train.device
    checks: list[Callable[[], object]] = [partial(usable_device, device)]
    if any(role["role"] == "images" and role["state"] != MISSING for role in roles):
        checks.append(partial(check_generator, recipe.generate, recipe.scene))
    for check in checks:
        try:
            check()
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
            for module, (use, how) in optional().items()
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
    problem = hub_problem()
    state |= {"reachable": not problem, "note": problem}
    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
        return {**state, "cached_gb": round(found.size_on_disk / 2**30, 2), "cached": {r.repo_id for r in found.repos}}
    except (CacheNotFound, OSError):
        return {**state, "cached_gb": 0.0, "cached": set()}


def optional() -> dict[str, tuple[str, str]]:
    """Module -> what it is for and how to have it: what backends need beyond the plain installation, and the rest."""
    found: dict[str, tuple[str, str]] = {}
    for row in rows():
        for module in row.needs:
            uses = [other.name for other in rows() if module in other.needs]
            found[module] = (f"{KEYS[row.role]}={' or '.join(dict.fromkeys(uses))}", str(row.install))
    return {**found, **OPTIONAL}


def _state(chosen: Chosen, cached: set[str], reachable: bool) -> dict[str, str]:
    try:
        found = chosen.place()
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
        ways = dict.fromkeys((row["for"], row["install"]) for row in absent)
        for use, way in ways:
            packages = [row["package"] for row in absent if (row["for"], row["install"]) == (use, way)]
            lines.append(f"  {', '.join(packages)}, for {use}: {way}")
    notes = tuple(role["note"] for role in result["roles"])  # problems that stand above already
    lines += ["", *(f"problem: {problem}" for problem in result["problems"] if not problem.endswith(notes))]
    return "\n".join([*lines, "ready" if result["ok"] else counted(len(result['problems']), 'problem')])
