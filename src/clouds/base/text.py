"""Small pieces of text for people: a hint at a misspelt name, a list that ends in time, columns."""

import difflib
import re
from collections.abc import Iterable, Sequence


def did_you_mean(word: str, allowed: Iterable[str], text: str = "did you mean {}? ", most: int = 1) -> str:
    """``text`` with the ``most`` names of ``allowed`` that are nearly ``word``; "" where none is."""
    near = difflib.get_close_matches(word, list(allowed), most)
    return text.format(" or ".join(near)) if near else ""


def some(names: Sequence[str], most: int, comma: str = ", ") -> str:
    """The first ``most`` names and the number of the others: "a, b, c and 7 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return comma.join(names[:most]) + more


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that counts: step 90 before step 100."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def counted(number: int, thing: str) -> str:
    """1 -> "1 image", 2 -> "2 images"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def points_gained(before: float, after: float) -> float:
    """Two shares' difference in points, of the numbers as they are printed, so that those subtract."""
    return float(f"{100 * after:.1f}") - float(f"{100 * before:.1f}")


def columns(rows: Sequence[Sequence[str]], left: int = 1, gap: int = 2) -> list[str]:
    """A line a row, each column as wide as its longest cell; all but the first ``left`` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        aligned = (cell.ljust(w) if k < left else cell.rjust(w) for k, (cell, w) in enumerate(cells))
        lines.append((" " * gap).join(aligned).rstrip())
    return lines
