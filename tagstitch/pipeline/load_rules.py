"""Loading the rule book: the published bundle, or the rules as they stand in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from tagstitch.core.errors import Unavailable
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.rule_lines import content_of
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.compile_rules import compile_content, release
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_bundle import load_content
from tagstitch.pipeline.rule_publication import RulePointer, load_definitions, load_pointer

_POINTER_TIMEOUT_S: Final = 2.0
"""Seconds for the one small read that every refresh makes: what takes longer is tried anew."""

_FEW_AT_LEAST: Final = 20
"""Rules from which losing more than half of them at once is an accident."""


def load_rule_book(
    documents: DocumentStore,
) -> Callable[[RuleBook | None, Deadline], Awaitable[RuleBook]]:
    """Return the loader: one read of the pointer, and a bundle only when the pointer moved.

    Without a pointer the definitions are read as they stand. A set that is gone or has shrunk to
    less than half without anybody having published it so (a restarted emulator, a wrong project)
    is not taken: the load fails and the present book stays, marked stale.
    """

    async def load(present: RuleBook | None, deadline: Deadline) -> RuleBook:
        pointer = await load_pointer(documents, deadline.at_most(_POINTER_TIMEOUT_S))
        if pointer is None:
            definitions = await load_definitions(documents, deadline)
            content = await asyncio.to_thread(content_of, definitions)
        elif present is not None and present.version == pointer.version:
            return _counted(present, pointer)
        else:
            content = await load_content(documents, pointer.hash, pointer.parts, deadline)
        try:
            book = await compile_content(content, present)
        except ValueError as error:  # also msgspec's
            raise Unavailable("rules", "the published bundle is damaged") from error
        if pointer is not None:
            _check(book, pointer)
            book = _counted(book, pointer)
        elif present is not None:
            _check_size(book, present)
        if present is not None and present.version == book.version:
            return present
        if present is not None:
            release(present)
        return book

    return load


def _counted(book: RuleBook, pointer: RulePointer) -> RuleBook:
    """Return the book with the number of definitions that its publication had to leave out."""
    return book if book.withheld == pointer.broken else replace(book, withheld=pointer.broken)


def _check(book: RuleBook, pointer: RulePointer) -> None:
    """Raise Unavailable when the book is not as large as its pointer says."""
    found = {
        "event_rules": len(book.compiled.event_rules),
        "personalization_rules": len(book.compiled.personalization_rules),
    }
    if any(pointer.counts.get(name, 0) != number for name, number in found.items()):
        raise Unavailable("rules", "the published bundle and its pointer disagree")


def _check_size(book: RuleBook, present: RuleBook) -> None:
    """Raise Unavailable when rules are gone that nobody took back by a publication."""
    is_halved = present.count >= _FEW_AT_LEAST and book.count * 2 < present.count
    if is_halved or (present.count and not book.count):
        raise Unavailable("rules", "most rules are gone, and no such set was published")
