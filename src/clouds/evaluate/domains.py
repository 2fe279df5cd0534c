"""What a model is scored on: rendered worlds and photo datasets, by name, and which of them are not on this disk."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clouds import streets
from clouds.base.arrays import Labels, Pixels
from clouds.base.pick import evenly
from clouds.base.progress import say
from clouds.base.text import did_you_mean, some
from clouds.config.label_sets import CITYSCAPES, IGNORE, LabelSet, find_label_set, label_set_of
from clouds.config.recipe import DomainSet, Recipe
from clouds.data.datasets import (
    FOLDERS,
    PHOTOS,
    Segmentation,
    find_spec,
    folder_of,
    is_dataset,
    open_dataset,
)
from clouds.data.labelled import open_set, spec_of
from clouds.data.labels import folding, narrowed, subset, train_ids
from clouds.data.levels import MissingSplitError
from clouds.errors import DataError, UsageError
from clouds.evaluate.protocols import View, domain_of, view_of

RENDERED = ("town", "fog", "night", "rain", "snow")
TARGET_SEED = 2_000_003  # rendered targets come from seeds that neither training nor the choice of settings used

Sample = tuple[str, Pixels, Labels]


@dataclass
class Domain:
    """A set of labelled images to score on: ``sample(i)`` -> (id, image (H, W, 3), label (H, W)) in ``label_set``.

    Without ``data``, scenes are rendered from ``seed`` on. With a ``view``, of ``evaluate.protocol``, samples are as
    that publication scores them.
    """

    name: str
    label_set: LabelSet
    length: int
    data: Segmentation | None = None
    indices: tuple[int, ...] = ()
    seed: int = TARGET_SEED
    table: Labels | None = None  # (256,): a stored index -> that in ``label_set``; None where they agree
    view: View | None = None

    def sample(self, i: int) -> Sample:
        if self.data is None:
            name = f"{self.name}-{i:03d}"
            image, label = streets.render(streets.sample(self.name, self.seed + i))
        else:
            k = self.indices[i]
            name, image, label = self.data.samples[k].name, self.data.image(k), self.data.label(k)
            self.data.check_pair(k, image.shape, label.shape)
        label = label if self.table is None else self.table[label]
        return name, *(self.view.prepare(image, label) if self.view else (image, label))

    @property
    def absent_counts(self) -> bool:
        return self.view is not None and self.view.absent_counts

    def scored_on(self, recipe: Recipe) -> "Domain":
        """The domain without what is not scored: classes that ``evaluate.label_set`` lacks and those of which the
        model's hold nothing. Their pixels are ignored."""
        try:
            kept = narrowed(self.label_set, recipe.model.label_set)
            if recipe.evaluate.label_set:
                kept = narrowed(kept, find_label_set(recipe.evaluate.label_set))
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}; it cannot be scored there") from None
        return self if kept.classes == self.label_set.classes else self._keep(kept)

    def folded(self, fold: Mapping[str, str | None], recipe: Recipe) -> "Domain":
        """The domain on the model's own classes, its labels mapped to them as ``fold`` says and by name."""
        if not fold:
            return self
        model = recipe.model.label_set
        table = train_ids(self.label_set, model, fold)
        shown = sorted({int(k) for k in table[: len(self.label_set.classes)]} - {IGNORE})
        if not shown:
            raise UsageError(f"{self.name}: its label_map leaves none of the model's classes")
        return replace(self, label_set=model, table=table)._keep(subset(model, shown, model.name))

    def known_to(self, models: Iterable[Sequence[str]]) -> "Domain":
        """The domain without the classes of which one of the models has none; their pixels are ignored.

        models: the classes of each. UsageError for a model that has none of the domain's.
        """
        kept = {*range(len(self.label_set.classes))}
        for classes in models:
            kept &= set(class_table(tuple(classes), self.name, self.label_set).tolist())
        if not kept:
            raise UsageError(f"{self.name}: no class of {self.label_set.name} is known to all of the models")
        if len(kept) == len(self.label_set.classes):
            return self
        found = self._keep(subset(self.label_set, sorted(kept), f"{self.label_set.name}-{len(kept)}"))
        left = [name for name in self.label_set.classes if name not in found.label_set.classes]
        say(f"{self.name}: {', '.join(left)}: not among the model's classes, their pixels are not scored")
        return found

    def _keep(self, kept: LabelSet) -> "Domain":
        table = np.full(256, IGNORE, np.uint8)
        table[[self.label_set.classes.index(each) for each in kept.classes]] = np.arange(len(kept.classes))
        return replace(self, label_set=kept, table=table if self.table is None else table[self.table])


