"""openapi.yaml says what the functions serve: by their routes, and by requests generated from it.

The requests go over HTTP to a local stack, which serves the four functions as they are deployed.
TAGSTITCH_OPENAPI_EXAMPLES=1000 searches longer, and each time elsewhere.
"""

from __future__ import annotations

import base64
import copy
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_dict
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas import generate
from schemas.openapi import (
    _SHARED_ERRORS,
    FUNCTIONS,
    Operation,
    openapi_document,
    operations,
)
from tagstitch.adapters.http_function import HttpFunction
from tagstitch.adapters.http_request import STATUS_OF_CODE
from tagstitch.core.errors import InvalidCode
from tests.end_to_end.running_stack import ROOT, RunningStack
from tests.functions.conftest import Start

Described: TypeAlias = APIOperation[Any, Any, Any, Any]

EXAMPLES: Final = os.environ.get("TAGSTITCH_OPENAPI_EXAMPLES")

VIEW: Final = "features_by_anonymous_id"

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(openapi_document()))

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

BEYOND_WORDS: Final = {"non_finite_number", "json_too_deep", "invalid_unicode"}
"""Codes of a 400 that a body may get which its schema allows: JSON Schema has no words for them."""


def described_as_set_up() -> dict[str, Any]:
    """Return the document with the names that the samples declare, and what their rules read.

    A pushed message stands in `data` as it is before it is encoded, so that it is generated, too.
    """
    # To JSON Schema 1.0 is an integer, and to the parsers a number is an identifier without a dot.
    written = json.dumps(DOCUMENT).replace('["string", "integer"]', '"string"')
    document: dict[str, Any] = json.loads(written)
    shapes = document["components"]["schemas"]
    printable = {"type": "string", "pattern": "^[ -~]{0,9}[!-~]$"}  # no words for it otherwise
    for lookup in ("SyncLookup", "AsyncLookup"):
        shapes[lookup]["properties"]["id"] = printable
    shapes["ViewName"] = {"enum": [None, "default"]}
    shapes["Activation"]["properties"]["view"] = {"const": VIEW}
    shapes["Activation"]["properties"]["id"]["properties"]["type"] = {"const": "anonymous_id"}
    shapes["AsyncLookup"]["properties"]["callback"] = {"enum": [None, "main"]}
    shapes["Event"]["properties"] |= {
        "event_name": {"enum": ["purchase", "view_item", "add_to_cart", "page_view"]},
        "user_id": {"enum": ["u-1001", "u-1002", 7, None]},
        "items": {"type": "array", "items": {"type": "object", "properties": {"price": {}}}},
        "value": {},
        "currency": {},
        "item_category": {},
    }
    by_query = document["paths"]["/stitch_sync"]["get"]["parameters"]
    for parameter in by_query:
        name = parameter["name"]
        known = {"id": printable, "view": {"const": "default"}, "callback": {"const": "main"}}
        parameter["schema"] = known.get(name, parameter["schema"])
        parameter["required"] = name == "client_id"  # one of many is, which OpenAPI cannot say
    for path in document["paths"].values():
        body = path.get("post", {}).get("requestBody", {"content": {}})["content"]
        message = body.get("application/json", {}).get("schema", {}).get("properties", {})
        data = message.get("message", {}).get("properties", {}).get("data", {})
        if "contentSchema" in data:
            message["message"]["properties"]["data"] = data["contentSchema"]
    return document


CALLS: Final = [operation for operation in operations() if operation.caller == "key"]
KEYS: Final = {
    "TAGSTITCH_AUTH": "key",
    "TAGSTITCH_KEYS": json.dumps(
        [{"id": "a", "secret": "s" * 32, "scopes": ["lookup", "decide", "stitch"]}]
    ),
}

AS_SET_UP: Final = from_dict(described_as_set_up())
AS_WRITTEN: Final = from_dict(copy.deepcopy(DOCUMENT))


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def labelled(schema: schemathesis.BaseSchema, *, has_input: bool = False) -> list[Any]:
    results: list[Any] = list(schema.get_all_operations())
    found = [result.ok() for result in results]
    return [
        pytest.param(operation, id=operation.label)
        for operation in found
        if not has_input or operation.body or operation.query or operation.headers
    ]


def encode_pushed(case: Case[Any]) -> None:
    """Encode a message that stands in a push as it is."""
    message = case.body.get("message") if isinstance(case.body, dict) else None
    data = message.get("data") if isinstance(message, dict) else None
    if isinstance(message, dict) and isinstance(data, dict):
        message["data"] = base64.b64encode(json.dumps(data).encode()).decode()


