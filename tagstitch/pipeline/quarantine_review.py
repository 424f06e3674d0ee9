"""Reviewing the quarantine: what is held, letting it go, and blocking it for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.identity_graph import links_expiry, type_of
from tagstitch.core.profile import Profile, parse_profile, survivor_id
from tagstitch.core.quarantine import blocked_link, is_held, released_link
from tagstitch.core.stored_values import stored_texts, stored_time
from tagstitch.pipeline.backend import Backend, Delete, Document, Patch, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import IdempotencyMark, is_live
from tagstitch.pipeline.keyring import Keyring, own_profile_id
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.publish_audit import AuditPublisher, encode_record

Verdict = Literal["RELEASED", "BLOCKED"]

_ATTEMPTS_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class HeldIdentifier:
    """One identifier that waits for a review."""

    key: str
    type: str
    profiles: tuple[str, ...]
    """The profiles that it met, its own one first."""
    held_at: datetime | None
    expires_at: datetime | None
    """When it recognises again if nobody looks at it."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the command prints it."""
        return {
            "key": self.key,
            "type": self.type,
            "profiles": len(self.profiles),
            "held_at": self.held_at,
            "expires_at": self.expires_at,
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an identifier's profile is, as it was read."""

    own: Document
    home: Profile | None
    home_version: str
    met: tuple[str, ...]
    """The profiles for which it was held."""

    @property
    def is_alias(self) -> bool:
        """Whether its own place leads to another document."""
        return survivor_id(self.own.fields) is not None

    def is_held(self, key: str, *, now: datetime) -> bool:
        """Return whether there is anything to release."""
        is_blocked = self.is_alias and "blocked_at" in self.own.fields
        return is_blocked or (self.home is not None and is_held(self.home, key, now=now))


class QuarantineReview:
    """Lists, releases and blocks identifiers, and records it."""

    def __init__(self, backend: Backend, keyring: Keyring, audit: AuditPublisher) -> None:
        self._backend = backend
        self._keyring = keyring
        self._audit = audit

    async def held(self, *, deadline: Deadline) -> list[HeldIdentifier]:
        """Return what waits for a review, in order of the keys."""
        now = self._backend.clock()
        documents = await list_all(self._backend.documents, "quarantine", deadline=deadline)
        return [
            _held(document.path.partition("/")[2], document.fields)
            for document in documents
            if is_live(document, now=now)
        ]

    async def release(self, key: str, *, deadline: Deadline) -> str:
        """Let an identifier recognise again; return the record's id.

        It is not held again for the profiles that it met. Raises InvalidInput when it is neither
        held nor blocked.
        """
        return await self._decide(key, "RELEASED", deadline)

    async def block(self, key: str, *, deadline: Deadline) -> str:
        """Let an identifier never recognise anybody again; return the record's id.

        Raises InvalidInput when no profile has it.
        """
        return await self._decide(key, "BLOCKED", deadline)

    async def _decide(self, key: str, verdict: Verdict, deadline: Deadline) -> str:
        for _ in range(_ATTEMPTS_MAX):
            place = await self._place(key, deadline)
            try:
                return await self._commit(key, verdict, place, deadline)
            except Conflict:
                continue
        raise Unavailable("firestore", "too many concurrent changes of one visitor")

    async def _commit(self, key: str, verdict: Verdict, place: _Place, deadline: Deadline) -> str:
        now = self._backend.clock()
        if verdict == "RELEASED" and not place.is_held(key, now=now):
            raise InvalidInput("invalid_field", "this identifier is not held", "identifier")
        if verdict == "BLOCKED" and place.home is None:
            raise _unknown_identifier()
        mark_key = self._keyring.derived_id("review", key, verdict, now.isoformat())
        record = self._record(key, verdict, place, record_id=f"review_{mark_key}", now=now)
        mark = IdempotencyMark(mark_key, record.record_id)
        await self._backend.documents.commit(
            [
                *_writes(key, verdict, place, now=now),
                mark.put([record], {"key": key}, now=now, replaces=None),
            ],
            deadline=deadline,
        )
        await self._audit.publish_committed(
            [encode_record(record)], path=mark.path, deadline=deadline
        )
        return record.record_id

    def _record(
        self, key: str, verdict: Verdict, place: _Place, *, record_id: str, now: datetime
    ) -> AuditRecord:
        home = place.home
        return AuditRecord(
            record_id=record_id,
            record_type="identity_blocked",
            occurred_at=now,
            outcome=verdict.lower(),
            subject=self._keyring.pseudonym(home.profile_id) if home is not None else None,
            extra={"reason": verdict, "type": type_of(key), "profiles": len(place.met)},
        )

    async def _place(self, key: str, deadline: Deadline) -> _Place:
        """Return where the identifier is; raises InvalidInput when nobody ever had it."""
        documents = self._backend.documents
        own_path, held_path = f"profiles/{own_profile_id(key)}", f"quarantine/{key}"
        found = dict(await documents.get_many([own_path, held_path], deadline=deadline))
        own = found.get(own_path)
        if own is None:
            raise _unknown_identifier()
        target = survivor_id(own.fields)
        home = (
            await documents.get(f"profiles/{target}", deadline=deadline)
            if target is not None
            else own
        )
        quarantine = found.get(held_path)
        return _Place(
            own,
            _profile_with(key, home, now=self._backend.clock()),
            home.version if home is not None else "",
            stored_texts(quarantine.fields.get("profiles")) if quarantine else (),
        )


def _profile_with(key: str, document: Document | None, *, now: datetime) -> Profile | None:
    """Return the living profile of a document when the identifier is linked to it."""
    if document is None:
        return None
    profile = parse_profile(document.path.partition("/")[2], document.fields, now=now)
    return profile if profile is not None and key in profile.identifiers else None


def _writes(key: str, verdict: Verdict, place: _Place, *, now: datetime) -> list[Write]:
    writes: list[Write] = [Delete(f"quarantine/{key}")]
    is_block = verdict == "BLOCKED"
    if place.home is not None:
        links = dict(place.home.identifiers)
        links[key] = (
            blocked_link(links[key], place.met, now=now)
            if is_block
            else released_link(links[key], place.met)
        )
        path = f"profiles/{place.home.profile_id}"
        writes.append(Patch(path, {"identifiers": links}, if_version=place.home_version))
    if place.is_alias:  # a block holds even when the profile has gone
        until = links_expiry(place.home.fields) if place.home is not None else None
        fields = {"blocked_at": now} if is_block else {"expires_at": until or now}
        remove = ("expires_at",) if is_block else ("blocked_at",)
        writes.append(Patch(place.own.path, fields, remove, if_version=place.own.version))
    return writes


def _unknown_identifier() -> InvalidInput:
    return InvalidInput(
        "invalid_field", "nobody is known by this identifier", "identifier",
        "blocked_values of TAGSTITCH_IDENTITY can list the value",
    )  # fmt: skip


def _held(key: str, fields: Mapping[str, Any]) -> HeldIdentifier:
    return HeldIdentifier(
        key=key,
        type=type_of(key),
        profiles=stored_texts(fields.get("profiles")),
        held_at=stored_time(fields.get("held_at")),
        expires_at=stored_time(fields.get("expires_at")),
    )
