"""Messages that wait for a visitor's browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch.core.consent import Purpose, was_denied
from tagstitch.core.limits import PUSH_INBOX_BYTES_MAX, PUSH_MESSAGES_MAX
from tagstitch.pipeline.backend import Clock, Document, DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.visitor import Visitor
from tagstitch.pipeline.visitor_of_profile import visitor_of_profile

_POLL_S: Final = 1.0
"""Seconds between two looks into an inbox: one document read a second and connection."""
_READ_TIMEOUT_S: Final = 5.0
_FOLLOW_EVERY: Final = 30
"""Looks after which a listener asks again who the visitor is: profiles are merged and erased."""


@dataclass(frozen=True, slots=True)
class PushMessage:
    """One message, as it waits."""

    message_id: str
    channel: str
    payload: Mapping[str, Any]
    until: datetime
    profile_id: str = ""
    """Whose it is, where it is on its way into an inbox."""
    purposes: Sequence[Purpose] = ()
    """What the visitor must not have denied since it was decided."""
    decided_at: datetime | None = None


def inbox_path(keyring: Keyring, profile_id: str) -> str:
    """Return where the messages of a visitor wait."""
    return f"push_inboxes/{keyring.derived_id('push', profile_id)}"


def inbox_with(
    inbox: Document | None, path: str, message: PushMessage, *, subject: str, now: datetime
) -> Put:
    """Return the write that adds a message; the oldest ones leave where there is no room."""
    waiting = [m for m in _stored(inbox) if m["until"] > now and m["id"] != message.message_id]
    payload = msgspec.json.encode(message.payload)
    added = {
        "id": message.message_id,
        "channel": message.channel,
        "payload": payload,
        "until": message.until,
        "purposes": list(message.purposes),
        "decided_at": message.decided_at,
    }
    kept = [*waiting, added][-PUSH_MESSAGES_MAX:]
    while len(kept) > 1 and sum(len(m["payload"]) for m in kept) > PUSH_INBOX_BYTES_MAX:
        kept.pop(0)
    fields = {
        "messages": kept,
        "subject": subject,
        "expires_at": max(m["until"] for m in kept),
    }
    return Put(path, fields, if_version=inbox.version if inbox else "")


class PushListener:
    """Follows the inbox of one visitor, whatever the visitor is merged into."""

    def __init__(
        self,
        documents: DocumentStore,
        keyring: Keyring,
        clock: Clock,
        *,
        poll_s: float = _POLL_S,
    ) -> None:
        self._documents = documents
        self._keyring = keyring
        self._clock = clock
        self._poll_s = poll_s

    async def listen(
        self, profile_id: str, *, until: datetime, after: str | None
    ) -> AsyncIterator[Sequence[PushMessage]]:
        """Yield what waits behind the message `after`, then what comes, until the token ends.

        Each look yields, be it nothing: whoever listens can tell that the line is alive. What the
        visitor denied while it waited is left out. Ends when the visitor was erased. May raise
        Unavailable.
        """
        path: str | None = None
        seen: set[str] = set()
        looks = 0
        while self._clock() < until:
            if looks % _FOLLOW_EVERY == 0:
                path = await self._path(profile_id)
                if path is None:
                    return
            assert path is not None  # noqa: S101 - the first look sets it
            inbox = await self._documents.get(path, deadline=Deadline.after(_READ_TIMEOUT_S))
            waiting = [m for m in _stored(inbox) if m["until"] > self._clock()]
            ids = [m["id"] for m in waiting]
            if looks == 0 and after in ids:
                seen.update(ids[: ids.index(after) + 1])
            new = [_message(m) for m in waiting if m["id"] not in seen]
            seen = set(ids)
            yield await self._allowed(new, profile_id) if new else new
            looks += 1
            await asyncio.sleep(self._poll_s)

    async def _allowed(
        self, messages: Sequence[PushMessage], profile_id: str
    ) -> Sequence[PushMessage]:
        """Return the messages whose purposes the visitor has not denied since."""
        profile = (await self._visitor(profile_id)).profile
        if profile is None:
            return messages
        return [
            message
            for message in messages
            if message.decided_at is None
            or not any(
                was_denied(profile, purpose, since=message.decided_at)
                for purpose in message.purposes
            )
        ]

    async def _visitor(self, profile_id: str) -> Visitor:
        return await visitor_of_profile(
            self._documents,
            profile_id,
            now=self._clock(),
            deadline=Deadline.after(_READ_TIMEOUT_S),
        )

    async def _path(self, profile_id: str) -> str | None:
        visitor = await self._visitor(profile_id)
        if visitor.is_erased:
            return None
        found = visitor.profile.profile_id if visitor.profile is not None else profile_id
        return inbox_path(self._keyring, found)


def _stored(inbox: Document | None) -> list[Mapping[str, Any]]:
    return list(inbox.fields["messages"]) if inbox is not None else []


def _message(stored: Mapping[str, Any]) -> PushMessage:
    payload = msgspec.json.decode(bytes(stored["payload"]))
    return PushMessage(
        stored["id"],
        stored["channel"],
        payload,
        stored["until"],
        purposes=stored["purposes"],
        decided_at=stored["decided_at"],
    )
