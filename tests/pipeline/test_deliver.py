"""Callbacks that did not arrive at once: when they are tried again, and what ends them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tagstitch.core.callback import retry_delay_s
from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.hops import HOPS_MAX
from tagstitch.pipeline.backend import CallbackAnswer, Patch
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.endpoint_health import Watched
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter
from tests.pipeline.world import KEYRING, MAIN, World

WRITER = Caller("writer", frozenset({"lookup", "stitch", "assert"}))
REQUEST = {
    "request_id": "r1",
    "identifiers": [{"type": "client_id", "value": "1294673677.1747154479"}],
    "callback": "main",
}


async def entry(world: World) -> dict[str, Any]:
    (path,) = await world.paths("outbox")
    return await world.document(path)


async def run_sweep(world: World) -> None:
    await world.sweep()


class TestWhen:
    def test_the_backoff_doubles_from_ten_seconds_to_ten_minutes(self) -> None:
        delays = [retry_delay_s(attempt, None, scale=1.0) for attempt in range(1, 100)]

        assert delays[:5] == [10, 15, 30, 60, 120]
        assert delays[-1] == 600
        assert retry_delay_s(1, None, scale=0.01) == pytest.approx(0.1)

    @pytest.mark.parametrize(("asked_s", "waited_s"), [(3, 10), (45, 45), (86_400, 600)])
    def test_a_longer_retry_after_is_honoured_up_to_ten_minutes(
        self, asked_s: float, waited_s: float
    ) -> None:
        assert retry_delay_s(1, asked_s, scale=1.0) == waited_s

    async def test_an_endpoint_that_failed_is_left_alone_for_ten_seconds(
        self, world: World
    ) -> None:
        world.answers = [503]
        await world.stitch(REQUEST)

        with pytest.raises(Unavailable):
            await world.act()
        posted_at_once = len(world.callbacks)
        world.now += timedelta(seconds=10)
        await world.act()

        assert (posted_at_once, len(world.callbacks)) == (1, 2)

    async def test_an_endpoint_that_names_a_time_is_left_alone_until_then(
        self, world: World
    ) -> None:
        world.answers = [CallbackAnswer(429, retry_after_s=120.0)]
        await world.stitch(REQUEST)

        world.now += timedelta(seconds=100)
        with pytest.raises(Unavailable):
            await world.act()
        world.now += timedelta(seconds=20)
        await world.act()

        assert len(world.callbacks) == 2

    async def test_a_message_that_is_a_little_early_waits_instead_of_going_round_again(
        self, world: World
    ) -> None:
        world.delivery = world.callback_delivery(retry_scale=0.00001)
        world.answers = [503]
        await world.stitch(REQUEST)
        due_at = (await entry(world))["not_before"]
        assert world.now < due_at

        world.now = due_at
        await world.act()

        assert (await entry(world))["status"] == "delivered"

    async def test_no_attempt_is_put_off_beyond_the_time_of_its_use(self, world: World) -> None:
        world.answers = [CallbackAnswer(503, retry_after_s=600.0)]
        useful_until = world.now + timedelta(seconds=60)
        await world.stitch(REQUEST | {"expires_at": useful_until.isoformat()})

        world.now = useful_until
        await world.act()

        assert (await entry(world))["status"] == "expired"


class TestRepeatedRequests:
    async def test_a_repeated_request_is_acknowledged_while_its_endpoint_is_dead(
        self, world: World
    ) -> None:
        world.answers = [503] * 9
        for _ in range(6):
            await world.stitch(REQUEST)

        assert len(world.callbacks) == 1
        assert {a["outbox_id"] for a in world.published["actions"]} == {
            (await world.paths("outbox"))[0].partition("/")[2]
        }

    async def test_a_repetition_makes_up_for_an_action_that_could_not_be_published(
        self, world: World
    ) -> None:
        world.answers = [503]
        world.down = {"publisher"}
        await world.stitch(REQUEST)
        world.down = set()

        await world.stitch(REQUEST)
        world.now += timedelta(seconds=10)
        await world.act()

        assert (await entry(world))["status"] == "delivered"

    async def test_a_repetition_makes_the_first_attempt_of_a_process_that_died_before_it(
        self, world: World
    ) -> None:
        world.crash_at = (2, "before")
        await world.run_until_crash(world.stitch(REQUEST))
        world.restart()
        world.now += timedelta(seconds=30)
        world.answers = [503]

        await world.stitch(REQUEST)

        assert len(world.callbacks) == 1
        assert len(world.published["actions"]) == 1


class TestAttempts:
    """`attempts` of the record: what was sent, or may have been."""

    async def told(self, world: World) -> tuple[str, int]:
        await world.store_audit()
        [row] = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        return row["outcome"], row["extra"]["attempts"]

    async def test_one_whose_process_died_behind_the_request_counts(self, world: World) -> None:
        world.crash_at = (2, "behind")
        await world.run_until_crash(world.stitch(REQUEST))
        world.restart()
        world.now += timedelta(minutes=11)

        await world.stitch(REQUEST)

        assert len(world.callbacks) == 1
        assert await self.told(world) == ("expired", 1)

    async def test_one_that_waited_for_nothing_does_not(self, world: World) -> None:
        await world.stitch(REQUEST | {"expires_at": (world.now - timedelta(1)).isoformat()})

        assert world.callbacks == []
        assert await self.told(world) == ("expired", 0)


class TestHealth:
    """An endpoint that does not answer is left alone; one that is gone is not asked again."""

    async def failing(self, world: World, answers: list[Any], times: int) -> None:
        world.answers = answers
        for number in range(times):
            await world.stitch({**REQUEST, "request_id": f"r{number}"})

    async def test_after_five_failures_it_is_left_alone(self, world: World) -> None:
        await self.failing(world, [503] * 9, times=8)

        assert len(world.callbacks) == 5
        assert len(world.published["actions"]) == 8, "the others wait for it too"

    async def test_a_probe_that_works_lets_all_others_through(self, world: World) -> None:
        await self.failing(world, [503] * 5, times=8)
        ids = [message["outbox_id"] for message in world.published["actions"]]
        world.now += timedelta(seconds=10)

        for outbox_id in ids:
            await world.act(outbox_id)

        delivered = [call["headers"]["webhook-id"] for call in world.callbacks[5:]]
        assert sorted(delivered) == [f"r{number}" for number in range(8)]

    async def test_half_open_one_probe_at_a_time_is_posted(self, world: World) -> None:
        await self.failing(world, [503] * 6, times=8)
        ids = [message["outbox_id"] for message in world.published["actions"]]
        world.now += timedelta(seconds=10)

        for outbox_id in ids:
            with pytest.raises(Unavailable):
                await world.act(outbox_id)

        assert len(world.callbacks) == 6

    async def test_being_left_alone_is_no_attempt(self, world: World) -> None:
        await self.failing(world, [503] * 5, times=6)

        entries = [await world.document(path) for path in await world.paths("outbox")]
        assert sorted(fields["attempts"] for fields in entries) == [0, 1, 1, 1, 1, 1]

    async def test_what_waits_behind_an_endpoint_that_refuses_all_expires_and_says_why(
        self, world: World
    ) -> None:
        await self.failing(world, [404] * 30, times=22)
        waiting = [
            path.partition("/")[2]
            for path in await world.paths("outbox")
            if (await world.document(path))["status"] == "pending"
        ]
        world.now += timedelta(minutes=11)
        for outbox_id in waiting:
            await world.act(outbox_id)

        await world.store_audit()
        ends = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        expired = [row["extra"] for row in ends if row["outcome"] == "expired"]
        assert [row["outcome"] for row in ends].count("rejected") == 20
        assert expired == [{"callback": "main", "attempts": 0, "reason": "ENDPOINT_LEFT_ALONE"}] * 2
        assert len(world.callbacks) == len(world.published["dead-letter"]) == 20

    async def test_410_disables_it_and_what_follows_can_be_replayed(self, world: World) -> None:
        await self.failing(world, [410], times=2)
        second = await world.store_dead_letter()
        asked = len(world.callbacks)
        world.restart()
        await replay_dead_letter(world.backend, KEYRING, second, deadline=Deadline.after(5))
        await world.act()

        assert (asked, len(world.callbacks)) == (1, 2)
        assert world.callbacks[1]["headers"]["webhook-id"] == "r1"

    async def test_410_is_remembered_by_the_next_process_and_known_to_others(
        self, world: World
    ) -> None:
        other = world.callback_delivery()
        world.answers = [410]
        await world.stitch(REQUEST)
        await world.stitch({**REQUEST, "request_id": "same"})
        world.delivery = other
        await world.stitch({**REQUEST, "request_id": "other"})
        world.restart()
        await world.stitch({**REQUEST, "request_id": "next"})

        assert len(world.callbacks) == 1
        assert len(world.published["dead-letter"]) == 4

    async def test_an_endpoint_whose_replay_arrives_is_enabled_again(self, world: World) -> None:
        world.answers = [410]
        await world.stitch(REQUEST)
        letter = await world.store_dead_letter()
        world.restart()
        await replay_dead_letter(world.backend, KEYRING, letter, deadline=Deadline.after(5))
        await world.act()
        await world.stitch({**REQUEST, "request_id": "r2"})
        world.restart()
        await world.stitch({**REQUEST, "request_id": "r3"})

        assert await world.paths("disabled_endpoints") == []
        sent = [call["headers"]["webhook-id"] for call in world.callbacks]
        assert sent == ["r1", "r1", "r2", "r3"]

    async def test_a_replay_that_meets_410_again_enables_nothing(self, world: World) -> None:
        world.answers = [410, 410]
        await world.stitch(REQUEST)
        letter = await world.store_dead_letter()
        await replay_dead_letter(world.backend, KEYRING, letter, deadline=Deadline.after(5))
        await world.act()
        await world.stitch({**REQUEST, "request_id": "r2"})

        assert len(world.callbacks) == 2

    async def test_an_endpoint_at_another_address_is_another(self, world: World) -> None:
        world.answers = [410]
        await world.stitch(REQUEST)
        world.endpoints = {"main": structs.replace(MAIN, url="https://other.example.com/cb")}
        world.restart()

        await world.stitch({**REQUEST, "request_id": "r2"})

        assert len(world.callbacks) == 2

    async def test_one_that_was_gone_is_asked_again_after_a_week(self, world: World) -> None:
        world.answers = [410]
        await world.stitch(REQUEST)
        world.now += timedelta(days=8)
        world.restart()

        await world.stitch({**REQUEST, "request_id": "r2"})

        assert len(world.callbacks) == 2

    async def test_a_store_that_does_not_remember_is_made_up_for_by_the_process(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        health = world.endpoint_health()
        endpoint = Watched("callback:main", MAIN.url)
        world.down = {"documents"}

        await health.note(endpoint, "rejected", status=410)

        assert await health.is_disabled(endpoint, replays=0, deadline=Deadline.after(1))
        messages = [record.message for record in caplog.records]
        assert messages == ["endpoint_disabled", "endpoint_not_remembered"]


class TestAcknowledgement:
    """Of an endpoint that acknowledges a 2xx alone says nothing: anybody may have answered it."""

    NAMED = CallbackAnswer(200, body=b'{"acknowledged": "r1", "more": [1]}')

    @pytest.fixture(autouse=True)
    def _acknowledges(self, world: World) -> None:
        world.endpoints = {"main": structs.replace(MAIN, acknowledges=True)}
        world.restart()

    async def test_an_answer_that_names_the_callback_has_taken_it(self, world: World) -> None:
        world.answers = [self.NAMED]

        await world.stitch(REQUEST)

        assert (await entry(world))["status"] == "delivered"

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"OK", b"{}", b"null", b'"r1"', b'["r1"]', b'{"acknowledged": true}', b"\xff",
            b'{"acknowledged": "r2"}', b'{"acknowledged": "r1"', b"[" * 60_000,
            b'{"a": ' * 9_000,
        ],
        ids=range(12),
    )  # fmt: skip
    async def test_any_other_answer_is_a_failed_attempt(self, world: World, body: bytes) -> None:
        world.answers = [CallbackAnswer(200, body=body), self.NAMED]
        await world.stitch(REQUEST)
        status = (await entry(world))["status"]
        world.now += timedelta(seconds=10)

        await world.act()

        assert (status, (await entry(world))["status"]) == ("pending", "delivered")

    async def test_one_that_is_never_named_expires_with_the_reason(self, world: World) -> None:
        world.answers = [200]
        await world.stitch(REQUEST)
        world.now += timedelta(minutes=11)
        await world.act()

        await world.store_audit()
        [row] = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        assert row["outcome"] == "expired"
        assert row["extra"] == {"callback": "main", "attempts": 1, "reason": "NOT_ACKNOWLEDGED"}

    async def test_the_reason_is_that_of_the_last_attempt(self, world: World) -> None:
        world.answers = [200, 503]
        await world.stitch(REQUEST)
        world.now += timedelta(seconds=10)
        with pytest.raises(Unavailable):
            await world.act()
        world.now += timedelta(minutes=11)
        await world.act()

        await world.store_audit()
        [row] = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        assert "reason" not in row["extra"]

    async def test_it_opens_the_breaker_like_any_failure(self, world: World) -> None:
        world.answers = [200] * 9
        for number in range(8):
            await world.stitch({**REQUEST, "request_id": f"r{number}"})

        assert len(world.callbacks) == 5

    async def test_other_endpoints_have_taken_what_they_answer_with_2xx(self, world: World) -> None:
        world.endpoints = {"main": MAIN}
        world.restart()
        world.answers = [CallbackAnswer(204, body=b"")]

        await world.stitch(REQUEST)

        assert (await entry(world))["status"] == "delivered"


class TestHops:
    async def relay(self, world: World, hops: int | None) -> int:
        """Ask for a stitch with so many hops; return the count that its callback passes on."""
        body = {"identifiers": {"client_id": "1.2"}, "mode": "async", "callback": "main",
                "request_id": f"r{hops}", "hops": hops}  # fmt: skip
        await world.lookup().answer(body, WRITER, request_id="x")
        await world.stitch(world.published["stitch-requests"][-1])
        return int(world.callbacks[-1]["headers"]["x-tagstitch-hops"])

    async def test_a_callback_that_sets_off_the_next_one_ends_after_the_fourth(
        self, world: World
    ) -> None:
        hops = [await self.relay(world, None)]
        for _ in range(HOPS_MAX):
            hops.append(await self.relay(world, hops[-1]))
        with pytest.raises(InvalidInput) as caught:
            await self.relay(world, hops[-1])

        assert hops == [1, 2, 3, 4]
        assert caught.value.path == "hops"

    async def test_a_message_beyond_the_limit_changes_nothing(self, world: World) -> None:
        with pytest.raises(InvalidInput):
            await world.stitch(REQUEST | {"hops": 4})

        assert await world.paths("profiles") == []

    async def test_a_later_attempt_passes_on_the_same_count(self, world: World) -> None:
        world.answers = [503]
        await world.stitch(REQUEST | {"hops": 2})
        world.now += timedelta(seconds=10)
        await world.act()

        assert [c["headers"]["x-tagstitch-hops"] for c in world.callbacks] == ["3", "3"]


class TestSweep:
    @pytest.mark.parametrize("point", [(3, "before"), (3, "behind"), (4, "before")])
    async def test_a_crash_while_handing_over_leaves_time_for_a_second_attempt(
        self, world: World, point: tuple[int, str]
    ) -> None:
        world.answers = [503]
        world.crash_at = point
        await world.run_until_crash(world.stitch(REQUEST))
        world.published.clear()
        world.restart()

        for _ in range(3):
            world.now += timedelta(seconds=60)
            await run_sweep(world)
        await world.act()

        assert (await entry(world))["status"] == "delivered"

    async def test_an_action_that_was_not_published_is_swept_within_the_time_of_its_use(
        self, world: World
    ) -> None:
        world.answers = [503]
        world.down = {"publisher"}
        await world.stitch(REQUEST)
        world.down = set()

        for _ in range(3):
            world.now += timedelta(seconds=60)
            await run_sweep(world)
        await world.act()

        assert (await entry(world))["status"] == "delivered"

    async def test_an_entry_whose_time_has_not_come_is_not_swept(self, world: World) -> None:
        world.answers = [CallbackAnswer(503, retry_after_s=500.0)]
        await world.stitch(REQUEST)
        world.published.clear()
        world.now += timedelta(seconds=499)

        await run_sweep(world)

        assert "actions" not in world.published


class TestReplay:
    async def refused(self, world: World) -> str:
        """Have the endpoint refuse the callback for good; return the id of its dead letter."""
        world.answers = [401]
        await world.stitch(REQUEST)
        return await world.store_dead_letter()

    async def replay(self, world: World, letter_id: str) -> None:
        await replay_dead_letter(world.backend, KEYRING, letter_id, deadline=Deadline.after(5))

    async def test_a_callback_that_was_refused_is_sent_by_a_replay_hours_later(
        self, world: World
    ) -> None:
        letter_id = await self.refused(world)
        world.now += timedelta(hours=5)

        await self.replay(world, letter_id)
        await world.act()

        assert len(world.callbacks) == 2
        assert world.callbacks[0]["body"]["data"] == world.callbacks[1]["body"]["data"]
        assert "data" not in await entry(world)
        await world.store_audit()
        rows = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        assert [row["outcome"] for row in rows] == ["rejected", "delivered"]

    async def test_why_it_waited_before_is_not_said_of_what_comes_after(self, world: World) -> None:
        letter_id = await self.refused(world)
        (path,) = await world.paths("outbox")
        patch = Patch(path, {"why": "ENDPOINT_LEFT_ALONE"})
        await world.store.commit([patch], deadline=Deadline.after(5))

        await self.replay(world, letter_id)
        world.now += timedelta(minutes=11)
        await world.act()

        await world.store_audit()
        rows = [r for r in await world.rows() if r["record_type"] == "callback_delivery"]
        assert [row["extra"].get("reason") for row in rows] == [None, None]

    async def test_a_replayed_callback_that_is_refused_again_is_another_dead_letter(
        self, world: World
    ) -> None:
        first = await self.refused(world)
        await self.replay(world, first)
        world.answers = [403]

        await world.act()
        second = await world.store_dead_letter()
        await self.replay(world, second)
        await world.act()

        assert first != second
        assert (await entry(world))["status"] == "delivered"

    async def test_a_callback_that_has_arrived_cannot_be_replayed(self, world: World) -> None:
        letter_id = await self.refused(world)
        await self.replay(world, letter_id)
        await world.act()

        with pytest.raises(InvalidInput, match="nothing is left to send"):
            await self.replay(world, letter_id)

        assert len(world.published["actions"]) == 1

    async def test_a_crash_behind_reopening_leaves_the_callback_to_the_sweep(
        self, world: World
    ) -> None:
        letter_id = await self.refused(world)
        await world.store_audit()
        world.crash_at = (len(world.effects), "behind")
        await world.run_until_crash(self.replay(world, letter_id))
        world.restart()
        world.now += timedelta(minutes=3)

        await run_sweep(world)
        await world.act()

        assert (await entry(world))["status"] == "delivered"

    async def test_the_sweep_finds_it_even_when_its_first_record_is_stored_late(
        self, world: World
    ) -> None:
        letter_id = await self.refused(world)
        world.crash_at = (len(world.effects), "behind")
        await world.run_until_crash(self.replay(world, letter_id))
        world.restart()
        await world.store_audit()
        world.now += timedelta(minutes=3)

        await run_sweep(world)
        await world.act()
        await world.store_audit()

        ended = await entry(world)
        assert (ended["status"], "pending" in ended) == ("delivered", False)
