"""decide's pipeline: experiments — who is assigned, what is kept, and what counts as an exposure."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.decide import Decider
from tests.pipeline.world import KEYRING, START, World

CLIENT = Identifier("client_id", "1294673677.1747154479")
USER = Identifier("user_id", "u-1001")
SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))
CLIENT_PATH = f"profiles/{KEYRING.profile_id(CLIENT)}"

HALVES = [{"name": "control"}, {"name": "treatment"}]
BANNER = {"target_event_name": "view_item", "variants": HALVES, "sticky": True}
READS_VARIANT = {
    "target_event_name": "view_item",
    "conditions": {"experiment.banner": {"exists": True}},
    "action_type": "modify_parameter",
    "action_details": {"parameter": "variant", "operator": "copy", "from": "experiment.banner"},
}


def event(**parameters: Any) -> dict[str, Any]:
    return {"event_name": "view_item", "client_id": CLIENT.value, **parameters}


async def decide(decider: Decider, **body: Any) -> dict[str, Any]:
    answer = await decider.decide({"event": event(), "deadline_ms": 5000, **body}, SERVER)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


def variants(answer: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = answer["personalization"]["variants"]
    return found


async def told_exposures(world: World) -> list[dict[str, Any]]:
    """What the audit knows of exposures."""
    await world.store_audit()
    extras = [row["extra"] or {} for row in await world.rows()]
    return [exposure for extra in extras for exposure in extra.get("exposures", [])]


class TestExposures:
    async def test_an_exposure_is_recorded_once_per_visitor_experiment_and_version(
        self, world: World
    ) -> None:
        decider = world.decider(experiments={"banner": BANNER})
        first = await decide(decider)
        second = await decide(decider)
        newer = await decide(
            world.decider(experiments={"banner": {**BANNER, "version": 2, "sticky": False}})
        )

        assert variants(first) == variants(second) == variants(newer)
        assert world.commits == 2
        assert len(await world.paths("exposures")) == 2
        told = await told_exposures(world)
        assert [(each["experiment_id"], each["version"]) for each in told] == [
            ("banner", 1),
            ("banner", 2),
        ]

    async def test_who_asks_for_the_profile_alone_sees_no_variant(self, world: World) -> None:
        decider = world.decider({"e": READS_VARIANT}, experiments={"banner": BANNER})

        await decide(decider, include=["profile"])

        assert world.commits == 0
        assert await world.paths("exposures") == []

    async def test_twenty_requests_at_once_record_one_exposure_and_agree(
        self, world: World
    ) -> None:
        decider = world.decider(experiments={"banner": BANNER})

        answers = await asyncio.gather(*(decide(decider) for _ in range(20)))

        served = [variants(answer)["banner"] for answer in answers if variants(answer)]
        assert len(set(served)) == 1
        assert len(await told_exposures(world)) == 1
        assert len(await world.paths("exposures")) == 1

    async def test_an_exposure_names_no_visitor(self, world: World) -> None:
        await decide(world.decider(experiments={"banner": BANNER}))

        [path] = await world.paths("exposures")
        document = await world.document(path)

        assert document["subject"].startswith("t1:")
        assert document["decision_id"]
        assert CLIENT.value not in str(document)
        assert KEYRING.profile_id(CLIENT) not in str(document)

    async def test_a_forced_variant_is_served_and_never_exposed_nor_kept(
        self, world: World
    ) -> None:
        forced = [{"variant": "treatment", "conditions": {"debug_mode": True}}]
        decider = world.decider(experiments={"banner": {**BANNER, "forced": forced}})

        answer = await decide(decider, event=event(debug_mode=True))

        assert variants(answer) == {"banner": "treatment"}
        assert world.commits == 0
        assert await told_exposures(world) == []

    async def test_there_is_no_variant_and_no_exposure_without_a_commit(self, world: World) -> None:
        decider = world.decider(experiments={"banner": BANNER})
        world.down = {"commit"}

        answer = await decide(decider)
        world.down = set()

        assert (variants(answer), answer["degraded"]) == ({}, ["state"])
        assert answer["personalization"]["reason"] == "DEGRADED"
        assert await told_exposures(world) == []

    async def test_who_was_exposed_before_keeps_the_variant_also_without_a_commit(
        self, world: World
    ) -> None:
        decider = world.decider(experiments={"banner": BANNER})
        first = await decide(decider)
        world.down = {"commit"}

        again = await decide(decider)

        assert (variants(again), again["degraded"]) == (variants(first), [])

    @pytest.mark.parametrize(
        "body",
        [
            {"consent": {"analytics_storage": False}},
            {"consent": {"ad_personalization": False}},
            {"event": {"event_name": "view_item"}},
        ],
    )
    async def test_there_is_no_experiment_without_consent_or_identifier(
        self, world: World, body: dict[str, Any]
    ) -> None:
        decider = world.decider({"e": READS_VARIANT}, experiments={"banner": BANNER})

        answer = await decide(decider, **body)

        assert variants(answer) == {}
        assert answer["event"]["set"] == {}
        assert world.commits == 0

    async def test_there_is_no_experiment_while_the_profile_is_unavailable_or_erased(
        self, world: World
    ) -> None:
        decider = world.decider({"e": READS_VARIANT}, experiments={"banner": BANNER})
        world.down = {"documents"}
        unavailable = await decide(decider)
        world.down = set()
        await world.put_profile(CLIENT, erased_at=START)
        erased = await decide(decider)

        assert [variants(answer) for answer in (unavailable, erased)] == [{}, {}]
        assert world.commits == 0


class TestEventsAlone:
    async def test_an_event_decision_exposes_nothing_where_no_rule_reads_a_variant(
        self, world: World
    ) -> None:
        plain = {**READS_VARIANT, "conditions": {"client_id": {"exists": True}}}
        plain["action_details"] = {"parameter": "x", "operator": "set", "operand": 1}
        decider = world.decider({"e": plain}, experiments={"banner": BANNER})

        await decider.make_event_decision(event(), SERVER)

        assert world.commits == 0

    async def test_it_exposes_the_experiments_that_a_rule_reads_and_no_other(
        self, world: World
    ) -> None:
        decider = world.decider(
            {"e": READS_VARIANT}, experiments={"banner": BANNER, "other": BANNER}
        )

        answer = await decide(decider, include=["event"])

        assert answer["event"]["set"]["variant"] in {"control", "treatment"}
        profile = await world.document(CLIENT_PATH)
        assert list(profile["assignments"]) == ["banner"]
        [path] = await world.paths("exposures")
        assert (await world.document(path))["experiment_id"] == "banner"
        assert [told["experiment_id"] for told in await told_exposures(world)] == ["banner"]


class TestStickiness:
    async def test_a_sticky_variant_survives_a_login_and_other_weights(self, world: World) -> None:
        first = await decide(world.decider(experiments={"banner": BANNER}))
        await world.stitch(
            {"identifiers": [{"type": i.type, "value": i.value} for i in (USER, CLIENT)]}
        )
        world.restart()
        kept = variants(first)["banner"]
        against = [{"name": h["name"], "weight": float(h["name"] != kept)} for h in HALVES]
        decider = world.decider(experiments={"banner": {**BANNER, "variants": against}})

        by_user = await decide(decider, event={"event_name": "view_item", "user_id": USER.value})
        by_client = await decide(decider)

        assert [variants(a)["banner"] for a in (by_user, by_client)] == [kept, kept]
        assert len(await told_exposures(world)) == 1

    async def test_a_variant_that_the_weights_moved_is_exposed_as_multiple(
        self, world: World
    ) -> None:
        loose = {**BANNER, "sticky": False}
        first = await decide(world.decider(experiments={"banner": loose}))
        moved = [
            {"name": h["name"], "weight": float(h["name"] != variants(first)["banner"])}
            for h in HALVES
        ]

        await decide(world.decider(experiments={"banner": {**loose, "variants": moved}}))

        assert [told["multiple"] for told in await told_exposures(world)] == [False, True]
