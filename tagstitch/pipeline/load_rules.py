"""Loading the rule book: the published bundle, or the rules as they stand in the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tagstitch.core.errors import Unavailable
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import load_bundle, load_definitions, load_pointer

_POINTER_TIMEOUT_S: Final = 2.0
"""Seconds for the one small read that every refresh makes: what takes longer is tried anew."""


def load_rule_book(
    documents: DocumentStore,
) -> Callable[[RuleBook | None, Deadline], Awaitable[RuleBook]]:
    """Return the loader: one read of the pointer, and a bundle only when the pointer moved.

    Without a pointer the definitions are read as they stand. A set that is gone without anybody
    having published an empty one (a restarted emulator, a wrong project) is not taken: the load
    fails and the present book stays, marked stale.
    """

    async def load(present: RuleBook | None, deadline: Deadline) -> RuleBook:
        pointer = await load_pointer(documents, deadline.at_most(_POINTER_TIMEOUT_S))
        if pointer is not None:
            if present is not None and present.version == pointer.version:
                return present
            definitions = await load_bundle(documents, pointer, deadline)
        else:
            definitions = await load_definitions(documents, deadline)
        book = compile_rule_book(definitions)
        if pointer is None and present is not None and present.count and not book.count:
            raise Unavailable("rules", "every rule is gone, and no empty set was published")
        return present if present is not None and present.version == book.version else book

    return load
