"""Replaying decisions: what the audit recorded is decided again, from receipt and rule book."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.receipt import Receipt, digest_of
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.pipeline.backend import AuditQueries, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.rule_bundle import load_bundle_of_version
from tagstitch.pipeline.sealed_receipt import open_receipt, receipt_profile_id

ReplayOutcome = Literal["identical", "different", "unreadable"]

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

_COLUMNS: Final = "decision_id, occurred_at, event_name, rules_version, receipt"

_BOOKS_MAX: Final = 3
"""Rule books kept at once: decisions come in the order of time, and a large book takes 200 MB."""

LoadRuleBook = Callable[[str, Deadline], Awaitable[RuleBook]]
"""Returns the rule book of a version; raises InvalidInput when it is not kept."""


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """One decision as the audit has it."""

    decision_id: str
    occurred_at: datetime
    event_name: str | None
    rules_version: str | None
    receipt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one decision when it was made again."""

    decision_id: str
    rules_version: str | None
    outcome: ReplayOutcome
    decision: Mapping[str, Any] | None = None
    """As the body of `POST /decide` has it."""
    problem: str | None = None
    """Why nobody can make it again."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the command prints it."""
        return {
            "decision_id": self.decision_id,
            "rules_version": self.rules_version,
            "outcome": self.outcome,
            "problem": self.problem,
            "decision": self.decision,
        }


async def find_decisions(
    queries: AuditQueries, decision_ids: Sequence[str], *, deadline: Deadline
) -> list[RecordedDecision]:
    """Return the recorded decisions of these ids, oldest first; raises InvalidInput for no id."""
    if not decision_ids or not all(map(_ID.fullmatch, decision_ids)):
        raise InvalidInput(
            "invalid_field", "must be ids of decisions", "decision_id",
            "the answer of decide and the audit's column decision_id have them",
        )  # fmt: skip
    wanted = ", ".join(f"'{decision_id}'" for decision_id in dict.fromkeys(decision_ids))
    return await _select(queries, f"decision_id IN ({wanted})", "", deadline)


async def latest_decisions(
    queries: AuditQueries, *, hours: int, limit: int, deadline: Deadline
) -> list[RecordedDecision]:
    """Return the newest decisions of the last hours whose receipts hold values, oldest first."""
    since = f"occurred_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL {int(hours)} HOUR)"
    where = f"{since} AND JSON_VALUE(extra, '$.replayable') IS NULL"
    return await _select(queries, where, f"LIMIT {int(limit)}", deadline)


async def _select(
    queries: AuditQueries, where: str, limit: str, deadline: Deadline
) -> list[RecordedDecision]:
    sql = (
        f"SELECT {_COLUMNS} FROM audit_deduplicated"  # noqa: S608 - ids are checked, rest is ours
        f" WHERE receipt IS NOT NULL AND {where} ORDER BY occurred_at DESC, decision_id {limit}"
    )
    rows = await queries.run(sql, deadline=deadline)
    return [RecordedDecision(**row) for row in reversed(rows)]


class DecisionReplayer:
    """Opens receipts and decides again."""

    def __init__(
        self, documents: DocumentStore, keyring: Keyring, load_rule_book: LoadRuleBook
    ) -> None:
        self._documents = documents
        self._keyring = keyring
        self._load_rule_book = load_rule_book
        self._books: dict[str, RuleBook] = {}

    async def replay(self, recorded: RecordedDecision, *, deadline: Deadline) -> Replay:
        """Return the decision made again, compared byte by byte with the recorded one."""
        try:
            receipt = await self.open(recorded, deadline=deadline)
            book = await self.rule_book_of(recorded, deadline=deadline)
        except InvalidInput as error:
            return Replay(
                recorded.decision_id, recorded.rules_version, "unreadable", problem=error.message
            )
        decision = receipt.replay(book)
        is_same = digest_of(decision) == receipt.digest
        return Replay(
            recorded.decision_id,
            recorded.rules_version,
            "identical" if is_same else "different",
            decision=decision.to_json(),
        )

    async def open(self, recorded: RecordedDecision, *, deadline: Deadline) -> Receipt:
        """Return the receipt; raises InvalidInput when nobody can read it (any more)."""
        decision_id = recorded.decision_id
        profile_id = receipt_profile_id(
            recorded.receipt, keyring=self._keyring, decision_id=decision_id
        )
        document = await self._documents.get(f"profiles/{profile_id}", deadline=deadline)
        return open_receipt(
            recorded.receipt,
            keyring=self._keyring,
            profile=document.fields if document else {},
            decision_id=decision_id,
        )

    async def rule_book_of(self, recorded: RecordedDecision, *, deadline: Deadline) -> RuleBook:
        """Return the rules of that time; raises InvalidInput when they are not kept."""
        version = recorded.rules_version
        if version is None:
            raise InvalidInput("invalid_field", "it was made without a rule book")
        if version not in self._books:
            if len(self._books) >= _BOOKS_MAX:
                del self._books[next(iter(self._books))]
            self._books[version] = await self._load_rule_book(version, deadline)
        return self._books[version]


def load_rule_book_of_version(documents: DocumentStore) -> LoadRuleBook:
    """Return the loader of published rule books; no others are kept."""

    async def load(version: str, deadline: Deadline) -> RuleBook:
        try:
            definitions = await load_bundle_of_version(documents, version, deadline)
        except Unavailable as error:
            if error.what != "rules":
                raise
            raise InvalidInput("invalid_field", "the rule book that is kept is damaged") from error
        return await asyncio.to_thread(compile_rule_book, definitions)

    return load
