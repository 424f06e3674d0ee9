"""Whatever views and endpoints list: a callback carries what both allow, and nothing else."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tagstitch.core.identifier import Identifier
from tagstitch.core.view import parse_views
from tests.pipeline.world import MAIN, World

CLIENT = Identifier("client_id", "1294673677.1747154479")

names = st.sampled_from(["tier", "city", "margin", "segment", "score", "note"])
listed = st.lists(names, max_size=6)
view = st.fixed_dictionaries({}, optional={"attributes": listed, "concealed": listed})


async def sent(
    folder: Path,
    profile: Mapping[str, Any],
    declared: Mapping[str, Mapping[str, Any]],
    asked: str,
    allowed: frozenset[str],
) -> list[Mapping[str, Any]]:
    """Return the attributes of the first attempt and of one that reads the visitor again."""
    world = World(folder, views=parse_views(declared))
    world.endpoints = {"main": structs.replace(MAIN, attributes=allowed)}
    world.restart()
    try:
        await world.put_profile(CLIENT, attributes=dict(profile))
        world.answers = [503]
        identifiers = [{"type": CLIENT.type, "value": CLIENT.value}]
        await world.stitch(
            {"request_id": "r", "identifiers": identifiers, "callback": "main", "view": asked}
        )
        world.now += timedelta(seconds=10)
        await world.act()
        return [call["body"]["data"]["attributes"] for call in world.callbacks]
    finally:
        world.database.close()


@given(
    profile=st.dictionaries(names, st.integers(0, 9)),
    default=view,
    other=view,
    asked=st.sampled_from(["default", "other"]),
    allowed=st.frozensets(st.one_of(names, st.just("*"))),
)
@settings(max_examples=60, deadline=None)
def test_only_what_the_view_and_the_endpoint_allow_leaves(
    profile: dict[str, int],
    default: dict[str, list[str]],
    other: dict[str, list[str]],
    asked: str,
    allowed: frozenset[str],
) -> None:
    declared = {"default": default, "other": other}
    concealed = {name for each in declared.values() for name in each.get("concealed", ())}
    shown = set(declared[asked].get("attributes", profile))
    named = (allowed - {"*"}) | ((profile.keys() - concealed) if "*" in allowed else set())
    expected = {name: value for name, value in profile.items() if name in shown & named}

    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(sent(Path(folder), profile, declared, asked, allowed))

    assert found == [expected, expected]
