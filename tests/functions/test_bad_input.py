"""Whatever arrives, the answer is one of the documented errors and quotes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.functions.conftest import Start
from tests.functions.signing import SIGNATURE, signed_text

CANARY = "anna.canary@example.com"

LOOKUP = {"identifiers": {"client_id": "1294673677.1747154479"}}
EVENT = {"event": {"event_name": "purchase", "client_id": "1294673677.1747154479"}}

JSON = {"content-type": "application/json"}


def nested(depth: int) -> bytes:
    return b'{"identifiers":{"client_id":"c"},"context":' + b"[" * depth + b"]" * depth + b"}"


BAD_BODIES = [
    ("nothing", b"", "invalid_json"),
    ("no JSON", b"{" + CANARY.encode(), "invalid_json"),
    ("nested 100,000 deep", b"[" * 100_000, "json_too_deep"),
    ("nested 30 deep", nested(30), "json_too_deep"),
    ("NaN", b'{"event":{"event_name":"a","value":NaN}}', "non_finite_number"),
    ("Infinity", b'{"event":{"event_name":"a","value":-Infinity}}', "non_finite_number"),
    ("1e999", b'{"event":{"event_name":"a","value":1e999}}', "non_finite_number"),
    ("5,000 digits", b'{"event":{"event_name":"a","value":' + b"9" * 5000 + b"}}", "non_finite_number"),
    ("more than 64 bits", b'{"event":{"event_name":"a","value":9223372036854775808}}', "non_finite_number"),
    ("lone surrogate", b'{"event":{"event_name":"\\ud800"}}', "invalid_unicode"),
    ("invalid UTF-8", b'{"event":{"event_name":"\xff"}}', "invalid_unicode"),
    ("UTF-16", '{"event":{}}'.encode("utf-16"), "invalid_unicode"),
    ("UTF-16, little end first", '{"event":{}}'.encode("utf-16-le"), "invalid_unicode"),
    ("UTF-16, big end first", '{"event":{}}'.encode("utf-16-be"), "invalid_unicode"),
    ("UTF-32", '{"event":{}}'.encode("utf-32"), "invalid_unicode"),
    ("UTF-32, big end first", '{"event":{}}'.encode("utf-32-be"), "invalid_unicode"),
    ("UTF-16 with letters", '{"event":{"ü":"☃"}}'.encode("utf-16-be"), "invalid_unicode"),
    ("byte order mark", b"\xef\xbb\xbf{}", "invalid_unicode"),
    ("a list", b"[]", "invalid_field"),
    ("a string", json.dumps(CANARY).encode(), "invalid_field"),
    ("null", b"null", "invalid_field"),
]  # fmt: skip

BAD_LOOKUPS: list[tuple[str, dict[str, Any], str, str]] = [
    ("nobody", {}, "missing_field", "identifiers"),
    ("identifiers as text", {"identifiers": CANARY}, "invalid_field", "identifiers"),
    ("undeclared type", {"identifiers": {"shoe_size": "43"}}, "invalid_field", "identifiers.shoe_size"),
    ("identifier as object", {"identifiers": {"user_id": {"a": 1}}}, "invalid_field", "identifiers.user_id"),
    ("NUL in an identifier", {"identifiers": {"user_id": "a\x00b"}}, "invalid_unicode", "identifiers.user_id"),
    ("CRLF in an identifier", {"identifiers": {"user_id": "a\r\nb: c"}}, "invalid_unicode", "identifiers.user_id"),
    ("endless identifier", {"identifiers": {"user_id": "x" * 600}}, "invalid_field", "identifiers.user_id"),
    ("view as number", {**LOOKUP, "view": 7}, "invalid_field", "view"),
    ("fields as text", {**LOOKUP, "fields": "a"}, "invalid_field", "fields"),
    ("unknown mode", {**LOOKUP, "mode": CANARY}, "invalid_field", "mode"),
    ("request id with dots", {**LOOKUP, "request_id": "a.b"}, "invalid_field", "request_id"),
    ("endless request id", {**LOOKUP, "request_id": "a" * 300}, "invalid_field", "request_id"),
    ("request id as number", {**LOOKUP, "request_id": 5}, "invalid_field", "request_id"),
    ("deadline as text", {**LOOKUP, "deadline_ms": "soon"}, "invalid_field", "deadline_ms"),
    ("unknown callback", {**LOOKUP, "mode": "async", "callback": CANARY}, "unknown_callback", "callback"),
    ("huge context", {**LOOKUP, "mode": "async", "context": {"a": "x" * 5000}}, "invalid_field", "context"),
    ("time without offset", {**LOOKUP, "mode": "async", "occurred_at": "2026-11-21T20:00:00"}, "invalid_field", "occurred_at"),
]  # fmt: skip

BAD_DECISIONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("no event", {}, "missing_field", "event"),
    ("event as text", {"event": CANARY}, "invalid_field", "event"),
    ("no name", {"event": {"client_id": "c"}}, "missing_field", "event.event_name"),
    ("name as number", {"event": {"event_name": 5}}, "invalid_field", "event.event_name"),
    ("empty name", {"event": {"event_name": ""}}, "invalid_field", "event.event_name"),
    ("unknown part", {**EVENT, "include": [CANARY]}, "invalid_field", "include"),
    ("request id with dots", {**EVENT, "request_id": "a.b"}, "invalid_field", "request_id"),
    ("endless request id", {**EVENT, "request_id": "a" * 300}, "invalid_field", "request_id"),
    ("explain as text", {**EVENT, "explain": "yes"}, "invalid_field", "explain"),
]


def check_error(answer: Any, status: int, code: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert len(error["error_id"]) == 32
    assert "canary" not in answer.text
    assert "Traceback" not in answer.text
    return error


class TestBodies:
    @pytest.mark.parametrize("function", ["stitch_sync", "decide"])
    @pytest.mark.parametrize(
        ("body", "code"), [pytest.param(*row[1:], id=row[0]) for row in BAD_BODIES]
    )
    async def test_a_body_that_is_not_bounded_json_is_refused(
        self, start: Start, function: str, body: bytes, code: str
    ) -> None:
        client = await start(function)

        answer = await client.post("/", content=body, headers=JSON)

        check_error(answer, 400, code)

    @pytest.mark.parametrize(
        ("body", "code", "path"), [pytest.param(*row[1:], id=row[0]) for row in BAD_LOOKUPS]
    )
    async def test_a_lookup_names_the_field_that_is_wrong(
        self, start: Start, body: dict[str, Any], code: str, path: str
    ) -> None:
        client = await start("stitch_sync")

        error = check_error(await client.post("/", json=body), 400, code)

        assert error["path"] == path

    @pytest.mark.parametrize(
        ("body", "code", "path"), [pytest.param(*row[1:], id=row[0]) for row in BAD_DECISIONS]
    )
    async def test_a_decision_names_the_field_that_is_wrong(
        self, start: Start, body: dict[str, Any], code: str, path: str
    ) -> None:
        client = await start("decide")

        error = check_error(await client.post("/decide", json=body), 400, code)

        assert error["path"] == path

    @pytest.mark.parametrize(("function", "kibibytes"), [("stitch_sync", 256), ("decide", 1024)])
    async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(
        self, start: Start, function: str, kibibytes: int
    ) -> None:
        client = await start(function)

        answer = await client.post("/", content=b" " * (kibibytes * 1024 + 1), headers=JSON)

        check_error(answer, 413, "body_too_large")

    async def test_a_body_without_a_length_is_read_to_the_limit_only(self, start: Start) -> None:
        client = await start("stitch_sync")
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            for _ in range(10_000):
                sent += 1
                yield b" " * 65_536

        answer = await client.post("/", content=endless(), headers=JSON)

        check_error(answer, 413, "body_too_large")
        assert sent <= 256 * 1024 // 65_536 + 1

    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
    async def test_compressed_bodies_are_refused(self, start: Start, encoding: str) -> None:
        client = await start("decide")

        answer = await client.post(
            "/", content=b"\x1f\x8b", headers={**JSON, "content-encoding": encoding}
        )

        check_error(answer, 415, "unsupported_media_type")

    async def test_other_media_types_are_refused(self, start: Start) -> None:
        client = await start("decide")

        answer = await client.post("/", content=b"<a/>", headers={"content-type": "text/xml"})

        check_error(answer, 415, "unsupported_media_type")

    async def test_unknown_parameters_pass_through_untouched(self, start: Start) -> None:
        client = await start("decide")
        event = {
            "event_name": "page_view",
            "x-ga-page_id": 1747422523211,
            "x-sst-system_properties": {"uc": "BR"},
            "ünïcödé 🙂": [{"a": [1.5, None, True]}],
            "1e3": "1e3",
        }

        answer = await client.post("/make-event-decision", json=event)

        assert answer.json()["resolved_event_payload"] == event


class TestKeysThatStandTwice:
    async def test_the_last_one_counts(self, start: Start) -> None:
        decide, stitch_sync = await start("decide"), await start("stitch_sync")
        event = b'{"event_name":"first","event_name":"second","a":{"b":1,"b":2}}'
        lookup = b'{"request_id":"first","id":"x","request_id":"second"}'

        decided = await decide.post("/make-event-decision", content=event, headers=JSON)
        found = await stitch_sync.post("/", content=lookup, headers=JSON)

        assert decided.json()["original_event_name"] == "second"
        assert decided.json()["resolved_event_payload"] == {"event_name": "second", "a": {"b": 2}}
        assert found.json()["request_id"] == "second"

    async def test_a_signature_covers_the_bytes_as_they_came(self, start: Start) -> None:
        client = await start("decide", **SIGNATURE)
        twice = '{"event":{"event_name":"a","event_name":"b"}}'
        once = '{"event":{"event_name":"b"}}'
        request = signed_text(twice, "msg-1")

        sent = await client.post("/", **request)
        changed = await client.post("/", **{**request, "content": once})

        assert sent.status_code == 200
        check_error(changed, 401, "unauthorized")


class TestForeignPages:
    @pytest.mark.parametrize(
        ("function", "path"),
        [
            ("stitch_sync", "/?client_id=1.2"),
            ("stitch_sync", "/activation"),
            ("decide", "/decide"),
            ("decide", "/make-event-decision"),
            ("stitch_async", "/"),
            ("stitch_async", "/sweep"),
            ("audit_sink", "/"),
            ("decide", "/nowhere"),
            ("stitch_sync", "/health"),
        ],
    )
    async def test_no_answer_lets_a_foreign_page_read_it(
        self, start: Start, function: str, path: str
    ) -> None:
        client = await start(function)
        origin = {"Origin": "https://evil.example.com"}
        preflight = {
            **origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-tagstitch-key",
        }

        answers = [
            await client.get(path, headers=origin),
            await client.post(path, json={"event": {"event_name": "a"}}, headers=origin),
            await client.post(path, content=b"{", headers=origin),
            await client.options(path, headers=preflight),
        ]

        for answer in answers:
            assert [name for name in answer.headers if name.startswith("access-control-")] == []
        assert answers[-1].status_code in (404, 405)


class TestPaths:
    @pytest.mark.parametrize(
        ("function", "method", "path", "status"),
        [
            ("stitch_sync", "GET", "/nowhere", 404),
            ("stitch_sync", "PUT", "/", 405),
            ("stitch_sync", "DELETE", "/", 405),
            ("decide", "GET", "/", 405),
            ("decide", "GET", "/decide", 405),
            ("decide", "POST", "/decide/decide", 404),
            ("stitch_async", "GET", "/", 405),
            ("stitch_async", "GET", "/sweep", 405),
            ("audit_sink", "GET", "/deadletters", 405),
            ("audit_sink", "POST", "/health", 404),
        ],
    )
    async def test_only_documented_routes_answer(
        self, start: Start, function: str, method: str, path: str, status: int
    ) -> None:
        client = await start(function)

        answer = await client.request(method, path, json={})

        check_error(answer, status, "not_found" if status == 404 else "method_not_allowed")

    async def test_a_trailing_slash_never_matters_and_nothing_redirects(self, start: Start) -> None:
        client = await start("decide")

        for path in ("/decide", "/decide/", "/make-event-decision/"):
            body = EVENT["event"] if "make" in path else EVENT
            assert (await client.post(path, json=body)).status_code == 200

    @pytest.mark.parametrize("function", ["stitch_sync", "stitch_async", "decide", "audit_sink"])
    async def test_health_needs_no_authentication_and_no_store(
        self, start: Start, function: str
    ) -> None:
        client = await start(function, TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=KEYS)

        answer = await client.get("/health")

        assert (answer.status_code, answer.json()["function"]) == (200, function)


KEYS = json.dumps(
    [
        {"id": "full", "secret": "f" * 32, "scopes": ["lookup", "decide", "stitch", "assert"]},
        {"id": "reader", "secret": "r" * 32, "scopes": ["lookup"]},
        {"id": "author", "secret": "e" * 32, "scopes": ["decide", "explain"]},
    ]
)


class TestKeys:
    @pytest.mark.parametrize("key", [None, "", "wrong", "f" * 31, "ümläut", "\x7f"])
    async def test_every_failed_authentication_looks_the_same(
        self, start: Start, key: str | None
    ) -> None:
        client = await start("stitch_sync", TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=KEYS)
        headers = [] if key is None else [(b"X-Tagstitch-Key", key.encode())]

        answer = await client.post("/", json=LOOKUP, headers=headers)

        error = check_error(answer, 401, "unauthorized")
        del error["error_id"]
        assert error == {
            "code": "unauthorized",
            "message": "missing or wrong key or signature, or a scope that the key lacks",
            "hint": "docs/settings.md, TAGSTITCH_AUTH, says how to authenticate",
        }

    async def test_a_key_does_what_its_scopes_say(self, start: Start) -> None:
        client = await start("stitch_sync", TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=KEYS)
        reader = {"X-Tagstitch-Key": "r" * 32}

        looked_up = await client.post("/", json=LOOKUP, headers=reader)
        accepted = await client.post("/", json={**LOOKUP, "mode": "async"}, headers=reader)

        assert (looked_up.status_code, accepted.status_code) == (200, 401)

    @pytest.mark.parametrize(("function", "path"), [("decide", "/"), ("decide", "/decide")])
    async def test_a_trace_is_for_keys_with_the_scope_explain(
        self, start: Start, function: str, path: str
    ) -> None:
        client = await start(function, TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=KEYS)

        answers = [
            await client.post(path, json=body, headers={"X-Tagstitch-Key": secret * 32})
            for secret in ("f", "e")
            for body in ({**EVENT, "explain": True}, {**EVENT, "explain": False})
        ]

        check_error(answers[0], 401, "unauthorized")
        assert [answer.status_code for answer in answers] == [401, 200, 200, 200]
        assert ["trace" in answer.json() for answer in answers[1:]] == [False, True, False]

    @pytest.mark.parametrize("path", ["/make-event-decision", "/make-personalization-decision"])
    async def test_an_event_cannot_ask_for_a_trace(self, start: Start, path: str) -> None:
        client = await start("decide")

        answer = await client.post(path, json={**EVENT["event"], "explain": True})

        assert "trace" not in answer.json()

    async def test_a_wrong_key_is_refused_before_the_body_is_understood(self, start: Start) -> None:
        client = await start("decide", TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=KEYS)

        answer = await client.post("/", content=b"{not json", headers=JSON)

        check_error(answer, 401, "unauthorized")
