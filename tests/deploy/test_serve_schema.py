"""Requests that schemathesis makes up from the OpenAPI document: no answer is a surprise to the document."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving import Live, live

PATHS = ("/v1/segment", "/v1/classes", "/health", "/ready", "/metrics")


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live(str(Path(__file__).parents[1] / "serving.py"), "0.0") as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_made_up_requests_are_answered_as_documented(server: Live, path: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    assert {result.ok().path for result in schema.get_all_operations()} == set(PATHS)
    operation = schema[path]["POST" if path == "/v1/segment" else "GET"]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def attempt(case: schemathesis.Case) -> None:
        # which bytes are a whole image within the limits, a schema cannot tell
        excluded = [positive_data_acceptance] if path == "/v1/segment" else []
        case.call_and_validate(excluded_checks=excluded)

    attempt()
