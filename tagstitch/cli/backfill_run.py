"""One run of `tagstitch traits backfill`: files in batches, with a note of what is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tagstitch.adapters.wiring import Wiring
from tagstitch.cli.import_checkpoint import ImportCheckpoint, Progress
from tagstitch.cli.import_options import needs_ramp
from tagstitch.cli.json_lines import count_lines
from tagstitch.cli.opened_backend import Opened
from tagstitch.cli.output import CommandFailed, err, progress_bar
from tagstitch.cli.rejects_file import RejectsFile, rejection_of
from tagstitch.cli.replay_events import ReplayEvent, read_events
from tagstitch.core.errors import InvalidInput, TagstitchError
from tagstitch.core.event import parse_event
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile_traits import TraitDefinitions
from tagstitch.pipeline.backfill_traits import (
    LEFT_OUT,
    BackfillTally,
    CountedDocuments,
    EventSieve,
    PastEvent,
    TraitBackfill,
    counting_only,
    event_id_suffix,
)
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.load_traits import load_traits
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.visitor import VisitorFinder
from tagstitch.pipeline.write_ramp import RampedDocuments

_TIMEOUT_S: Final = 30.0

_BATCH_EVENTS: Final = 500
"""Events between two notes of the progress: what an interruption repeats."""

_LAST_LINE: Final = sys.maxsize


class BackfillRun:
    """One run of the command."""

    def __init__(
        self,
        opened: Opened,
        definitions: TraitDefinitions,
        until: datetime | None,
        *,
        names: Collection[str],
        is_dry: bool,
    ) -> None:
        self._opened = opened
        self._is_dry = is_dry
        self._tally = BackfillTally()
        self._definitions = definitions
        self._names = sorted(names or definitions.by_name)
        self._suffix = event_id_suffix(definitions, names)
        self._sieve = EventSieve(
            definitions,
            self._tally,
            until=until,
            consent_default_granted=opened.settings.consent_default == "granted",
        )
        self._reading = f"traits{self._suffix} until {until.isoformat() if until else None}"
        self._ramp: RampedDocuments | None = None
        self._backfill: TraitBackfill | None = None
        self._started = time.monotonic()

    @classmethod
    async def begin(
        cls,
        opened: Opened,
        names: Collection[str],
        until: datetime | None,
        *,
        is_dry: bool,
        is_ramped: bool,
    ) -> BackfillRun:
        """Return a run on the definitions of the store."""
        load = _loader(opened, names)
        definitions = await load(None, Deadline.after(_TIMEOUT_S))
        if unknown := sorted(set(names) - definitions.names):
            raise CommandFailed(f"the store has no such trait: {', '.join(unknown)}")
        if not definitions.by_event:
            raise CommandFailed("the store has no trait that counts: tagstitch rules push")
        self = cls(opened, definitions, until, names=names, is_dry=is_dry)
        if not is_dry:
            documents = CountedDocuments(opened.backend.documents, self._tally)
            if is_ramped and needs_ramp(opened.settings):
                self._ramp = RampedDocuments(documents)
            backend = replace(opened.backend, documents=self._ramp or documents)
            wiring = Wiring(opened.settings)
            wiring.backend = backend  # the same one, and its commits are counted
            wiring.traits = Refreshed(
                load,
                name="traits",
                interval_s=opened.settings.rules_refresh_s,
                clock=backend.clock,
            )
            self._backfill = TraitBackfill(wiring.stitcher, opened.keyring, self._tally)
        return self

    async def files(self, files: Sequence[Path], *, restart: bool) -> dict[str, Any]:
        """Count the events of the files; return the command's answer."""
        rejected: dict[str, Any] = {"rejected": 0, "rejections": [], "rejects_files": []}
        lines, resumed = 0, []
        for file in files:
            total, begun, summary = await self._file(file, restart=restart)
            lines += total
            resumed.append(begun)
            rejected["rejected"] += summary["rejected"]
            rejected["rejections"] += summary["rejections"]
            if summary["rejects_file"]:
                rejected["rejects_files"].append(summary["rejects_file"])
        seconds, tally = time.monotonic() - self._started, self._tally
        return {
            "dry_run": self._is_dry,
            "lines": lines,
            "resumed_after_line": resumed,
            "events": tally.events,
            "changed": tally.changed,
            "left_out": {reason: tally.left_out[reason] for reason in LEFT_OUT},
            "traits": {name: tally.counted[name] for name in self._names},
            **rejected,
            "seconds": round(seconds, 3),
            "events_per_second": round(tally.events / seconds, 1) if seconds else None,
        }

    async def _file(self, file: Path, *, restart: bool) -> tuple[int, int, dict[str, Any]]:
        """Count the events of one file; return its lines, where it went on, and its rejects."""
        checkpoint = ImportCheckpoint(file, self._opened.settings, reading=self._reading)
        begun = Progress() if restart or self._is_dry else checkpoint.read()
        if begun.lines_done and not await self._holds(file, begun):
            err().print("the store lacks what the interrupted backfill wrote: from the first line")
            begun = Progress()
        rejects = RejectsFile(
            None if self._is_dry else file,
            keep_bytes=begun.rejects_bytes,
            written=begun.rejected,
        )
        done, total = begun.lines_done, count_lines(file)
        events = (
            event
            for event in read_events(file, rejects, self._opened.settings.identity)
            if event.line > begun.lines_done
        )
        with progress_bar(file.name, total) as bar:
            bar(done)
            while batch := list(islice(events, _BATCH_EVENTS)):
                with _place_told(done):
                    await self._batch(batch, rejects)
                bar(batch[-1].line - done)
                bar.say(self._pace())
                done = batch[-1].line
                rejects.write(up_to_line=done)
                if not self._is_dry:
                    checkpoint.save(
                        Progress(
                            lines_done=done,
                            batch_from=batch[0].line,
                            rejected=rejects.written,
                            rejects_bytes=rejects.bytes_written,
                        )
                    )
            rejects.write(up_to_line=_LAST_LINE)
        if not self._is_dry:
            checkpoint.clear()
        return total, begun.lines_done, rejects.summary()

    async def _batch(self, batch: Sequence[ReplayEvent], rejects: RejectsFile) -> None:
        admitted = list(self._admitted(batch, rejects))
        if self._backfill is None:
            self._tally.events += len(admitted)
            return
        now = self._opened.backend.clock()
        for line, error in await self._backfill.process(admitted, now=now):
            rejects.add(line, rejection_of(line, error))

    def _admitted(self, batch: Sequence[ReplayEvent], rejects: RejectsFile) -> Iterator[PastEvent]:
        for event in batch:
            if not event.identifiers:
                self._tally.left_out["no_identifier"] += 1
                continue
            try:
                past = _past(event, self._suffix)
                if self._sieve.admits(past):
                    yield past
            except InvalidInput as error:
                rejects.add(event.line, rejection_of(event.line, error))

    async def _holds(self, file: Path, begun: Progress) -> bool:
        """Return whether the store knows a visitor of the last batch that is called done.

        It may have been cleared or restored meanwhile.
        """
        opened, nowhere = self._opened, RejectsFile(None)
        sieve = EventSieve(
            self._definitions, BackfillTally(), until=None, consent_default_granted=False
        )
        finder = VisitorFinder(opened.backend.documents, opened.keyring, opened.settings.identity)
        is_expected = False
        for event in read_events(file, nowhere, opened.settings.identity):
            if event.line > begun.lines_done:
                break
            if event.line < begun.batch_from or not event.identifiers or not event.occurred_at:
                continue
            past = _past(event, self._suffix)
            if not sieve.admits(past):
                continue
            is_expected = True
            visitor = await finder.find(
                past.identifiers, now=opened.backend.clock(), deadline=Deadline.after(_TIMEOUT_S)
            )
            if visitor.profile is not None or visitor.is_erased:
                return True
        return not is_expected

    def _pace(self) -> str:
        events_per_s = self._tally.events / max(time.monotonic() - self._started, 0.001)
        limit = f", at most {self._ramp.limit:,.0f} writes/s" if self._ramp else ""
        return f"{events_per_s:,.0f} events/s{limit}"


