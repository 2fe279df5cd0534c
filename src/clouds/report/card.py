"""The model card, written from what a run recorded: nothing in it is known from anywhere else."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clouds.config.records import Provenance, read_record
from clouds.config.runs import MODELS, RECIPE, RESULTS
from clouds.config.score_records import Missing, Results
from clouds.data.layouts import DATASETS
from clouds.errors import UsageError
from clouds.foundation.registry import backend_name, default_weights
from clouds.model.folder_config import read_config
from clouds.model.inference import protocol_text
from clouds.model.place import CONFIG, model_folder
from clouds.report.templating import environment, percent

HOME = "https://arxiv.org/abs/2312.09788"
STAGES = {"joint": "jointly trained", "warmup": "warm-up only"}
WEAK = 0.1  # IoU below which a class is named under limits
PLACE = re.compile(r"(?:^|(?<=[^:]/))(?:/|~|[A-Za-z]:[\\/])")  # where a path begins, also as of KIND/PATH; not a URL's


@dataclass(frozen=True)
class Origin:
    """A model folder and what its run recorded of it; None where there is no run, or no result."""

    folder: Path
    config: dict[str, Any]
    recipe: Provenance | None
    stage: str  # "joint", "warmup" or "", for a model that lies in no run
    results: Results | None
    before: Results | None  # the warm-up's, of a jointly trained model


def origin(path: Path) -> Origin:
    """A run's final model, or a model folder (perhaps a run's); UsageError for anything else, DataError where what
    it says of itself cannot be."""
    folder = model_folder(path)
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{path}: holds no model (no {CONFIG}, and no model/ with one); name a run or a model folder")
    whole = folder.resolve()
    inside = (whole.parent / RECIPE).is_file()
    run = whole.parent if inside else folder
    stage = next((stage for stage, name in MODELS.items() if inside and name == whole.name), "")
    results = _results(run / RESULTS[stage or "joint"]) if stage or not inside else None
    before = _results(run / RESULTS["warmup"]) if stage == "joint" else None
    recipe = read_record(run / RECIPE, Provenance)
    found, former = (each and each.model_copy(update={"backends": without_places(each.backends)})
                     for each in (results, before))  # fmt: skip
    return Origin(folder, without_places(read_config(folder)), recipe, stage, found, former)


def write_card(found: Origin, repository: str, licence: str | None = None) -> str:
    """The text of the card: YAML that the hub reads, then Markdown."""
    rows = found.results.domains if found.results else []
    before = {row.name: row for row in found.before.domains} if found.before else {}
    paired = [before[row.name] for row in rows] if all(row.name in before for row in rows) else []
    text = environment().get_template("card.md.j2").render(
        cell=_cell,
        repository=repository,
        home=HOME,
        header=yaml.safe_dump(_header(found, repository, licence), sort_keys=False, allow_unicode=True),
        about=f"{_vision(found.config)} as backbone and a Mask2Former decoder, {len(found.config['classes'])} classes",
        config=found.config,
        recipe=found.recipe,
        results=found.results,
        stage=STAGES.get(found.stage, "as in its results"),
        rows=rows,
        before=paired,
        mean_before=found.before.mean_miou if found.before else None,
        protocol=_cell(protocol_text(found.results.protocol)).capitalize() if found.results and rows else "",
        sources=_sources(found.recipe),
        generated=_generated(found),
        settings=_settings(found.recipe),
        hardware=_hardware(found.recipe.hardware if found.recipe else {}),
        backends=_backends(found),
        licence=licence,
        limits=_limits(found),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def without_places(value: Any) -> Any:
    """Plain data with this machine's paths shortened to their last part, and without servers' addresses."""
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items() if key != "base_url"}
    if isinstance(value, list):
        return [without_places(each) for each in value]
    if not isinstance(value, str):
        return value
    whole, sign, beside = value.partition(" (")  # as "PATH (diffusers)", "mobile-sam (PATH)"
    return _short(whole) + (f"{sign}{_short(beside.removesuffix(')'))})" if beside.endswith(")") else sign + beside)


def _short(text: str) -> str:
    """A text that ends with a path, with the path's last part alone."""
    found = PLACE.search(text)
    return text[: found.start()] + re.split(r"[\\/]", text[found.start() :].rstrip("\\/"))[-1] if found else text


