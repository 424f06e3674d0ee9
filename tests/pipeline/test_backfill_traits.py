"""A backfill gives what live processing gives: in any order, twice, and while events arrive."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.event import Event, parse_event
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile import typed_profile
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.backfill_traits import (
    BackfillTally,
    CountedDocuments,
    EventSieve,
    PastEvent,
    TraitBackfill,
)
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.visitor import VisitorFinder
from tests.pipeline.world import KEYRING, START, World

SERVER = Caller("server", frozenset({"decide", "assert"}))

TRAITS = {
    "visits": {"event": "*", "operation": "sessions"},
    "page_views": {"event": "page_view", "operation": "count"},
    "revenue": {"event": "purchase", "operation": "sum", "field": "value"},
    "first_page": {"event": "page_view", "operation": "first", "field": "page"},
    "last_page": {"event": "page_view", "operation": "last", "field": "page"},
    "pages": {"event": "page_view", "operation": "tally", "field": "page"},
}

VISITORS = [Identifier("client_id", f"{n}.1763700000") for n in range(1, 6)]


@pytest.fixture(autouse=True)
def definitions(world: World) -> None:
    world.traits = TRAITS


def past_events(size: int = 60) -> list[PastEvent]:
    """Return a stretch of history; the last visitors log in as one user in its middle."""
    chance = random.Random(7)
    found = []
    for number in range(size):
        who = chance.randrange(len(VISITORS))
        at = START - timedelta(days=20) + timedelta(minutes=97 * number)
        event = {
            "event_name": chance.choice(["page_view", "page_view", "purchase"]),
            "client_id": VISITORS[who].value,
            "page": chance.choice("abc"),
            "value": chance.randrange(1, 50) / 4,
            "ga_session_id": f"{who}-{number // 15}",
            "event_timestamp_ms": at.timestamp() * 1000,
        }
        identifiers = [VISITORS[who]]
        if who >= 3 and number >= size // 2:
            event["user_id"] = "u-1"
            identifiers.insert(0, Identifier("user_id", "u-1"))
        found.append(
            PastEvent(number + 1, parse_event(event), f"e{number}", tuple(identifiers), at)
        )
    return found


async def backfill(
    world: World, events: Sequence[PastEvent]
) -> tuple[BackfillTally, list[tuple[int, InvalidInput]]]:
    tally = BackfillTally()
    documents = world.backend.documents
    world.backend = replace(world.backend, documents=CountedDocuments(documents, tally))
    try:
        work = TraitBackfill(world.stitcher(), KEYRING, tally)
        return tally, await work.process(events, now=world.now)
    finally:
        world.backend = replace(world.backend, documents=documents)


async def live(world: World, past: PastEvent) -> None:
    """Deliver the event as a replay does: to decide, and to stitching with the same event id."""
    body = {
        "event": dict(past.event.parameters),
        "request_id": past.event_id,
        "deadline_ms": 5000,
    }
    await world.decider(traits=world.traits).decide(body, SERVER)
    for message in world.published.pop("stitch-requests"):
        await world.stitch(message)
    named = [{"type": i.type, "value": i.value} for i in past.identifiers]
    request = {"request_id": past.event_id, "identifiers": named, "event": body["event"]}
    await world.stitch({**request, "occurred_at": past.occurred_at.isoformat()})


async def values(world: World) -> dict[str, Any]:
    """Return visitor -> attributes of the profile that it leads to."""
    finder = VisitorFinder(world.backend.documents, KEYRING, world.identity)
    found = {}
    for visitor in VISITORS:
        seen = await finder.find([visitor], now=world.now, deadline=Deadline.after(5))
        assert seen.profile is not None
        fields = await world.document(f"profiles/{seen.profile.profile_id}")
        profile = typed_profile(seen.profile.profile_id, fields, now=world.now)
        found[visitor.value] = dict(profile.attributes)
    return found


@pytest.fixture
async def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What live processing of the same events gives, one after another."""
    world = World(tmp_path_factory.mktemp("live"), traits=TRAITS)
    try:
        for past in past_events():
            await live(world, past)
        return await values(world)
    finally:
        world.database.close()


async def test_it_gives_what_live_processing_gives(world: World, wanted: dict[str, Any]) -> None:
    tally, rejected = await backfill(world, past_events())

    assert await values(world) == wanted
    assert (tally.events, rejected) == (60, [])
    assert tally.changed >= 60


