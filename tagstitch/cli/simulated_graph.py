"""What a simulation left behind: who is who, with the identifiers as they were given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from tagstitch.core.identifier import Identifier
from tagstitch.core.identity_graph import type_of
from tagstitch.core.profile import parse_profile
from tagstitch.pipeline.backend import DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.simulate import SimulatedClock
from tagstitch.pipeline.visitor import VisitorFinder

_PAGE: Final = 200
_GIVEN_MAX: Final = 1_000
"""Identifiers that wait to be written down together."""
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class SimulatedProfile:
    """One person at the end."""

    profile_id: str
    identifiers: tuple[Mapping[str, str | None], ...]
    """{type, value}; no value for one that only the copied profile had."""
    demoted: tuple[Mapping[str, str | None], ...]
    merges: int

    def to_json(self) -> dict[str, Any]:
        """Return it for a document."""
        return {
            "profile_id": self.profile_id,
            "identifiers": list(self.identifiers),
            "demoted": list(self.demoted),
            "merges": self.merges,
        }


class GivenIdentifiers:
    """Remembers identifiers as they were given, beside the documents: those hold hashes alone."""

    def __init__(self, scratch: DocumentStore, finder: VisitorFinder) -> None:
        self._scratch = scratch
        self._finder = finder
        self._waiting: dict[str, Identifier] = {}

    async def add(self, identifiers: Iterable[Identifier]) -> None:
        """Remember some."""
        found = list(identifiers)
        self._waiting.update(zip(self._finder.keys(found), found, strict=True))
        if len(self._waiting) >= _GIVEN_MAX:
            await self._write()

    async def named(self, keys: Iterable[str]) -> dict[str, Mapping[str, str | None]]:
        """Return key -> {type, value}."""
        await self._write()
        wanted = {key: f"given/{key}" for key in keys}
        found = await self._scratch.get_many(
            list(wanted.values()), deadline=Deadline.after(_TIMEOUT_S)
        )
        return {
            key: {
                "type": type_of(key),
                "value": found[path].fields["value"] if path in found else None,
            }
            for key, path in wanted.items()
        }

    async def _write(self) -> None:
        if self._waiting:
            puts = [Put(f"given/{key}", {"value": i.value}) for key, i in self._waiting.items()]
            await self._scratch.commit(puts, deadline=Deadline.after(_TIMEOUT_S))
            self._waiting = {}


async def profiles_of(
    scratch: DocumentStore, given: GivenIdentifiers, clock: SimulatedClock
) -> AsyncIterator[SimulatedProfile]:
    """Yield the living profiles, a page of documents at a time."""
    after = None
    while True:
        page = await scratch.list_documents(
            "profiles", after=after, limit=_PAGE, deadline=Deadline.after(_TIMEOUT_S)
        )
        found = [
            parse_profile(document.path.partition("/")[2], document.fields, now=clock())
            for document in page
        ]
        living = [each for each in found if each is not None and each.merged_into is None]
        keys = {key for each in living for key in (*each.identifiers, *each.demoted)}
        names = await given.named(keys)
        for each in living:
            yield SimulatedProfile(
                each.profile_id,
                _in_order(names[key] for key in each.identifiers),
                _in_order(names[key] for key in each.demoted),
                each.merges,
            )
        if len(page) < _PAGE:
            return
        after = page[-1].path


def _in_order(found: Iterable[Mapping[str, str | None]]) -> tuple[Mapping[str, str | None], ...]:
    by_value = sorted(found, key=lambda each: each["value"] or "")
    return tuple(sorted(by_value, key=itemgetter("type")))
