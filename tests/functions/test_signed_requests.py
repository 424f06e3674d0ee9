"""Signed requests: whoever overheard one can neither change it nor have it done twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules
from tests.functions.conftest import Start
from tests.functions.signing import OLD_SECRET, SIGNATURE, signed
from tests.functions.test_bad_input import check_error
from tests.functions.test_forged_hits import Service

LINK: dict[str, Any] = {
    "mode": "async",
    "identifiers": {"client_id": "1294673677.1747154479", "user_id": "u-1"},
}
EVENT = {"event_name": "view_item", "client_id": "1294673677.1747154479"}
PATIENT = {"event": EVENT, "deadline_ms": 5000}
OFFERED_ONCE = RuleDefinitions(
    {},
    {
        "offer": {
            "event_name_trigger": "view_item",
            "conditions": {"user_state.shown": {"notEquals": True}},
            "action_type": "return_value",
            "action_details": {"key": "offer", "value": "ten"},
            "updates_user_state": {"shown": True},
        }
    },
)


@pytest.fixture
async def service(start: Start, tmp_path: Path) -> AsyncIterator[Service]:
    environment = {**SIGNATURE, "TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)}
    settings = read_settings(environment)
    backend = open_backend(settings)
    await publish_rules(
        backend.documents, OFFERED_ONCE, backend.clock(), deadline=Deadline.after(10)
    )
    names = ("decide", "stitch_sync", "stitch_async")
    yield Service(settings, backend, {name: await start(name, **environment) for name in names})
    await close_backend(settings)


async def send(
    service: Service, function: str, request: Mapping[str, Any], path: str = "/"
) -> httpx.Response:
    return await service.clients[function].post(path, **request)


async def stored(service: Service, collection: str) -> dict[str, Mapping[str, Any]]:
    page = await service.backend.documents.list_documents(collection, deadline=Deadline.after(5))
    return {document.path: document.fields for document in page}


def overheard(request: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    """Return the same request with other headers, as whoever overheard it can send it."""
    return {**request, "headers": {**request["headers"], **headers}}


REPETITIONS: list[dict[str, str]] = [
    {},
    {"idempotency-key": "another"},
    {"x-request-id": "another", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"},
]


class TestRepetitions:
    @pytest.mark.parametrize("headers", REPETITIONS, ids=str)
    async def test_a_decision_is_answered_as_it_was_and_changes_nothing_again(
        self, service: Service, headers: dict[str, str]
    ) -> None:
        request = signed(PATIENT, "msg.1")
        first = await send(service, "decide", request)
        before = await stored(service, "profiles"), await stored(service, "processed")

        again = await send(service, "decide", overheard(request, **headers))

        assert first.json()["personalization"]["actions"][0]["value"] == "ten"
        assert (again.status_code, again.content) == (200, first.content)
        profiles, marks = await stored(service, "profiles"), await stored(service, "processed")
        assert (profiles, marks.keys()) == (before[0], before[1].keys())
        assert len(marks) == 1

    @pytest.mark.parametrize("headers", REPETITIONS, ids=str)
    async def test_an_accepted_link_is_made_once(
        self, service: Service, headers: dict[str, str]
    ) -> None:
        request = signed(LINK, "msg.1")
        first = await send(service, "stitch_sync", request)
        await service.process_all()
        before = {name: await stored(service, name) for name in ("profiles", "links")}

        again = await send(service, "stitch_sync", overheard(request, **headers))
        await service.process_all()

        assert [first.status_code, again.status_code] == [202, 202]
        assert first.json() == again.json()
        assert len(before["links"]) == 1
        assert {name: await stored(service, name) for name in before} == before
        assert len(await stored(service, "processed")) == 1

    async def test_the_webhook_id_stands_for_a_missing_request_id_whatever_else_is_sent(
        self, service: Service
    ) -> None:
        nameless = overheard(signed(LINK, "msg-1"), **{"idempotency-key": "k1"})
        named = signed({**LINK, "request_id": "b1"}, "msg-1")

        answers = [await send(service, "stitch_sync", request) for request in (nameless, named)]

        assert [answer.json()["request_id"] for answer in answers] == ["msg-1", "b1"]

    async def test_a_decision_at_another_path_is_another_request_under_the_same_id(
        self, service: Service
    ) -> None:
        request = signed({**EVENT, "event": EVENT, "deadline_ms": 5000}, "msg-1")
        first = await send(service, "decide", request, "/decide")

        again = await send(service, "decide", request, "/make-personalization-decision")

        assert first.status_code == 200
        check_error(again, 409, "idempotency_conflict")


@pytest.mark.parametrize(("function", "body"), [("stitch_sync", LINK), ("decide", PATIENT)])
class TestSignatures:
    @pytest.mark.parametrize(
        ("seconds", "refused"), [(-3600, [401]), (-310, [401]), (-200, []), (310, [401])]
    )
    async def test_a_request_counts_for_five_minutes(
        self,
        service: Service,
        function: str,
        body: dict[str, Any],
        seconds: int,
        refused: list[int],
    ) -> None:
        at = datetime.now(UTC) + timedelta(seconds=seconds)

        answer = await send(service, function, signed(body, "msg-1", at=at))

        assert ([] if answer.is_success else [answer.status_code]) == refused

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("webhook-id", "msg-2"),
            ("webhook-id", ""),
            ("webhook-timestamp", "2000000000"),
            ("webhook-timestamp", "soon"),
            ("webhook-timestamp", "nan"),
            ("webhook-timestamp", "1e400"),
            ("webhook-timestamp", ""),
            ("webhook-timestamp", "-1"),
            ("webhook-timestamp", "9" * 400),
            ("webhook-timestamp", "\u0661\u0667" * 5),
            ("webhook-signature", ""),
            ("webhook-signature", ","),
            ("webhook-signature", "v1, "),
            ("webhook-signature", " ".join(["v1,AAAA"] * 500)),
            ("webhook-signature", "v1a,\x80\xff"),
            ("webhook-signature", "v1"),
            ("webhook-signature", "v1,"),
            ("webhook-signature", "v1,****"),
            ("webhook-signature", "v1,a,b"),
            ("webhook-signature", "v2,AAAA"),
            ("webhook-signature", "ümläut"),
        ],
    )
    async def test_a_changed_or_malformed_header_is_a_wrong_signature(
        self, service: Service, function: str, body: dict[str, Any], header: str, value: str
    ) -> None:
        request = signed(body, "msg-1")
        raw = [
            (name.encode(), (value if name == header else sent).encode())
            for name, sent in request["headers"].items()
        ]

        answer = await send(service, function, {**request, "headers": raw})

        check_error(answer, 401, "unauthorized")

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    async def test_a_missing_header_is_a_wrong_signature(
        self, service: Service, function: str, body: dict[str, Any], name: str
    ) -> None:
        request = signed(body, "msg-1")
        del request["headers"][name]

        check_error(await send(service, function, request), 401, "unauthorized")

    async def test_a_later_time_is_no_longer_what_was_signed(
        self, service: Service, function: str, body: dict[str, Any]
    ) -> None:
        request = signed(body, "msg-1")
        later = str(int(request["headers"]["webhook-timestamp"]) + 60)

        answer = await send(service, function, overheard(request, **{"webhook-timestamp": later}))

        check_error(answer, 401, "unauthorized")

    async def test_a_changed_body_is_refused(
        self, service: Service, function: str, body: dict[str, Any]
    ) -> None:
        request = signed(body, "msg-1")
        changed = {**request, "content": json.dumps({**body, "request_id": "new"})}

        check_error(await send(service, function, changed), 401, "unauthorized")

    async def test_during_a_rotation_both_secrets_sign_for_the_same_caller(
        self, service: Service, function: str, body: dict[str, Any]
    ) -> None:
        requests = [signed(body, "msg-1"), signed(body, "msg-1", secret=OLD_SECRET)]

        first, again = [await send(service, function, request) for request in requests]

        assert first.is_success
        assert again.content == first.content
