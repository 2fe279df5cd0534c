"""What a writer answers, taken apart and checked: lists in any form, one reason for each line that is not used.

Pure functions on text. ``Sieve`` remembers what it let through, so that nothing comes twice, or nearly so.
"""

import itertools
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from clouds.config.scene import Scene

LEAST_WORDS, MOST_WORDS, MOST_CHARACTERS = 6, 60, 400  # CLIP reads 77 tokens, about 60 words
ALIKE = 0.8  # share of common words and word pairs above which two prompts are one
REASONS = ("empty", "chatter", "markup", "too short", "too long", "not English", "unsafe", "off-topic",
           "repeats itself", "echo", "duplicate", "near-duplicate")  # fmt: skip

_FENCE = re.compile(r"^\s*(```|~~~)[\w-]*\s*$")
_BULLET = re.compile(
    r"^\s*(?:>\s*)*(?:#+\s+|(?:[-*+•‣▪–—]\s+)?(?:(?:prompt|scene|photo|image)\s*)?\(?#?\d{1,4}[.):\]]+\s*(?=\D)"
    r"|[-*+•‣▪–—]\s+)?",
    re.IGNORECASE,
)
_LOOSELY = re.IGNORECASE | re.DOTALL
_WORDS = "(?:think|thinking|thoughts?|reasoning|reflection|analysis)"
_THINKS = rf"(?:<{_WORDS}>|\[THINK\]|◁think▷|<\|channel\|>\s*(?:analysis|commentary))"
_THOUGHT = rf"(?:</{_WORDS}>|\[/THINK\]|◁/think▷|<\|channel\|>\s*final\s*<\|message\|>)"
_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|</?s>|<(?:end_of_turn|eos|pad)>|\[/INST\]", re.I)
_QUOTES = "\"'“”‘’«»„`*_ \t"


# nothing that a public data set should show or an image model should be asked for
UNSAFE = """
assault beheaded beheading blood bleeding bomb bombing child-abuse corpse corpses dead-body dead-bodies decapitated
erotic execution explosion fascist fetish genitals gore gory hanging-body gun gunfire gunman guns hitler injured
killed killing kkk knife lingerie lynching massacre murder murdered mutilated naked nazi nazis nude nudes nudity orgy
penis porn porno pornographic pornography racist rape raped rifle sex sexual sexy shooting shot-dead slave slaves
stabbed stabbing suicide swastika terrorist terrorists topless torture tortured vagina wounded
"""


# how answers begin or end that are not scenes; lower case
CHATTER = (
    "as an ai", "i am sorry", "i'm sorry", "i apologize", "i cannot", "i can't", "i can not", "sure,", "sure!",
    "certainly", "of course", "here are", "here is", "here's", "these are", "below are", "let me know", "i hope",
    "feel free", "please note", "note:", "the following", "would you like", "each sentence", "these sentences",
    "these descriptions",
    "describe ", "write ", "the use of", "this sentence", "these photos", "i'd be happy", "happy to help", "thank you",
    "the list", "you can", "remember ", "to describe", "the sentence", "the description",
)  # fmt: skip


# English needs some of these in any sentence of six words
ENGLISH = """
a an and are as at below beside between by during for from full has have heavy in into its near no of on one over past
several some that the their there through to two under up waiting walking while with without
"""


