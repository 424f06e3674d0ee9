"""What callers rely on, over real HTTP: the sample rules and profiles on a running local stack."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from typing import Any, ClassVar

import httpx
import pytest

from tests.end_to_end.running_stack import ROOT, RunningStack, until

FUNCTIONS = ("stitch_sync", "stitch_async", "decide", "audit_sink")
ERROR_FIELDS = {"code", "message", "path", "hint", "error_id"}


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
        assert (rules["count"], rules["broken"]) == (8, 0)


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


class TestActivation:
    BODY: ClassVar[dict[str, Any]] = {
        "entity": "user",
        "id": {"type": "anonymous_id", "value": "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69"},
        "view": "features_by_anonymous_id",
    }

    def activated(self, client: httpx.Client, **others: Any) -> Any:
        """Return the answer, once the views that were loaded behind the start are there."""
        answer = client.post("/stitch_sync/activation", json={**self.BODY, **others})
        return answer.json() if answer.status_code == 200 else None

    def test_a_front_end_gets_the_features_of_a_browser(self, client: httpx.Client) -> None:
        answer = until(lambda: self.activated(client), seconds=20, what="the views")

        assert answer["data"] == {
            "features_by_anonymous_id": {
                "user_loyalty_tier": "Gold",
                "preferred_category": "Electronics",
                "store": None,
            }
        }
        assert (answer["found"], answer["reason"]) == (True, "KNOWN_PROFILE")

    def test_a_stranger_has_the_same_keys_and_leaves_no_trace(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        audited = stack.count("audit")
        stranger = {"type": "anonymous_id", "value": "activation-stranger"}

        answer = until(lambda: self.activated(client, id=stranger), seconds=20, what="the views")

        assert set(answer["data"]["features_by_anonymous_id"].values()) == {None}
        assert (answer["found"], answer["reason"]) == (False, "UNKNOWN_PROFILE")
        found = client.get("/stitch_sync", params={"anonymous_id": "activation-stranger"}).json()
        assert (found["found"], stack.count("audit")) == (False, audited)

    @pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
    def test_the_example_middleware_turns_them_into_a_cookie(
        self, stack: RunningStack, client: httpx.Client
    ) -> None:
        until(lambda: self.activated(client), seconds=20, what="the views")
        asked = {
            "cookies": f"anonymous_id={self.BODY['id']['value']}",
            "settings": {
                "url": f"{stack.url}/stitch_sync",
                "key": "any",
                "view": self.BODY["view"],
                "timeoutMs": 20_000,
                "isSecure": True,
            },
        }
        program = """
            import { decodeFeatures, personalize } from "./personalization.js";
            const { cookies, settings } = JSON.parse(process.argv[1]);
            const { setCookies } = await personalize(cookies, settings);
            const value = setCookies[0].match(/^personalization=([^;]*);/)[1];
            console.log(JSON.stringify(decodeFeatures(value)));
        """

        ran = subprocess.run(
            ["node", "--input-type=module", "--eval", program, json.dumps(asked)],
            cwd=ROOT / "examples" / "middleware",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["user_loyalty_tier"] == "Gold"


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

        record = stack.one_item("audit", "decision-1")
        assert record["decision_id"] == decision_id
        assert (record["record_type"], record["outcome"]) == ("event_decision", "modified")
        assert record["rule_ids"] == ["rename_micro_purchase"]
        assert "881013" not in json.dumps(record)


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
            ("POST /stitch_sync/activation", b'{"entity": "shoe"}', 400, "invalid_field"),
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
