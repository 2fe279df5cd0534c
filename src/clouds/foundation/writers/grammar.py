"""The embedded prompt writer: a grammar over the words that the street renderer knows."""

from collections.abc import Sequence

import numpy as np

from clouds.config.backends import Backend
from clouds.errors import UsageError
from clouds.streets import VOCABULARY

BACKEND = Backend(
    "writer",
    "grammar",
    "grammar",
    stand_in="sentences from a grammar; embedded default, not a language model",
    better="a chat model: prompts.writer=transformers/ORGANISATION/NAME, or openai/MODEL with prompts.base_url",
    build="Grammar",
)


class Grammar:
    """Sentences over the vocabulary of the street renderer, spread evenly: every phrase of an attribute appears about
    equally often, in seeded random combination, and no sentence twice."""

    model, revision, scenes = None, None, 1

    def __init__(self, *_: object) -> None: ...  # it has no settings

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
