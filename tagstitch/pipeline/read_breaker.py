"""Reads that answers wait for: a store that does not answer is left alone for a moment.

Without it each answer waits for half of its deadline or more for as long as the store is silent,
and the requests of all these seconds wait at once. Commits and what is loaded in the background go
on asking: nobody waits for the one, and the other only begins when a read was answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tagstitch.core.circuit_breaker import STORE, CircuitBreaker
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import Clock, Document, DocumentReader
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import StoreBreakerOpened, log

_FAIR_S: Final = 0.05
"""Seconds that a read must have had before its failure says anything about the store: a caller
whose deadline is too short must not have the store left alone for all others."""


class ReadBreaker:
    """The documents of a store, unless it has been failing for a second: then Unavailable at once.

    One read at a time asks whether it lives, up to two seconds apart.
    """

    def __init__(self, documents: DocumentReader, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._breaker = CircuitBreaker(patience=STORE)
        self._is_failing = False

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None."""
        is_fair = self._ask(deadline)
        try:
            document = await self._documents.get(path, deadline=deadline)
        except Unavailable as error:
            self._failed(error, is_fair=is_fair)
            raise
        self._worked()
        return document

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path."""
        is_fair = self._ask(deadline)
        try:
            documents = await self._documents.get_many(paths, deadline=deadline)
        except Unavailable as error:
            self._failed(error, is_fair=is_fair)
            raise
        self._worked()
        return documents

    def _ask(self, deadline: Deadline) -> bool:
        """Return whether the read has a fair time; raises Unavailable when none may be made."""
        is_fair = deadline.remaining_s >= _FAIR_S
        if self._is_failing and self._is_left_alone(is_fair=is_fair):
            raise Unavailable("documents", "left alone, since it did not answer")
        return is_fair

    def _is_left_alone(self, *, is_fair: bool) -> bool:
        now = self._clock()
        # One with hardly any time is no probe, but may find that the store is back.
        return self._breaker.wait_s(now) > 0 if is_fair else self._breaker.is_open(now)

    def _failed(self, error: Unavailable, *, is_fair: bool) -> None:
        if not is_fair:
            return
        self._is_failing = True
        if self._breaker.note("fails", self._clock()):
            log(StoreBreakerOpened(why=str(error)))

    def _worked(self) -> None:
        if self._is_failing:
            self._is_failing = False
            self._breaker.note("works", self._clock())
