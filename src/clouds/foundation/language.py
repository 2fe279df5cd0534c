"""The prompt-writer role: who describes the scenes that the image generator will draw.

The paper asks Llama-2-70B-chat. ``transformers/MODEL`` and ``openai/MODEL`` ask a chat model, ``smollm2`` a small one
that a Python package ships, ``file/PATH`` reads what somebody wrote. The embedded default is a grammar over places,
weather, light, season, camera and actors: a stand-in that needs no model, and is named as such.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from clouds.config.plugins import OWN, is_plugged, make, plugged
from clouds.config.recipe import Prompts
from clouds.data.streets import VOCABULARY
from clouds.errors import UsageError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


class PromptWriter(Protocol):
    """Writes scene prompts. Its model and revision are kept beside each prompt; ``scenes`` suit one call best.

    A class of one's own is called with the recipe's ``Prompts``.
    """

    @property
    def model(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def scenes(self) -> int: ...

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:
        """Answers with ``n`` scenes in all, the k-th showing what ``request[k % len(request)]`` says.

        An answer is a prompt, or a model's text with several of them, unchecked: ``generate/checks.py`` takes it apart.
        Raises BackendError where the writer cannot be used.
        """
        ...


class Grammar:
    """Sentences over the vocabulary of the street renderer, spread evenly: every phrase of an attribute appears about
    equally often, in seeded random combination, and no sentence twice."""

    model, revision, scenes = None, None, 1

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:  # noqa: ARG002 - it knows only streets
        rng = np.random.default_rng((seed, 0x9A))
        decks = {attribute: _Deck(list(phrases), rng) for attribute, phrases in VOCABULARY.items()}
        prompts: dict[str, None] = {}
        for _ in range(50 * n):
            if len(prompts) == n:
                return list(prompts)
            cast = dict.fromkeys(decks["actors"].draw() for _ in range(rng.integers(1, 4)))
            none = [actor for actor in cast if actor.startswith("no ")]  # "no traffic" beside "buses" says nothing
            actors = " and ".join(none or cast)
            extra = f", {decks['camera'].draw()}" if rng.random() < 0.5 else ""
            season = f" {decks['season'].draw()}" if rng.random() < 0.5 else ""
            scene = " ".join(decks[attribute].draw() for attribute in ("place", "weather", "light"))
            prompts[f"A photo of {scene}{season}, {actors}{extra}."] = None
        raise UsageError(f"prompts.count: the grammar could not write {n} different prompts; ask for fewer")


class _Deck:
    """Deals its cards in shuffled rounds, so that each comes up equally often."""

    def __init__(self, cards: list[str], rng: np.random.Generator) -> None:
        self._cards, self._rng, self._hand = cards, rng, list[str]()

    def draw(self) -> str:
        if not self._hand:
            self._hand = [self._cards[i] for i in self._rng.permutation(len(self._cards))]
        return self._hand.pop()


# two worked examples: small models copy their form, large ones do not mind
EXAMPLES = (
    ("a suburban road, in heavy rain, at dawn, cars",
     "A photo of a suburban road in heavy rain at dawn, with cars waiting in a row and many puddles."),
    ("a shopping street, at night, in summer, a crowd of people",
     "A photo of a crowd of people on a shopping street at night in summer, lit by neon signs."),
)  # fmt: skip


def conversation(request: Sequence[str]) -> list[Message]:
    """What a chat model is asked: one scene in plain words, several as a numbered list."""
    shown = [[example] for example in EXAMPLES] if len(request) == 1 else [EXAMPLES]
    turns = []
    for examples in shown:
        said = [sentence for _, sentence in examples]
        turns += [
            {"role": "user", "content": _task([brief for brief, _ in examples])},
            {"role": "assistant", "content": said[0] if len(said) == 1 else _numbered(said)},
        ]
    return [*turns, {"role": "user", "content": _task(request)}]


def _task(request: Sequence[str]) -> str:
    if len(request) == 1:
        return f"Describe in one sentence a photo of an outdoor street, taken from a car. It shows: {request[0]}"
    return (
        f"Describe {len(request)} different photos of outdoor streets, taken from a car. One sentence of 10 to 40 "
        "words each, as a numbered list and nothing else. Say what is seen; no brand names, no violence. Show in each "
        f"photo:\n{_numbered(request)}"
    )


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{k}. {line}" for k, line in enumerate(lines, start=1))


def _grammar(_: Prompts, __: str) -> PromptWriter:
    return Grammar()


def _file(settings: Prompts, _: str) -> PromptWriter:
    from clouds.foundation.text_file import TextFile

    return TextFile(settings.writer.partition("/")[2])


def _server(settings: Prompts, _: str) -> PromptWriter:
    from clouds.foundation.openai_api import Server

    return Server(settings)


def _transformers(settings: Prompts, device: str) -> PromptWriter:
    from clouds.foundation.chat import ChatModel

    return ChatModel(settings, device)


WRITERS: dict[str, Callable[[Prompts, str], PromptWriter]] = {
    "grammar": _grammar, "smollm2": _transformers, "transformers": _transformers, "openai": _server, "file": _file,
}  # fmt: skip


def build_writer(settings: Prompts, device: str = "cpu") -> PromptWriter:
    """The prompt writer that the settings name; loads a transformers model onto ``device``.

    Raises UsageError for an unknown name or a file that is not there, BackendError for a model that cannot be loaded.
    """
    if is_plugged(settings.writer):
        writer: PromptWriter = make(settings.writer, "prompts.writer", settings)
        return writer
    kind = settings.writer.partition("/")[0]
    if kind not in WRITERS:
        raise UsageError(f"prompts.writer: unknown {settings.writer!r}; allowed: {', '.join((*WRITERS, OWN))}")
    return WRITERS[kind](settings, device)


def check_writer(settings: Prompts) -> None:
    """What can be known before any work: raises UsageError for a file that is not there or a key that cannot be."""
    if is_plugged(settings.writer):
        plugged(settings.writer, "prompts.writer")
    elif settings.writer.startswith(("file/", "openai/")):
        build_writer(settings)
