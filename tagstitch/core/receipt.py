"""Receipts: what a decision was made from, enough to make it again and no more.

A receipt holds a value only if a rule of the event looked at it. It is stored sealed, with a key
of the visitor's own (`pipeline/seal_receipt.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tagstitch.core.consent import Consent
from tagstitch.core.decision import Decision, decide
from tagstitch.core.event import Event
from tagstitch.core.paths import Path, Root
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.situation import Situation


@dataclass(frozen=True, slots=True)
class Receipt:
    """The read set of one decision, and the digest of what it decided."""

    event_name: str
    event: Mapping[str, Any]
    """The parameters that rules looked at."""
    attributes: Mapping[str, Any]
    """The profile's attributes that rules looked at."""
    state: Mapping[str, Any]
    caps: Mapping[str, Sequence[float]]
    assignments: Mapping[str, Mapping[str, Any]]
    subject: str | None
    decided_consent: Mapping[str, bool]
    default_granted: bool
    recorded_grants: frozenset[str]
    now: float
    has_identifier: bool
    unavailable: frozenset[str]
    can_commit: bool
    work_steps: int
    include: frozenset[str]
    digest: str
    """SHA-256 of `decision_bytes`, in hexadecimal."""

    def situation(self) -> Situation:
        """Return the situation, as far as rules looked at it."""
        return Situation(
            event=Event(self.event_name, self.event),
            consent=Consent(self.decided_consent, {}, self.default_granted, self.recorded_grants),
            now=self.now,
            attributes=self.attributes,
            state=self.state,
            caps=self.caps,
            assignments=self.assignments,
            subject=self.subject,
            has_identifier=self.has_identifier,
            unavailable=self.unavailable,
            can_commit=self.can_commit,
            work_steps=self.work_steps,
        )

    def replay(self, book: RuleBook) -> Decision:
        """Return what this rule book decides; with the same version, the same decision."""
        return decide(self.situation(), book, include=self.include)


def make_receipt(
    situation: Situation, book: RuleBook, decision: Decision, include: frozenset[str]
) -> Receipt:
    """Return the receipt of a decision that this book made in this situation."""
    reads = book.read_set_for(situation.event.name)
    parameters, attributes = situation.event.parameters, situation.attributes
    acted_on = decision.action_paths
    return Receipt(
        event_name=situation.event.name,
        event=reads.event.of(parameters) | _whole("event", acted_on, parameters),
        attributes=reads.attributes.of(attributes) | _whole("profile", acted_on, attributes),
        state=situation.state,
        caps=situation.caps,
        assignments=situation.assignments,
        subject=situation.subject,
        decided_consent=situation.consent.decided,
        default_granted=situation.consent.default_granted,
        recorded_grants=situation.consent.recorded_grants,
        now=situation.now,
        has_identifier=situation.has_identifier,
        unavailable=situation.unavailable,
        can_commit=situation.can_commit,
        work_steps=situation.work_steps,
        include=include,
        digest=digest_of(decision),
    )


def decision_bytes(decision: Decision) -> bytes:
    """Return the decision as JSON in one fixed form, for comparison byte by byte."""
    return msgspec.json.encode(decision.to_json(), order="sorted")


def digest_of(decision: Decision) -> str:
    """Return the SHA-256 of the decision's bytes, in hexadecimal."""
    return hashlib.sha256(decision_bytes(decision)).hexdigest()


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the receipt as MessagePack; raises TypeError for a value that it cannot hold."""
    return msgspec.msgpack.encode(receipt)


def decode_receipt(content: bytes) -> Receipt:
    """Return the receipt; raises msgspec.DecodeError for anything else."""
    return msgspec.msgpack.decode(content, type=Receipt)


def _whole(root: Root, paths: Iterable[Path], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level values that actions looked at or changed."""
    keys = {
        key
        for path in paths
        if path.root in (root, "bare")
        for key in (path.base[0], ".".join(path.base))
    }
    return {key: mapping[key] for key in keys if key in mapping}
