"""From publication to decision: what is published decides, and a newer version takes over."""

from __future__ import annotations

import json
from typing import Any

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.load_rules import load_rule_book
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.rule_publication import publish_rules, publish_stored_rules
from tests.pipeline.world import World

CLIENT = Identifier("client_id", "1294673677.1747154479")
SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert", "explain"}))


def tag(conditions: dict[str, Any], value: str) -> dict[str, Any]:
    return {
        "target_event_name": "view_item",
        "conditions": conditions,
        "action_type": "modify_parameter",
        "action_details": {"parameter": value, "operator": "set", "operand": True},
    }


AUDIENCES = {"big_spenders": {"conditions": {"profile.lifetime_value": {"greaterThan": 500}}}}
EXPERIMENTS = {"banner": {"target_event_name": "view_item", "variants": {"a": 1.0, "b": 0.0}}}
RULES = {
    "audience": tag({"client_id": {"exists": True}, "profile": {"inAudience": "big_spenders"}}, "big"),
    "variant": tag({"experiment.banner": "a"}, "variant_a"),
    "tier": tag({"tier": "Gold"}, "gold"),
}  # fmt: skip


def published_decider(world: World) -> Decider:
    """Return a decider that looks for a newer rule book before every decision."""
    loader = load_rule_book(world.backend.documents)
    book = Refreshed(loader, name="rules", interval_s=0, clock=world.backend.clock)
    return world.decider(rule_book=book)


async def decide(decider: Decider, **parameters: Any) -> dict[str, Any]:
    event = {"event_name": "view_item", "client_id": CLIENT.value, **parameters}
    answer = await decider.decide({"event": event, "deadline_ms": 5000}, SERVER)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


async def publish(world: World, definitions: RuleDefinitions) -> None:
    await publish_rules(world.store, definitions, world.now, Deadline.after(10))


async def test_audiences_experiments_and_protected_names_decide_as_published(world: World) -> None:
    await world.put_profile(CLIENT, attributes={"lifetime_value": 900, "tier": "Gold"})
    await world.store.commit(
        [Put("traits/tier", {"kind": "count"})], deadline=Deadline.after(5)
    )  # a trait's name is protected
    await publish(world, RuleDefinitions(RULES, experiments=EXPERIMENTS, audiences=AUDIENCES))
    await publish_stored_rules(world.store, world.now, Deadline.after(10))

    honest = await decide(published_decider(world))
    forged = await decide(published_decider(world), tier="Silver")

    assert honest["event"]["set"] == {"big": True, "variant_a": True, "gold": True}
    assert honest["personalization"]["variants"] == {"banner": "a"}
    assert forged["event"]["set"] == honest["event"]["set"]
    assert honest["rules_version"] == forged["rules_version"]


async def test_a_newer_version_takes_over_between_two_decisions_and_variants_stay(
    world: World,
) -> None:
    decider = published_decider(world)
    await publish(world, RuleDefinitions({"variant": RULES["variant"]}, experiments=EXPERIMENTS))
    first = await decide(decider)
    swapped = {
        "banner": {**EXPERIMENTS["banner"], "sticky": True, "variants": {"a": 0.0, "b": 1.0}}
    }

    await publish(world, RuleDefinitions({"variant": RULES["variant"]}, experiments=swapped))
    second = await decide(decider)
    await publish(world, RuleDefinitions({"tier": RULES["tier"]}))
    third = await decide(decider, tier="Gold")

    assert first["event"]["set"] == second["event"]["set"] == {"variant_a": True}
    assert third["event"]["set"] == {"gold": True}
    assert third["personalization"]["variants"] == {}
    assert len({answer["rules_version"] for answer in (first, second, third)}) == 3