def _cell(value: Any) -> str:
    """One line that can neither end a table's cell nor be read as HTML."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _header(found: Origin, repository: str, licence: str | None) -> dict[str, Any]:
    metrics = [
        {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"name": row.name, "type": row.name},
            "metrics": [{"type": "mean_iou", "name": "mIoU, %", "value": round(100 * row.miou, 2)}],
        }
        for row in (found.results.domains if found.results else ())
        if row.miou is not None
    ]
    header: dict[str, Any] = {"library_name": "clouds", "pipeline_tag": "image-segmentation"}
    header |= {"license": licence} if licence else {}
    about = ["street-scenes"] if "road" in found.config["classes"] else []
    header["tags"] = ["semantic-segmentation", "domain-generalization", *about, "mask2former"]
    if metrics:
        header["model-index"] = [{"name": repository.partition("/")[2], "results": metrics}]
    return header


def _vision(config: dict[str, Any]) -> str:
    return _cell(backend_name(config["vision"], (config.get("weights") or {}).get("source")))


def _sources(recipe: Provenance | None) -> list[dict[str, str]]:
    rows = []
    for each in (recipe.settings if recipe else {}).get("data", {}).get("source") or []:
        name, spec = str(each["dataset"]), DATASETS.get(str(each["dataset"]))
        split = each.get("split") or (spec.splits and next(iter(spec.splits)) if spec else "") or "all"
        licence, home = (spec.licence, spec.home) if spec else ("its owner's", "a folder of one's own")
        if name == "streets":
            split, licence, home = "rendered", "Apache-2.0, with the code", "CLOUDS' own renderer"
        rows.append({"name": name, "split": split, "licence": licence, "home": home})
    return rows


def _generated(found: Origin) -> str:
    """What else it learned from: images drawn from prompts, photographs without labels."""
    if found.stage != "joint" or not found.results or not found.results.backends:
        return ""
    work, names = found.results.work, found.results.backends
    added = []
    if photographs := work.get("photographs_trained_on"):
        added.append(f"{photographs} photos without labels")
    if not photographs or work.get("images_trained_on"):
        added.append(f"{work.get('images_trained_on', 'the')} generated images without labels (drawn by: "
                     f"{_cell(names.get('images', '?'))}; prompts by: {_cell(names.get('prompts', '?'))})")  # fmt: skip
    return (
        f"Self-training added {' and '.join(added)}, whose labels are the "
        f"teacher's, refined by: {_cell(names.get('segmenter', '?'))}."
    )


def _settings(recipe: Provenance | None) -> list[str]:
    """The settings a reader asks for first."""
    keys = {
        "train": ("steps", "warmup_share", "batch_size", "learning_rate", "precision"),
        "augment": ("crop", "scale"),
        "model": ("head", "freeze", "adapt", "hidden", "queries", "layers"),
        "selftrain": ("segmenter", "decay", "refinement"),
    }
    have = without_places(recipe.settings if recipe else {})
    found = {part: [f"{k} {_cell(json.dumps(have[part][k]))}" for k in names if k in have.get(part, {})]
             for part, names in keys.items()}  # fmt: skip
    return [f"{part}: {', '.join(words)}" for part, words in found.items() if words]


def _hardware(hardware: dict[str, Any]) -> str:
    return _cell(hardware.get("cuda") or f"{hardware.get('cores', '?')} CPU cores ({hardware.get('machine', '?')})")


def _backends(found: Origin) -> list[tuple[str, str, str]]:
    """Role, backend, and where its weights come from as far as that is recorded."""
    config, record = found.config, found.config.get("weights") or {}
    source = record.get("source")
    own = ", ".join(f"{key} {record[key]}" for key in ("source", "revision", "sha256") if record.get(key))
    text = source if config["text"] == config["vision"] else default_weights(config["text"])
    names = {"vision": _vision(config), "text": backend_name(config["text"], text)}
    names |= found.results.backends if found.results else {}
    return [(role, name, own if role == "vision" else "") for role, name in names.items()]


def _limits(found: Origin) -> list[str]:
    count = len(found.config["classes"])
    rows = [row for row in (found.results.domains if found.results else ()) if row.miou is not None]
    lines = [f"It knows {count} classes, and gives every pixel one of them."]
    if found.config.get("head") == "linear":
        lines.append("Its class head is linear: other classes need training.")
    if not rows or not found.results:
        return [*lines, "It was not scored: nothing is known here of how well it works."]
    worst = min(rows, key=lambda row: row.miou or 0.0)
    weak = [_cell(name) for name, iou in worst.iou.items() if iou is not None and iou < WEAK]
    lines.append(f"It is worst on {_cell(worst.name)}, at {percent(worst.miou)} % mIoU.")
    if weak:
        lines.append(f"There these classes score below {100 * WEAK:.0f} %: {', '.join(weak)}.")
    least = min(row.images for row in rows)
    lines.append(f"The smallest of its test sets has {least} images; differences within the intervals may be chance.")
    if missing := [_cell(each.name) for each in found.results.missing]:
        lines.append(f"Not scored, as the data was not there: {', '.join(missing)}.")
    return [*lines, "It was scored on single images of the domains above and tested for no use in a vehicle."]


def _results(path: Path) -> Results | None:
    """Without why a domain could not be scored, which names this machine's folders."""
    found = read_record(path, Results)
    missing = [Missing(name=each.name) for each in found.missing] if found else []
    return found.model_copy(update={"missing": missing}) if found else None
