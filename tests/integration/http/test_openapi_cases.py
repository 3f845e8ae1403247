"""Requests that no caller sends, made from the service's own OpenAPI document.

The document names what callers may send; on top of it every route here takes any query, header, cookie and body
too, under every method, and so do paths that are no routes. Source of the figures:
facts/observability_security.md section 5.2, test 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from support.inside import telling
from support.running_service import RunningService, running
from support.service_client import MIB, rss_bytes

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
HEADERS = (
    "Authorization",
    "Host",
    "Accept",
    "Content-Encoding",
    "Range",
    "X-Forwarded-For",
    "Origin",
    "traceparent",
)
ANYTHING: dict[str, Any] = {"type": ["string", "integer", "number", "boolean", "array", "object", "null"]}


def hostile(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every method on its routes, on paths that are none, and what nobody asked for in each."""
    text = {"schema": {"type": "string"}}
    extra = [
        {"name": "q", "in": "query", **text},
        {"name": "session", "in": "cookie", **text},
        *({"name": name, "in": "header", **text} for name in HEADERS),
    ]
    answers = {"responses": {"default": {"description": "Anything"}}}
    body = {"content": {kind: {"schema": ANYTHING} for kind in ("application/json", "text/plain")}}
    segment = {"name": "segment", "in": "path", "required": True, **text}
    paths: dict[str, Any] = {}
    for path, known in {**document["paths"], "/{segment}": {}, "/metrics/{segment}": {}}.items():
        in_path = [segment] if "{" in path else []
        paths[path] = {
            method: {
                **known.get(method, answers),
                "operationId": f"{method} {path}",
                "parameters": [*known.get(method, {}).get("parameters", []), *extra, *in_path],
                **({} if method in ("get", "head", "trace") else {"requestBody": body}),
            }
            for method in METHODS
        }
    return {**document, "paths": paths}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running(tmp_path_factory.mktemp("openapi")) as service:
        yield service


def send_cases(service: RunningService, count: int) -> list[tuple[str, int, str]]:
    """Route, status, and headers and body of the answer to each of ``count`` cases, valid ones and others."""
    address = f"http://{service.http}"
    document = hostile(httpx.get(f"{address}/openapi.json").json())
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    strategies = [
        operation.as_strategy(generation_mode=mode)
        for operation in operations
        for mode in schemathesis.GenerationMode
    ]
    answers: list[tuple[str, int, str]] = []
    with requests.Session() as session:
        session.trust_env = False  # a proxy of this machine's has no part in it

        @settings(
            max_examples=count, database=None, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.one_of(strategies))
        def each(case: schemathesis.Case) -> None:
            try:
                answer = case.call(base_url=address, session=session, allow_redirects=False)
            except ValueError:
                reject()  # the client cannot put it on the wire: a host like "[", for example
            shown = f"{answer.headers} {answer.content.decode('utf-8', 'replace')}"
            answers.append((f"{case.method} {case.formatted_path}", answer.status_code, shown))

        each()
    return answers


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(400, id="reduced"),
        pytest.param(10_000, id="full", marks=[pytest.mark.full, pytest.mark.timeout(1800)]),
    ],
)
def test_cases_of_the_openapi_document_are_refused_or_answered(
    fuzzed: RunningService, root: Path, cases: int
) -> None:
    send_cases(fuzzed, 100)  # what is loaded at first use is loaded now
    before = rss_bytes(fuzzed.pid)
    answers = send_cases(fuzzed, cases)
    assert len(answers) >= cases
    statuses = Counter(status for _, status, _ in answers)
    assert [answer for answer in answers if answer[1] >= 500] == []
    assert {200, 400, 404, 405} <= set(statuses), statuses
    assert telling((shown for _, _, shown in answers), fuzzed.home, root) == []
    assert "http.failed" not in fuzzed.log
    assert "Traceback" not in fuzzed.log
    assert rss_bytes(fuzzed.pid) - before <= 20 * MIB
    assert fuzzed.process.poll() is None
    assert httpx.get(f"http://{fuzzed.http}/readyz").json()["ready"] is True
