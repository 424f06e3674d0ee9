"""Personal data sent through every path, right and wrong, and looked for in every output."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.end_to_end.running_stack import RunningStack, running_stack, until
from tests.end_to_end.samples import load_samples, push_body
from tests.stub_collector import otlp_endpoint

EMAIL = "anna.canary@example.com"
PHONE = "+436609998877"
STREET = "Canary Lane 5"
CLIENT_ID = "7070707070.8080808080"
USER_ID = "canary-user-77"
BREAK = "canary-7\r\nx-injected: 1"
SECRET = "canary-secret-canary-secret-canary"

FORBIDDEN = (
    "canary",
    "7070707070",
    "8080808080",
    "6609998877",
    "injected",
    hashlib.sha256(EMAIL.encode()).hexdigest(),
    hashlib.sha256(PHONE.encode()).hexdigest(),
)

PERSON = {"client_id": CLIENT_ID, "user_id": USER_ID, "email_sha256": EMAIL, "phone_sha256": PHONE}
EVENT = {
    "event_name": "purchase",
    "client_id": CLIENT_ID,
    "user_id": USER_ID,
    "value": 7.5,
    "coupon": EMAIL,
    "page_location": f"https://shop.example.com/?mail={EMAIL}",
    "ip_override": "203.0.113.77",
    "user_data": {
        "email": EMAIL,
        "phone_number": PHONE,
        "address": {"first_name": "Canary", "street": STREET},
    },
    EMAIL: "canary as a name",
}


@dataclass(frozen=True)
class Outputs:
    """Everything that leaves the stack besides its answers to good requests."""

    stdout: str
    lines: list[dict[str, Any]]
    stderr: str
    audit: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    errors: list[httpx.Response]
    callbacks: list[dict[str, Any]]
    traces: list[bytes]
    statuses: dict[str, int]


def good_requests() -> Iterator[tuple[str, str, Any]]:
    """Yield name, path and body; a body of None is a GET."""
    query = f"client_id={CLIENT_ID}&user_id={USER_ID}&email_sha256={EMAIL}"
    yield "get", f"/stitch_sync?{query}&request_id=log-get", None
    yield "bare", f"/stitch_sync?id={EMAIL}", None
    yield "post", "/stitch_sync", {"identifiers": PERSON, "request_id": "log-post"}
    stitch = {"identifiers": PERSON, "mode": "async", "callback": "main", "context": {"m": EMAIL}}
    yield "async", "/stitch_sync", {**stitch, "request_id": "log-async", "event": EVENT}
    everything = ["event", "personalization", "profile"]
    decide = {"event": EVENT, "include": everything, "explain": True, "request_id": "log-decide"}
    yield "decide", "/decide", decide
    yield "event", "/decide/make-event-decision", EVENT
    yield "personalization", "/decide/make-personalization-decision", EVENT
    denied = {**EVENT, "x-ga-gcs": "G100", "x-ga-gcd": EMAIL}
    yield "denied", "/decide", {"event": denied, "request_id": "log-denied"}
    message = {"identifiers": [{"type": t, "value": v} for t, v in PERSON.items()]}
    pushed = {**message, "request_id": "log-pushed", "callback": "main", "context": {"m": EMAIL}}
    yield "pushed", "/stitch_async", push_body(json.dumps(pushed).encode(), "m-log-1")
    activation = {"entity": "user", "view": "features_by_anonymous_id"}
    browser = {"type": "anonymous_id", "value": EMAIL}
    yield "activation", "/stitch_sync/activation", {**activation, "id": browser}


def bad_requests() -> Iterator[tuple[str, str, Any]]:
    stitch = {"identifiers": PERSON, "mode": "async"}
    yield "break in an identifier", "/stitch_sync", {"identifiers": {"user_id": BREAK}}
    yield "break in the request id", "/stitch_sync", {**stitch, "request_id": BREAK}
    yield "e-mail as request id", "/stitch_sync", {**stitch, "request_id": EMAIL}
    yield "e-mail as a type", "/stitch_sync", {"identifiers": {EMAIL: USER_ID}}
    yield "e-mail as a callback", "/stitch_sync", {**stitch, "callback": EMAIL}
    yield "e-mail as a mode", "/stitch_sync", {**stitch, "mode": EMAIL}
    yield "e-mail as a time", "/stitch_sync", {**stitch, "occurred_at": EMAIL}
    yield "e-mail as a view", "/stitch_sync", {**stitch, "view": [EMAIL]}
    yield "e-mail as consent", "/stitch_sync", {**stitch, "consent": EMAIL}
    browser = {"entity": "user", "id": {"type": "anonymous_id", "value": EMAIL}}
    yield "e-mail as an entity", "/stitch_sync/activation", {**browser, "entity": EMAIL}
    yield "e-mail as a feature view", "/stitch_sync/activation", {**browser, "view": EMAIL}
    yield "e-mail as a path", f"/stitch_sync/{EMAIL}", {}
    yield "e-mail as a function", f"/{EMAIL}", {}
    yield "break in a query", f"/stitch_sync?client_id=a%0d%0a{EMAIL}&request_id={EMAIL}", None
    yield "not JSON", "/decide", f"{{{EMAIL}".encode()
    yield "not Unicode", "/decide", b'{"event": "' + EMAIL.encode() + b'\xff"}'
    yield "too large an integer", "/decide", {"event": {**EVENT, EMAIL: [{EMAIL: 2**63}]}}
    yield "too deep", "/decide", b'{"' + EMAIL.encode() + b'":' + b"[" * 50 + b"]" * 50 + b"}"
    yield "no event name", "/decide", {"event": {"client_id": CLIENT_ID, "email": EMAIL}}
    yield "wrong event name", "/decide", {"event": {**EVENT, "event_name": [EMAIL]}}
    yield "unknown part", "/decide", {"event": EVENT, "include": [EMAIL]}
    yield "e-mail as an event", "/decide/make-event-decision", EMAIL
    yield "not a push", "/stitch_async", {"message": {"data": EMAIL}}
    yield "reset of what", "/_local/reset", {"keep": EMAIL}
    yield "limit of what", f"/_local/audit?limit={EMAIL}", None


def dead_messages() -> Iterator[tuple[str, bytes]]:
    """Yield what stitch_async or audit_sink acknowledge and keep as a dead letter."""
    person = [{"type": type_, "value": value} for type_, value in PERSON.items()]
    requests: list[Any] = [
        EMAIL,
        {"request_id": EMAIL, "identifiers": person},
        {"request_id": BREAK, "identifiers": person},
        {"identifiers": [{"type": EMAIL, "value": USER_ID}]},
        {"identifiers": {EMAIL: USER_ID}},
        {"identifiers": {"user_id": BREAK}},
        {"identifiers": person, "callback": EMAIL},
        {"identifiers": person, "event": {EMAIL: 2**63}},
        {"identifiers": person, "v": EMAIL},
    ]
    for request in requests:
        yield "/stitch_async", json.dumps(request).encode()
    yield "/stitch_async", EMAIL.encode()
    yield "/stitch_async/actions", json.dumps({"outbox_id": EMAIL}).encode()
    records: list[Any] = [
        EMAIL,
        {"records": [{"record_id": EMAIL, "outcome": [EMAIL]}]},
        {"records": [{"record_id": "r", "record_type": EMAIL, "occurred_at": EMAIL}]},
    ]
    for record in records:
        yield "/audit_sink", json.dumps(record).encode()
    yield "/audit_sink/deadletters", json.dumps({"request_id": EMAIL, "mail": EMAIL}).encode()


def send(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    headers = {
        "x-tagstitch-key": SECRET,
        "authorization": f"Bearer {SECRET}",
        "cookie": f"mail={EMAIL}",
        "user-agent": f"canary {EMAIL}",
        "traceparent": f"00-{EMAIL}",
        "tracestate": f"mail={EMAIL}",
        "baggage": f"mail={EMAIL}",
    }
    if body is None:
        return client.get(path, headers=headers)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers["content-type"] = "application/json"
    return client.post(path, content=content, headers=headers)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    folder = tmp_path_factory.mktemp("logs")
    settings = {"TAGSTITCH_RETRY_SCALE": "0.01", "TAGSTITCH_RULES_REFRESH_S": "0.2"}
    with (
        otlp_endpoint() as (url, traces),
        running_stack(folder, **settings, **spans_to(url)) as stack,
    ):
        load_samples(stack.data_dir, folder)
        errors = []
        with stack.client() as client:
            statuses = {
                name: send(client, path, body).status_code for name, path, body in good_requests()
            }
            for name, path, body in bad_requests():
                answer = send(client, path, body)
                statuses[name] = answer.status_code
                errors.append(answer)
            for number, (path, message) in enumerate(dead_messages()):
                answer = send(client, path, push_body(message, f"m-dead-{number}"))
                statuses[f"dead message {number}"] = answer.status_code
            client.post("/stitch_async/sweep", json={EMAIL: EMAIL})
        send_broken_http(stack)
        wait_for_everything(stack)
        audit, dead_letters = stack.listed("audit"), stack.listed("deadletters")
        callbacks = stack.listed("callbacks")
        assert stack.stop() == 0
        yield Outputs(
            stdout=stack.output.read_text(),
            lines=stack.log_lines(),
            stderr=stack.errors.read_text(),
            audit=audit,
            dead_letters=dead_letters,
            errors=errors,
            callbacks=callbacks,
            traces=[body for _, body in traces],
            statuses=statuses,
        )


def records_spans() -> bool:
    """Return whether the extra `otel` is installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # of a parent
        return False


