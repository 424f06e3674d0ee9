"""The whole pipeline: four function processes on Google's emulators, with real subscriptions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tagstitch.core.limits import DEADLINE_MS_MAX
from tests.end_to_end.deployment import FUNCTIONS, Deployment, until

pytestmark = pytest.mark.emulators


def new_id(kind: str = "r") -> str:
    return f"{kind}-{secrets.token_hex(6)}"


def new_client_id() -> str:
    return f"{secrets.randbelow(10**9)}.1763700000"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_serves_as_a_process_of_the_framework(
    deployment: Deployment, function: str
) -> None:
    health = httpx.get(deployment.functions[function].url + "/health/", timeout=10)

    assert health.status_code == 200
    assert health.json()["function"] == function


class TestSyncStitch:
    def test_a_customer_that_is_known_is_found_by_any_identifier(
        self, deployment: Deployment
    ) -> None:
        answer = deployment.look_up(user_id="u-1001")

        assert answer["found"] is True
        assert answer["reason"] == "KNOWN_PROFILE"
        assert answer["attributes"]["user_loyalty_tier"] == "Gold"

    def test_a_visitor_nobody_knows_is_no_error(self, deployment: Deployment) -> None:
        answer = deployment.look_up(client_id=new_client_id())

        assert answer["reason"] == "UNKNOWN_PROFILE"

    async def test_a_lookup_that_claims_a_link_has_it_made(self, deployment: Deployment) -> None:
        client_id = new_client_id()
        identifiers = {"client_id": client_id, "user_id": "u-1003"}
        body = {"identifiers": identifiers, "deadline_ms": DEADLINE_MS_MAX}

        answer = deployment.post("stitch_sync", json=body).json()

        async def linked() -> bool:
            return bool(deployment.look_up(client_id=client_id)["found"])

        assert answer["reason"] == "MERGE_PENDING"
        await until(linked)


class TestAsyncStitch:
    async def test_the_result_comes_as_a_signed_callback_and_the_link_stays(
        self, deployment: Deployment
    ) -> None:
        client_id, request_id = new_client_id(), new_id()

        accepted = deployment.post(
            "stitch_sync",
            json={
                "mode": "async",
                "identifiers": {"client_id": client_id, "user_id": "u-1001"},
                "request_id": request_id,
                "callback": "main",
                "context": {"page": "/checkout"},
            },
        )
        callback = deployment.sgtm.wait_for(request_id)

        assert accepted.status_code == 202
        assert accepted.json() == {"request_id": request_id, "status": "accepted"}
        assert callback.is_signed
        assert callback.webhook_id == request_id
        assert callback.body["type"] == "visitor.stitched"
        data = callback.body["data"]
        assert data["found"] is True
        assert data["attributes"]["user_loyalty_tier"] == "Gold"
        assert data["context"] == {"page": "/checkout"}
        found = deployment.look_up(client_id=client_id)
        assert found["profile_id"] == data["profile_id"]

        rows = await deployment.wait_for_audit(request_id, count=2)
        assert {row["record_type"]: row["outcome"] for row in rows} == {
            "identity_link": "linked",
            "callback_delivery": "delivered",
        }

    async def test_a_message_of_a_publisher_creates_a_profile(self, deployment: Deployment) -> None:
        client_id, user_id = new_client_id(), new_id("u")
        message_id = await deployment.publish(
            "stitch-requests",
            {
                "identifiers": [
                    {"type": "client_id", "value": client_id},
                    {"type": "user_id", "value": user_id},
                ]
            },
        )

        rows = await deployment.wait_for_audit(message_id)

        by_user = deployment.look_up(user_id=user_id)
        by_client = deployment.look_up(client_id=client_id)
        assert by_user["found"]
        assert by_user["profile_id"] == by_client["profile_id"]
        assert [row["outcome"] for row in rows] == ["created"]
        assert rows[0]["subject"].startswith("local1:")


def decide(deployment: Deployment, event: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    answer = deployment.post(
        "decide", json={"event": event, "deadline_ms": DEADLINE_MS_MAX, **more}
    )
    assert answer.status_code == 200
    decided: dict[str, Any] = answer.json()
    assert decided["degraded"] == []
    return decided


LAMP = {"item_id": "LAMP-01", "stock_status": "in_stock", "price": 39.0}
CHAIR = {"item_id": "CHAIR-06", "stock_status": "out_of_stock", "price": 129.0}


class TestDecisions:
    @pytest.mark.parametrize(
        ("event", "outcome", "check"),
        [
            (
                {"event_name": "purchase", "value": 7.5},
                "modified",
                lambda e: e["rename"] == "micro_purchase",
            ),
            (
                {"event_name": "purchase", "user_id": "u-1002", "value": 100.0},
                "modified",
                lambda e: e["set"] == {"value": 50.0},
            ),
            (
                {"event_name": "add_to_cart", "items": [LAMP, CHAIR]},
                "modified",
                lambda e: e["set"]["items"] == [LAMP],
            ),
            (
                {"event_name": "view_item", "item_id": "PROD_MAINT_001"},
                "dropped",
                lambda e: e["drop"] is True,
            ),
            ({"event_name": "page_view"}, "unchanged", lambda e: e["modifications"] == []),
        ],
        ids=["renamed", "changed", "filtered", "dropped", "unchanged"],
    )
    async def test_the_sample_rules_decide_and_every_decision_is_in_the_audit(
        self,
        deployment: Deployment,
        event: dict[str, Any],
        outcome: str,
        check: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        request_id = new_id()
        event = {"client_id": new_client_id(), **event}

        decided = decide(deployment, event, include=["event"], request_id=request_id)
        rows = await deployment.wait_for_audit(request_id)

        assert check(decided["event"]), decided["event"]
        assert [(row["record_type"], row["outcome"]) for row in rows] == [
            ("event_decision", outcome)
        ]
        assert rows[0]["rules_version"] == decided["rules_version"]
        assert rows[0]["event_name"] == event["event_name"]

    async def test_an_offer_that_depends_on_state_is_made_once(
        self, deployment: Deployment
    ) -> None:
        event = {"event_name": "view_promotion", "client_id": new_client_id()}
        request_id = new_id()
        first = {"include": ["personalization"], "request_id": request_id}

        offered = decide(deployment, event, **first)
        repeated = decide(deployment, event, **first)
        again = decide(deployment, event, include=["personalization"])
        rows = await deployment.wait_for_audit(request_id)

        assert [action["name"] for action in offered["personalization"]["actions"]] == ["offer"]
        assert repeated == offered
        assert again["personalization"]["actions"] == []
        assert {row["record_type"] for row in rows} == {"personalization_decision"}

        async def cleared() -> bool:
            marks = await deployment.documents("processed")
            stored = [mark for mark in marks if _decision_of(mark) == offered["decision_id"]]
            return len(stored) == 1 and "pending" not in stored[0]

        await until(cleared)

    async def test_a_cap_holds_when_many_events_of_one_visitor_come_at_once(
        self, deployment: Deployment
    ) -> None:
        event = {"event_name": "select_promotion", "client_id": new_client_id()}
        body = {
            "event": event,
            "include": ["personalization", "profile"],
            "deadline_ms": DEADLINE_MS_MAX,
        }

        def ask(_: int) -> dict[str, Any]:
            answer: dict[str, Any] = deployment.post("decide", json=body).json()
            return answer

        with ThreadPoolExecutor(max_workers=16) as pool:
            at_once = list(pool.map(ask, range(50)))
        one_by_one = [ask(number) for number in range(4)]
        offers = [
            sum(len(answer["personalization"]["actions"]) for answer in answers)
            for answers in (at_once, one_by_one)
        ]
        profile = await deployment.document(f"profiles/{one_by_one[-1]['profile']['profile_id']}")

        assert 1 <= offers[0] <= 3
        assert sum(offers) == 3
        assert profile is not None
        assert len(profile["caps"]["g_offers"]) == 3

    async def test_the_views_answer_over_what_the_decisions_left(
        self, deployment: Deployment
    ) -> None:
        request_id = new_id()
        event = {"event_name": "purchase", "client_id": new_client_id(), "value": 7.5}
        decide(deployment, event, include=["event"], request_id=request_id)
        await deployment.wait_for_audit(request_id)

        deduplicated = await deployment.audit(request_id, table="audit_deduplicated")
        sql = f"SELECT rule_id FROM modifications WHERE request_id = '{request_id}'"  # noqa: S608 - our own id
        modifications = await deployment.query(sql)

        assert len(deduplicated) == 1
        assert [row["rule_id"] for row in modifications] == ["rename_micro_purchase"]


class TestDeadLetters:
    @pytest.mark.parametrize(
        ("topic", "content", "code"),
        [
            ("stitch-requests", b"\xff not JSON", "invalid_unicode"),
            ("stitch-requests", {"v": 1, "type": "stitch_request"}, "missing_field"),
            ("actions", {"v": 1}, "missing_field"),
            ("audit", b"[]", "invalid_json"),
        ],
    )
    async def test_an_invalid_message_is_kept_and_recorded_and_comes_once(
        self, deployment: Deployment, topic: str, content: Any, code: str
    ) -> None:
        message_id = await deployment.publish(topic, content)

        async def buried() -> Mapping[str, Any] | None:
            letters = await deployment.documents("dead_letters")
            return next(
                (each for each in letters if each["source"]["message_id"] == message_id), None
            )

        letter = await until(buried)

        async def recorded() -> Any:
            sql = "SELECT * FROM audit WHERE record_type = 'dead_letter'"
            rows = await deployment.query(sql)
            wanted = "dead_letter_" + letter["dead_letter_id"]
            return [row for row in rows if row["record_id"] == wanted]

        rows = await until(recorded)
        assert letter["reason"]["code"] == code
        assert letter["source"]["topic"] == topic
        assert "sealed" in letter
        assert [row["outcome"] for row in rows] == ["rejected"]


def _decision_of(mark: Mapping[str, Any]) -> str | None:
    """The id of the decision whose answer an idempotency mark keeps."""
    body = mark["answer"].get("body")
    return json.loads(body)["decision_id"] if body else None
