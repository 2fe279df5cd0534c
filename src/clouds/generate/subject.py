"""What prompts can speak of: the phrases of a recipe's scene, and the classes of its model."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clouds.base.files import read_json, write_json
from clouds.config.recipe import Recipe
from clouds.config.scene import CLASSES, Scene, Shown
from clouds.errors import DataError
from clouds.streets.phrases import Phrases

SUBJECT = "subject.json"  # beside a set's manifest, where its prompts speak of other things than streets


class Subject:
    """A scene and C classes with their synonyms. ``topics``: attribute -> its phrases, and "classes" -> their names."""

    def __init__(self, scene: Scene, classes: Sequence[str], synonyms: Sequence[Sequence[str]]) -> None:
        self.scene, self.classes, self.synonyms = scene, list(classes), [list(group) for group in synonyms]
        self.topics = {**{a: list(phrases) for a, phrases in scene.attributes.items()}, CLASSES: self.classes}
        self.phrases = Phrases(scene.attributes)

    @property
    def record(self) -> dict[str, Any]:
        """All that a subject is, as JSON."""
        scene = self.scene.shipped or self.scene.model_dump(mode="json")
        return {"scene": scene, CLASSES: dict(zip(self.classes, self.synonyms, strict=True))}

    @cached_property
    def _class_patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        rows = []
        for name, synonyms in zip(self.classes, self.synonyms, strict=True):
            words = [*map(re.escape, dict.fromkeys([name, *synonyms]))]
            if name in self.scene.spoken:
                words.append(self.scene.spoken[name])
            rows.append((name, re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])", re.IGNORECASE)))
        return rows

    def mentions(self, prompt: str) -> dict[str, list[str]]:
        """What a prompt speaks of: {attribute: its phrases, "classes": names}."""
        said = re.sub(r"\b(no|without)\s+[\w-]+", "", prompt, flags=re.IGNORECASE)
        found = [name for name, pattern in self._class_patterns if pattern.search(said)]
        return {**self.phrases.found(prompt), CLASSES: found}

    def counted(self, prompts: Sequence[str]) -> dict[str, Counter[str]]:
        """{topic: how many prompts speak of each of its phrases}; a phrase nobody speaks of counts 0."""
        counts = {topic: Counter(dict.fromkeys(phrases, 0)) for topic, phrases in self.topics.items()}
        for prompt in prompts:
            for topic, found in self.mentions(prompt).items():
                counts[topic].update(found)
        return counts


def subject_of(recipe: Recipe) -> Subject:
    """What a recipe's prompts can speak of."""
    known = recipe.model.label_set
    return Subject(recipe.scene, known.classes, known.synonyms)


def uncommon(subject: Subject) -> dict[str, Any]:
    """Of a subject's record what a recipe that says nothing has otherwise. So all that is named after it, and the files
    of before, stay as they were."""
    plain = subject_of(Recipe()).record
    return {key: value for key, value in subject.record.items() if value != plain[key]}


def note_subject(folder: Path, recipe: Recipe) -> None:
    """Write down beside a set what its prompts can speak of, where that is uncommon: its audit needs to know."""
    subject = subject_of(recipe)
    if uncommon(subject):
        write_json(folder / SUBJECT, subject.record)
    elif (folder / SUBJECT).is_file():
        (folder / SUBJECT).unlink()


def subject_of_set(folder: Path) -> Subject:
    """What the prompts of a set can speak of. DataError for a note that cannot be read."""
    path = folder / SUBJECT
    if not path.is_file():
        return subject_of(Recipe())
    try:
        record = read_json(path)
        scene: Scene = TypeAdapter(Shown).validate_python(record["scene"])
        classes = TypeAdapter(dict[str, list[str]]).validate_python(record[CLASSES])
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: does not say what the set shows; delete it and name the recipe (clouds audit DIR RECIPE), or "
            "draw the set again"
        ) from error
    return Subject(scene, list(classes), list(classes.values()))
