"""The web page: one HTML document that refers to nothing outside, and the policy that holds it to that."""

from collections.abc import Sequence

import jinja2

from clouds.deploy.serve.batching import Served
from clouds.deploy.serve.limits import Service
from clouds.report.templating import content_hash, css, environment

POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(models: Sequence[Served], service: Service) -> tuple[str, dict[str, str]]:
    """-> (HTML, headers to send with it)."""
    templates = environment("clouds.deploy.serve")
    parts = {name: _source(templates, f"serve.{ending}") for name, ending in (("script", "js"), ("style", "css"))}
    facts = {
        "models": [
            {"name": each.name, "classes": list(each.classes), "colors": [css(c) for c in each.colors]}
            for each in models
        ],
        "max_bytes": service.max_bytes,
        "max_pixels": service.max_pixels,
        "token": service.token is not None,
    }
    html = templates.get_template("serve.html.j2").render(facts=facts, **parts)
    hashes = {name: content_hash(part) for name, part in parts.items()}
    headers = {"Content-Security-Policy": POLICY.format(**hashes), "Referrer-Policy": "no-referrer"}
    return html, {**headers, "Cache-Control": "no-cache"}


def _source(templates: jinja2.Environment, name: str) -> str:
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]
