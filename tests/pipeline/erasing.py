"""Erasing somebody, and what may be on its way of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier, IdentitySettings
from tagstitch.core.lookup import LookupAnswer
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import ErasureResult, PersonEraser
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.person import Asked
from tagstitch.pipeline.profile_import import import_profiles
from tagstitch.pipeline.profile_line import parse_profile_line
from tests.pipeline.lives import Life
from tests.pipeline.test_merges import client, message, user
from tests.pipeline.world import KEYRING, World

READER = Caller("reader", frozenset({"lookup", "stitch", "assert"}))


def eraser(world: World, keyring: Keyring = KEYRING) -> PersonEraser:
    return PersonEraser(world.backend, keyring, world.audit)


def asked(identifier: Identifier) -> Asked:
    return Asked.by_identifier(identifier, KEYRING)


async def erase(world: World, who: Asked | Identifier) -> ErasureResult:
    named = asked(who) if isinstance(who, Identifier) else who
    return await eraser(world).erase(named, deadline=Deadline.after(20))


async def load(world: World, **line: Any) -> list[str]:
    """Import one line; return the codes of its rejections."""
    parsed = parse_profile_line(line, IdentitySettings(), KEYRING)
    result = await import_profiles(
        world.backend.documents, [(1, parsed)], now=world.now, deadline=Deadline.after(5)
    )
    return [rejection.code for rejection in result.rejections]


async def look_up(world: World, *identifiers: Identifier) -> LookupAnswer:
    body = {"identifiers": {i.type: i.value for i in identifiers}}
    answer = await world.lookup().answer(body, READER, request_id="r")
    assert isinstance(answer, LookupAnswer)
    return answer


async def erased(world: World) -> Life:
    """Return a person who lived here, whose records are stored, and who was erased."""
    ada = Life(world, "ada")
    await ada.live()
    await world.store_audit()
    await erase(world, ada.browser)
    await world.store_audit()
    return ada


QUEUED: dict[str, Callable[[World, Life], Awaitable[Any]]] = {
    "a stitch request": lambda w, a: w.stitch(message("late", *a.identifiers)),
    "one of a single identifier": lambda w, a: w.stitch(message("late", a.phone)),
    "one with a cookie that nobody knows": lambda w, a: w.stitch(
        message("late", a.user, client("new"))
    ),
    "one that brings a stranger's profile": lambda w, a: w.stitch(
        message("late", user("bob"), a.browser)
    ),
    "a grant": lambda w, a: w.stitch(message("late", a.user, consent={"email": True})),
    "a denial": lambda w, a: w.stitch(message("late", a.user, consent={"email": False})),
    "an event that counts for traits": lambda _, a: a.view_page("late", a.user, a.browser),
    "one that was counted before": lambda _, a: a.view_page("b", a.user, a.browser),
    "a redelivery": lambda w, a: w.stitch(message(f"{a.trace}-login", a.user, a.browser)),
    "a bare id": lambda w, a: w.stitch({"request_id": "late", "id": a.user.value}),
    "a decision": lambda _, a: a.browse("late", user_id=a.name),
    "a decision by the cookie alone": lambda _, a: a.browse("late"),
    "a decision that was made before": lambda _, a: a.browse("1"),
    "an import": lambda w, a: load(w, identifiers={"user_id": a.name}, attributes={"x": a.trace}),
    "an import by profile id": lambda w, a: load(
        w, profile_id=KEYRING.profile_id(a.user), attributes={"x": a.trace}
    ),
    "an import by the id of an alias": lambda w, a: load(
        w, profile_id=KEYRING.profile_id(a.browser), attributes={"x": a.trace}
    ),
    "an import of a new profile with an old identifier": lambda w, a: load(
        w, profile_id="other", identifiers={"client_id": a.browser.value}, attributes={"x": a.trace}
    ),
    "the sweep": lambda w, _a: w.sweep(),
}


RACING = [name for name in QUEUED if name != "an import of a new profile with an old identifier"]
"""Not that import: when it comes first it is of somebody else, whom nothing links to them."""
