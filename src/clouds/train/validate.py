"""Scores during training: on the source's own validation split, and on any domain, which chooses nothing."""

from pathlib import Path

import numpy as np

from clouds.base.pick import evenly
from clouds.base.processes import ALONE
from clouds.base.progress import say
from clouds.config.label_sets import CITYSCAPES
from clouds.config.recipe import Recipe
from clouds.config.records import Drift, read_record
from clouds.config.runs import BEST, DRIFT, MODELS, PHOTOGRAPHS
from clouds.data.labelled import learned_from, open_set
from clouds.data.photographs import fingerprints
from clouds.errors import UsageError
from clouds.evaluate.domains import Domain, all_domains
from clouds.evaluate.scores import evaluate
from clouds.model.folder import load_model, save_model
from clouds.model.folder_config import has_model
from clouds.model.inference import Inference
from clouds.model.segmenter import Segmenter
from clouds.predict.predictor import Predictor
from clouds.train.engine import Engine
from clouds.train.shard import whole
from clouds.train.state import Progress

SOURCE = "source"
SOURCE_SEED = 2**62  # of rendered validation scenes: no training scene has it


class Validation:
    """What is scored, and what follows. The model of the best source score is kept, if the recipe chooses it.

    Raises UsageError for a domain that is unknown or not there, before any work.
    """

    def __init__(self, recipe: Recipe) -> None:
        settings = recipe.train
        assert settings.validate_every
        self.every, self.settings, self.inference = settings.validate_every, settings, Inference.of(recipe.evaluate)
        names = [name for name in settings.validate_on if name != SOURCE]
        self.targets = _few(all_domains(names, recipe), settings.validate_images)
        self.sources = _few(source_domains(recipe), settings.validate_images) if SOURCE in settings.validate_on else []

    def __call__(self, model: Segmenter, progress: Progress, best: Path, engine: Engine) -> dict[str, float]:
        """Score the model as it is; -> {"val/DOMAIN": mIoU, "val_miou": the source's}. ``progress`` notes the best.

        The images are shared by the processes, and all get the scores of one alone.
        """
        scores: dict[str, float] = {}
        training = model.training
        predictor = Predictor(model.eval(), engine.device)
        predictor.inference = self.inference
        domains = [*self.sources, *self.targets]
        # with a backbone in parts every process scores every image: they compute features together or not at all
        processes = ALONE if engine.shards else engine.processes
        for score in evaluate(predictor, domains, f"after step {progress.step}", processes):
            scores[f"val/{score.row.name}"] = score.row.miou or 0.0
        model.train(training)
        if self.sources:
            scores["val_miou"] = float(np.mean([scores[f"val/{each.name}"] for each in self.sources]))
        if self.sources and (progress.best is None or scores["val_miou"] > progress.best):
            progress.best, progress.best_step = scores["val_miou"], progress.step
            if self.settings.choose == "best":
                save(model, best, engine)
        return scores


def source_domains(recipe: Recipe) -> list[Domain]:
    """The validation split of each labelled source; of the rendered one, scenes that training never draws."""
    domains = list[Domain]()
    for chosen in recipe.data.source:
        if chosen.dataset == "streets":
            count = recipe.train.validate_images
            domain = Domain(SOURCE, CITYSCAPES, count, seed=SOURCE_SEED)
            domains.append(domain.folded(chosen.fold, recipe).scored_on(recipe))
            continue
        spec, split = learned_from(chosen, recipe)
        others = [name for name in ("val", "test", spec.scored)
                  if name in spec.splits and not {*spec.splits[name]} & {*spec.splits[split]}]  # fmt: skip
        if not others:
            raise UsageError(f"train.validate_on: {chosen.dataset} has no split to validate on but the one it is "
                             "learned from; leave source out, or learn from another split")  # fmt: skip
        data = open_set(chosen, recipe, others[0])
        name = f"{SOURCE}-{chosen.dataset}"
        if again := sum(domain.name.rsplit(" ", 1)[0] == name for domain in domains):
            name = f"{name} {again + 1}"
        domain = Domain(name, data.label_set, len(data), data, tuple(range(len(data))))
        domains.append(domain.folded(chosen.fold, recipe).scored_on(recipe))
    return domains


def _few(domains: list[Domain], most: int) -> list[Domain]:
    """At most so many images of each, evenly spaced."""
    for domain in domains:
        if domain.length > most:
            if domain.data is not None:
                domain.indices = tuple(domain.indices[i] for i in evenly(domain.length, most))
            domain.length = most
    return domains


def keep_model(model: Segmenter, out: Path, stage: str, recipe: Recipe, engine: Engine) -> None:
    """Write a stage's model: as it ended; or, if the recipe chooses so, the best on the source's validation split, or
    the warm-up's where joint training seems to have harmed."""
    best, choose = out / BEST / stage, recipe.train.choose
    drift = read_record(out / DRIFT, Drift) if stage == "joint" and choose == "safe" else None
    former = best if choose == "best" and has_model(best) else None
    if drift and drift.harm:
        former = out / MODELS["warmup"]
        if engine.main:
            say("train.choose=safe: the warm-up's model is kept as the run's model")
    kept = load_model(former) if former and engine.main else model
    photos = fingerprints(out) if stage == "joint" and not (drift and drift.harm) else frozenset()
    if (out / PHOTOGRAPHS).exists():
        kept.trained_on = (kept.trained_on or frozenset()) | photos
    if former is None:
        save(kept, out / MODELS[stage], engine)
    elif engine.main:
        save_model(kept, out / MODELS[stage])
    engine.wait()


def save(model: Segmenter, folder: Path, engine: Engine) -> None:
    """The main process writes the model folder; all have to call it, as a backbone in parts is put together for it."""
    gathered = whole(model, engine)
    if engine.main:
        save_model(gathered, folder)