def spans_to(url: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url} if records_spans() else {}


def send_broken_http(stack: RunningStack) -> None:
    """Send what is no HTTP at all; the server answers by itself."""
    address = ("127.0.0.1", urlsplit(stack.url).port or 0)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(f"POST /{EMAIL}\r\n{EMAIL}\r\n\r\n".encode())
        connection.recv(1000)


def wait_for_everything(stack: RunningStack) -> None:
    """Wait for the records and letters that the requests above must leave."""
    letters = sum(1 for _ in dead_messages())
    until(lambda: stack.count("deadletters") >= letters, seconds=30, what="every dead letter")

    def has_all() -> bool:
        found = {row["request_id"] for row in stack.listed("audit")}
        letters_seen = sum(row["record_type"] == "dead_letter" for row in stack.listed("audit"))
        wanted = {"log-async", "log-pushed", "log-decide", "log-denied"}
        return wanted <= found and letters_seen >= letters

    until(has_all, seconds=30, what="every audit record")


def test_every_request_had_the_answer_that_it_needed(outputs: Outputs) -> None:
    good = {name for name, _, _ in good_requests()}
    wrong = {
        name: status
        for name, status in outputs.statuses.items()
        if (status >= 300 if name in good or name.startswith("dead message") else status < 400)
    }
    assert wrong == {}


