"""Messages to browsers: they wait for their own visitor, and a token opens nothing else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import PUSH_INBOX_BYTES_MAX, PUSH_MESSAGES_MAX, PUSH_TOKEN_S
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.push_inbox import PushListener, PushMessage, inbox_path, inbox_with
from tagstitch.pipeline.push_token import PushTokens
from tests.pipeline.acting import (
    CLIENT,
    PUSH,
    decide,
    delivery_rows,
    known_visitor,
    patch_profile,
    run_sweep,
    told,
)
from tests.pipeline.world import KEYRING, START, World

TOKEN = {"type": "return_value", "key": "push_token", "value": True}


def tokens(world: World) -> PushTokens:
    return PushTokens(KEYRING, world.backend.clock)


def listener(world: World) -> PushListener:
    return PushListener(world.backend.documents, KEYRING, world.backend.clock, poll_s=0)


async def heard(
    world: World, profile_id: str, *, after: str | None = None, looks: int = 1
) -> list[PushMessage]:
    """Return what a browser hears in so many looks."""
    found: list[PushMessage] = []
    until = world.now + timedelta(minutes=5)
    stream = listener(world).listen(profile_id, until=until, after=after)
    for _ in range(looks):
        found += await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    return found


async def push(world: World, **payload: Any) -> str:
    """Decide a message and deliver it; return its id."""
    written = {**PUSH, "payload": payload or PUSH["payload"]}
    await decide(world, written)
    await world.act()
    return str(world.published["actions"][-1]["outbox_id"])


def payloads(messages: Sequence[PushMessage]) -> list[Any]:
    return [dict(message.payload) for message in messages]


class TestInbox:
    async def test_a_message_waits_for_its_visitor_and_nobody_else(self, world: World) -> None:
        mine = await known_visitor(world)
        other = await world.put_profile(Identifier("client_id", "77.88"))
        message_id = await push(world)

        [message] = await heard(world, mine)

        assert (message.message_id, message.channel) == (message_id, "offers")
        assert message.payload == {"value": 7.5}
        assert await heard(world, other) == []
        assert await told(world) == [("delivered", "INBOX")]

    async def test_one_commit_delivers_and_ends_so_that_a_crash_doubles_nothing(
        self, tmp_path: Any
    ) -> None:
        for number in range(3):
            for side in ("before", "behind"):
                world = World(tmp_path / f"{number}-{side}")
                profile_id = await known_visitor(world)
                await decide(world, PUSH)
                world.crash_at = (len(world.effects) + number, side)
                if number < 2:
                    await world.run_until_crash(world.act())
                world.restart()
                world.now += timedelta(minutes=3)
                await run_sweep(world)
                await world.act()

                assert len(await heard(world, profile_id, looks=3)) == 1
                assert await told(world) == [("delivered", "INBOX")]
                world.database.close()

    async def test_messages_at_once_all_arrive(self, world: World) -> None:
        profile_id = await known_visitor(world)
        for number in range(8):
            await decide(world, {**PUSH, "payload": {"n": number}})
        ids = [message["outbox_id"] for message in world.published["actions"]]

        await asyncio.gather(*(world.act(outbox_id) for outbox_id in ids * 2))

        found = payloads(await heard(world, profile_id))
        assert sorted(payload["n"] for payload in found) == list(range(8))

    async def test_a_message_leaves_when_its_time_is_over(self, world: World) -> None:
        profile_id = await known_visitor(world)
        await push(world)
        world.now += timedelta(minutes=10)

        assert await heard(world, profile_id) == []

    async def test_what_says_no_is_not_delivered(self, world: World) -> None:
        profile_id = await known_visitor(world)
        await decide(world, PUSH)
        fields = await world.document(f"profiles/{profile_id}")
        denied = {"ad_personalization": {"granted": False, "at": START}}
        await world.store.commit(
            [Put(f"profiles/{profile_id}", {**fields, "consent": denied})],
            deadline=Deadline.after(5),
        )
        await world.act()

        assert await heard(world, profile_id) == []
        assert await told(world) == [("suppressed", "CONSENT_DENIED")]

    @pytest.mark.parametrize("purpose", ["ad_personalization", "analytics_storage"])
    async def test_what_is_denied_while_it_waits_is_not_heard(
        self, world: World, purpose: str
    ) -> None:
        profile_id = await known_visitor(world)
        await push(world)
        denied = {purpose: {"granted": False, "at": START + timedelta(seconds=1)}}
        await patch_profile(world, profile_id, consent=denied)

        assert await heard(world, profile_id) == []

    async def test_an_older_denial_that_the_event_overruled_withholds_nothing(
        self, world: World
    ) -> None:
        profile_id = await known_visitor(world)
        await push(world)
        denied = {"ad_personalization": {"granted": False, "at": START - timedelta(days=1)}}
        await patch_profile(world, profile_id, consent=denied)

        assert len(await heard(world, profile_id)) == 1

    async def test_an_inbox_names_its_subject_and_when_it_expires(self, world: World) -> None:
        profile_id = await known_visitor(world)
        await push(world)

        inbox = await world.document(inbox_path(KEYRING, profile_id))

        assert inbox["subject"] == KEYRING.pseudonym(profile_id)
        assert inbox["expires_at"] == START + timedelta(minutes=10)
        assert (await delivery_rows(world))[0]["subject"] == inbox["subject"]

    async def test_an_inbox_has_bounds(self, world: World) -> None:
        path, now = "push_inboxes/x", world.now
        big = "x" * (PUSH_INBOX_BYTES_MAX // 8)
        for number in range(PUSH_MESSAGES_MAX + 10):
            text = big if number > PUSH_MESSAGES_MAX else "small"
            message = PushMessage(f"m{number}", "c", {"t": text}, now + timedelta(hours=1))
            inbox = await world.store.get(path, deadline=Deadline.after(5))
            put = inbox_with(inbox, path, message, subject="s", now=now)
            await world.store.commit([put], deadline=Deadline.after(5))
            kept = (await world.document(path))["messages"]
            assert len(kept) <= PUSH_MESSAGES_MAX
            assert kept[-1]["id"] == f"m{number}"
        assert sum(len(m["payload"]) for m in kept) <= PUSH_INBOX_BYTES_MAX

    async def test_a_lost_race_for_an_inbox_is_noticed(self, world: World) -> None:
        path, now = "push_inboxes/x", world.now
        puts = [
            inbox_with(
                None, path, PushMessage(name, "c", {}, now + timedelta(hours=1)),
                subject="s", now=now,
            )
            for name in "ab"
        ]  # fmt: skip
        await world.store.commit([puts[0]], deadline=Deadline.after(5))

        with pytest.raises(Conflict):
            await world.store.commit([puts[1]], deadline=Deadline.after(5))


class TestListening:
    async def test_what_comes_later_is_heard_once(self, world: World) -> None:
        profile_id = await known_visitor(world)
        until = world.now + timedelta(minutes=5)
        stream = listener(world).listen(profile_id, until=until, after=None)
        quiet = await anext(stream)
        await push(world, n=1)
        first = await anext(stream)
        await push(world, n=2)
        second = [await anext(stream) for _ in range(3)]

        assert (quiet, payloads(first)) == ([], [{"n": 1}])
        assert [payloads(messages) for messages in second] == [[{"n": 2}], [], []]

    async def test_a_browser_that_comes_again_hears_what_it_has_not(self, world: World) -> None:
        profile_id = await known_visitor(world)
        ids = [await push(world, n=number) for number in range(3)]

        assert payloads(await heard(world, profile_id, after=ids[1])) == [{"n": 2}]
        assert len(await heard(world, profile_id, after="expired")) == 3

    async def test_a_visitor_who_was_merged_hears_the_survivor(self, world: World) -> None:
        profile_id = await known_visitor(world)
        survivor = {
            "identifiers": {}, "attributes": {}, "consent": {}, "created_at": START,
            "expires_at": START + timedelta(days=30),
        }  # fmt: skip
        alias = {"merged_into": "p_SURVIVOR", "identifiers": {}, "attributes": {}}
        until = world.now + timedelta(minutes=5)
        stream = listener(world).listen(profile_id, until=until, after=None)
        await anext(stream)
        await decide(world, PUSH)
        await world.store.commit(
            [Put("profiles/p_SURVIVOR", survivor), Put(f"profiles/{profile_id}", alias)],
            deadline=Deadline.after(5),
        )
        await world.act()

        later = [message for _ in range(40) for message in await anext(stream)]

        assert payloads(later) == [{"value": 7.5}]

    async def test_the_line_ends_with_the_token_and_with_the_visitor(self, world: World) -> None:
        profile_id = await known_visitor(world)
        short = [
            found async for found in listener(world).listen(profile_id, until=world.now, after=None)
        ]
        await world.store.commit(
            [Put(f"profiles/{profile_id}", {"erased_at": world.now})], deadline=Deadline.after(5)
        )
        until = world.now + timedelta(minutes=5)
        erased = [
            found async for found in listener(world).listen(profile_id, until=until, after=None)
        ]

        assert (short, erased) == ([], [])


class TestTokens:
    async def test_a_decision_gives_the_page_a_token_for_its_visitor(self, world: World) -> None:
        profile_id = await known_visitor(world)

        answer = await decide(world, TOKEN)

        [action] = answer["personalization"]["actions"]
        found, until = tokens(world).read(action["value"])
        assert found == profile_id
        assert until == world.now + timedelta(seconds=PUSH_TOKEN_S)
        assert profile_id not in action["value"]

    async def test_a_token_of_an_unknown_visitor_looks_like_any_other(self, world: World) -> None:
        known = KEYRING.profile_id(CLIENT)
        unknown = await decide(world, TOKEN)
        await known_visitor(world)
        again = await decide(world, TOKEN)
        [first], [second] = (a["personalization"]["actions"] for a in (unknown, again))

        assert len(first["value"]) == len(second["value"])
        assert first["value"] != second["value"]
        assert tokens(world).read(first["value"])[0] == known

    @pytest.mark.parametrize("kind", ["erased", "denied"])
    async def test_where_nobody_may_be_named_the_token_is_nobodys(
        self, world: World, kind: str
    ) -> None:
        profile_id = await known_visitor(world)
        request: dict[str, Any] = {}
        if kind == "erased":
            tombstone = Put(f"profiles/{profile_id}", {"erased_at": world.now})
            await world.store.commit([tombstone], deadline=Deadline.after(5))
        else:
            request = {"consent": {"analytics_storage": False}}

        answer = await decide(world, TOKEN, request=request)

        [action] = answer["personalization"]["actions"]
        assert tokens(world).read(action["value"])[0] != profile_id
        assert len(action["value"]) == len(tokens(world).make(profile_id))

    async def test_the_audit_holds_no_token(self, world: World) -> None:
        await known_visitor(world)
        answer = await decide(world, TOKEN)
        await world.store_audit()

        [action] = answer["personalization"]["actions"]
        assert action["value"] not in str(await world.rows())

    def test_a_token_ends(self, world: World) -> None:
        token = tokens(world).make("p_X")
        world.now += timedelta(seconds=PUSH_TOKEN_S)

        with pytest.raises(InvalidInput) as raised:
            tokens(world).read(token)

        assert raised.value.code == "unauthorized"

    def test_no_other_text_is_a_token(self, world: World) -> None:
        token = tokens(world).make("p_X")
        foreign = base64.urlsafe_b64encode(KEYRING.seal(b"{}", purpose="other")).decode()
        changed = token[:-8] + ("A" * 8 if token[-8:] != "A" * 8 else "B" * 8)
        for text in ("", "x", "ü", "=" * 50, token[:-4], changed, foreign, "A" * 5000, token * 2):
            with pytest.raises(InvalidInput) as raised:
                tokens(world).read(text)
            assert raised.value.code == "unauthorized", text