def _loader(
    opened: Opened, names: Collection[str]
) -> Callable[[TraitDefinitions | None, Deadline], Awaitable[TraitDefinitions]]:
    """Return the loader of the store's definitions, of which the named ones count, else all.

    They are looked for again during a long run: stitch_async counts by the newest, too.
    """
    load_all = load_traits(opened.backend.documents, time_zone=opened.settings.time_zone)
    every: TraitDefinitions | None = None

    async def load(_present: TraitDefinitions | None, deadline: Deadline) -> TraitDefinitions:
        nonlocal every
        every = await load_all(every, deadline)
        return counting_only(every, names)

    return load


def _past(event: ReplayEvent, suffix: str) -> PastEvent:
    """Return the event; raises InvalidInput for one that does not say when it happened."""
    if event.occurred_at is None:
        raise InvalidInput(
            "missing_field", "an event of the past needs its time", "event_timestamp_ms"
        )
    return PastEvent(
        line=event.line,
        event=parse_event(event.parameters),
        event_id=event.event_id + suffix,
        identifiers=tuple(Identifier(i["type"], i["value"]) for i in event.identifiers),
        occurred_at=event.occurred_at,
    )


@contextmanager
def _place_told(done: int) -> Iterator[None]:
    """Add to a failure how far the backfill has come."""
    try:
        yield
    except TagstitchError as error:
        raise CommandFailed(
            f"{error}; {done} lines are done, and the same command goes on behind them"
        ) from error
