"""What a model is scored on: rendered worlds and photo datasets, by name, and which of them are not on this disk."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clouds import streets
from clouds.base.arrays import Labels, Pixels
from clouds.base.pick import evenly
from clouds.base.text import did_you_mean
from clouds.config.recipe import Recipe
from clouds.data.classes import IGNORE
from clouds.data.datasets import FOLDERS, PHOTOS, Segmentation, folder_of, is_dataset, open_dataset
from clouds.data.labels import LabelSet, find_label_set, narrowed
from clouds.data.pairing import MissingSplitError
from clouds.errors import DataError, UsageError

RENDERED = ("town", "fog", "night", "rain", "snow")
TARGET_SEED = 2_000_003  # rendered targets come from seeds that neither training nor the choice of settings used

Sample = tuple[str, Pixels, Labels]


@dataclass
class Domain:
    """A set of labelled images to score on: ``sample(i)`` -> (id, image (H, W, 3), label (H, W)) in ``label_set``.

    Without ``data``, scenes are rendered from ``seed`` on.
    """

    name: str
    label_set: LabelSet
    length: int
    data: Segmentation | None = None
    indices: tuple[int, ...] = ()
    seed: int = TARGET_SEED
    table: Labels | None = None  # (256,): a stored index -> that in ``label_set``; None where they agree

    def sample(self, i: int) -> Sample:
        if self.data is None:
            name = f"{self.name}-{i:03d}"
            image, label = streets.render(streets.sample(self.name, self.seed + i))
        else:
            k = self.indices[i]
            name, image, label = self.data.names[k], self.data.image(k), self.data.label(k)
            self.data.check_pair(k, image.shape, label.shape)
        return name, image, label if self.table is None else self.table[label]

    def scored_on(self, name: str | None) -> "Domain":
        """The domain without the classes that the label set of this name lacks: their pixels are ignored."""
        kept = narrowed(self.label_set, find_label_set(name)) if name else self.label_set
        if kept.classes == self.label_set.classes:
            return self
        table = np.full(256, IGNORE, np.uint8)
        table[[self.label_set.classes.index(each) for each in kept.classes]] = np.arange(len(kept.classes))
        return replace(self, label_set=kept, table=table)


class FoundDomains(NamedTuple):
    """``missing``: {"name", "why"} of each domain that is known but not on this disk."""

    domains: list[Domain]
    missing: list[dict[str, str]]


def rendered_domain(name: str, count: int) -> Domain:
    """One of the unseen rendered worlds."""
    return Domain(name, find_label_set("cityscapes19"), count)


def photo_domain(name: str, root: Path, max_images: int | None = None, exif: str = "refuse") -> Domain:
    """A dataset below ``root``; at most ``max_images`` of it, evenly spaced; ``exif`` as for ``Segmentation``.

    Raises DataError where it is not whole, holds no image, or has no labels.
    """
    data = open_dataset(name, root / folder_of(name), PHOTOS.get(name), exif=exif)
    if not data.labelled:
        raise DataError(f"{name}: split {data.split!r} has no labels, it cannot be scored on")
    indices = tuple(evenly(len(data), max_images or len(data)))
    return Domain(name, data.label_set, len(indices), data, indices)


def find_domains(names: list[str], recipe: Recipe) -> FoundDomains:
    """Domains by name, and those of them whose folder or split is not under ``data.root``.

    UsageError for an unknown name, DataError for a folder that is there but empty or not whole.
    """
    domains, missing = [], []
    for name in names:
        if name in RENDERED:
            domain = rendered_domain(name, recipe.evaluate.rendered_count)
            domains.append(domain.scored_on(recipe.evaluate.label_set))
        elif not is_dataset(name):
            hint = did_you_mean(name, (*RENDERED, *FOLDERS))
            raise UsageError(
                f"unknown domain {name!r}; {hint}rendered: {', '.join(RENDERED)}; photos: {', '.join(FOLDERS)}"
            )
        else:
            folder_of(name)
            try:
                domains.append(_photos(name, recipe))
            except (UsageError, MissingSplitError) as error:
                missing.append({"name": name, "why": str(error).removeprefix(f"{name}: ")})
    return FoundDomains(domains, missing)


def _photos(name: str, recipe: Recipe) -> Domain:
    root = recipe.data.root
    if root is None:
        raise UsageError(f"{name}: needs data.root=PATH, the folder that holds {folder_of(name)}/")
    if not (root / folder_of(name)).exists():
        raise UsageError(f"{name}: data.root={root} holds no {folder_of(name)}/; it has one folder per dataset")
    domain = photo_domain(name, root, recipe.evaluate.max_images, recipe.data.exif)
    return domain.scored_on(recipe.evaluate.label_set)


def all_domains(names: list[str], recipe: Recipe) -> list[Domain]:
    """Domains by name; UsageError naming the first that is unknown or not on this disk."""
    found = find_domains(names, recipe)
    for each in found.missing:
        raise UsageError(f"{each['name']}: {each['why']}")
    return found.domains


def unseen_domains(recipe: Recipe) -> list[Domain]:
    """Every rendered target, then the benchmark's photo targets that ``data.root`` has."""
    root = recipe.data.root
    if root is None:
        return all_domains([*RENDERED], recipe)
    if not root.is_dir():
        raise UsageError(f"data.root: {root} is no folder; expected one with a folder per dataset")
    found = find_domains([*RENDERED, *PHOTOS], recipe)
    if len(found.domains) == len(RENDERED):
        raise UsageError(
            f"data.root: {root} holds none of {', '.join(sorted({FOLDERS[n] for n in PHOTOS}))}; "
            "point it at the folder that has one folder per dataset"
        )
    return found.domains


def missing_photos(recipe: Recipe, domains: list[Domain]) -> list[dict[str, str]]:
    """{"name", "why"} of the benchmark's photo targets that are not among ``domains`` because ``data.root`` lacks them.

    None without ``data.root``: then only rendered targets were asked for.
    """
    if recipe.data.root is None:
        return []
    there = {domain.name for domain in domains}
    return find_domains([name for name in PHOTOS if name not in there], recipe).missing
