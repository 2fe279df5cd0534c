"""The images a run's report shows: each domain's worst, typical and best by the joint model's own score."""

from pathlib import Path

from clouds.base.progress import track
from clouds.config.recipe import Recipe
from clouds.config.records import read_record, write_record
from clouds.config.runs import EVALUATION, EXAMPLE, EXAMPLES, MODELS
from clouds.config.score_records import Confusion, Evaluation, Example, ImageScore
from clouds.data.images import write_png
from clouds.data.label_files import write_labels
from clouds.evaluate.domains import Domain, class_table
from clouds.evaluate.scores import seen_as
from clouds.model.inference import Inference
from clouds.predict.loading import load

EACH = 3  # of a kind and domain

Scores = dict[str, list[ImageScore]]  # by stage, in the domain's order


def choose(images: list[ImageScore]) -> dict[str, int]:
    """{"worst-0": place, ...}: the lowest and the highest mIoU, and evenly spaced ones of the ranks between.

    A third of the images at most is worst or best, so that few images are typical rather than extreme. Images without a
    score are left out; where none has one, evenly spaced images are typical.
    """
    scored = [place for place, image in enumerate(images) if image.miou is not None]
    ranked = sorted(scored, key=lambda place: (images[place].miou, place)) or list(range(len(images)))
    ends = min(EACH, len(ranked) // 3) if scored else 0
    middle = ranked[ends : len(ranked) - ends]
    count = min(EACH, len(middle))
    typical = [middle[(2 * k + 1) * len(middle) // (2 * count)] for k in range(count)]
    kinds = {"worst": ranked[:ends], "typical": typical, "best": ranked[::-1][:ends]}
    return {f"{kind}-{rank}": place for kind, places in kinds.items() for rank, place in enumerate(places)}


def write_examples(recipe: Recipe, out: Path, domains: list[Domain]) -> None:
    """Predict the chosen images of a scored run again, with both models, into ``evaluation/examples/DOMAIN/KIND-RANK``.

    Each folder gets photo, truth, warmup and joint as PNG, and last ``example.json`` with the image's name and scores:
    with that it is done and not made again. Runs that hold no scores of their images keep what examples they have.
    """
    kept: dict[str, dict[str, Confusion]] = {}
    for stage in MODELS:
        behind = read_record(out / EVALUATION / f"{stage}.json", Evaluation)
        kept[stage] = behind.domains if behind else {}
    wanted: list[tuple[Domain, Path, int, Scores]] = []
    for domain in domains:
        scores: Scores = {stage: each[domain.name].per_image if domain.name in each else []
                          for stage, each in kept.items()}  # fmt: skip
        if all(len(images) == domain.length for images in scores.values()):
            folder = out / EXAMPLES / domain.name
            wanted += [(domain, folder / name, i, scores) for name, i in choose(scores["joint"]).items()
                       if not (folder / name / EXAMPLE).exists()]
    work = [(stage, *each) for stage in MODELS for each in wanted]
    predictor, loaded = None, ""
    for stage, domain, folder, i, scores in track(work, "drawing examples", len(work), unit="images"):
        if predictor is None or loaded != stage:
            predictor, loaded = load(out / MODELS[stage], recipe.train.device), stage
            predictor.inference = Inference.of(recipe.evaluate)
        name, image, truth = domain.sample(i)
        table = class_table(tuple(predictor.classes), domain.name, domain.label_set)
        colors = domain.label_set.colors
        write_labels(folder / f"{stage}.png", table[seen_as(predictor, domain).predict(image).labels], colors)
        if stage == "joint":
            write_png(folder / "photo.png", image)
            write_labels(folder / "truth.png", truth, colors)
            numbers = {stage: images[i].miou for stage, images in scores.items()}
            write_record(folder / EXAMPLE, Example(name=name, **numbers))