def class_table(classes: tuple[str, ...], domain: str, target: LabelSet) -> Labels:
    """(256,) uint8: a model's class -> that of the domain's label set, 255 where it has none.

    UsageError for a model that cannot be scored there: none of the domain's classes holds one of its own.
    """
    if classes == target.classes:
        table = np.full(256, IGNORE, np.uint8)
        table[: len(classes)] = np.arange(len(classes))
        return table
    table = folding(target, label_set_of(classes))
    if (table == IGNORE).all():
        raise UsageError(
            f"{domain}: no class of {target.name} ({some(target.classes, 6)}) holds one of this model's "
            f"{len(classes)} ({some(classes, 6)}); it cannot be scored there"
        )
    return table


class FoundDomains(NamedTuple):
    """``missing``: {"name", "why"} of each domain that is known but not on this disk."""

    domains: list[Domain]
    missing: list[dict[str, str]]


def rendered_domain(name: str, count: int) -> Domain:
    """One of the unseen rendered worlds."""
    return Domain(name, CITYSCAPES, count)


def photo_domain(
    name: str, root: Path, max_images: int | None = None, exif: str = "refuse", published: bool = False
) -> Domain:
    """A dataset below ``root``; at most ``max_images`` of it, evenly spaced; ``exif`` as for ``Segmentation``.
    ``published``: of the split that publications score.

    Raises DataError where it is not whole, holds no image, or has no labels.
    """
    data = open_dataset(name, root / folder_of(name), None if published else PHOTOS.get(name), exif=exif)
    if not data.labelled:
        raise DataError(f"{name}: split {data.split!r} has no labels, it cannot be scored on")
    indices = tuple(evenly(len(data), max_images or len(data)))
    return Domain(name, data.label_set, len(indices), data, indices)


def find_domains(names: Sequence[str], recipe: Recipe) -> FoundDomains:
    """Domains by name, and those of them whose folder or split is not under ``data.root``.

    A name is one of ``evaluate.domains``, a rendered world or a dataset.
    UsageError for an unknown name, DataError for a folder that is there but empty or not whole.
    """
    own = {each.name: each for each in recipe.evaluate.domains or () if not each.known}
    domains, missing = [], []
    protocol = recipe.evaluate.protocol
    for name in dict.fromkeys(name if name in own else domain_of(protocol, name) for name in names):
        if name in own:
            domains.append(own_domain(own[name], recipe))
        elif name in RENDERED:
            domains.append(rendered_domain(name, recipe.evaluate.rendered_count).scored_on(recipe))
        elif not is_dataset(name):
            hint = did_you_mean(name, (*own, *RENDERED, *FOLDERS))
            raise UsageError(
                f"unknown domain {name!r}; {hint}" + (f"the recipe's own: {', '.join(own)}; " if own else "")
                + f"rendered: {', '.join(RENDERED)}; photos: {', '.join(FOLDERS)}"
            )  # fmt: skip
        else:
            folder_of(name)
            try:
                domains.append(_photos(name, recipe))
            except (UsageError, MissingSplitError) as error:
                missing.append({"name": name, "why": str(error).removeprefix(f"{name}: ")})
    if protocol:
        domains = [replace(domain, view=view_of(protocol, domain.name)) for domain in domains]
    return FoundDomains(domains, missing)