@cache
def pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the words as a whole word, singular or plural; a hyphen stands for a space too. None of none."""
    each = "|".join(re.sub(r"\\[ -]", "[ -]", re.escape(word)) for word in words)
    return re.compile(rf"(?<![\w-])(?:{each})s?(?![\w-])" if words else r"(?!)", re.IGNORECASE)


_UNSAFE = pattern(tuple(UNSAFE.split()))
_ENGLISH = frozenset(ENGLISH.split())
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def parse_list(text: str) -> list[str]:
    """The lines of an answer, without numbers, bullets, quotes and fences: one string an entry, white space as single
    spaces. Reads numbered and bulleted lists, plain lines, tables, JSON arrays, lines and objects, also inside fences
    and between prose. What a model thought aloud first, and its stop tokens, are left out.
    Never fails; what is no scene is left to the checks."""
    text = _spoken(unicodedata.normalize("NFC", text).replace("\ufeff", ""))
    entries = _json_entries(text)
    if entries is None:
        entries = [_BULLET.sub("", _cell(line), count=1) for line in text.splitlines() if not _FENCE.match(line)]
    return [entry for entry in map(_bare, entries) if entry]


def _spoken(text: str) -> str:
    """An answer without thoughts: blocks, all before an end without a beginning, all after a beginning without an end;
    and without the tokens that mark turns."""
    text = re.sub(f"{_THINKS}.*?{_THOUGHT}", "\n", text, flags=_LOOSELY)
    text = re.split(_THOUGHT, text, flags=_LOOSELY)[-1]
    return _TOKEN.sub("\n", re.split(_THINKS, text, flags=_LOOSELY)[0])


def _cell(line: str) -> str:
    """The longest cell of a table's row, or the line."""
    return max(line.split("|"), key=len) if line.lstrip().startswith("|") else line


def _json_entries(text: str) -> list[str] | None:
    """The strings of the JSON arrays and objects in the text, of a cut one those that are whole; None for none."""
    found, place = list[str](), 0
    while start := re.compile(r"\[\s*[\"{]|\{\s*\"").search(text, place):
        try:
            value, place = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            found += _cut_array(text[start.start() :]) or []
            break
        found += _texts(value)
    return [item for item in found if item] or None


def _texts(value: object) -> list[str]:
    """The scenes in JSON: each entry of a list or of what is keyed by numbers, the longest text of another object."""
    if isinstance(value, dict):
        numbered = len(value) > 1 and all(re.fullmatch(r"\D*\d+", key) for key in value)
        within = [each for each in value.values() if isinstance(each, list | dict) and each]
        if not numbered and not within:
            return [_longest_text(value)]
        value = list(value.values()) if numbered else within
    if isinstance(value, list):
        return [text for each in value for text in (_texts(each) if isinstance(each, list | dict) else [each])
                if isinstance(text, str)]  # fmt: skip
    return []


def _cut_array(text: str) -> list[str] | None:
    """Strings of an array that has no end, or is no quite JSON; its lines are read where there are none."""
    strings = re.findall(r"\"((?:[^\"\\\n]|\\.)*)\"(?!\s*:)", text)
    return [item.replace('\\"', '"').replace("\\n", " ") for item in strings if " " in item] or None


def _longest_text(item: object) -> str:
    values = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return max((value for value in values if isinstance(value, str)), key=len, default="")


def _bare(entry: str) -> str:
    """Without quotes and emphasis around it, a trailing comma, control characters and runs of white space."""
    visible = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in entry)
    line = " ".join(visible.split()).strip(_QUOTES + ",;")
    return line if any(c.isalnum() for c in line) else ""


def words_of(prompt: str) -> list[str]:
    """Lower-case words, accents folded."""
    if prompt.isascii():
        return _WORD.findall(prompt.lower())
    plain = unicodedata.normalize("NFKD", prompt.lower())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def shingles(prompt: str) -> frozenset[str]:
    """Words and pairs of neighbouring words; articles and the opening "a photo of" say nothing."""
    words = [word for word in words_of(prompt) if word not in ("a", "an", "the", "photo", "of", "and")]
    return frozenset([*words, *(f"{one} {two}" for one, two in itertools.pairwise(words))])


def fault(prompt: str, scene: Scene) -> str | None:
    """Why this line alone is no prompt for a scene (one of ``REASONS``), or None."""
    low, words = prompt.lower(), words_of(prompt)
    if not words:
        return "empty"
    if low.startswith(CHATTER) or prompt.endswith((":", "?")):
        return "chatter"
    if re.search(r"https?://|www\.|</?\w+[^>]*>|[{}\\|<>]|\[/?\w+\]", prompt):
        return "markup"
    if len(words) < LEAST_WORDS:
        return "too short"
    if len(words) > MOST_WORDS or len(prompt) > MOST_CHARACTERS:
        return "too long"
    letters = [c for c in prompt if c.isalpha()]
    if sum(map(str.isascii, letters)) < 0.9 * len(letters) or not _ENGLISH & set(words):
        return "not English"
    if _UNSAFE.search(prompt):
        return "unsafe"
    if pattern(scene.off_subject).search(prompt) or not pattern(scene.on_subject).search(prompt):
        return "off-topic"
    pairs = Counter(itertools.pairwise(words))
    if len(set(words)) < 0.5 * len(words) or max(pairs.values()) > 3:
        return "repeats itself"
    return None


