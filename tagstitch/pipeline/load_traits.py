"""Loading the definitions of computed traits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tagstitch.core.profile_traits import TraitDefinitions, compile_traits
from tagstitch.core.rule_definitions import RawDefinitions
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.log_events import TraitsBroken, log

_TIMEOUT_S: Final = 2.0
"""Seconds for the queries that every refresh makes, mostly one: what takes longer is tried anew."""

_BROKEN_TOLD_MAX: Final = 20
"""Broken definitions that one log line names; `tagstitch rules status` names them all."""


def load_traits(
    documents: DocumentStore, *, time_zone: str = "UTC"
) -> Callable[[TraitDefinitions | None, Deadline], Awaitable[TraitDefinitions]]:
    """Return the loader of the collection `traits`; definitions that did not change stay compiled.

    `time_zone` is the project's, for those that name none.
    """
    compiled_from: RawDefinitions = {}

    async def load(present: TraitDefinitions | None, deadline: Deadline) -> TraitDefinitions:
        nonlocal compiled_from
        found = await list_all(documents, "traits", deadline=deadline.at_most(_TIMEOUT_S))
        raw = {document.path.partition("/")[2]: document.fields for document in found}
        if present is not None and raw == compiled_from:
            return present
        compiled_from = raw
        found_traits = compile_traits(raw, time_zone=time_zone)
        if found_traits.broken:
            names = [trait.rule_id for trait in found_traits.broken[:_BROKEN_TOLD_MAX]]
            log(TraitsBroken(left_out=names))
        return found_traits

    return load
