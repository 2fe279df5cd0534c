"""Coverage and diversity of a set of prompts: what they speak of, how evenly, how differently; what to ask for next."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.config.scene import CLASSES
from clouds.generate.checks import words_of
from clouds.generate.subject import Subject

MOST_EMBEDDED = 2000  # prompts whose similarity is measured: a K x K matrix


def evenness(counts: Sequence[int]) -> float:
    """Entropy of the shares over its largest value: 1 when all counts are equal, 0 when one has all, or none any."""
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return 0.0
    shares = np.array([count for count in counts if count], float) / total
    return float(np.clip(-(shares * np.log(shares)).sum() / np.log(len(counts)), 0, 1))


def distinct(prompts: Sequence[str], n: int) -> float:
    """Different runs of n words over all of them (distinct-n); 0 where there are none."""
    runs = [tuple(words[k : k + n]) for words in map(words_of, prompts) for k in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 0.0


def vendi(vectors: NDArray[np.floating[Any]]) -> float:
    """Unit rows float (N, D) -> the Vendi score in 1..N: how many rows as good as unlike each other these amount to.

    The exponential of the entropy of the eigenvalues of K/N, K the rows' dot products; 0 for no rows.
    """
    rows = np.asarray(vectors, np.float64)
    if not len(rows):
        return 0.0
    small = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows  # the same non-zero eigenvalues
    values = np.linalg.eigvalsh(small / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def summary(subject: Subject, prompts: Sequence[str], embed: Any = None) -> dict[str, Any]:
    """{"prompts", "coverage": {topic: share of its phrases spoken of}, "evenness": {topic: 0..1}, "distinct_1",
    "distinct_2", "vendi"}. embed: texts -> unit rows (N, D); None leaves "vendi" None."""
    counts = subject.counted(prompts)
    some = prompts[:: max(-(-len(prompts) // MOST_EMBEDDED), 1)]
    return {
        "prompts": len(prompts),
        "coverage": {a: round(sum(n > 0 for n in c.values()) / len(c), 4) for a, c in counts.items()},
        "evenness": {a: round(evenness(list(c.values())), 4) for a, c in counts.items()},
        "distinct_1": round(distinct(prompts, 1), 4),
        "distinct_2": round(distinct(prompts, 2), 4),
        "vendi": round(vendi(np.asarray(embed(some))), 2) if embed and some else None,
    }


def briefs(
    subject: Subject,
    prompts: Sequence[str],
    n: int,
    rng: np.random.Generator,
    wanted: Mapping[str, Mapping[str, int]] | None = None,
) -> list[str]:
    """``n`` scenes to ask for, made of what ``prompts`` speak of least, so that the whole comes out even.

    wanted: {topic: {phrase: how often it is to be spoken of before all others}}.
    """
    counts = subject.counted(prompts)
    for topic, more in (wanted or {}).items():
        counts[topic].subtract(more)

    def least(attribute: str) -> str:
        heard = counts[attribute]
        lowest = min(heard.values())
        chosen = str(rng.choice([phrase for phrase, count in heard.items() if count == lowest]))
        heard[chosen] += 1
        return chosen

    asked, sometimes = [], subject.scene.sometimes
    for _ in range(n):
        parts = [least(a) for a in subject.scene.attributes if a not in sometimes or rng.random() < 0.5]
        known = set(subject.mentions(", ".join(parts))[CLASSES])
        for name in known:
            counts[CLASSES][name] += 1
        if (name := min(subject.classes, key=lambda name: counts[CLASSES][name])) not in known:
            parts.append(name)
            for topic, found in subject.mentions(name).items():  # "bicycle" speaks of cyclists too
                counts[topic].update(found)
        asked.append(", ".join(parts))
    return asked


def most_even(
    subject: Subject,
    prompts: Sequence[str],
    count: int,
    given: Sequence[str] = (),
    wanted: Mapping[str, Mapping[str, int]] | None = None,
) -> list[int]:
    """Which ``count`` of the prompts to keep (their places, ascending): each next one adds most of what is rare so far,
    in these and in the ``given`` ones.

    Greedy: a mention is worth 1 / (1 + how often it was heard) squared, which favours what nobody has said; one that is
    ``wanted`` (as of ``briefs``) and still owed is worth 4. Worths only fall, so a heap finds the best without
    looking at all.
    """
    if len(prompts) <= count:
        return list(range(len(prompts)))
    spoken = [[(a, phrase) for a, found in subject.mentions(text).items() for phrase in found] for text in prompts]
    heard = Counter((a, phrase) for text in given for a, found in subject.mentions(text).items() for phrase in found)
    heard.subtract({(a, phrase): n for a, each in (wanted or {}).items() for phrase, n in each.items()})

    def worth(k: int) -> float:
        return sum(4.0 if heard[each] < 0 else 1 / (1 + heard[each]) ** 2 for each in spoken[k])

    heap, kept = [(-worth(k), k) for k in range(len(prompts))], list[int]()
    heapq.heapify(heap)
    while heap and len(kept) < count:
        old, k = heapq.heappop(heap)
        if (now := -worth(k)) != old:
            heapq.heappush(heap, (now, k))
            continue
        kept.append(k)
        heard.update(spoken[k])
    return sorted(kept)
