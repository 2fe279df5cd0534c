"""The words of a sweep: which values a key takes, which seeds, and all their combinations. Pure text and values."""

import itertools
import re

import yaml

from clouds.errors import UsageError


def split_word(word: str) -> tuple[str, list[str]]:
    """``key=a,[b,c],"d,e"`` -> (key, the texts of its values), each to be read as YAML.

    The values are a YAML list without its brackets, so a comma inside brackets or quotes parts nothing. A text without
    any comma is one value, whatever it holds. Raises UsageError naming the word.
    """
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise UsageError(f"{word!r}: expected key=value or key=a,b,c, such as train.learning_rate=1e-3,3e-4")
    if "," not in text:
        return key, [text]
    try:
        node = yaml.compose(f"[{text}]", Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        problem = "two commas with nothing between" if re.search(r"(^|,)\s*,", text) else getattr(error, "problem", "")
        raise UsageError(
            f"{word!r}: no list of values ({problem or error}); expected {key}=a,b,c, and quotes around a value that "
            "holds a comma, a bracket or a sign of YAML"
        ) from error
    # what closes the list early, as in a],[b, is not the list that was meant
    if not isinstance(node, yaml.SequenceNode) or node.end_mark.index != len(text) + 2:
        raise UsageError(f"{word!r}: its brackets do not pair; expected {key}=a,b,c")
    if text.rstrip().endswith(","):
        raise UsageError(f"{word!r}: ends with a comma; a value is missing, or the comma is too much")
    return key, [f"[{text}]"[value.start_mark.index : value.end_mark.index] for value in node.value]


def combinations(words: list[str], swept: list[str]) -> tuple[list[str], list[list[str]]]:
    """Words -> (the keys that take several values, one list of ``key=value`` a combination, the last key fastest).

    Keys in ``swept`` count as such with one value too, and come first, in that order. Raises UsageError for a word that
    is none, a key given twice and a value given twice.
    """
    values: dict[str, list[str]] = {}
    for word in words:
        key, texts = split_word(word)
        if key == "seed":
            raise UsageError(f"{word!r}: the seeds of a sweep come from --seeds 3 or --seeds 0,3,7")
        if key in values:
            raise UsageError(f"{word!r}: {key} is given twice; write all its values in one word, {key}=a,b")
        if twice := {text for text in texts if texts.count(text) > 1}:
            raise UsageError(f"{word!r}: {', '.join(sorted(twice))} is there twice")
        values[key] = texts
    keys = [key for key in swept if key in values]
    keys += [key for key, texts in values.items() if len(texts) > 1 and key not in swept]
    fixed = [f"{key}={texts[0]}" for key, texts in values.items() if key not in keys]
    chosen = itertools.product(*(values[key] for key in keys))
    return keys, [fixed + [f"{key}={text}" for key, text in zip(keys, texts, strict=True)] for texts in chosen]


def parse_seeds(text: str) -> list[int]:
    """``3`` -> [0, 1, 2]; ``0,3,7`` -> these; ``7,`` -> [7]. Raises UsageError for anything else."""
    if re.fullmatch(r"\s*\d{1,9}\s*", text) and int(text) > 0:
        return list(range(int(text)))
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*,?\s*", text) or "," not in text:
        raise UsageError(f"--seeds: got {text!r}; expected how many, as 3, or which, as 0,3,7 (7, for one alone)")
    seeds = [int(part) for part in text.split(",") if part.strip()]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds: got {text!r}; a seed is there twice")
    return seeds
