"""Which phrases of a vocabulary a sentence speaks of: any vocabulary, nothing here knows what the words mean.

    Phrases({"weather": {"in fog": "fog(gy)?"}}).found("A foggy road.")  # {"weather": ["in fog"]}
"""

import re
from collections.abc import Mapping
from functools import cache

Wordings = Mapping[str, Mapping[str, str | None]]  # attribute -> phrase -> other wordings, as a regular expression


class Phrases:
    """Finds each phrase, and its other wordings, as whole words of a sentence, in upper or lower case."""

    def __init__(self, wordings: Wordings) -> None:
        rows = ((attribute, phrase, more) for attribute, each in wordings.items() for phrase, more in each.items())
        self._patterns = [(attribute, phrase, _pattern(phrase, more)) for attribute, phrase, more in rows]

    def found(self, prompt: str) -> dict[str, list[str]]:
        """The phrases that a prompt speaks of, by attribute, in the order of the sentence.

        Where wordings overlap ("heavy rain", "rain") the longest wins; a wording after "no" or "without" does not
        count.
        """
        found = []
        for rank, (attribute, phrase, pattern) in enumerate(self._patterns):
            for match in pattern.finditer(prompt):
                before = re.search(r"\b(no|not|without|never)\s+(any\s+)?$", prompt[: match.start()], re.IGNORECASE)
                if not before:
                    found.append((match.start(), match.end(), rank, attribute, phrase))
        found.sort(key=lambda f: (f[0] - f[1], f[0], f[2]))
        kept: list[tuple[int, int, int, str, str]] = []
        for f in found:
            # a longer wording of any attribute takes the words; the same words may speak of two attributes
            if all(f[1] <= k[0] or f[0] >= k[1] or (f[:2] == k[:2] and f[3] != k[3]) for k in kept):
                kept.append(f)
        result: dict[str, list[str]] = {}
        for _, _, _, attribute, phrase in sorted(kept):
            names = result.setdefault(attribute, [])
            if phrase not in names:
                names.append(phrase)
        return result


@cache
def _pattern(phrase: str, more: str | None) -> re.Pattern[str]:
    words = re.escape(phrase) + (f"|{more}" if more else "")
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)
