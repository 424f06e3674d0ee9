"""Actions leave the outbox to their destinations, and each ends in one record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.backend import CallbackAnswer
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tagstitch.pipeline.webhook_signature import verify_signature
from tests.pipeline.acting import (
    ADDRESS,
    CLIENT,
    CRM,
    GRANTED,
    HOOK,
    HUB,
    MAIL,
    PUSH,
    SALESFORCE,
    SENDGRID,
    decide,
    delivery_rows,
    destination,
    entry,
    known_visitor,
    patch_profile,
    register,
    told,
)
from tests.pipeline.world import KEYRING, SECRET, World


class TestSending:
    async def test_an_email_goes_to_the_address_that_the_profile_has_now(
        self, world: World
    ) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        world.answers = [202]
        changed = {"email": " new@example.net ", "crm_id": "C-17"}
        await patch_profile(world, profile_id, attributes=changed)

        await world.act()

        [sent] = world.callbacks
        [path] = await world.paths("outbox")
        key = path.removeprefix("outbox/")
        assert (sent["method"], sent["url"]) == ("POST", "https://api.sendgrid.com/v3/mail/send")
        assert sent["headers"]["authorization"] == "Bearer SG.key"
        assert sent["body"] == {
            "from": {"email": "shop@example.com"},
            "personalizations": [
                {
                    "to": [{"email": "new@example.net"}],
                    "dynamic_template_data": {"value": 7.5},
                    "custom_args": {"tagstitch_key": key},
                }
            ],
            "template_id": "d-cart",
        }

    async def test_a_crm_record_is_upserted_with_a_token_that_is_fetched_once(
        self, world: World
    ) -> None:
        register(world, destination(SALESFORCE))
        await known_visitor(world, crm_id="C/17?")
        token = CallbackAnswer(200, body=b'{"access_token": "00D!x", "token_type": "Bearer"}')
        world.answers = [token, 201, 204]
        await decide(world, CRM)
        await world.act()
        await decide(world, CRM)
        await world.act()

        asked, first, second = world.callbacks
        host = "shop.my.salesforce.com"
        assert asked["url"] == f"https://{host}/services/oauth2/token"
        assert asked["body"] == (
            "grant_type=client_credentials&client_id=consumer&client_secret=its+secret"
        )
        assert (first["method"], first["url"]) == (
            "PATCH",
            f"https://{host}/services/data/v62.0/sobjects/Contact/Customer_Id__c/C%2F17%3F",
        )
        assert first["body"] == second["body"] == {"Cart__c": 7.5}
        assert first["headers"]["authorization"] == "Bearer 00D!x"
        assert await told(world) == [("delivered", "SENT")] * 2

    async def test_a_refused_token_is_replaced_once(self, world: World) -> None:
        register(world, destination(SALESFORCE))
        await known_visitor(world)
        world.answers = [
            CallbackAnswer(200, body=b'{"access_token": "old"}'), 401,
            CallbackAnswer(200, body=b'{"access_token": "new", "expires_in": "7200"}'), 204,
        ]  # fmt: skip
        await decide(world, CRM)

        await world.act()

        assert [sent["headers"].get("authorization") for sent in world.callbacks] == [
            None, "Bearer old", None, "Bearer new",
        ]  # fmt: skip
        assert await told(world) == [("delivered", "SENT")]

    @pytest.mark.parametrize(
        "answer",
        [400, 503, CallbackAnswer(200, body=b"<html>"), Unavailable("callback"), NotSent("x")],
    )
    async def test_without_a_token_the_action_waits(self, world: World, answer: Any) -> None:
        register(world, destination(SALESFORCE))
        await known_visitor(world)
        world.answers = [answer, CallbackAnswer(200, body=b'{"access_token": "t"}'), 201]
        await decide(world, CRM)

        with pytest.raises(Unavailable):
            await world.act()
        world.now += timedelta(seconds=10)
        await world.act()

        assert await told(world) == [("delivered", "SENT")]

    async def test_a_webhook_is_signed_with_every_secret_of_a_rotation(self, world: World) -> None:
        old = "whsec_" + "b2xk" * 10
        auth = {"kind": "signature", "secret": f"{SECRET} {old}"}
        register(world, destination(HUB, auth=auth))
        world.now = datetime.now(UTC)  # a signature holds for five minutes
        await decide(world, HOOK)

        await world.act()

        [sent] = world.callbacks
        assert sent["body"] == {
            "type": "action.webhook",
            "timestamp": world.now.isoformat(),
            "data": {"rule_id": "r", "event_name": "add_to_cart", "body": {"value": 7.5}},
        }
        for secret in (SECRET, old):
            assert verify_signature(sent["headers"], sent["raw"], [secret]) == 0
        assert sent["headers"]["webhook-id"] == (await world.paths("outbox"))[0][7:]

    async def test_a_push_message_may_leave_to_a_hub(self, world: World) -> None:
        hub = destination(
            {
                "id": "hub", "type": "push", "url": "https://hub.example.com/${channel}",
                "auth": {"kind": "header", "name": "x-api-key", "value": "k"},
                "body": {"to": "${visitor}", "text": "now ${payload.value}", "all": "${payload}"},
                "idempotency_header": "Idempotency-Key",
            }
        )  # fmt: skip
        register(world, hub)
        profile_id = await known_visitor(world)
        await decide(world, PUSH)

        await world.act()

        [sent] = world.callbacks
        visitor = KEYRING.derived_id("push", profile_id)
        assert sent["url"] == "https://hub.example.com/offers"
        assert sent["body"] == {"to": visitor, "text": "now 7.5", "all": {"value": 7.5}}
        assert sent["headers"]["Idempotency-Key"] == (await world.paths("outbox"))[0][7:]

    async def test_the_record_says_what_where_and_why_and_no_address(self, world: World) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        world.answers = [202]
        answer = await decide(world, MAIL, request={"include": ["personalization"]})
        world.now += timedelta(seconds=2)
        await world.act()

        [row] = await delivery_rows(world)

        assert row["decision_id"] == answer["decision_id"]
        assert (row["rule_ids"], row["event_name"]) == (["r"], "add_to_cart")
        assert row["latency_ms"] == 2000
        assert row["extra"] == {
            "type": "send_email", "action_key": "r:0", "destination": "mail", "reason": "SENT",
            "status": 202, "attempts": 1,
        }  # fmt: skip
        assert row["subject"].startswith("t1:")
        stored = json.dumps([await entry(world), await world.rows()], default=str)
        assert ADDRESS not in stored
        assert "7.5" not in str((await entry(world))["action"]), "nothing is left of what was sent"


class TestOutcomes:
    @pytest.mark.parametrize("answer", [Unavailable("callback"), 500, 502, 504])
    async def test_an_unknown_outcome_is_not_repeated_where_it_would_double(
        self, world: World, answer: Any
    ) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        world.answers = [answer]
        await decide(world, MAIL)

        await world.act()
        await world.act()

        assert len(world.callbacks) == 1
        assert await told(world) == [("dead_letter", "OUTCOME_UNKNOWN")]
        assert len(world.published["dead-letter"]) == 1

    @pytest.mark.parametrize("answer", [Unavailable("callback"), 500, 504])
    async def test_an_unknown_outcome_is_repeated_with_the_same_key_where_that_is_safe(
        self, world: World, answer: Any
    ) -> None:
        register(world, destination(SENDGRID, idempotency_header="Idempotency-Key"))
        await known_visitor(world)
        world.answers = [answer, 202]
        await decide(world, MAIL)

        with pytest.raises(Unavailable):
            await world.act()
        world.now += timedelta(seconds=10)
        await world.act()

        keys = [sent["headers"]["Idempotency-Key"] for sent in world.callbacks]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert await told(world) == [("delivered", "SENT")]

    @pytest.mark.parametrize("answer", [NotSent("callback"), 429, 503, 408])
    async def test_what_was_surely_not_done_is_tried_again_everywhere(
        self, world: World, answer: Any
    ) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        world.answers = [answer, 202]
        await decide(world, MAIL)

        with pytest.raises(Unavailable):
            await world.act()
        with pytest.raises(Unavailable, match="too early"):
            await world.act()
        world.now += timedelta(seconds=10)
        await world.act()

        assert await told(world) == [("delivered", "SENT")]

    @pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 410, 413])
    async def test_a_refusal_is_a_dead_letter_that_can_be_replayed(
        self, world: World, status: int
    ) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        world.answers = [status, 202]
        await decide(world, MAIL)
        await world.act()
        letter_id = await world.store_dead_letter()
        world.restart()
        world.now += timedelta(days=2)

        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
        await world.act()

        assert await told(world) == [("dead_letter", "REFUSED"), ("delivered", "SENT")]
        with pytest.raises(InvalidInput, match="nothing is left to send"):
            await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))

    async def test_a_replay_of_what_may_have_been_done_must_be_meant(self, world: World) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        world.answers = [504, 202]
        await decide(world, MAIL)
        await world.act()
        letter_id = await world.store_dead_letter()

        with pytest.raises(InvalidInput, match="nobody knows"):
            await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
        await world.act()
        assert len(world.callbacks) == 1
        await replay_dead_letter(
            world.backend, KEYRING, letter_id, deadline=Deadline.after(5), even_if_done=True
        )
        await world.act()

        assert len(world.callbacks) == 2

    @pytest.mark.parametrize(
        ("action", "late"),
        [
            (MAIL, timedelta(days=1)),
            ({**MAIL, "once_per": "hour"}, timedelta(hours=1)),
            (HOOK, timedelta(days=1)),
            (CRM, timedelta(days=3)),
            (PUSH, timedelta(minutes=10)),
        ],
    )
    async def test_what_comes_too_late_expires(
        self, world: World, action: Any, late: timedelta
    ) -> None:
        register(world, destination(SENDGRID), destination(HUB), destination(SALESFORCE))
        await known_visitor(world)
        await decide(world, action)

        world.now += late
        await world.act()

        assert world.callbacks == []
        assert await told(world) == [("expired", "TOO_LATE")]

    async def test_without_a_destination_it_is_a_dead_letter_until_one_is_registered(
        self, world: World
    ) -> None:
        await known_visitor(world)
        await decide(world, MAIL)
        await world.act()
        letter_id = await world.store_dead_letter()
        register(world, destination(SENDGRID))
        world.answers = [202]

        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
        await world.act()

        assert await told(world) == [("dead_letter", "NO_DESTINATION"), ("delivered", "SENT")]

    @pytest.mark.parametrize(
        ("attributes", "action", "reason"),
        [
            ({"email": None}, MAIL, "NO_RECIPIENT"),
            ({"email": ""}, MAIL, "NO_RECIPIENT"),
            ({"email": "not an address"}, MAIL, "NO_RECIPIENT"),
            ({"email": "a@b.example, c@d.example"}, MAIL, "NO_RECIPIENT"),
            ({"email": "a@b.example\r\nbcc: all"}, MAIL, "NO_RECIPIENT"),
            ({"email": ["a@b.example"]}, MAIL, "NO_RECIPIENT"),
            ({"crm_id": None}, CRM, "NO_EXTERNAL_ID"),
            ({"crm_id": True}, CRM, "NO_EXTERNAL_ID"),
            ({"crm_id": ".."}, CRM, "UNUSABLE_VALUE"),
        ],
    )
    async def test_without_a_usable_address_nothing_is_sent(
        self, world: World, attributes: Any, action: Any, reason: str
    ) -> None:
        register(world, destination(SENDGRID), destination(SALESFORCE))
        await known_visitor(world, **attributes)
        await decide(world, action)

        await world.act()

        assert world.callbacks == []
        assert await told(world) == [("rejected", reason)]

    async def test_a_number_is_an_external_id(self, world: World) -> None:
        written = {"auth": {"kind": "bearer", "token": "t"}}
        register(world, destination(SALESFORCE, **written))
        await known_visitor(world, crm_id=17.0)
        world.answers = [201]
        await decide(world, CRM)
        await world.act()

        assert world.callbacks[0]["url"].endswith("/Customer_Id__c/17")


class TestHealth:
    async def test_a_dead_destination_is_left_alone_and_probed(self, world: World) -> None:
        register(world, destination(HUB))
        world.answers = [NotSent("callback")] * 5
        for _ in range(8):
            await decide(world, HOOK)
        ids = [m["outbox_id"] for m in world.published["actions"]]
        attempts = 0
        for outbox_id in ids:
            with pytest.raises(Unavailable) as raised:
                await world.act(outbox_id)
            attempts += "later" in str(raised.value)
        assert attempts == 5, "the others are not even tried"

        world.now += timedelta(seconds=10)
        for outbox_id in ids:
            await world.act(outbox_id)

        assert len(world.callbacks) == len(ids)

    async def test_another_destination_works_on(self, world: World) -> None:
        register(world, destination(HUB), destination(HUB, id="other"))
        world.answers = [NotSent("callback")] * 5
        for _ in range(6):
            await decide(world, HOOK)
            with pytest.raises(Unavailable):
                await world.act()

        await decide(world, {**HOOK, "endpoint": "other"})
        await world.act()

        assert len(world.callbacks) == 1

    async def test_410_disables_a_destination_until_a_replay_arrives(self, world: World) -> None:
        register(world, destination(HUB))
        world.answers = [410]
        for _ in range(2):
            await decide(world, HOOK)
            await world.act()
            world.restart()
        asked = len(world.callbacks)
        letter_id = await world.store_dead_letter()
        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))
        await world.act()
        await decide(world, HOOK)
        await world.act()

        assert (asked, len(world.callbacks)) == (1, 3)
        assert await told(world) == [
            ("dead_letter", "REFUSED"), ("dead_letter", "DISABLED"),
            ("delivered", "SENT"), ("delivered", "SENT"),
        ]  # fmt: skip

    async def test_without_the_profile_nothing_is_sent(self, world: World) -> None:
        register(world, destination(SENDGRID))
        await world.put_profile(CLIENT, attributes={"email": ADDRESS}, consent=GRANTED)
        await decide(world, MAIL)
        world.down = {"documents"}

        with pytest.raises(Unavailable):
            await world.act()
        world.down = set()

        assert world.callbacks == []
