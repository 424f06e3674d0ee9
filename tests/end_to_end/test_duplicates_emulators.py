"""The same message many times and at once, and many messages for one visitor, on the emulators."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tagstitch.adapters.wiring import make_keyring
from tagstitch.core.identifier import Identifier
from tests.end_to_end.deployment import KEY, Deployment, push_body, until

pytestmark = pytest.mark.emulators


def new_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(5)}"


def stitch_request(request_id: str, user_id: str, client_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "callback": "main",
        "identifiers": [
            {"type": "user_id", "value": user_id},
            {"type": "client_id", "value": client_id},
        ],
    }


async def post_all(deployment: Deployment, function: str, bodies: list[Any]) -> list[Any]:
    url = deployment.functions[function].url + "/"
    limits = httpx.Limits(max_connections=len(bodies))
    async with httpx.AsyncClient(
        timeout=60, limits=limits, headers={"x-tagstitch-key": KEY}
    ) as client:
        return list(await asyncio.gather(*(client.post(url, json=body) for body in bodies)))


async def profile_of(deployment: Deployment, user_id: str) -> Mapping[str, Any]:
    profile_id = make_keyring(deployment.settings).profile_id(Identifier("user_id", user_id))
    profile = await deployment.document(f"profiles/{profile_id}")
    assert profile is not None
    return profile


async def assert_one_effect(deployment: Deployment, request_id: str, user_id: str) -> None:
    rows = await deployment.wait_for_audit(request_id, count=2)
    deduplicated = await deployment.audit(request_id, table="audit_deduplicated")
    assert sorted(row["record_type"] for row in deduplicated) == [
        "callback_delivery",
        "identity_link",
    ]
    assert {row["record_id"] for row in rows} == {row["record_id"] for row in deduplicated}
    assert [each.webhook_id for each in deployment.sgtm.of(request_id)] == [request_id]
    assert len((await profile_of(deployment, user_id))["identifiers"]) == 2


class TestTheSameMessage:
    async def test_delivered_five_times_at_once_it_has_one_effect(
        self, deployment: Deployment
    ) -> None:
        request_id, user_id = new_id("r"), new_id("u")
        body = push_body(stitch_request(request_id, user_id, "31.1763700000"), new_id("m"))

        answers = await post_all(deployment, "stitch_async", [body] * 5)

        assert [answer.status_code for answer in answers] == [204] * 5
        await assert_one_effect(deployment, request_id, user_id)

    async def test_published_five_times_it_has_one_effect(self, deployment: Deployment) -> None:
        request_id, user_id = new_id("r"), new_id("u")
        request = stitch_request(request_id, user_id, "32.1763700000")

        message_ids = await deployment.publish_all("stitch-requests", [request] * 5)

        async def all_processed() -> bool:
            lines = deployment.functions["stitch_async"].log_lines("request")
            done = {line.get("message_id") for line in lines if line["status"] == 204}
            return done >= set(message_ids)

        await until(all_processed)
        await assert_one_effect(deployment, request_id, user_id)

    async def test_an_audit_record_delivered_five_times_at_once_counts_once(
        self, deployment: Deployment
    ) -> None:
        record = {
            "record_id": new_id("record"),
            "record_type": "event_decision",
            "occurred_at": "2026-11-21T20:00:00Z",
            "outcome": "unchanged",
            "request_id": new_id("r"),
        }

        answers = await post_all(deployment, "audit_sink", [push_body(record, "m")] * 5)
        rows = await deployment.audit(record["request_id"], table="audit_deduplicated")

        assert [answer.status_code for answer in answers] == [204] * 5
        assert [row["record_id"] for row in rows] == [record["record_id"]]

    async def test_a_decision_asked_for_five_times_at_once_is_one_decision(
        self, deployment: Deployment
    ) -> None:
        request_id = new_id("r")
        body = {
            "event": {"event_name": "view_promotion", "client_id": new_id("c")},
            "include": ["personalization"],
            "request_id": request_id,
            "deadline_ms": 3000,
        }

        answers = await post_all(deployment, "decide", [body] * 5)
        rows = await deployment.wait_for_audit(request_id)

        assert [answer.status_code for answer in answers] == [200] * 5
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].json()["personalization"]["actions"]
        assert len({row["record_id"] for row in rows}) == 1


class TestOneVisitorOnManyDevices:
    async def test_fifty_links_at_once_are_all_made_or_kept_apart_beyond_the_limit(
        self, deployment: Deployment
    ) -> None:
        user_id = new_id("u")
        requests = [
            {
                "request_id": f"{user_id}-{number}",
                "identifiers": [
                    {"type": "user_id", "value": user_id},
                    {"type": "client_id", "value": f"{number}.{user_id}"},
                ],
            }
            for number in range(50)
        ]

        answers = await post_all(
            deployment, "stitch_async", [push_body(each, new_id("m")) for each in requests]
        )
        profile = await profile_of(deployment, user_id)

        assert [answer.status_code for answer in answers] == [204] * 50
        # A user has five new browsers a week; the others are recorded as kept apart.
        assert len(profile["identifiers"]) == 6
        assert len(profile["demoted"]) == 45

    async def test_fifty_published_links_end_in_one_profile(self, deployment: Deployment) -> None:
        user_id = new_id("u")
        user = {"type": "user_id", "value": user_id}
        devices = [{"type": "client_id", "value": f"{n}.{user_id}"} for n in range(49)]
        await deployment.publish_all(
            "stitch-requests", [{"identifiers": [user, device]} for device in devices]
        )

        async def all_are_settled() -> bool:
            try:
                profile = await profile_of(deployment, user_id)
            except AssertionError:
                return False
            return (len(profile["identifiers"]), len(profile.get("demoted", {}))) == (6, 44)

        await until(all_are_settled, seconds=60)

    async def test_fifty_that_join_the_same_two_profiles_are_one_merge(
        self, deployment: Deployment
    ) -> None:
        user = {"type": "user_id", "value": new_id("u")}
        device = {"type": "client_id", "value": new_id("1763700000")}
        requests = [
            {"request_id": f"{user['value']}-{number}", "identifiers": [user, device]}
            for number in range(50)
        ]
        for each in (user, device):
            first = push_body({"identifiers": [each]}, new_id("m"))
            assert deployment.post("stitch_async", json=first).status_code == 204

        answers = await post_all(
            deployment, "stitch_async", [push_body(each, new_id("m")) for each in requests]
        )

        assert [answer.status_code for answer in answers] == [204] * 50
        survivor = await profile_of(deployment, user["value"])
        keyring = make_keyring(deployment.settings)
        alias = await deployment.document(
            f"profiles/{keyring.profile_id(Identifier('client_id', device['value']))}"
        )
        assert (survivor["merges"], len(survivor["identifiers"])) == (1, 2)
        assert alias is not None
        assert alias["merged_into"] == keyring.profile_id(Identifier("user_id", user["value"]))

        async def all_are_recorded() -> list[Mapping[str, Any]] | None:
            prefix = f"{user['value']}-"
            sql = (  # our own id
                "SELECT record_type, request_id FROM audit_deduplicated"  # noqa: S608
                f" WHERE STARTS_WITH(request_id, '{prefix}')"
            )
            rows = list(await deployment.query(sql))
            return rows if len({row["request_id"] for row in rows}) == 50 else None

        rows = await until(all_are_recorded, seconds=60)
        assert [row["record_type"] for row in rows].count("identity_merge") == 1