def search(operation: Described, mode: GenerationMode, ask: Any, *, examples: int) -> None:
    """Ask with generated requests; the same ones each time unless more are wished for."""
    run = given(case=operation.as_strategy(generation_mode=mode))(ask)
    settings(
        max_examples=int(EXAMPLES or examples),
        derandomize=EXAMPLES is None,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(run)()


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, HttpFunction]:
    """The four functions of `functions/<name>/main.py`, with their routes."""
    monkeypatch.setenv("TAGSTITCH_BACKEND", "local")
    monkeypatch.setenv("TAGSTITCH_DATA_DIR", str(tmp_path))
    found = {}
    for name in FUNCTIONS:
        place = ROOT / "functions" / name / "main.py"
        spec = importlib.util.spec_from_file_location(f"{name}_main", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[name] = module.function
    return found


class TestDocument:
    def test_the_file_is_what_the_generator_writes(self) -> None:
        assert generate.OPENAPI.read_text(encoding="utf-8") == generate.render_openapi(), (
            "run `make schemas`"
        )

    def test_a_check_tells_of_a_file_that_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert generate.main(["--check"]) == 0
        old = tmp_path / "openapi.yaml"
        old.write_text("openapi: 3.1.0\n", encoding="utf-8")
        monkeypatch.setattr(generate, "OPENAPI", old)

        assert generate.main(["--check"]) == 1
        assert "openapi.yaml is not what the generator writes" in capsys.readouterr().err
        assert old.read_text(encoding="utf-8") == "openapi: 3.1.0\n"

    def test_it_is_openapi(self) -> None:
        AS_WRITTEN.validate()

    def test_it_has_every_route_of_the_functions_and_no_other(
        self, functions: dict[str, HttpFunction]
    ) -> None:
        callers = {"call": "key", "push": "platform", "job": "platform"}
        served = {
            (name, method, path): (callers[route.kind], route.detail)
            for name, function in functions.items()
            for (method, path), route in function._routes.items()
        }
        probes = {(name, "GET", "/health"): ("anybody", "") for name in functions}

        described = {
            (operation.function, operation.method, operation.path): (
                operation.caller,
                operation.scope,
            )
            for operation in operations()
        }

        assert described == {**served, **probes}

    def test_its_limits_of_bodies_are_those_of_the_functions(
        self, functions: dict[str, HttpFunction]
    ) -> None:
        limits = {operation.function: operation.bytes_max for operation in operations()
                  if operation.body}  # fmt: skip

        assert limits == {name: function._body_bytes_max for name, function in functions.items()}

    def test_every_code_of_an_error_is_in_it_with_its_status(self) -> None:
        of_messages = {"unsupported_version"}  # they become dead letters
        of_other_paths = {"not_found", "method_not_allowed"}
        described = {code for operation in operations() for code in operation.codes}
        shared = {(code, status) for code, (status, _, _) in _SHARED_ERRORS.items()}

        assert described == set(get_args(InvalidCode)) - of_messages - of_other_paths
        assert shared - set(STATUS_OF_CODE.items()) == {("internal", 500), ("unavailable", 503)}

    @pytest.mark.parametrize("function", FUNCTIONS)
    async def test_other_paths_and_methods_have_the_shape_of_every_error(
        self, start: Start, function: str
    ) -> None:
        client = await start(function)
        error = Draft202012Validator(DOCUMENT["components"]["schemas"]["Error"])

        answers = [await client.get("/nowhere"), await client.delete("/")]

        assert [answer.status_code for answer in answers] == [404, 405]
        for answer in answers:
            error.validate(answer.json())

    @pytest.mark.parametrize("operation", CALLS, ids=lambda operation: operation.name)
    async def test_refusals_are_those_that_it_describes(
        self, start: Start, operation: Operation
    ) -> None:
        client = await start(operation.function, **KEYS, TAGSTITCH_RATE_LIMIT="0.01,2")
        described = AS_WRITTEN[operation.place][operation.method]
        key = {"X-Tagstitch-Key": "s" * 32, "content-type": "application/json"}
        refused: dict[int, dict[str, Any]] = {
            401: {"headers": {}, "content": b"{}"},
            413: {"headers": key, "content": b" " * (operation.bytes_max + 1)},
            415: {"headers": {**key, "content-type": "text/xml"}, "content": b"<a/>"},
            400: {"headers": key, "content": b"{"},
            429: {"headers": key, "content": b"{}"},
        }
        answers = {}

        for status, request in refused.items():
            if operation.method == "POST" or status not in (413, 415):
                for _ in range(2 if status == 429 else 1):  # the first one may still ask
                    answers[status] = await client.request(
                        operation.method, operation.path, **request
                    )

        assert [answer.status_code for answer in answers.values()] == list(answers)
        for answer in answers.values():
            assert described.is_valid_response(answer), answer.text
        assert int(answers[429].headers["retry-after"]) >= 1

    async def test_an_answer_of_another_shape_is_none_that_it_describes(self, start: Start) -> None:
        client = await start("stitch_sync")
        described = AS_WRITTEN["/stitch_sync"]["GET"]

        answer = await client.get("/?client_id=1.2")
        body = answer.json()

        assert described.is_valid_response(answer)
        for changed in ({**body, "more": 1}, {**body, "reason": "x"}, {**body, "found": None}):
            answer._content = json.dumps(changed).encode()
            assert not described.is_valid_response(answer), changed


class TestGeneratedRequests:
    @pytest.mark.parametrize("operation", labelled(AS_SET_UP))
    def test_what_the_document_allows_is_answered_as_it_says(
        self, stack: RunningStack, session: requests.Session, operation: Described
    ) -> None:
        def ask(case: Case[Any]) -> None:
            encode_pushed(case)
            answer = case.call(base_url=stack.url, session=session)
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code == 400:
                assert answer.json()["error"]["code"] in BEYOND_WORDS, answer.text

        search(operation, GenerationMode.POSITIVE, ask, examples=20)

    @pytest.mark.parametrize("operation", labelled(AS_WRITTEN, has_input=True))
    def test_what_the_document_does_not_allow_is_refused_as_it_says(
        self, stack: RunningStack, session: requests.Session, operation: Described
    ) -> None:
        def ask(case: Case[Any]) -> None:
            answer = case.call(base_url=stack.url, session=session)
            case.validate_response(answer, checks=[*CHECKS, negative_data_rejection])

        search(operation, GenerationMode.NEGATIVE, ask, examples=20)
