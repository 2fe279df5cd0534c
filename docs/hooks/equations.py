"""LaTeX between dollars -> MathML, which browsers draw without a script; where the code is hosted the dollars do."""

import html
import re

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)


def on_page_content(content: str, **_: object) -> str:
    content = INLINE.sub(lambda found: f'<span class="arithmatex">{_mathml(found[1], "inline")}</span>', content)
    return BLOCK.sub(lambda found: f'<div class="arithmatex" tabindex="0">{_mathml(found[1], "block")}</div>', content)


def _mathml(latex: str, display: str) -> str:
    return convert(html.unescape(latex).strip(), display=display)
