"""The embedded prompt writer: a grammar over the phrases of a scene."""

from collections.abc import Sequence

import numpy as np

from clouds.config.backends import Backend
from clouds.config.recipe import Prompts
from clouds.config.scene import Part, Scene, shipped_scene
from clouds.errors import UsageError

BACKEND = Backend(
    "writer",
    "grammar",
    "grammar",
    stand_in="sentences from a grammar; embedded default, not a language model",
    better="a chat model: prompts.writer=transformers/ORGANISATION/NAME, or openai/MODEL with prompts.base_url",
    build="Grammar",
)
MOST = 3  # phrases of an attribute of `scene.several` in a sentence


class Grammar:
    """A scene's sentence with the scene's phrases, spread evenly: every phrase of an attribute appears about equally
    often, in seeded random combination, and no sentence twice."""

    model, revision, scenes = None, None, 1

    def __init__(self, _settings: Prompts | None = None, _device: str = "cpu", scene: Scene | None = None) -> None:
        self.scene = scene or shipped_scene()
        self._parts = self.scene.parts
        parts = [part for part in self._parts if part.attribute]
        first = [part for part in parts if part.attribute in self.scene.several and not part.optional]
        then = [part for part in reversed(parts) if part.optional]
        # the order of the draws: the prompts of a seed follow from it
        self._drawn = [*first, *then, *(part for part in parts if part not in first and not part.optional)]

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:  # noqa: ARG002 - it says what it says
        prompts = list(self.sentences(n, seed))
        if len(prompts) < n:
            raise UsageError(
                f"prompts.count: the grammar could not write {n} different prompts; ask for fewer, or give the scene "
                "more phrases (scene.attributes)"
            )
        return prompts

    def sentences(self, n: int, seed: int) -> dict[str, str]:
        """Up to ``n`` sentences, as many as are found in reasonable time -> the phrases of each, as a brief."""
        rng = np.random.default_rng((seed, 0x9A))
        decks = {attribute: _Deck(list(phrases), rng) for attribute, phrases in self.scene.attributes.items()}
        found: dict[str, str] = {}
        for _ in range(50 * n):
            if len(found) == n:
                break
            drawn = {part: self._draw(part, decks[str(part.attribute)], rng) for part in self._drawn}
            said = [(part, drawn.get(part, [])) for part in self._parts]
            sentence = "".join(
                f"{part.before}{' and '.join(phrases)}{part.after}" for part, phrases in said
                if phrases or not part.attribute
            )  # fmt: skip
            found[sentence] = ", ".join(phrase for _, phrases in said for phrase in phrases)
        return found

    def _draw(self, part: Part, deck: "_Deck", rng: np.random.Generator) -> list[str]:
        """What is said at a place of the sentence; nothing half the time where that may be."""
        if part.optional and rng.random() >= 0.5:
            return []
        if part.attribute not in self.scene.several:
            return [deck.draw()]
        cast = list(dict.fromkeys(deck.draw() for _ in range(rng.integers(1, MOST + 1))))
        return [phrase for phrase in cast if phrase.startswith("no ")] or cast  # "no traffic" beside "buses" is nothing


class _Deck:
    """Deals its cards in shuffled rounds, so that each comes up equally often."""

    def __init__(self, cards: list[str], rng: np.random.Generator) -> None:
        self._cards, self._rng, self._hand = cards, rng, list[str]()

    def draw(self) -> str:
        if not self._hand:
            self._hand = [self._cards[i] for i in self._rng.permutation(len(self._cards))]
        return self._hand.pop()