def test_every_line_is_one_json_object_with_severity_and_message(outputs: Outputs) -> None:
    assert outputs.stdout.endswith("\n")
    assert len(outputs.lines) > len(outputs.statuses)
    for line in outputs.lines:
        assert line["severity"] in {"INFO", "WARNING", "ERROR"}
        assert line["message"]


def test_a_line_carries_the_request_id_where_there_is_one(outputs: Outputs) -> None:
    ids = {
        (line.get("function"), line.get("request_id"))
        for line in outputs.lines
        if line["message"] == "request"
    }
    assert {
        ("stitch_sync", "log-get"),
        ("stitch_sync", "log-post"),
        ("stitch_sync", "log-async"),
        ("stitch_async", "log-async"),
        ("stitch_async", "log-pushed"),
        ("decide", "log-decide"),
        ("decide", "log-denied"),
    } <= ids
    deferred = [line for line in outputs.lines if line["message"] == "message_deferred"]
    assert deferred == []


def test_no_bug_was_met(outputs: Outputs) -> None:
    assert [line for line in outputs.lines if line["severity"] == "ERROR"] == []
    assert outputs.stderr == ""


def test_nothing_personal_is_in_the_log(outputs: Outputs) -> None:
    for line in [*outputs.lines, {"stderr": outputs.stderr}]:
        check(line)


def test_nothing_personal_is_in_the_audit(outputs: Outputs) -> None:
    for row in outputs.audit:
        check(row)


def test_nothing_personal_is_in_a_dead_letter(outputs: Outputs) -> None:
    for letter in outputs.dead_letters:
        assert not {"sealed", "payload"} & letter.keys()
        check(letter)


def test_nothing_personal_is_in_an_error(outputs: Outputs) -> None:
    for answer in outputs.errors:
        check({"headers": dict(answer.headers), "body": answer.text})


def test_nothing_personal_is_in_the_headers_of_a_callback(outputs: Outputs) -> None:
    assert len(outputs.callbacks) >= 2
    for callback in outputs.callbacks:
        check(callback["headers"])


@pytest.mark.skipif(not records_spans(), reason="needs the extra otel")
def test_nothing_personal_is_in_a_trace(outputs: Outputs) -> None:
    sent = b"".join(outputs.traces).lower()

    assert b"post /activation" in sent
    assert b"process stitch-requests" in sent
    assert [canary for canary in FORBIDDEN if canary.encode() in sent] == []


def check(content: dict[str, Any]) -> None:
    text = json.dumps(content).lower()
    assert [canary for canary in FORBIDDEN if canary in text] == [], text