def own_domain(chosen: DomainSet, recipe: Recipe) -> Domain:
    """A domain that the recipe describes.

    Raises UsageError and DataError as of ``open_set``; DataError where it has no labels.
    """
    if chosen.dataset == "streets" or chosen.dataset in RENDERED:
        raise UsageError(f"evaluate.domains: {chosen.name}: {chosen.dataset} is rendered; name it alone, such as town")
    try:
        split = chosen.split or spec_of(chosen, recipe).scored
        data = open_set(chosen, recipe, split)
    except UsageError as error:
        raise UsageError(f"evaluate.domains: {chosen.name}: {str(error).removeprefix('data.source: ')}") from error
    if not data.labelled:
        raise DataError(f"{chosen.name}: split {data.split!r} has no labels, it cannot be scored on")
    indices = tuple(evenly(len(data), recipe.evaluate.max_images or len(data)))
    domain = Domain(chosen.name, data.label_set, len(indices), data, indices)
    return domain.folded(chosen.fold, recipe).scored_on(recipe)


def _photos(name: str, recipe: Recipe) -> Domain:
    root = recipe.data.root
    if root is None:
        raise UsageError(f"{name}: needs data.root=PATH, the folder that holds {folder_of(name)}/")
    if not (root / folder_of(name)).exists():
        raise UsageError(f"{name}: data.root={root} holds no {folder_of(name)}/; it has one folder per dataset")
    evaluate = recipe.evaluate
    domain = photo_domain(name, root, evaluate.max_images, recipe.data.exif, published=evaluate.protocol is not None)
    return domain.scored_on(recipe)


def all_domains(names: Sequence[str], recipe: Recipe) -> list[Domain]:
    """Domains by name; UsageError naming the first that is unknown or not on this disk."""
    found = find_domains(names, recipe)
    for each in found.missing:
        raise UsageError(f"{each['name']}: {each['why']}")
    return found.domains


def unseen_domains(recipe: Recipe) -> list[Domain]:
    """``evaluate.domains``; where there are none every rendered target, then the benchmark's photo targets that
    ``data.root`` has, as far as they show two of the model's classes."""
    if recipe.evaluate.domains:
        return all_domains([each.name for each in recipe.evaluate.domains], recipe)
    root = recipe.data.root
    if not (rendered := [*RENDERED] if _scorable(CITYSCAPES, recipe) else []) and root is None:
        raise UsageError(
            f"evaluate.domains: no domain is known for the classes {', '.join(recipe.model.label_set.classes)}; "
            "list labelled sets to score on, or train alone with `clouds train`"
        )
    if root is None:
        return all_domains(rendered, recipe)
    if not root.is_dir():
        raise UsageError(f"data.root: {root} is not a folder; expected one with a folder per dataset")
    known = [name for name in PHOTOS if _scorable(find_label_set(find_spec(name).label_set), recipe)]
    found = find_domains([*rendered, *known], recipe)
    if len(found.domains) == len(rendered):
        raise UsageError(
            f"data.root: {root} holds none of {', '.join(sorted({FOLDERS[n] for n in PHOTOS}))}; "
            "point it at the folder that has one folder per dataset"
        )
    return found.domains


def _scorable(label_set: LabelSet, recipe: Recipe) -> bool:
    """Whether two of its classes hold one of the model's: of fewer a score says nothing."""
    found = set(folding(label_set, recipe.model.label_set).tolist()) - {IGNORE}
    return len(found) > 1


def missing_photos(recipe: Recipe, domains: list[Domain]) -> list[dict[str, str]]:
    """{"name", "why"} of the benchmark's photo targets that are not among ``domains`` because ``data.root`` lacks them.

    None without ``data.root``, and where the recipe lists its domains: then no others were asked for.
    """
    if recipe.data.root is None or recipe.evaluate.domains:
        return []
    there = {domain.name for domain in domains}
    known = [name for name in PHOTOS if _scorable(find_label_set(find_spec(name).label_set), recipe)]
    return find_domains([name for name in known if name not in there], recipe).missing
