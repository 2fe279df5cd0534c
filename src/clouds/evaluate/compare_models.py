"""``clouds evaluate``: one model or several on the same domains, what they scored, and how they differ."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clouds.base.files import make_folder, write_json
from clouds.base.locks import one_writer
from clouds.base.machine import usable_device
from clouds.base.processes import meet, part
from clouds.base.progress import say
from clouds.config.load import is_recipe, load_recipe, recipe_names
from clouds.config.recipe import Recipe
from clouds.config.records import as_json
from clouds.config.runs import MODELS, RECIPE, RESULTS, load_run
from clouds.data.datasets import FOLDERS, PHOTOS, folder_of, is_dataset
from clouds.errors import DataError, UsageError
from clouds.evaluate.domains import RENDERED, FoundDomains, find_domains
from clouds.evaluate.metrics import bootstrap_means
from clouds.evaluate.tables import write_csv, write_latex
from clouds.model.folder_config import read_config
from clouds.model.inference import Inference
from clouds.model.place import is_exported, is_hub_id, model_folder
from clouds.predict.loading import check_and_say, load

if TYPE_CHECKING:
    from clouds.evaluate.scores import Score


class ScoringRequest(NamedTuple):
    """``models``: as they were named, and ``folders``: where they are. ``sized``: whether the shorter side is the
    recipe's, in place of each model's own."""

    models: list[Path]
    folders: list[Path]
    found: FoundDomains
    recipe: Recipe
    sized: bool


def evaluate_models(
    words: list[str], out: Path | None = None, csv: Path | None = None, latex: Path | None = None
) -> dict[str, Any] | None:
    """Score the models on the domains that ``words`` name (see ``understand``); writes what is asked for.

    -> RESULTS of one model, the comparison of several, None in all processes but the main one.
    """
    request = understand(words)
    domains, missing = request.found
    device, processes = usable_device(request.recipe.train.device), meet()
    if device == "cuda" and processes.world > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', processes.rank)}"
    for path in filter(None, (csv, latex, out and out / RESULTS["joint"])):
        if path.is_dir():
            raise UsageError(f"{path}: is a folder where a file is to be written; choose another place")
        make_folder(path.parent)
    names = short_names(request.models)
    asked = Inference.of(request.recipe.evaluate)
    knows = [_classes(folder) for folder in request.folders]
    domains = [domain.known_to(knows) for domain in domains]
    check_and_say(*request.folders)
    from clouds.evaluate.scores import class_tables, evaluate, results
    from clouds.evaluate.trained_on import mark_trained_on

    if len(names) > 1:  # before hours are spent on the first
        for path in request.folders:
            class_tables(load(path).with_inference(ensemble=asked.ensemble).classes, domains)
    rows, scores = {}, {}
    for named, path, name in zip(request.models, request.folders, names, strict=True):
        predictor, run = load(path, device), _run(path)
        if processes.main and run and run.evaluate.label_set not in (None, request.recipe.evaluate.label_set):
            own = run.evaluate.label_set
            say(f"{named}: its recipe scores on {own}, here more classes count; evaluate.label_set={own} sets it")
        side = asked.shorter_side if request.sized else predictor.inference.shorter_side
        predictor = predictor.with_inference(**vars(replace(asked, shorter_side=side)))
        scores[name] = evaluate(predictor, domains, name, processes=processes)
        if processes.main:
            mark_trained_on(scores[name], domains, path, predictor)
        rows[name] = as_json(results(
            scores[name], model=str(named), seed=_seed(path, words, request.recipe), inference=predictor.inference,
            protocol=request.recipe.evaluate.protocol, backends=predictor.backends, missing=missing,
        ))  # fmt: skip
    part()
    runs = [folder for folder in map(_run_folder, request.folders) if folder]
    return _written(rows, scores, len(set(runs)) == len(runs), out, csv, latex) if processes.main else None


def _written(
    rows: dict[str, dict[str, Any]], scores: "dict[str, list[Score]]",
    repeats: bool, out: Path | None, csv: Path | None, latex: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """``repeats``: whether the models may be repeats of each other."""
    result = next(iter(rows.values())) if len(rows) == 1 else comparison(rows, scores, repeats)
    if out:
        with one_writer(out, "writing scores"):
            for name, row in rows.items():
                write_json((out if len(rows) == 1 else out / name) / RESULTS["joint"], row)
            if len(rows) > 1:
                write_json(out / "comparison.json", result)
    if csv:
        write_csv(csv, rows)
    if latex:
        write_latex(latex, rows, result)
    return result


def understand(words: list[str]) -> ScoringRequest:
    """MODEL... DOMAIN... or MODEL... RECIPE, mixed with key=value settings.

    The first word is a model, and so are the words after it that are folders with a model or hub ids, up to the first
    domain or recipe. A recipe (a shipped one's name or a YAML file) stands for its protocol and all unseen domains.
    UsageError for anything else, and where nothing is left to score; DataError for a model's folder without a model.
    """
    overrides = [word for word in words if "=" in word]
    plain = [word for word in words if "=" not in word]
    known = {*RENDERED, *FOLDERS, *recipe_names(), *filter(is_dataset, plain)}
    hub = bool(plain) and plain[0] not in known  # then what looks like a hub id is one
    count = next((i for i, word in enumerate(plain) if i and (word in known or not _is_model(word, hub))), len(plain))
    models, names = [Path(word) for word in plain[:count]], plain[count:]
    whole = [name for name in names if is_recipe(name)]
    if whole and len(names) > 1:
        raise UsageError(f"{whole[0]}: a recipe stands for all its unseen domains; name it alone, or domains alone")
    recipe = load_recipe(whole[0] if whole else "demo", overrides)
    root = recipe.data.root
    if paths := [name for name in names if "/" in name and name not in whole]:
        raise UsageError(f"{paths[0]}: neither a folder with a model nor a domain; models come before domains")
    if plain and plain[0] in known and not _loadable(models[0]):
        raise UsageError(f"{plain[0]}: no folder with a model; name one first, such as runs/demo, then domains")
    if not names:
        raise UsageError(
            "name at least one domain, such as town or camvid-day, or a recipe for all of its unseen domains"
        )
    photos = [name for name in names if is_dataset(name) and name not in RENDERED]
    if root is None and photos:
        raise UsageError(f"{photos[0]}: needs data.root=PATH, the folder that holds {folder_of(photos[0])}/")
    if root is not None and not root.is_dir():
        raise UsageError(f"data.root: {root} is not a folder; expected one with a folder per dataset")
    listed = [each.name for each in recipe.evaluate.domains or ()] or [*RENDERED, *PHOTOS]
    found = find_domains(listed if whole else list(dict.fromkeys(names)), recipe)
    if not found.domains:
        raise UsageError("nothing to score: " + "; ".join(f"{each['name']}: {each['why']}" for each in found.missing))
    folders = [model_folder(word) for word in plain[:count]]
    for path, folder in zip(models, folders, strict=True):
        if not _loadable(folder):
            raise DataError(f"{path}: holds no model (no config.json, and no model/ with one)")
    sized = bool(whole) or any(word.startswith("evaluate.shorter_side=") for word in overrides)
    return ScoringRequest(models, folders, found, recipe, sized)


def _is_model(word: str, hub: bool) -> bool:
    return _loadable(Path(word)) or (hub and is_hub_id(word) and not is_recipe(word))


def _loadable(path: Path) -> bool:
    """Whether ``load`` would find a model there."""
    if is_exported(path):
        return path.is_file()
    return any((folder / "config.json").is_file() for folder in (path, path / MODELS["joint"]))


def short_names(paths: list[Path]) -> list[str]:
    """A name for each path, of as few of its last parts as tell them all apart; UsageError for one given twice."""
    whole = [path.resolve().parts[1:] for path in paths]
    if twice := [str(path) for path, parts in zip(paths, whole, strict=True) if whole.count(parts) > 1]:
        raise UsageError(f"{twice[0]}: named twice; name each model once")
    for count in range(1, max(map(len, whole)) + 1):
        names = ["-".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(names):
            break
    return names


def _classes(path: Path) -> Sequence[str]:
    """A model's class names, read without its weights where it is a folder."""
    if is_exported(path):
        return load(path).classes
    classes: list[str] = read_config(path)["classes"]
    return classes


def _seed(path: Path, words: list[str], recipe: Recipe) -> int:
    """The run's, where the model lies in one and no other is asked for."""
    run = _run(path)
    return run.seed if run and not any(word.startswith("seed=") for word in words) else recipe.seed


def _run(path: Path) -> Recipe | None:
    """The recipe of the run that a model lies in."""
    folder = _run_folder(path)
    return load_run(folder) if folder else None


def _run_folder(path: Path) -> Path | None:
    """The run that a model lies in."""
    return next((each for each in (path.resolve(), path.resolve().parent) if (each / RECIPE).is_file()), None)


def comparison(
    rows: dict[str, dict[str, Any]], scores: "dict[str, list[Score]]", repeats: bool = True
) -> dict[str, Any]:
    """RESULTS by model; mean and standard deviation (of a sample) over the models; differences from the first.

    Mean and deviation are null where the models are no ``repeats`` of each other, as a run and its own warm-up. A
    difference's 95 % interval is a bootstrap of both models on the same drawn images.
    """
    first, *others = rows
    domains: list[dict[str, Any]] = []
    for d, domain in enumerate(rows[first]["domains"]):
        view = scores[first][d].view
        absent = view is not None and view.absent_counts
        draws = {name: bootstrap_means(each[d].parts, absent_counts=absent) for name, each in scores.items()}
        miou = {name: row["domains"][d]["miou"] for name, row in rows.items()}
        differences = {}
        for name in others:
            low, high = np.percentile(draws[name] - draws[first], (2.5, 97.5))
            differences[name] = {"miou": miou[name] - miou[first], "ci95": [float(low), float(high)]}
        about = {key: domain[key] for key in ("name", "images", "label_set")}
        domains.append({**about, **_spread(miou, repeats), "differences": differences})
    means = {name: row["mean_miou"] for name, row in rows.items()}
    apart = {name: {"miou": means[name] - means[first]} for name in others}
    return {"domains": domains, "mean": {**_spread(means, repeats), "differences": apart}, "models": rows}


def _spread(values: dict[str, float], repeats: bool) -> dict[str, Any]:
    numbers = list(values.values())
    mean, std = (float(np.mean(numbers)), float(np.std(numbers, ddof=1))) if repeats else (None, None)
    return {"miou": values, "mean": mean, "std": std}
