"""The web pages: HTML documents that refer to nothing outside, and the policy that holds them to that."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from clouds import streets
from clouds.config.label_sets import CITYSCAPES
from clouds.data.images import encode_image
from clouds.deploy.serve.batching import Served
from clouds.deploy.serve.limits import Service
from clouds.report.templating import content_hash, css, environment

POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

EXAMPLE = 7  # of the scenes of a town


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
        "example": any(set(each.classes) & set(CITYSCAPES.classes) for each in models),
    }
    html = templates.get_template("serve.html.j2").render(facts=facts, **parts)
    return html, _headers(**parts)


def docs_page(document: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The OpenAPI document as a page for people, without a script -> (HTML, headers to send with it)."""
    templates = environment("clouds.deploy.serve")
    style = _source(templates, "serve.css")
    routes = [
        {**each, "path": path, "method": method.upper()}
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    html = templates.get_template("docs.html.j2").render(
        about=document["info"], routes=routes, schemas=document["components"]["schemas"], style=style, kind=_kind
    )
    return html, _headers(script="", style=style)


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value of an OpenAPI schema is, in words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return "file" if schema.get("format") == "binary" else str(schema.get("type", "any"))


@cache
def example_image() -> bytes:
    """A drawn street, as JPEG: to try a model on that knows streets."""
    scene, _ = streets.render(streets.sample("town", EXAMPLE), (384, 768))
    return encode_image(scene, "the example", ".jpg")


def _headers(script: str, style: str) -> dict[str, str]:
    policy = POLICY.format(script=content_hash(script), style=content_hash(style))
    return {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def _source(templates: jinja2.Environment, name: str) -> str:
    assert templates.loader is not None
    return templates.loader.get_source(templates, name)[0]
