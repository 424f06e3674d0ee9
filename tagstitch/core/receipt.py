"""Receipts: what a decision was made from, enough to make it again and no more.

A receipt holds a value only if a rule of the event looked at it. It is stored sealed, with a key
of the visitor's own (`pipeline/sealed_receipt.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.consent import Consent
from tagstitch.core.decision import Decision, decide
from tagstitch.core.event import Event
from tagstitch.core.paths import Path, Root, overlap
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.situation import Situation

_SCALARS: Final[frozenset[type]] = frozenset((str, int, float, bool, type(None), bytes))

_TEXT: Final[frozenset[type]] = frozenset((str,))

_NO_OFFSET: Final = timedelta(0)


class Receipt(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The read set of one decision, and the digest of what it decided.

    Stored as an array: a new field goes to the end and has a default.
    """

    event_name: str
    event: dict[str, Any]
    """The parameters that rules looked at."""
    attributes: dict[str, Any]
    """The profile's attributes that rules looked at."""
    state: dict[str, Any]
    """The keys that rules looked at and changed; the same of the two below."""
    caps: dict[str, Any]
    assignments: dict[str, Any]
    subject: str | None
    decided_consent: dict[str, bool]
    default_granted: bool
    recorded_grants: frozenset[str]
    now: float
    has_identifier: bool
    unavailable: frozenset[str]
    can_commit: bool
    work_steps: int
    include: frozenset[str]
    digest: bytes
    """SHA-256 of `decision_bytes`."""

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
    name = situation.event.name
    reads = book.read_set_for(name)
    acted_on = decision.action_paths
    if situation.unavailable:
        acted_on += _wanted_by_actions(book, name)
    parameters, attributes, state = (
        situation.event.parameters,
        situation.attributes,
        situation.state,
    )
    event = reads.event.of(parameters)
    hollow = _hollow_parameters(decision.redacted_paths, acted_on, parameters)
    filled = {key: _filled(value, event.get(key)) for key, value in hollow.items()}
    return Receipt(
        event_name=name,
        event=event | _whole("event", acted_on, parameters) | filled,
        attributes=reads.attributes.of(attributes) | _whole("profile", acted_on, attributes),
        state=reads.state.of(state) | _whole("user_state", acted_on, state),
        caps=_uses(situation, book),
        assignments=_assignments(situation, book),
        subject=situation.subject,
        decided_consent=dict(situation.consent.decided),
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
    """Return the decision as JSON in one fixed form, for comparison byte by byte.

    Raises OverflowError or UnicodeEncodeError for what an answer cannot hold either.
    """
    return msgspec.json.encode(decision.to_json(), order="sorted")


def digest_of(decision: Decision) -> bytes:
    """Return the SHA-256 of the decision's bytes."""
    return hashlib.sha256(decision_bytes(decision)).digest()


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the receipt as MessagePack.

    Raises TypeError, OverflowError, UnicodeEncodeError or RecursionError for a value that would
    not come back the same.
    """
    values = (receipt.event, receipt.attributes, receipt.state, receipt.caps, receipt.assignments)
    if not all(map(_comes_back, values)):
        raise TypeError("a value that MessagePack does not give back")
    return msgspec.msgpack.encode(receipt)


def decode_receipt(content: bytes) -> Receipt:
    """Return the receipt; raises msgspec.DecodeError for anything else."""
    return msgspec.msgpack.decode(content, type=Receipt)


def _comes_back(value: Any) -> bool:
    """Return whether decoding what is encoded gives the same value of the same type."""
    kind = value.__class__
    if kind is dict:
        if not set(map(type, value)) <= _TEXT:
            return False
        value = value.values()
    elif kind is not list:
        return kind in _SCALARS or (kind is datetime and value.utcoffset() == _NO_OFFSET)
    for below in value:  # noqa: SIM110 - most are scalars, which need no call of their own
        if below.__class__ not in _SCALARS and not _comes_back(below):
            return False
    return True


def _uses(situation: Situation, book: RuleBook) -> dict[str, Any]:
    buckets = (
        book.event_bucket(situation.event.name),
        book.personalization_bucket(situation.event.name),
    )
    return {
        key: list(times) if isinstance(times, tuple) else times
        for key, times in situation.caps.items()
        if any(bucket.counts_under(key) for bucket in buckets)
    }


def _assignments(situation: Situation, book: RuleBook) -> dict[str, Any]:
    assignments = situation.assignments
    return {
        experiment.experiment_id: assignments[experiment.experiment_id]
        for experiment in book.experiments_for(situation.event.name)
        if experiment.experiment_id in assignments
    }


def _wanted_by_actions(book: RuleBook, event_name: str) -> tuple[Path, ...]:
    """Return the bare names behind which rules would look when the event has nothing there.

    Without the profile, a rule whose action would is not even asked whether its conditions hold.
    """
    looks_at = book.event_bucket(event_name).looks_at
    return tuple(path for path, _ in looks_at if path.root == "bare")


def _whole(root: Root, paths: Iterable[Path], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the top-level values that actions looked at or changed."""
    keys = {
        spelling[0]
        for path in paths
        if path.root == root or (path.root == "bare" and root != "user_state")
        for spelling in _spellings(path)
    }
    return {key: mapping[key] for key in keys if key in mapping}


def _hollow_parameters(
    redacted: Iterable[Path], acted_on: Collection[Path], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the top-level values that were redacted, hollow where no other action looked.

    Whether something was there to be removed is all that a redaction depends on.
    """
    hollow: dict[str, Any] = {}
    for path in redacted:
        is_needed = any(overlap(path, other) for other in acted_on)
        for key, *below in _spellings(path):
            if key in parameters:
                value = hollow.get(key, parameters[key])
                hollow[key] = value if is_needed else _hollow_at(value, below)
    return hollow


def _spellings(path: Path) -> Iterator[tuple[str, ...]]:
    yield path.base
    if len(path.base) > 1:
        yield (".".join(path.base),)


def _hollow_at(value: Any, keys: list[str]) -> Any:
    """Return the value with nothing but containers where the keys lead."""
    if not keys:
        return _hollow(value)
    key = keys[0]
    if isinstance(value, Mapping):
        return {**value, key: _hollow_at(value[key], keys[1:])} if key in value else value
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        at = int(key)
        return [*value[:at], _hollow_at(value[at], keys[1:]), *value[at + 1 :]]
    return value


def _hollow(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hollow(below) for key, below in value.items()}
    return [_hollow(element) for element in value] if isinstance(value, list) else None


def _filled(hollow: Any, kept: Any) -> Any:
    """Return the hollow value with what was kept of it for other reasons."""
    if isinstance(hollow, Mapping) and isinstance(kept, Mapping):
        return {k: _filled(v, kept[k]) if k in kept else v for k, v in hollow.items()}
    if isinstance(hollow, list) and isinstance(kept, list):
        return [_filled(*pair) for pair in zip(hollow, kept, strict=True)]
    return kept if hollow is None else hollow
