"""Templates and how they print: one Jinja environment for every page, numbers and colours as people read them."""

from __future__ import annotations

import base64
import colorsys
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from clouds.base.files import whole_file
from clouds.base.text import points_gained
from clouds.config.label_sets import CITYSCAPES, LABEL_SETS, Color, LabelSet
from clouds.report.display_colors import display_colors

MODEL_NAMES = {"joint": "Joint model", "warmup": "Warm-up model"}  # the order on the pages


@cache
def environment(package: str = "clouds.report") -> jinja2.Environment:
    """The templates of a package, compiled once; what they print is escaped unless their name ends in ``.md.j2``."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=lambda name: not (name or "").endswith(".md.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["gain"] = gain
    made.filters.update(percent=percent, signed=signed, tone=tone, count=count, duration=duration, yaml=_yaml)
    return made


def write_page(target: Path, template: str, **values: Any) -> Path:
    """Fill in a template and write it, whole or not at all; returns the absolute path."""
    page = environment().get_template(template).render(**values).encode("utf-8", "replace")  # half a surrogate pair
    with whole_file(target.absolute()) as temporary:
        temporary.write_bytes(page)
    return target.absolute()


def content_hash(text: str) -> str:
    """A script or style as a content security policy names it, so that a page runs this one and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 as a number of per cent, without the sign: 0.3127 -> 31.3."""
    return "–" if share is None else f"{100 * share:.{digits}f}"


def gain(before: float | None, after: float | None) -> float | None:
    """The difference of two shares as a page prints them, so that its numbers subtract; None where one is not known."""
    return None if before is None or after is None else points_gained(before, after) / 100


def signed(share: float | None) -> str:
    """A difference of shares in points, with its sign: -0.021 -> −2.1 (a true minus)."""
    if share is None:
        return "–"
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "±0.0" if text[1:] == "0.0" else text


def tone(share: float | None) -> str:
    """The CSS class of a difference, by what its printed form says."""
    return {"+": "up", "−": "down"}.get(signed(share)[0], "same")


def count(number: float) -> str:
    """A count for people: 12,430 or 3.1 M."""
    if abs(number) >= 1e6:
        return f"{number / 1e6:,.1f} M"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.4g}"


def duration(seconds: float) -> str:
    """Seconds for people: 8.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def setting(value: object) -> str:
    """A setting as a recipe writes it: none, true, 0.1; of sets only what is given."""
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        given = [
            {key: what for key, what in each.items() if what not in (None, "")} if isinstance(each, dict) else each
            for each in value
        ]
        flow: str = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, default_flow_style=True, width=1000)
        return flow.strip()
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _yaml(value: object) -> str:
    """Nested settings as readable text."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()


def css(color: Sequence[int]) -> str:
    """A colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*map(int, color))


def apart(k: int) -> Color:
    """The k-th of colours that differ: hues go on by the golden ratio, so that neighbours lie far apart."""
    red, green, blue = colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.45 + 0.2 * (k % 3), 0.9 - 0.3 * (k % 2))
    return round(255 * red), round(255 * green), round(255 * blue)


def palette(
    label_set: str, names: Sequence[str] = (), model: LabelSet = CITYSCAPES
) -> tuple[Sequence[str], Sequence[Color]]:
    """Classes of a label set, and their colours on a page (``display_colors``).

    A user's own have the model's colours by name, or Cityscapes', or some that differ.
    """
    if label_set in LABEL_SETS:
        return LABEL_SETS[label_set].classes, display_colors(LABEL_SETS[label_set].colors)
    known = {name: color for each in (CITYSCAPES, model) for name, color in zip(each.classes, each.colors, strict=True)}
    return names, display_colors([known.get(name, apart(k)) for k, name in enumerate(names)])
