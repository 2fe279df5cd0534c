"""What the pictures of a recipe show, as data: ``scene: crops`` names a shipped scene, a mapping describes another."""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PrivateAttr

from clouds.base.strict_yaml import parse_yaml
from clouds.base.text import did_you_mean
from clouds.config.kinds import Settings

STREETS = "streets"
CLASSES = "classes"  # what prompts speak of beside the attributes, so no attribute's name
_PACKAGE = Path(__file__).parents[1]
_PART = re.compile(r"\[(?P<before>[^][{}]*)\{(?P<sometimes>\w+)\}(?P<after>[^][{}]*)\]|\{(?P<always>\w+)\}")


def _as_phrases(value: Any) -> Any:
    """A list of phrases as phrase -> no other wording."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of phrases, or phrase: other wordings")
    if twice := [phrase for phrase, n in Counter(map(str, value)).items() if n > 1]:
        raise ValueError(f"the phrase {twice[0]!r} is there twice; keep one")
    return dict.fromkeys(value)


def _phrases(value: dict[str, str | None]) -> dict[str, str | None]:
    if not value:
        raise ValueError("expected at least one phrase, as a list, or as phrase: other wordings")
    for phrase, wordings in value.items():
        if phrase != " ".join(phrase.split()) or not re.search(r"\w", phrase) or re.search(r"[][{}]", phrase):
            raise ValueError(f"the phrase {phrase!r}: expected words with single spaces, without brackets or braces")
        _pattern(wordings, f"the other wordings of {phrase!r}")
    return value


def _pattern(text: str | None, what: str) -> None:
    if text is None:
        return
    try:
        empty = re.compile(text).fullmatch("")
    except (re.error, RecursionError) as error:
        raise ValueError(f"{what}: {text!r} is not a regular expression ({error})") from error
    if empty:
        raise ValueError(f"{what}: {text!r} is found in every sentence, as it fits no words at all")


def _spoken(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        _pattern(text, f"the wordings of {name!r}")
    return value


def _as_words(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of words, such as [field, crop]")
    return value


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    if empty := [word for word in value if not re.search(r"\w", word)]:
        raise ValueError(f"{empty[0]!r} is not a word")
    return value


def _some_words(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("expected words of which each prompt has one, such as [field, crop]")
    return value


Phrases = Annotated[dict[str, str | None], BeforeValidator(_as_phrases), AfterValidator(_phrases)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_words), AfterValidator(_words)]


class Part(NamedTuple):
    """Of a sentence: ``before``, a phrase of ``attribute`` (None: nothing), ``after``; all of it in some sentences
    only where it is ``optional``."""

    before: str
    attribute: str | None = None
    after: str = ""
    optional: bool = False


class Scene(Settings):
    """What images show and prompts describe. `scene` is `streets` or `crops`, or has these keys (docs/howto.md)."""

    picture: Annotated[str, Field(min_length=1)]
    """What a chat model is asked to describe, such as `an outdoor street, taken from a car`."""
    pictures: str | None = None
    """The same for several images; null: `picture`."""
    sentence: Annotated[str, Field(min_length=1)]
    """The sentence that the grammar writes. `{place}` is a phrase of the attribute `place`. Parts in `[ ]` appear in
    every second sentence, by chance."""
    several: tuple[str, ...] = ()
    """Attributes with one to three phrases in a sentence, joined by "and". A phrase with "no" in front stands alone."""
    attributes: dict[str, Phrases]
    """What varies between images: for each attribute a list of phrases, or phrase -> a regular expression of other
    words that mean it."""
    on_subject: Annotated[Words, AfterValidator(_some_words)]
    """Each prompt must have one of these words; `-` also matches a space, and plurals count."""
    off_subject: Words = ()
    """Words that no prompt may have."""
    spoken: Annotated[dict[str, str], AfterValidator(_spoken)] = {}  # noqa: RUF012 - pydantic copies it
    """More words for a class: its name -> a regular expression of whole words."""
    examples: dict[str, str] = {}  # noqa: RUF012
    """Examples for a chat model: phrases -> the sentence that has them. Default: two of the grammar's."""

    _shipped: str | None = PrivateAttr(None)

    @property
    def shipped(self) -> str | None:
        """Its name, where it is a shipped scene."""
        return self._shipped

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.shipped or "of your own"

    @property
    def parts(self) -> tuple[Part, ...]:
        """The sentence taken apart, in order."""
        found, place = [], 0
        for match in _PART.finditer(self.sentence):
            if text := self.sentence[place : match.start()]:
                found.append(Part(text))
            if name := match["sometimes"]:
                found.append(Part(match["before"], name, match["after"], optional=True))
            else:
                found.append(Part("", match["always"]))
            place = match.end()
        return (*found, Part(self.sentence[place:]))

    @property
    def sometimes(self) -> tuple[str, ...]:
        """The attributes that are said of every second scene."""
        return tuple(part.attribute for part in self.parts if part.optional and part.attribute)

    def faults(self) -> list[str]:
        found = []
        if not self.attributes:
            found.append("attributes: got none; expected what varies, such as {light: [at noon, at dusk]}")
        if CLASSES in self.attributes:
            found.append(f"attributes.{CLASSES}: the classes of the model are counted under this name; choose another")
        homes = Counter(phrase.lower() for phrases in self.attributes.values() for phrase in phrases)
        if twice := next((phrase for phrase, n in homes.items() if n > 1), None):
            found.append(f"attributes: the phrase {twice!r} is there twice; keep one")
        if any(part.attribute is None and re.search(r"[][{}]", part.before) for part in self.parts):
            found.append(
                f"sentence: got {self.sentence!r}; expected {{ATTRIBUTE}}, or [words {{ATTRIBUTE}} words] where it is "
                "left out at times, and no other brackets or braces"
            )
            return found
        said = Counter(part.attribute for part in self.parts if part.attribute)
        for key, names in (("sentence", said), ("several", self.several)):
            for name in names:
                if name not in self.attributes:
                    hint = did_you_mean(name, self.attributes)
                    found.append(f"{key}: unknown attribute {name!r}; {hint}there are: {', '.join(self.attributes)}")
        if missing := [name for name in self.attributes if name not in said]:
            found.append(f"sentence: says nothing of {', '.join(missing)}; name each attribute, as {{{missing[0]}}}")
        found += [f"sentence: names {name!r} {n} times; once is enough" for name, n in said.items() if n > 1]
        return found


def shipped_places() -> dict[str, Path]:
    """The files of the shipped scenes by name; the one of the streets lies beside what draws them."""
    here = sorted((_PACKAGE / "config" / "scenes").glob("*.yaml"))
    return {STREETS: _PACKAGE / "streets" / "words.yaml", **{path.stem: path for path in here}}


@cache
def shipped_scene(name: str = STREETS) -> Scene:
    """A scene that comes with the package. KeyError for another name."""
    scene = Scene.model_validate(parse_yaml(shipped_places()[name].read_bytes()))
    scene._shipped = name
    return scene


def _named(value: Any) -> Any:
    if isinstance(value, dict | Scene):
        return value
    names = shipped_places()
    if str(value) not in names:
        hint = did_you_mean(str(value), names)
        raise ValueError(f"{hint}expected {' or '.join(names)}, or a scene of your own as keys (docs/howto.md)")
    return shipped_scene(str(value))


def _dumped(scene: Scene) -> Any:
    return scene.shipped or scene.model_dump(mode="json")


Shown = Annotated[Scene, BeforeValidator(_named), PlainSerializer(_dumped)]  # the name of a shipped scene, or keys
