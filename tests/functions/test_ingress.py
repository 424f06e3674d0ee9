"""Whatever arrives over HTTP: sizes, numbers and texts at every entry are refused or harmless."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tagstitch.cli.json_lines import BadLine, read_lines
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import IdentitySettings
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.profile_line import parse_profile_line
from tests.end_to_end.running_stack import RunningStack, until

MIB: Final = 1024 * 1024
POURED_BYTES: Final = 40 * MIB

ENTRIES: Final[dict[str, str]] = {
    "/stitch_sync": '{"identifiers": {"client_id": "55.66"}, "consent": {"email": %s}}',
    "/stitch_sync?async": '{"identifiers": {"client_id": "55.66"}, "mode": "async", "context": {"a": %s}}',
    "/stitch_sync/activation": '{"entity": "user", "id": {"type": "anonymous_id", "value": "a-1"},'
    ' "view": "features_by_anonymous_id", "consent": {"email": %s}}',
    "/decide": '{"event": {"event_name": "purchase", "client_id": "55.66", "value": %s}}',
    "/decide/make-event-decision": '{"event_name": "purchase", "user_id": "u-1002", "value": %s}',
    "/decide/make-personalization-decision": '{"event_name": "view_item", "user_id": "u-1001",'
    ' "item_category": %s}',
}
"""Address -> a body with a place for any value, with which it is accepted."""

MESSAGES: Final[dict[str, str]] = {
    "/stitch_async": '{"identifiers": {"client_id": "77.66"}, "context": {"a": %s}}',
    "/stitch_async/actions": '{"v": 1, "outbox_id": %s}',
    "/audit_sink": '{"record_id": "r-1", "record_type": "identity_link", "outcome": "linked",'
    ' "occurred_at": "2026-11-21T20:00:00Z", "extra": {"a": %s}}',
}
"""The same of what is pushed."""

LIMITS: Final = [
    ("/stitch_sync", 256),
    ("/stitch_sync/activation", 256),
    ("/decide", 1024),
    ("/decide/make-event-decision", 1024),
    ("/stitch_async", 14 * 1024),
    ("/audit_sink/deadletters", 14 * 1024),
]

lengthy = settings(
    max_examples=int(os.environ.get("TAGSTITCH_INGRESS_EXAMPLES", "25")),
    deadline=None,
    database=None,
    derandomize="TAGSTITCH_INGRESS_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def post(client: httpx.Client, address: str, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return client.post(address.partition("?")[0], content=body, headers=headers)


def push(client: httpx.Client, address: str, message: bytes) -> httpx.Response:
    pushed = {"data": base64.b64encode(message).decode(), "messageId": uuid.uuid4().hex}
    return client.post(address, json={"message": pushed})


def code_of(answer: httpx.Response) -> str | None:
    return answer.json()["error"]["code"] if answer.status_code >= 400 else None


class TestSizes:
    @pytest.mark.parametrize(("path", "kibibytes"), LIMITS)
    def test_what_says_that_it_is_too_large_is_refused_before_a_byte_of_it(
        self, stack: RunningStack, path: str, kibibytes: int
    ) -> None:
        host, port = stack.url.removeprefix("http://").split(":")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {kibibytes * 1024 + 1}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = json.loads(answer.read())

        assert (answer.status, body["error"]["code"]) == (413, "body_too_large")

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
    @pytest.mark.parametrize("has_length", [True, False])
    def test_memory_stays_flat_however_much_is_sent(
        self, stack: RunningStack, client: httpx.Client, *, has_length: bool
    ) -> None:
        for address, body in ENTRIES.items():
            post(client, address, (body % "true").encode())  # everything is imported
        before = peak_bytes(stack)

        for path in ("/stitch_sync", "/decide") * 3:
            assert pour(stack, path, has_length=has_length) in (413, None)

        assert peak_bytes(stack) - before < POURED_BYTES / 4
        assert post(client, "/decide", (ENTRIES["/decide"] % "1").encode()).status_code == 200


def peak_bytes(stack: RunningStack) -> int:
    """Return the most memory that the process has had."""
    status = Path(f"/proc/{stack.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def pour(stack: RunningStack, path: str, *, has_length: bool) -> int | None:
    """Send without regard to the answer; return its status, None where the connection was cut."""
    connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=30)
    piece = b" " * 65_536
    with contextlib.closing(connection):
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        name, value = (
            ("Content-Length", str(POURED_BYTES))
            if has_length
            else ("Transfer-Encoding", "chunked")
        )
        connection.putheader(name, value)
        connection.endheaders()
        framed = piece if has_length else b"10000\r\n" + piece + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(POURED_BYTES // len(piece)):
                connection.send(framed)
        try:
            return connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            return None


def nested(levels: list[str]) -> Callable[[str], str]:
    """Return what puts a JSON value into lists and objects."""

    def wrap(value: str) -> str:
        for level in levels:
            value = f"[1, {value}]" if level == "list" else f'{{"a": {value}, "b": "c"}}'
        return value

    return wrap


LEVELS: Final = st.lists(st.sampled_from(["list", "object"]), max_size=8)
NOT_FINITE: Final = st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
NOT_STORABLE: Final = NOT_FINITE | st.just("9" * 400)


class TestNumbersThatAreNotFinite:
    @pytest.mark.parametrize("address", ENTRIES)
    @lengthy
    @given(number=NOT_STORABLE, levels=LEVELS)
    def test_in_a_request_they_are_refused(
        self, client: httpx.Client, address: str, number: str, levels: list[str]
    ) -> None:
        body = ENTRIES[address] % nested(levels)(number)

        answer = post(client, address, body.encode())

        assert (answer.status_code, code_of(answer)) == (400, "non_finite_number")

    @pytest.mark.parametrize("address", MESSAGES)
    def test_in_a_message_they_make_a_dead_letter(
        self, stack: RunningStack, client: httpx.Client, address: str
    ) -> None:
        before, pushed = stack.count("deadletters"), 0

        @lengthy
        @given(number=NOT_FINITE, levels=LEVELS)
        def push_one(number: str, levels: list[str]) -> None:
            nonlocal pushed
            pushed += 1
            message = MESSAGES[address] % nested(levels)(number)
            assert push(client, address, message.encode()).status_code == 204

        push_one()

        until(
            lambda: stack.count("deadletters") == before + pushed,
            seconds=20,
            what=f"{pushed} dead letters",
        )
        assert [row for row in stack.listed("audit") if row["record_id"] == "r-1"] == []

    @lengthy
    @given(numbers=st.lists(st.tuples(NOT_STORABLE, LEVELS), min_size=1, max_size=20))
    def test_in_a_line_of_an_import_they_are_rejected(
        self, tmp_path: Path, numbers: list[tuple[str, list[str]]]
    ) -> None:
        line = '{"identifiers": {"user_id": ["u-1"]}, "attributes": {"a": %s}}'
        file = tmp_path / "profiles.jsonl"
        file.write_text("\n".join(line % nested(levels)(n) for n, levels in numbers))
        keyring = Keyring(b"i" * 32, (("k1", b"p" * 32),), b"r" * 32)

        read = list(read_lines(file))

        assert len(read) == len(numbers)
        for _, raw in read:
            if not isinstance(raw, BadLine):
                with pytest.raises(InvalidInput):
                    parse_profile_line(raw, IdentitySettings(), keyring)


ANY_TEXT: Final = st.text(st.characters(codec=None), max_size=20)
"""Every character there is, halves of surrogate pairs and control characters among them."""

TEXT_ENTRIES: Final = {
    **ENTRIES,
    "/stitch_sync?id": '{"id": %s}',
    "/stitch_sync?identifier": '{"identifiers": {"client_id": %s}}',
    "/stitch_sync?type": '{"identifiers": {%s: "1.2"}}',
    "/stitch_sync?view": '{"id": "x", "view": %s}',
    "/stitch_sync?fields": '{"id": "x", "fields": [%s]}',
    "/stitch_sync?request_id": '{"id": "x", "request_id": %s}',
    "/stitch_sync?callback": '{"id": "x", "mode": "async", "callback": %s}',
    "/stitch_sync?preview": '{"id": "x", "mode": "async", "preview": %s}',
    "/decide?name": '{"event": {"event_name": %s}}',
    "/decide?parameter": '{"event": {"event_name": "purchase", %s: 1, "client_id": "55.66"}}',
    "/decide?user": '{"event": {"event_name": "purchase", "user_id": %s}, "include": ["profile"]}',
    "/decide?include": '{"event": {"event_name": "purchase"}, "include": [%s]}',
    "/stitch_sync/activation?entity": '{"entity": %s, "id": {"type": "user_id", "value": "u"}, "view": "v"}',
}
IDENTIFYING: Final = {"/stitch_sync?id", "/stitch_sync?identifier"}


NO_PUSHES: Final[list[Any]] = [
    {},
    [],
    {"message": None},
    {"message": {}},
    {"message": {"data": "e30="}},
    {"message": {"data": "e30=", "messageId": ""}},
    {"message": {"data": "e30=", "messageId": 7}},
    {"message": {"data": "ümläut", "messageId": "m"}},
    {"message": {"data": "e30", "messageId": "m"}},
    {"message": {"data": "e3 0=", "messageId": "m"}},
    {"message": {"data": {}, "messageId": "m"}},
    {"message": {"data": "e30=", "messageId": "m", "attributes": []}},
]


@pytest.mark.parametrize("address", MESSAGES)
@pytest.mark.parametrize("body", NO_PUSHES, ids=json.dumps)
def test_what_is_no_push_is_refused(client: httpx.Client, address: str, body: Any) -> None:
    answer = client.post(address, json=body)

    assert answer.status_code == 400
    assert code_of(answer) in ("invalid_json", "missing_field")


class TestTexts:
    @pytest.mark.parametrize("address", TEXT_ENTRIES)
    @lengthy
    @given(text=ANY_TEXT)
    @example(text="\ud800")
    @example(text="a\x00b")
    @example(text="\r\nseverity: ERROR")
    @example(text="\u202e\u2028\ufeff\U000e0041")
    @example(text="e" + "\u0301" * 400)
    def test_any_text_is_taken_or_refused_and_never_an_error_of_ours(
        self, client: httpx.Client, address: str, text: str
    ) -> None:
        body = TEXT_ENTRIES[address] % json.dumps(text)

        answer = post(client, address, body.encode())

        assert answer.status_code in (200, 202, 400)
        answer.content.decode()
        if has_half_a_pair(text):
            assert code_of(answer) == "invalid_unicode"
        if address in IDENTIFYING and re.search(r"[\x00-\x1f\x7f]", text.strip()):
            assert code_of(answer) in ("invalid_unicode", "invalid_field")

    @pytest.mark.parametrize("address", MESSAGES)
    @lengthy
    @given(text=ANY_TEXT)
    @example(text="\ud800")
    @example(text="a\x00b")
    def test_any_text_in_a_message_is_processed_or_a_dead_letter(
        self, client: httpx.Client, address: str, text: str
    ) -> None:
        message = MESSAGES[address] % json.dumps(text)

        assert push(client, address, message.encode()).status_code == 204

    @pytest.mark.parametrize("address", ENTRIES)
    @lengthy
    @given(junk=st.binary(min_size=1, max_size=20))
    @example(junk=b"\xff")
    @example(junk=b"\xed\xa0\x80")
    @example(junk=b"\xc0\xaf")
    def test_bytes_that_are_no_text_are_refused(
        self, client: httpx.Client, address: str, junk: bytes
    ) -> None:
        head, tail = ENTRIES[address].encode().split(b"%s")

        answer = post(client, address, head + b'"' + junk + b'"' + tail)

        assert answer.status_code in (200, 202, 400)
        if not is_utf8(junk):
            assert code_of(answer) == "invalid_unicode"

    @lengthy
    @given(junk=st.binary(max_size=30), name=st.sampled_from(["id", "client_id", "view", "mode"]))
    @example(junk=b"\xff", name="client_id")
    @example(junk=b"\x00", name="id")
    @example(junk=b"\xed\xa0\x80", name="view")
    def test_any_bytes_in_an_address_are_taken_or_refused(
        self, client: httpx.Client, junk: bytes, name: str
    ) -> None:
        answer = client.get(f"/stitch_sync?client_id=1.2&{name}={quote(junk)}")

        assert answer.status_code in (200, 202, 400)
        answer.content.decode()


def has_half_a_pair(text: str) -> bool:
    """Return whether the text has half of a surrogate pair, once JSON has joined the halves."""
    return re.search(r"[\ud800-\udfff]", json.loads(json.dumps(text))) is not None


def is_utf8(junk: bytes) -> bool:
    try:
        junk.decode()
    except UnicodeDecodeError:
        return False
    return True
