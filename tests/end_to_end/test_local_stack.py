"""What callers rely on, over real HTTP: the sample rules and profiles on a running local stack."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.local_secrets import read_local_secrets
from tagstitch.pipeline.webhook_signature import verify_signature
from tests.end_to_end.running_stack import RunningStack, running_stack, until
from tests.end_to_end.samples import has_rules, load_samples, push_body, run_command

FUNCTIONS = ("stitch_sync", "stitch_async", "decide", "audit_sink")
ERROR_FIELDS = {"code", "message", "path", "hint", "error_id"}


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def one_item(stack: RunningStack, what: str, request_id: str) -> dict[str, Any]:
    """Return the one item of a request, once it is there."""
    items = until(
        lambda: stack.listed(what, request_id=request_id), seconds=20, what=f"{what} {request_id}"
    )
    assert len(items) == 1
    return items[0]


def audit_of(stack: RunningStack, request_id: str, count: int) -> list[dict[str, Any]]:
    until(
        lambda: len(stack.listed("audit", request_id=request_id)) >= count,
        seconds=20,
        what=f"audit of {request_id}",
    )
    return stack.listed("audit", request_id=request_id)


class TestHealth:
    @pytest.mark.parametrize("path", ["", *(f"/{name}" for name in FUNCTIONS)])
    def test_everything_says_that_it_serves(self, client: httpx.Client, path: str) -> None:
        answer = client.get(f"{path}/health")
        for _ in range(100):  # a function that nobody has used yet imports its parts first
            if answer.json()["status"] != "loading":
                break
            time.sleep(0.05)
            answer = client.get(f"{path}/health")

        health = answer.json()
        assert (answer.status_code, health["status"]) == (200, "ok")
        assert health["function"] == (path.lstrip("/") or "local_stack")
        assert health["version"]
        assert ("rules" in health) == (path == "/decide")

    def test_decide_names_its_rules(self, client: httpx.Client) -> None:
        rules = client.get("/decide/health").json()["rules"]

        assert rules["version"].startswith("sha256:")
        assert rules["loaded_at"]
        assert (rules["count"], rules["broken"]) == (7, 0)


class TestLookup:
    @pytest.mark.parametrize("path", ["/stitch_sync", "/stitch_sync/"])
    def test_a_known_visitor_by_get(self, client: httpx.Client, path: str) -> None:
        answer = client.get(path, params={"user_id": "u-1001", "request_id": "lookup-1"})

        body = answer.json()
        assert answer.status_code == 200
        assert body.pop("profile_id").startswith("p_")
        assert body == {
            "found": True,
            "attributes": {
                "user_loyalty_tier": "Gold",
                "lifetime_value": 2140.5,
                "preferred_category": "Electronics",
            },
            "view": "default",
            "reason": "KNOWN_PROFILE",
            "request_id": "lookup-1",
            "degraded": [],
        }

    def test_a_bare_id_is_found_under_its_type(self, client: httpx.Client) -> None:
        by_id = client.get("/stitch_sync", params={"id": "u-1001"}).json()
        by_type = client.get("/stitch_sync", params={"user_id": "u-1001"}).json()

        assert by_id["profile_id"] == by_type["profile_id"]
        assert client.post("/stitch_sync", json={"id": "u-1001"}).json()["found"]

    def test_fields_narrow_the_answer(self, client: httpx.Client) -> None:
        body = {"identifiers": {"user_id": "u-1001"}, "fields": ["user_loyalty_tier"]}

        answer = client.post("/stitch_sync", json=body)

        assert answer.json()["attributes"] == {"user_loyalty_tier": "Gold"}

    def test_nobody_is_an_answer_and_a_404_only_on_demand(self, client: httpx.Client) -> None:
        parameters = {"client_id": "404404.404404", "request_id": "nobody"}

        found = client.get("/stitch_sync", params=parameters)
        missing = client.get("/stitch_sync", params={**parameters, "not_found": "404"})

        assert (found.status_code, missing.status_code) == (200, 404)
        assert found.json() == missing.json()
        assert (found.json()["found"], found.json()["reason"]) == (False, "UNKNOWN_PROFILE")
        assert (found.json()["profile_id"], found.json()["attributes"]) == (None, {})

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (
                {
                    "identifiers": {"user_id": "u-1001"},
                    "consent": {"analytics_storage": False},
                },
                "CONSENT_DENIED",
            ),
            ({"identifiers": {"client_id": "undefined"}}, "BLOCKED_IDENTIFIER"),
        ],
    )
    def test_what_may_not_be_looked_up_says_why(
        self, client: httpx.Client, body: dict[str, Any], reason: str
    ) -> None:
        answer = client.post("/stitch_sync", json=body).json()

        assert (answer["found"], answer["reason"], answer["attributes"]) == (False, reason, {})

    def test_a_lookup_that_claims_a_link_has_it_made(self, client: httpx.Client) -> None:
        client_id = "881001.1747154479"
        identifiers = {"client_id": client_id, "user_id": "u-1003"}

        answer = client.post("/stitch_sync", json={"identifiers": identifiers}).json()

        assert (answer["found"], answer["reason"]) == (True, "MERGE_PENDING")
        linked = until(
            lambda: client.get("/stitch_sync", params={"client_id": client_id}).json()["found"],
            seconds=20,
            what="the link",
        )
        assert linked
        again = client.post("/stitch_sync", json={"identifiers": identifiers}).json()
        assert again["reason"] == "KNOWN_PROFILE"


class TestDecide:
    def test_everything_in_one_round_trip(self, client: httpx.Client) -> None:
        event = {
            "event_name": "purchase",
            "user_id": "u-1002",
            "client_id": "881010.1747154479",
            "value": 7.5,
            "coupon": "X",
        }

        answer = client.post("/decide", json={"event": event, "include": ["event", "profile"]})

        body = answer.json()
        assert answer.status_code == 200
        assert body["degraded"] == []
        assert body["rules_version"].startswith("sha256:")
        assert body["event"] == {
            "drop": False,
            "rename": "micro_purchase",
            "set": {"value": 3.75, "_original_event_name": "purchase"},
            "unset": [],
            "modifications": [
                {
                    "rule_id": "rename_micro_purchase",
                    "type": "rename_event",
                    "old_name": "purchase",
                    "new_name": "micro_purchase",
                },
                {
                    "rule_id": "adjust_churn_risk_value",
                    "type": "modify_parameter",
                    "parameter": "value",
                    "old_value": 7.5,
                    "new_value": 3.75,
                },
            ],
        }
        assert body["profile"]["found"] is True
        assert body["profile"]["attributes"]["user_loyalty_tier"] == "Churn Risk"
        assert "personalization" not in body

    @pytest.mark.parametrize("path", ["/decide", "/decide/", "/decide/decide"])
    def test_both_decisions_are_the_default(self, client: httpx.Client, path: str) -> None:
        event = {"event_name": "view_item", "user_id": "u-1001", "item_category": "Electronics"}

        body = client.post(path, json={"event": event}).json()

        assert body["event"]["modifications"] == []
        assert body["personalization"] == {
            "reason": "MATCHED",
            "variants": {},
            "actions": [
                {
                    "rule_id": "discount_electronics_gold_tier",
                    "type": "set_cookie",
                    "name": "show_discount_banner",
                    "value": "electronics_10off",
                    "expiry_minutes": 60,
                }
            ],
        }

    def test_an_event_decision_in_the_published_shape(self, client: httpx.Client) -> None:
        lamp = {"item_id": "LAMP-01", "stock_status": "in_stock"}
        chair = {"item_id": "CHAIR-06", "stock_status": "out_of_stock"}
        event = {"event_name": "add_to_cart", "client_id": "881011.17", "items": [lamp, chair]}

        body = client.post("/decide/make-event-decision", json=event).json()

        assert body["status"] == "success"
        assert body["original_event_name"] == "add_to_cart"
        assert body["resolved_event_payload"] == {**event, "items": [lamp]}
        assert [change["rule_id"] for change in body["applied_modifications"]] == [
            "remove_oos_items"
        ]
        assert (body["drop_event"], body["degraded"]) == (False, [])

    def test_a_dropped_event_is_still_shown_whole(self, client: httpx.Client) -> None:
        event = {"event_name": "view_item", "item_id": "PROD_MAINT_001", "x-ga-page_id": 7}

        body = client.post("/decide/make-event-decision", json=event).json()

        assert body["drop_event"] is True
        assert body["resolved_event_payload"] == event

    def test_a_personalization_in_the_published_shape(self, client: httpx.Client) -> None:
        event = {"event_name": "view_item", "user_id": "u-1001", "item_category": "Electronics"}

        body = client.post("/decide/make-personalization-decision", json=event).json()

        assert (body["status"], body["user_id"], body["reason"]) == ("success", "u-1001", "MATCHED")
        assert [action["type"] for action in body["triggered_actions"]] == ["set_cookie"]

    def test_without_an_identifier_there_is_no_personalization(self, client: httpx.Client) -> None:
        event = {"event_name": "view_item", "item_category": "Electronics"}

        body = client.post("/decide", json={"event": event}).json()

        assert body["personalization"]["reason"] == "NO_IDENTIFIER"
        assert body["personalization"]["actions"] == []

    def test_explain_shows_the_conditions(self, client: httpx.Client) -> None:
        event = {"event_name": "purchase", "client_id": "881012.17", "value": 70}

        body = client.post("/decide", json={"event": event, "explain": True}).json()

        rules = {line["rule_id"]: line for line in body["trace"]["event"]}
        assert set(rules) == {"rename_micro_purchase", "adjust_churn_risk_value"}

    def test_a_decision_leaves_its_record(self, stack: RunningStack, client: httpx.Client) -> None:
        event = {"event_name": "purchase", "client_id": "881013.17", "value": 5.0}
        body = {"event": event, "request_id": "decision-1", "include": ["event"]}

        decision_id = client.post("/decide", json=body).json()["decision_id"]

        record = one_item(stack, "audit", "decision-1")
        assert record["decision_id"] == decision_id
        assert (record["record_type"], record["outcome"]) == ("event_decision", "modified")
        assert record["rule_ids"] == ["rename_micro_purchase"]
        assert "881013" not in json.dumps(record)


class TestAsynchronousStitch:
    def test_the_result_comes_back_signed(self, stack: RunningStack, client: httpx.Client) -> None:
        body = {
            "mode": "async",
            "identifiers": {"client_id": "882001.17", "user_id": "u-1001"},
            "callback": "main",
            "request_id": "async-1",
            "context": {"page": "/checkout"},
        }

        answer = client.post("/stitch_sync", json=body)

        assert answer.status_code == 202
        assert answer.json() == {"request_id": "async-1", "status": "accepted"}
        callback = one_item(stack, "callbacks", "async-1")
        assert callback["webhook_id"] == callback["headers"]["webhook-id"] == "async-1"
        assert callback["signature_valid"] is True
        assert callback["path"] == "/_local/sgtm/callback"
        assert callback["body"]["type"] == "visitor.stitched"
        data = callback["body"]["data"]
        assert data.pop("profile_id").startswith("p_")
        assert data.pop("attributes")["user_loyalty_tier"] == "Gold"
        assert data == {
            "request_id": "async-1",
            "found": True,
            "reason": "IDENTIFIER_LINKED",
            "context": {"page": "/checkout"},
        }
        kinds = Counter(row["record_type"] for row in audit_of(stack, "async-1", 2))
        assert kinds == {"identity_link": 1, "callback_delivery": 1}

    def test_the_signature_is_the_one_of_the_specification(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        secret = read_local_secrets(stack.data_dir)["LOCAL_CALLBACK_SECRET"]
        body = {
            "mode": "async",
            "identifiers": {"client_id": "882002.17"},
            "callback": "main",
            "request_id": "async-2",
        }
        client.post("/stitch_sync", json=body)

        callback = one_item(stack, "callbacks", "async-2")

        sent = json.dumps(callback["body"], separators=(",", ":")).encode()
        assert verify_signature(callback["headers"], sent, [secret]) == 0
        assert verify_signature(callback["headers"], sent + b" ", [secret]) is None

    def test_a_get_may_ask_for_it_too(self, stack: RunningStack, client: httpx.Client) -> None:
        parameters = {"client_id": "882003.17", "mode": "async", "callback": "main"}

        answer = client.get("/stitch_sync", params={**parameters, "request_id": "async-3"})

        assert answer.status_code == 202
        assert one_item(stack, "callbacks", "async-3")["body"]["data"]["reason"] == (
            "PROFILE_CREATED"
        )

    def test_the_same_request_again_changes_nothing(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        body = {
            "mode": "async",
            "identifiers": {"client_id": "882004.17", "user_id": "again-1"},
            "callback": "main",
            "request_id": "async-4",
        }
        for _ in range(5):
            assert client.post("/stitch_sync", json=body).status_code == 202

        wait_until_idle(stack, client)

        assert len(stack.listed("callbacks", request_id="async-4")) == 1
        assert len(stack.listed("audit", request_id="async-4")) == 2

    @pytest.mark.parametrize("at_once", [False, True])
    def test_a_message_delivered_five_times_has_one_effect(
        self, stack: RunningStack, client: httpx.Client, *, at_once: bool
    ) -> None:
        request_id = f"pushed-{at_once}"
        message = {
            "request_id": request_id,
            "identifiers": [
                {"type": "client_id", "value": f"88300{int(at_once)}.17"},
                {"type": "user_id", "value": f"pushed-{at_once}"},
            ],
            "callback": "main",
        }
        body = push_body(json.dumps(message).encode(), f"m-{at_once}")

        def deliver(_: int) -> int:
            return client.post("/stitch_async/", json=body).status_code

        with ThreadPoolExecutor(5 if at_once else 1) as deliveries:
            statuses = list(deliveries.map(deliver, range(5)))

        assert statuses == [204] * 5
        wait_until_idle(stack, client)
        assert len(stack.listed("callbacks", request_id=request_id)) == 1
        kinds = Counter(row["record_type"] for row in stack.listed("audit", request_id=request_id))
        assert kinds == {"identity_link": 1, "callback_delivery": 1}

    def test_an_invalid_message_is_acknowledged_and_kept(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        message = {"request_id": "invalid-1", "identifiers": [{"type": "shoe_size", "value": "43"}]}
        body = push_body(json.dumps(message).encode(), "m-invalid-1")

        for _ in range(2):
            assert client.post("/stitch_async", json=body).status_code == 204

        letter = one_item(stack, "deadletters", "invalid-1")
        assert letter["reason"]["code"] == "invalid_field"
        assert letter["source"]["topic"] == "stitch-requests"
        assert letter["source"]["message_id"] == "m-invalid-1"
        assert "sealed" not in letter
        (record,) = audit_of(stack, "invalid-1", 1)
        assert (record["record_type"], record["outcome"]) == ("dead_letter", "rejected")

    def test_the_same_id_with_another_body_is_a_dead_letter(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        body = {"mode": "async", "request_id": "conflict-1", "callback": "main"}
        first = {**body, "identifiers": {"client_id": "884001.17"}}
        second = {**body, "identifiers": {"client_id": "884002.17"}}
        client.post("/stitch_sync", json=first)
        one_item(stack, "callbacks", "conflict-1")

        assert client.post("/stitch_sync", json=second).status_code == 202

        letter = one_item(stack, "deadletters", "conflict-1")
        assert letter["reason"]["code"] == "idempotency_conflict"
        assert len(stack.listed("callbacks", request_id="conflict-1")) == 1


def wait_until_idle(stack: RunningStack, client: httpx.Client) -> None:
    """Wait until a request that comes behind all others has gone the whole way."""
    request_id = f"last-{stack.count('audit')}"
    body = {
        "mode": "async",
        "identifiers": {"client_id": f"{request_id}.17"},
        "callback": "main",
        "request_id": request_id,
    }
    client.post("/stitch_sync", json=body)
    audit_of(stack, request_id, 2)


class TestErrors:
    @pytest.mark.parametrize(
        ("request_line", "content", "status", "code"),
        [
            ("POST /stitch_sync", b"{", 400, "invalid_json"),
            ("POST /stitch_sync", b"[" * 100_000, 400, "json_too_deep"),
            ("POST /stitch_sync", b'{"id": "\xff"}', 400, "invalid_unicode"),
            ("POST /decide", b'{"event": {"event_name": "a", "value": NaN}}', 400, "non_finite_number"),
            ("POST /stitch_sync", b"{}", 400, "missing_field"),
            ("POST /decide", b'{"event": {}}', 400, "missing_field"),
            ("POST /decide", b'{"event": []}', 400, "invalid_field"),
            ("POST /stitch_sync", b'{"id": "a", "mode": "async", "callback": "http://x"}', 400, "unknown_callback"),
            ("GET /stitch_sync/nothing", b"", 404, "not_found"),
            ("GET /nothing", b"", 404, "not_found"),
            ("DELETE /decide", b"", 405, "method_not_allowed"),
            ("POST /stitch_sync", b" " * (256 * 1024 + 1), 413, "body_too_large"),
            ("POST /decide", b" " * (1024 * 1024 + 1), 413, "body_too_large"),
            ("POST /stitch_async/", b"{}", 400, "invalid_json"),
            ("POST /audit_sink/deadletters", b"no JSON", 400, "invalid_json"),
        ],
    )  # fmt: skip
    def test_every_error_has_the_same_shape(
        self, client: httpx.Client, request_line: str, content: bytes, status: int, code: str
    ) -> None:
        headers = {"content-type": "application/json"}

        answer = client.request(*request_line.split(), content=content, headers=headers)

        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code)
        assert {"code", "message"} <= error.keys() <= ERROR_FIELDS
        assert answer.headers["content-type"] == "application/json"

    def test_compressed_and_foreign_bodies_are_refused(self, client: httpx.Client) -> None:
        compressed = {"content-encoding": "gzip", "content-type": "application/json"}
        foreign = {"content-type": "text/xml"}

        for headers in (compressed, foreign):
            answer = client.post("/decide", content=b"{}", headers=headers)
            assert answer.status_code == 415
            assert answer.json()["error"]["code"] == "unsupported_media_type"


class TestLifeOfAStack:
    """Each of these starts and stops a stack of its own."""

    def test_it_stops_cleanly_and_a_second_start_keeps_the_data(self, tmp_path: Path) -> None:
        with running_stack(tmp_path) as stack:
            load_samples(stack.data_dir, tmp_path)
            with stack.client() as client:
                body = {
                    "mode": "async",
                    "identifiers": {"client_id": "885001.17", "user_id": "u-1001"},
                    "callback": "main",
                    "request_id": "kept-1",
                }
                client.post("/stitch_sync", json=body)
                audit_of(stack, "kept-1", 2)
            assert stack.stop() == 0
            assert stack.errors.read_text() == ""

            stack.start()

            with stack.client() as client:
                found = client.get("/stitch_sync", params={"client_id": "885001.17"}).json()
            assert found["attributes"]["user_loyalty_tier"] == "Gold"
            assert len(stack.listed("callbacks")) == 1
            assert len(stack.listed("audit")) == 2
            assert has_rules(stack) or until(
                lambda: has_rules(stack), seconds=20, what="the rules after a restart"
            )
            assert stack.stop() == 0
            assert stack.errors.read_text() == ""

    def test_a_reset_leaves_the_rules_and_nothing_else(self, tmp_path: Path) -> None:
        with running_stack(tmp_path, TAGSTITCH_RULES_REFRESH_S="0.2") as stack:
            load_samples(stack.data_dir, tmp_path)
            with stack.client() as client:
                until(lambda: has_rules(stack), seconds=20, what="the rules")
                body = {"mode": "async", "identifiers": {"user_id": "r"}, "callback": "main"}
                client.post("/stitch_sync", json={**body, "request_id": "reset-1"})
                bad = push_body(b"no JSON", "m-reset")
                client.post("/stitch_async", json=bad)
                audit_of(stack, "reset-1", 2)
                until(lambda: stack.count("deadletters"), seconds=20, what="the dead letter")

                answer = client.post("/_local/reset")

                assert (answer.status_code, answer.content) == (204, b"")
                counts = [stack.count(what) for what in ("callbacks", "audit", "deadletters")]
                assert counts == [0, 0, 0]
                assert not client.get("/stitch_sync", params={"user_id": "u-1001"}).json()["found"]
                event = {"event_name": "purchase", "value": 5}
                decided = client.post("/decide", json={"event": event}).json()
                assert decided["event"]["rename"] == "micro_purchase"
                # The same request id again is a new request: nothing remembers the old one.
                client.post("/stitch_sync", json={**body, "request_id": "reset-1"})
                one_item(stack, "callbacks", "reset-1")

                assert client.post("/_local/reset", json={"keep": []}).status_code == 204
                until(lambda: not has_rules(stack), seconds=20, what="no rules")

    def test_the_command_line_sees_the_same_data(self, tmp_path: Path) -> None:
        with running_stack(tmp_path) as stack, stack.client() as client:
            client.post("/stitch_async", json=push_body(b'{"request_id": "cli-1"}', "m-cli"))
            one_item(stack, "deadletters", "cli-1")

            (letter,) = run_command(stack.data_dir, "deadletters", "list")
            rows = run_command(
                stack.data_dir, "audit", "query", "SELECT outcome FROM tagstitch.audit"
            )

        assert (letter["request_id"], letter["code"]) == ("cli-1", "missing_field")
        assert rows == [{"outcome": "rejected"}]
