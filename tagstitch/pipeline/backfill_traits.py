"""Backfill: events of the past, counted for traits by the code that counts those of today."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from tagstitch.core.consent import ANALYTICS_STORAGE, resolve_consent
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import Event
from tagstitch.core.identifier import Identifier
from tagstitch.core.limits import CALLBACK_EXPIRY_S, CLOCK_SKEW_S, JSON_DEPTH_MAX
from tagstitch.core.profile_traits import TraitDefinitions, fold_event
from tagstitch.core.stitch_request import StitchRequest
from tagstitch.core.values import is_deeper
from tagstitch.pipeline.backend import Document, DocumentStore, Write
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.stitch import Stitcher

CONCURRENCY: Final = 16
"""Visitors under way at once."""

LeftOut = Literal["no_trait", "no_identifier", "denied", "later"]
"""Why an event is nothing to traits."""

LEFT_OUT: Final[tuple[LeftOut, ...]] = get_args(LeftOut)

_TIMEOUT_S: Final = 30.0
"""Seconds for one event: other writers of its visitor may be first many times."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event of a file."""

    line: int
    event: Event
    event_id: str
    """What it was counted by if it was delivered before."""
    identifiers: tuple[Identifier, ...]
    """The strongest first; at least one."""
    occurred_at: datetime


@dataclass(slots=True)
class BackfillTally:
    """What became of the events."""

    counted: Counter[str] = field(default_factory=Counter)
    """Trait -> the events that it counts, whether or not they were counted before."""
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    """Reason -> events."""
    events: int = 0
    """Events that were stitched."""
    changed: int = 0
    """Commits: events that changed something, which those that were counted before do not."""


class CountedDocuments:
    """A DocumentStore that counts commits."""

    def __init__(self, documents: DocumentStore, tally: BackfillTally) -> None:
        self._documents = documents
        self._tally = tally

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        return await self._documents.get(path, deadline=deadline)

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        return await self._documents.get_many(paths, deadline=deadline)

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none."""
        await self._documents.commit(writes, deadline=deadline)
        self._tally.changed += 1

    async def list_documents(self, collection: str, **options: Any) -> Sequence[Document]:
        """Return documents of a collection in order of their path."""
        return await self._documents.list_documents(collection, **options)


def counting_only(definitions: TraitDefinitions, names: Collection[str]) -> TraitDefinitions:
    """Return the definitions of which these alone count; without names, all do.

    The others keep their states: to their owners a name that is gone means a trait that is gone.
    """
    if not names:
        return definitions
    by_event = {
        event_name: counting
        for event_name, found in definitions.by_event.items()
        if (counting := [each for each in found if each.name in names])
    }
    return replace(definitions, by_event=by_event)


def event_id_suffix(definitions: TraitDefinitions, names: Collection[str]) -> str:
    """Return what makes ids of events those of one count of these traits alone.

    An event that was counted for others, or for what they were before, counts for them once more.
    """
    ranks = ((name, *definitions.by_name[name].terms.rank) for name in sorted(names))
    return "".join(f" {name} {edition} {digest}" for name, edition, digest in ranks)


class EventSieve:
    """Says which events are to be counted, and counts the others."""

    def __init__(
        self,
        definitions: TraitDefinitions,
        tally: BackfillTally,
        *,
        until: datetime | None,
        consent_default_granted: bool,
    ) -> None:
        self._definitions = definitions
        self._tally = tally
        self._until = until
        self._consent_default_granted = consent_default_granted

    def admits(self, past: PastEvent) -> bool:
        """Return whether the event must be stitched.

        Raises InvalidInput for one that decide would not have published either.
        """
        if is_deeper(past.event.parameters, JSON_DEPTH_MAX - 1):
            raise InvalidInput("json_too_deep", "nested too deeply to be counted")
        consent = resolve_consent(
            requested=None,
            event=past.event,
            profile=None,
            default_granted=self._consent_default_granted,
        )
        reason: LeftOut | None = None
        if self._until is not None and past.occurred_at >= self._until:
            reason = "later"
        elif not self._definitions.of_event(past.event.name):
            reason = "no_trait"
        elif ANALYTICS_STORAGE in consent.denied_by_request:
            reason = "denied"
        if reason is not None:
            self._tally.left_out[reason] += 1
            return False
        folded = fold_event(self._definitions, {}, past.event, at=past.occurred_at, consent=consent)
        self._tally.counted.update(folded.counted)
        return True


class TraitBackfill:
    """Stitches past events as stitch_async does; those of one visitor one after another."""

    def __init__(self, stitcher: Stitcher, keyring: Keyring, tally: BackfillTally) -> None:
        self._stitcher = stitcher
        self._keyring = keyring
        self._tally = tally

    async def process(
        self, events: Iterable[PastEvent], *, now: datetime
    ) -> list[tuple[int, InvalidInput]]:
        """Stitch the events; return the lines that cannot be, and why.

        Raises Unavailable when a store or topic cannot be reached. Repeating it has no effect.
        """
        visitors: dict[Identifier, list[PastEvent]] = {}
        for past in events:
            visitors.setdefault(past.identifiers[0], []).append(past)
        waiting = iter(visitors.values())
        rejected: list[tuple[int, InvalidInput]] = []

        async def worker() -> None:
            for of_visitor in waiting:
                for past in of_visitor:
                    try:
                        await self._stitch(past, now=now)
                    except InvalidInput as error:
                        rejected.append((past.line, error))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(CONCURRENCY, len(visitors))):
                    group.create_task(worker())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return rejected

    async def _stitch(self, past: PastEvent, *, now: datetime) -> None:
        latest = now + timedelta(seconds=CLOCK_SKEW_S)
        request = StitchRequest(
            request_id=self._keyring.derived_id("backfill", past.event_id),
            identifiers=past.identifiers,
            bare_id=None,
            asserted=True,
            event=past.event,
            event_id=past.event_id,
            view="default",
            callback=None,
            context={},
            consent=None,
            occurred_at=min(past.occurred_at, latest),
            expires_at=now + timedelta(seconds=CALLBACK_EXPIRY_S),
            preview=None,
        )
        await self._stitcher.process(request, deadline=Deadline.after(_TIMEOUT_S))
        self._tally.events += 1