@pytest.mark.parametrize("seed", range(4))
async def test_in_any_order(world: World, wanted: dict[str, Any], seed: int) -> None:
    shuffled = past_events()
    random.Random(seed).shuffle(shuffled)

    for start in range(0, len(shuffled), 13):
        await backfill(world, shuffled[start : start + 13])

    assert await values(world) == wanted


async def test_a_second_time_changes_nothing(world: World) -> None:
    await backfill(world, past_events())
    before = await everything(world)

    tally, _ = await backfill(world, past_events())

    assert (tally.events, tally.changed) == (60, 0)
    assert await everything(world) == before


@pytest.mark.parametrize("seed", range(4))
async def test_what_arrived_live_is_not_counted_again(
    world: World, wanted: dict[str, Any], seed: int
) -> None:
    chance = random.Random(seed)
    events = past_events()
    arrived = chance.sample(events, 30)
    for past in arrived[:15]:
        await live(world, past)
    await backfill(world, events[:40])
    for past in arrived[15:]:
        await live(world, past)
    await backfill(world, events)

    assert await values(world) == wanted


async def test_what_is_counted_stays_when_the_process_dies_and_begins_again(
    world: World, wanted: dict[str, Any]
) -> None:
    for effect in (3, 20, 77):
        world.crash_at = (effect, "before")
        await world.run_until_crash(backfill_all(world))
        world.restart()
    await backfill(world, past_events())

    assert await values(world) == wanted


async def test_a_store_that_fails_ends_it(world: World) -> None:
    world.down = {"commit"}

    with pytest.raises(Unavailable):
        await backfill(world, past_events())


async def test_a_time_ahead_is_cut_as_that_of_a_live_event(world: World) -> None:
    [first, *_] = past_events()
    ahead = replace(first, occurred_at=START + timedelta(days=30))

    await backfill(world, [ahead])

    profile = await world.document(f"profiles/{KEYRING.profile_id(first.identifiers[0])}")
    [link] = profile["identifiers"].values()
    assert link["last_seen"] == START + timedelta(minutes=5)


class TestSieve:
    @pytest.mark.parametrize(
        ("event", "admitted", "left_out"),
        [
            ({"event_name": "page_view", "page": "a"}, True, {}),
            ({"event_name": "scroll"}, False, {"no_trait": 1}),
            ({"event_name": "page_view", "x-ga-gcs": "G100"}, False, {"denied": 1}),
        ],
    )
    def test_admits_what_traits_name_and_nobody_denied(
        self,
        event: dict[str, Any],
        admitted: bool,  # noqa: FBT001
        left_out: dict[str, int],
    ) -> None:
        tally = BackfillTally()
        sieve = self.sieve(tally)

        assert sieve.admits(self.past(parse_event(event))) is admitted
        assert dict(tally.left_out) == left_out
        assert dict(tally.counted) == ({"page_views": 1, "pages": 1} if admitted else {})

    def test_leaves_out_what_is_counted_live(self) -> None:
        tally = BackfillTally()
        sieve = self.sieve(tally, until=START)
        event = parse_event({"event_name": "page_view"})

        assert sieve.admits(self.past(event, before=timedelta(seconds=1)))
        assert not sieve.admits(self.past(event))
        assert dict(tally.left_out) == {"later": 1}

    def test_a_visitor_whose_consent_lies_in_the_profile_is_left_to_stitching(self) -> None:
        sieve = self.sieve(BackfillTally(), granted=False)

        assert sieve.admits(self.past(parse_event({"event_name": "page_view"})))

    def test_refuses_what_no_message_could_hold(self) -> None:
        deep: Any = 1
        for _ in range(20):
            deep = [deep]

        with pytest.raises(InvalidInput):
            self.sieve(BackfillTally()).admits(
                self.past(parse_event({"event_name": "page_view", "deep": deep}))
            )

    def sieve(self, tally: BackfillTally, *, granted: bool = True, **options: Any) -> EventSieve:
        named = {name: TRAITS[name] for name in ("page_views", "pages")}
        options.setdefault("until", None)
        return EventSieve(compile_traits(named), tally, consent_default_granted=granted, **options)

    def past(self, event: Event, before: timedelta = timedelta()) -> PastEvent:
        return PastEvent(1, event, "e", (VISITORS[0],), START - before)


async def backfill_all(world: World) -> None:
    await backfill(world, past_events())


async def everything(world: World) -> dict[str, Any]:
    collections = ("profiles", "contributions", "identifiers", "links", "processed")
    paths = [path for collection in collections for path in await world.paths(collection)]
    return {path: await world.document(path) for path in paths}
