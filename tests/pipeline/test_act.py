"""Actions leave the outbox once, to the visitor as known then, and each ends in one record."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagstitch.core.errors import InvalidInput, NotSent, Unavailable
from tagstitch.pipeline.backend import CallbackAnswer, Delete, Patch, Put
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
    register,
    run_sweep,
    told,
)
from tests.pipeline.world import KEYRING, SECRET, START, World


async def patch_profile(world: World, profile_id: str, **fields: Any) -> None:
    await world.store.commit([Patch(f"profiles/{profile_id}", fields)], deadline=Deadline.after(5))


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


class TestOnce:
    @pytest.mark.parametrize("written", [SENDGRID, {**SENDGRID, "repeatable": True}])
    async def test_deliveries_at_once_send_once(self, world: World, written: Any) -> None:
        register(world, destination(written))
        await known_visitor(world)
        world.answers = [202]
        await decide(world, MAIL)
        message = world.published["actions"][-1]["outbox_id"]

        await asyncio.gather(*(world.act(message) for _ in range(12)))

        assert len(world.callbacks) == 1
        assert await told(world) == [("delivered", "SENT")]

    async def test_a_second_decision_of_the_window_sends_nothing_even_when_forgotten(
        self, world: World
    ) -> None:
        register(world, destination(HUB))
        profile_id = await known_visitor(world)
        await decide(world, {**HOOK, "once_per": "day"})
        await world.act()
        await world.store.commit(
            [Delete(f"profiles/{profile_id}")], deadline=Deadline.after(5)
        )  # an expired profile: its caps are gone with it

        answer = await decide(world, {**HOOK, "once_per": "day"})
        await world.act()

        assert answer["degraded"] == []
        assert len(world.callbacks) == 1
        assert len(await delivery_rows(world)) == 1

    @pytest.mark.parametrize("written", [SENDGRID, {**SENDGRID, "idempotency_header": "X-Key"}])
    async def test_a_crash_at_every_step_sends_at_most_once_or_with_one_key(
        self, tmp_path: Any, written: Any
    ) -> None:
        """Every point of the way dies once; then the message comes again, and the sweep."""
        number, is_over = 0, False
        while not is_over:
            for side in ("before", "behind"):
                world = World(tmp_path / f"{number}-{side}")
                register(world, destination(written))
                await known_visitor(world)
                await decide(world, MAIL)
                world.answers = [202] * 5
                world.crash_at = (len(world.effects) + number, side)
                try:
                    await world.run_until_crash(world.act())
                except AssertionError:
                    is_over = True
                world.restart()
                for _ in range(3):
                    world.now += timedelta(minutes=3)
                    await run_sweep(world)
                    await world.act()

                is_repeatable = "idempotency_header" in written
                keys = {sent["headers"].get("X-Key") for sent in world.callbacks}
                assert len(keys) <= 1
                if not is_repeatable:
                    assert len(world.callbacks) <= 1
                outcomes = await told(world)
                assert len(outcomes) == 1, (number, side, outcomes)
                if is_repeatable:
                    assert outcomes == [("delivered", "SENT")]
                else:
                    assert outcomes[0] in {
                        ("delivered", "SENT"), ("dead_letter", "OUTCOME_UNKNOWN"),
                    }  # fmt: skip
                world.database.close()
            number += 1
        assert number > 3

    async def test_what_decide_could_not_publish_is_swept(self, world: World) -> None:
        register(world, destination(HUB))
        world.down = {"publisher"}
        answer = await decide(world, HOOK)
        world.down = set()
        assert answer["degraded"] == []

        world.now += timedelta(minutes=3)
        await run_sweep(world)
        await world.act()

        assert await told(world) == [("delivered", "SENT")]

    async def test_a_message_without_its_entry_does_nothing(self, world: World) -> None:
        await world.act("nobody-knows-this-one")

        assert world.callbacks == []


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


class TestTheVisitorNow:
    @pytest.mark.parametrize(
        "consent",
        [
            {"email": {"granted": False, "at": START}},
            {},
            GRANTED | {"ad_personalization": {"granted": False, "at": START}},
            GRANTED | {"analytics_storage": {"granted": False, "at": START}},
        ],
    )
    async def test_consent_that_was_revoked_since_the_decision_suppresses(
        self, world: World, consent: dict[str, Any]
    ) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        await patch_profile(world, profile_id, consent=consent)

        await world.act()

        assert world.callbacks == []
        [row] = await delivery_rows(world)
        assert (row["outcome"], row["extra"]["reason"]) == ("suppressed", "CONSENT_DENIED")
        assert any(not said["granted"] for said in row["consent"].values()) or not consent

    @pytest.mark.parametrize(
        ("denied_at", "outcome"),
        [
            (None, ("delivered", "SENT")),
            (START - timedelta(days=1), ("delivered", "SENT")),
            (START, ("suppressed", "CONSENT_DENIED")),
            (START + timedelta(seconds=1), ("suppressed", "CONSENT_DENIED")),
        ],
    )
    async def test_what_the_event_granted_stands_unless_it_was_denied_since(
        self, world: World, denied_at: datetime | None, outcome: tuple[str, str]
    ) -> None:
        """Where the default denies: grants of an event are not recorded in the profile."""
        world.consent_default_granted = False
        register(world, destination(HUB))
        granted = {"ad_personalization": True, "analytics_storage": True}
        await decide(world, HOOK, request={"consent": granted})
        [path] = await world.paths("profiles")
        if denied_at is not None:
            consent = {"ad_personalization": {"granted": False, "at": denied_at}}
            await patch_profile(world, path.removeprefix("profiles/"), consent=consent)

        await world.act()

        assert await told(world) == [outcome]

    async def test_a_denial_that_was_on_its_way_suppresses_what_nobody_granted(
        self, world: World
    ) -> None:
        """The event was silent, and the denial of an hour ago came in after its decision."""
        register(world, destination(HUB))
        profile_id = await known_visitor(world)
        await decide(world, HOOK)
        said = {"granted": False, "at": START - timedelta(hours=1)}
        await patch_profile(world, profile_id, consent={"ad_personalization": said})

        await world.act()

        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    async def test_an_event_cannot_stand_for_a_grant_on_record(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL, request={"consent": {"email": True}})
        await patch_profile(world, profile_id, consent={})

        await world.act()

        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    async def test_consent_is_read_again_at_every_attempt(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        world.answers = [503]
        await decide(world, MAIL)
        with pytest.raises(Unavailable):
            await world.act()
        await patch_profile(world, profile_id, consent={})
        world.now += timedelta(seconds=10)

        await world.act()

        assert len(world.callbacks) == 1
        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    async def test_a_visitor_who_was_merged_is_reached_as_the_survivor(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        survivor = {
            "identifiers": {}, "attributes": {"email": "survivor@example.net"},
            "consent": GRANTED, "created_at": START, "expires_at": START + timedelta(days=30),
        }  # fmt: skip
        alias = {"merged_into": "p_SURVIVOR", "identifiers": {}, "attributes": {}}
        await world.store.commit(
            [Put("profiles/p_SURVIVOR", survivor), Put(f"profiles/{profile_id}", alias)],
            deadline=Deadline.after(5),
        )
        world.answers = [202]

        await world.act()

        to = world.callbacks[0]["body"]["personalizations"][0]["to"]
        assert to == [{"email": "survivor@example.net"}]

    @pytest.mark.parametrize("behind_an_alias", [False, True])
    async def test_an_erased_visitor_is_left_alone_and_not_named(
        self, world: World, *, behind_an_alias: bool
    ) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        writes = [Put(f"profiles/{profile_id}", {"erased_at": world.now})]
        if behind_an_alias:
            writes = [
                Put(f"profiles/{profile_id}", {"merged_into": "p_GONE"}),
                Put("profiles/p_GONE", {"erased_at": world.now}),
            ]
        await world.store.commit(writes, deadline=Deadline.after(5))

        await world.act()

        assert world.callbacks == []
        [row] = await delivery_rows(world)
        assert (row["outcome"], row["extra"]["reason"]) == ("suppressed", "ERASED")
        assert row["subject"] is None

    async def test_an_entry_that_was_erased_is_not_sent(self, world: World) -> None:
        register(world, destination(SENDGRID))
        await known_visitor(world)
        await decide(world, MAIL)
        [path] = await world.paths("outbox")
        await world.store.commit([Delete(path)], deadline=Deadline.after(5))

        await world.act()

        assert world.callbacks == []

    async def test_a_profile_that_expired_is_nobody(self, world: World) -> None:
        register(world, destination(SENDGRID))
        profile_id = await known_visitor(world)
        await decide(world, MAIL)
        await patch_profile(world, profile_id, expires_at=world.now)

        await world.act()

        assert await told(world) == [("suppressed", "NO_PROFILE")]


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

    async def test_410_disables_a_destination_until_the_process_starts_anew(
        self, world: World
    ) -> None:
        register(world, destination(HUB))
        world.answers = [410]
        for _ in range(2):
            await decide(world, HOOK)
            await world.act()
        asked = len(world.callbacks)
        world.restart()
        await decide(world, HOOK)
        await world.act()

        assert (asked, len(world.callbacks)) == (1, 2)
        assert await told(world) == [
            ("dead_letter", "REFUSED"), ("dead_letter", "DISABLED"), ("delivered", "SENT"),
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
