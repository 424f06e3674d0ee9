"""Junk identifiers: a thousand visitors with the same one are never one profile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tagstitch.core.identifier import Identifier
from tests.pipeline.test_decide import decide, event
from tests.pipeline.test_merges import client, message, user
from tests.pipeline.world import KEYRING, World

VISITORS = 1000
UNDEFINED = client("undefined")


async def arrive(world: World, visitors: Sequence[Sequence[Identifier]]) -> None:
    """Let the visitors come, twenty at a time."""
    for start in range(0, len(visitors), 20):
        await asyncio.gather(
            *(
                world.stitch(message(f"r{start + n}", *identifiers), f"m{start + n}")
                for n, identifiers in enumerate(visitors[start : start + 20])
            )
        )


async def test_a_thousand_visitors_with_an_undefined_id_are_nobody(place: World) -> None:
    await arrive(place, [[UNDEFINED]] * VISITORS)

    assert await place.document(f"profiles/{KEYRING.profile_id(UNDEFINED)}") == {}
    assert await place.document(f"identifiers/{KEYRING.identifier_key(UNDEFINED)}") == {}


async def test_a_thousand_customers_with_an_undefined_id_are_a_thousand(place: World) -> None:
    customers = [user(f"customer-{n}") for n in range(VISITORS)]

    await arrive(place, [[customer, UNDEFINED] for customer in customers])

    for customer in customers[:: VISITORS // 20]:
        profile: dict[str, Any] = await place.document(f"profiles/{KEYRING.profile_id(customer)}")
        assert set(profile["identifiers"]) == {KEYRING.identifier_key(customer)}
        assert "demoted" not in profile
    assert await place.document(f"profiles/{KEYRING.profile_id(UNDEFINED)}") == {}


async def test_the_first_record_of_a_decision_names_the_types_that_were_blocked(
    world: World,
) -> None:
    said = event("page_view", client_id="1294673677.1747154479", user_id='"NULL"', device_id="0000")

    await decide(world.decider(), {"event": said, "include": ["event", "personalization"]})

    await world.store_audit()
    extras = {row["record_type"]: row["extra"] or {} for row in await world.rows()}
    assert extras["event_decision"]["blocked_types"] == ["user_id", "device_id"]
    assert "blocked_types" not in extras["personalization_decision"]
