"""Requests that schemathesis makes up from the OpenAPI document: no answer is a surprise to the document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings


from serving import Live, live


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with live(str(Path(__file__).with_name("serving.py")), "0.0") as started:
        yield started


@pytest.fixture
def document(server: Live) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("document")


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_made_up_requests_are_answered_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate()
