"""People who leave traces everywhere: what an erasure must find, and an export must show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tests.pipeline.test_merges import message
from tests.pipeline.world import KEYRING, World

SERVER = Caller("server", frozenset({"decide", "lookup", "stitch", "assert"}))

SHOWN = {
    "target_event_name": "view_item",
    "match_all": True,
    "action_type": "modify_parameter",
    "action_details": {"parameter": "value", "operator": "multiply", "operand": 2},
}
MAIL = {
    "event_name_trigger": "view_item",
    "match_all": True,
    "actions": [
        {"type": "webhook", "endpoint": "hook", "body": {"page": {"from": "event.page"}}},
    ],
    "updates_user_state": {"shown": True},
}  # fmt: skip
TRAITS: Mapping[str, Mapping[str, Any]] = {
    "last_page": {"event": "page_view", "operation": "last", "field": "page"},
    "pages": {"event": "page_view", "operation": "count"},
}
BANNER = {
    "target_event_name": "view_item",
    "variants": [{"name": "a"}, {"name": "b"}],
    "sticky": True,
}


class Life:
    """One person: a customer, first seen as a browser, merged at a login."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        world.traits = TRAITS
        self.trace = f"trace-of-{name}"
        """Stands in everything that is held of this person."""
        self.user = Identifier("user_id", name)
        self.browser = Identifier("client_id", f"{name}.1747154479")
        self.phone = Identifier("device_id", f"phone of {name}")
        self.identifiers = (self.user, self.browser, self.phone)

    @property
    def keys(self) -> list[str]:
        return [KEYRING.identifier_key(identifier) for identifier in self.identifiers]

    async def live(self) -> None:
        """Leave everything that a person can leave."""
        await self.world.put_profile(
            self.user,
            attributes={"tier": self.trace},
            salt=b"salt of " + self.name.encode(),
        )
        self.world.now += timedelta(minutes=1)
        await self.browse("1")
        await self.view_page("a", self.browser)
        await self.world.stitch(message(f"{self.trace}-login", self.user, self.browser))
        await self.world.stitch(
            message(f"{self.trace}-phone", self.user, self.phone, consent={"email": True})
        )
        await self.view_page("b", self.user, self.browser)
        await self.view_page("c", self.user, self.browser)
        await self.browse("2", user_id=self.name)
        self.world.answers = [503]
        await self.world.stitch(
            message(
                f"{self.trace}-callback",
                self.user,
                self.browser,
                callback="main",
                context={"page": self.trace},
            )
        )
        held = Put(f"quarantine/{self.keys[1]}", {"why": self.trace})
        await self.world.store.commit([held], deadline=Deadline.after(5))

    async def view_page(self, request: str, *identifiers: Identifier) -> None:
        """Let an event count for the traits."""
        event = {"event_name": "page_view", "page": self.trace}
        await self.world.stitch(message(f"{self.trace}-{request}", *identifiers, event=event))

    async def browse(self, request: str, **parameters: Any) -> dict[str, Any]:
        """Let decide see the person once, with rules that change state, send and expose."""
        event = {
            "event_name": "view_item",
            "client_id": self.browser.value,
            "value": 7.5,
            "page": self.trace,
            **parameters,
        }
        decider = self.world.decider({"shown": SHOWN}, {"mail": MAIL}, experiments={"x": BANNER})
        body = {
            "event": event,
            "deadline_ms": 5000,
            "request_id": f"{self.trace}-{request}",
            "include": ["event", "personalization", "profile"],
        }
        answer: dict[str, Any] = json.loads(await decider.decide(body, SERVER))
        return answer


async def everything(world: World) -> dict[str, Any]:
    """Return every document and every row of the audit, by its path."""
    statement = "SELECT path FROM documents ORDER BY path"
    paths = await world.database.read(
        lambda connection: [row[0] for row in connection.execute(statement).fetchall()],
        Deadline.after(5),
    )
    found: dict[str, Any] = {path: await world.document(path) for path in paths}
    return found | {f"audit/{row['record_id']}": dict(row) for row in await world.rows()}


def traces(found: dict[str, Any], trace: str) -> list[str]:
    """Return where something of a person is left."""
    return [path for path, fields in found.items() if trace in path or trace in _text(fields)]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return " ".join(f"{name} {_text(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return str(value)