def echoes(prompt: str, asked: Sequence[str]) -> bool:
    """Whether three quarters of a line's parts between commas are parts of what was asked: nobody wrote a sentence."""
    given = {" ".join(words_of(part)) for brief in asked for part in brief.split(",")}
    parts = [" ".join(words_of(part)) for part in prompt.split(",")]
    return sum(part in given for part in parts) >= 0.75 * len(parts)


class Sieve:
    """Lets good prompts through once; counts why the others were held back. ``rejected``: reason -> lines."""

    def __init__(self, scene: Scene, alike: float = ALIKE) -> None:
        self.scene = scene
        self.alike, self.seen, self.rejected = alike, 0, Counter[str]()
        self._prints: list[frozenset[str]] = []
        self._sketches: list[int] = []
        self._exact: set[tuple[str, ...]] = set()
        self._index: dict[tuple[int, int, int], list[int]] = {}

    def take(self, prompt: str, asked: Sequence[str] = ()) -> str | None:
        """None when the prompt, an answer to what was ``asked``, is let through, else the reason, counted."""
        self.seen += 1
        reason = fault(prompt, self.scene) or ("echo" if echoes(prompt, asked) else self.twin(prompt))
        if reason:
            self.rejected[reason] += 1
        else:
            self.keep(prompt)
        return reason

    def keep(self, prompt: str) -> None:
        """Remember a prompt that needs no check, so that nothing like it comes again."""
        mine = shingles(prompt)
        for key in self._keys(mine):
            self._index.setdefault(key, []).append(len(self._prints))
        self._prints.append(mine)
        self._sketches.append(_sketch(mine))
        self._exact.add(tuple(words_of(prompt)))

    def twin(self, prompt: str) -> str | None:
        """Either "duplicate" or "near-duplicate" of a prompt that is kept, or None."""
        if tuple(words_of(prompt)) in self._exact:
            return "duplicate"
        mine = shingles(prompt)
        sketch = _sketch(mine)
        for k in set[int]().union(*(self._index.get(key, ()) for key in self._keys(mine))):
            other = self._prints[k]
            near = (sketch ^ self._sketches[k]).bit_count() <= self._apart(len(mine), len(other))
            if near and jaccard(mine, other) >= self.alike:
                return "near-duplicate"
        return None

    def _apart(self, one: int, two: int) -> int:
        """In how many elements two sets of these sizes may differ that are alike."""
        return math.floor((1 - self.alike) / (1 + self.alike) * (one + two) + 1e-9)

    def _keys(self, mine: frozenset[str]) -> list[tuple[int, int, int]]:
        """What to file a set under and to look for: two sets that are alike have one of these in common.

        If they differ in d elements at most, and all possible elements are dealt to d + 1 parts, then in one part the
        two sets are equal (the pigeonhole of PartEnum: Arasu, Ganti, Kaushik, VLDB 2006). d follows from both sizes, so
        a set is filed for each d that a partner of any fitting size would come to.
        """
        size, hashes, keys = len(mine), [hash(shingle) for shingle in mine], []
        smallest, largest = math.ceil(self.alike * size - 1e-9), math.floor(size / self.alike + 1e-9)
        for apart in range(self._apart(size, smallest), self._apart(size, largest) + 1):
            parts = [0] * (apart + 1)
            for each in hashes:
                parts[each % (apart + 1)] ^= each
            keys += [(apart, part, content) for part, content in enumerate(parts)]
        return keys


def _sketch(mine: frozenset[str]) -> int:
    """256 bits, each shingle turning one: two sets' sketches differ in no more bits than the sets in elements."""
    sketch = 0
    for shingle in mine:
        sketch ^= 1 << (hash(shingle) & 255)
    return sketch


def jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    return len(one & two) / len(one | two) if one or two else 1.0
