"""docs/openapi.json describes the endpoint completely and correctly."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import openapi_document
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks as openapi_checks
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from sessiond.endpoint.server.app import Endpoint, build
from sessiond.endpoint.server.results import PROBLEMS
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.wire import About, Push, PushAnswer, PushAppend, PushGeneration, PushSession

TOKEN = "sd_0123456789abcdef0123456789abcdef"
DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_is_that_of_the_code() -> None:
    """To update it: PYTHONPATH=daemon python tests/endpoint/openapi_document.py."""
    assert (DOCS / "openapi.json").read_text() == openapi_document.text()


def test_every_address_is_described_and_no_other(tmp_path: Path) -> None:
    """The routes of the protocol are the paths in the document and in the prose, for each method.

    `/healthz` and `/metrics` are for the operator of this endpoint, and no part of the protocol.
    """
    store = SqliteStore(str(tmp_path))
    routes = {
        (re.sub(r":\w+", "", route.path), method.lower())
        for route in Endpoint(store).routes()
        if route.path.startswith("/v1")
        for method in (route.methods or set()) - {"HEAD"}
    }
    store.close()
    described = json.loads((DOCS / "openapi.json").read_text())["paths"]
    assert routes == {(path, method) for path, methods in described.items() for method in methods}
    prose = (DOCS / "protocol.md").read_text()
    for path, method in routes:
        assert f"`{method.upper()} {path}`" in prose


def test_the_prose_has_every_problem_and_limit(tmp_path: Path) -> None:
    """A reader finds everything in it that a client may meet."""
    prose = (DOCS / "protocol.md").read_text()
    server = Path(openapi_document.__file__).parents[2] / "daemon" / "sessiond" / "endpoint" / "server"
    code = "".join(file.read_text() for file in server.glob("*.py"))
    kinds = set(re.findall(r'HttpError\(\s*\d+,\s*"([a-z-]+)"', code))
    assert "unauthorized" in kinds
    for name in (*PROBLEMS, *kinds):
        assert f"`{name}`" in prose, name


@schemathesis.serializer("application/x-ndjson")
def lines_of(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Write the lines of a push."""
    lines = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(each) for each in lines).encode()


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the document, with the application that it describes in this process."""
    store = SqliteStore(str(tmp_path_factory.mktemp("store")))
    described = json.loads((DOCS / "openapi.json").read_text())
    body = described["paths"]["/v1/push"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    # OpenAPI 3.1 has no word for lines of JSON: to have real lines made, say that it is an array of them.
    body["schema"] = {"type": "array", "items": body.pop("x-line-schema"), "maxItems": 5}

    endpoint = build(store, secrets=(TOKEN,))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        shown = scope["type"] == "http" and scope["path"] == "/openapi.json"
        await (JSONResponse(described) if shown else endpoint)(scope, receive, send)

    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    store.close()


load_all_checks()
CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
EXAMPLES = int(os.environ.get("SESSIOND_TRIALS", "12"))
"""Requests of each kind to an operation. Twelve of both kinds get all answers but one that twenty get."""
OPERATIONS = [(path, method) for path, methods in openapi_document.paths().items() for method in methods]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_answer_is_as_described(schema: Any, path: str, method: str, mode: schemathesis.GenerationMode) -> None:
    """Good and bad requests get a described status with a described body, never a 500."""

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        case.validate_response(answer, checks=CHECKS)

    ask()


def test_the_endpoint_accepts_the_examples_of_the_prose() -> None:
    """A copied example is a valid line."""
    blocks = re.findall(r"```json\n(.*?)```", (DOCS / "protocol.md").read_text(), re.DOTALL)
    examples = [json.loads(block) for block in blocks]
    kinds = [type(msgspec.convert(each, Push)) for each in examples if "op" in each]
    assert kinds == [PushSession, PushAppend, PushGeneration]
    (append,) = (each for each in examples if each.get("op") == "append")
    assert hashlib.sha256(append["data"].encode()).hexdigest() == append["sha256"]
    assert any(msgspec.convert(each, About) for each in examples if "service" in each)
    assert any(msgspec.convert(each, PushAnswer) for each in examples if "batch" in each)
