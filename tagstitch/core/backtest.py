"""Backtests: what other rules would have decided in the same situations.

Every situation stands alone: what one decision would have changed in a visitor's state is not
there for the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec

from tagstitch.core.decision import Decision
from tagstitch.core.event import Event
from tagstitch.core.limits import BACKTEST_EXAMPLES_MAX
from tagstitch.core.paths import Path
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.values import is_number, is_numeric_text

_COUNTS: Final = ("renamed", "dropped", "modified", "personalized")


@dataclass(slots=True)
class _RuleTally:
    """How often one rule applied by the old and by the new rules, and by one of them alone."""

    before: int = 0
    after: int = 0
    only_before: int = 0
    only_after: int = 0

    def count(self, *, before: bool, after: bool) -> None:
        self.before += before
        self.after += after
        self.only_before += before and not after
        self.only_after += after and not before


@dataclass(slots=True)
class Backtest:
    """The comparison of two sets of rules, one situation after the other."""

    listed: frozenset[str]
    """The parameters whose values may be told and summed."""
    events: int = 0
    changed: int = 0
    newly_dropped: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    _before: Counter[str] = field(default_factory=Counter)
    _after: Counter[str] = field(default_factory=Counter)
    _actions_before: Counter[str] = field(default_factory=Counter)
    _actions_after: Counter[str] = field(default_factory=Counter)
    _sums: dict[str, list[Decimal]] = field(default_factory=dict)
    _rules: dict[tuple[str, str], _RuleTally] = field(default_factory=dict)

    @property
    def changed_percent(self) -> float:
        """How many of the events would have come out differently."""
        return round(100 * self.changed / self.events, 2) if self.events else 0.0

    def add(self, index: str | int, event: Event, old: Decision, new: Decision) -> None:
        """Count one situation; `index` tells a reader which it was."""
        self.events += 1
        self._before.update(_effects(old))
        self._after.update(_effects(new))
        self._actions_before.update(_action_types(old))
        self._actions_after.update(_action_types(new))
        left, leaves = _leaving(event, old), _leaving(event, new)
        self._add_values(left, leaves)
        self._count_rules(old, new)
        self.newly_dropped += leaves is None and left is not None
        if _outcome(old) != _outcome(new):
            self.changed += 1
            if len(self.examples) < BACKTEST_EXAMPLES_MAX:
                self.examples.append(self._example(index, event, old, new))

    def to_json(self) -> dict[str, Any]:
        """Return the report as the command prints it."""
        types = sorted(self._actions_before | self._actions_after)
        return {
            "events": self.events,
            "changed": self.changed,
            "changed_percent": self.changed_percent,
            "newly_dropped": self.newly_dropped,
            "counts": {name: _pair(self._before[name], self._after[name]) for name in _COUNTS},
            "values": {name: _pair(*map(_rounded, s)) for name, s in sorted(self._sums.items())},
            "actions": {t: _pair(self._actions_before[t], self._actions_after[t]) for t in types},
            "rules": [
                {"kind": kind, "rule_id": rule_id, **_tally_json(tally)}
                for (kind, rule_id), tally in sorted(self._rules.items())
            ],
            "examples": self.examples,
        }

    def _add_values(self, left: Mapping[str, Any] | None, leaves: Mapping[str, Any] | None) -> None:
        for place, payload in enumerate((left, leaves)):
            for name in self.listed & (payload or {}).keys():
                amount = _amount((payload or {})[name])
                if amount is not None:
                    self._sums.setdefault(name, [Decimal(0), Decimal(0)])[place] += amount

    def _count_rules(self, old: Decision, new: Decision) -> None:
        before, after = _applied(old), _applied(new)
        for key in before | after:
            tally = self._rules.setdefault(key, _RuleTally())
            tally.count(before=key in before, after=key in after)

    def _example(
        self, index: str | int, event: Event, old: Decision, new: Decision
    ) -> dict[str, Any]:
        """Return what differs: names, and values of listed parameters alone."""
        left, leaves = _leaving(event, old), _leaving(event, new)
        found: dict[str, Any] = {"event": index, "event_name": event.name}
        if (left is None) != (leaves is None):
            found["dropped"] = _pair(left is None, leaves is None)
        if left is not None and leaves is not None:
            if left["event_name"] != leaves["event_name"]:
                found["renamed"] = _pair(left["event_name"], leaves["event_name"])
            if parameters := self._parameter_differences(left, leaves):
                found["parameters"] = parameters
        before, after = Counter(_action_types(old)), Counter(_action_types(new))
        if before != after:
            found["actions"] = _pair(dict(before), dict(after))
        ids_before, ids_after = _applied(old), _applied(new)
        found["rules_only_before"] = sorted(rule_id for _, rule_id in ids_before - ids_after)
        found["rules_only_after"] = sorted(rule_id for _, rule_id in ids_after - ids_before)
        return found

    def _parameter_differences(
        self, left: Mapping[str, Any], leaves: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = sorted((left.keys() | leaves.keys()) - {"event_name"})
        differing = [n for n in names if _encoded(left.get(n)) != _encoded(leaves.get(n))]
        return {n: _pair(left.get(n), leaves.get(n)) if n in self.listed else {} for n in differing}


def unseen_paths(old: RuleBook, new: RuleBook, event_name: str) -> frozenset[str]:
    """Return what the new rules of an event look at or change, and old receipts may lack.

    A receipt holds what conditions of its own rules looked at, and of actions only what those that
    were done did; by it, everything else is absent.
    """
    seen = {_place(path) for path in _condition_paths(old, event_name)}
    wanted = (*_condition_paths(new, event_name), *_action_paths(new, event_name))
    return frozenset(path.text for path in wanted if not _is_seen(path, seen))


def _condition_paths(book: RuleBook, event_name: str) -> Iterable[Path]:
    yield from book.event_bucket(event_name).read_paths
    yield from book.personalization_bucket(event_name).read_paths
    for experiment in book.experiments_for(event_name):
        yield from experiment.read_paths


def _action_paths(book: RuleBook, event_name: str) -> Iterable[Path]:
    for event_rule in book.event_bucket(event_name).rules:
        for action in event_rule.actions:
            yield from (*action.reads, *action.touches)
    for rule in book.personalization_bucket(event_name).rules:
        for sent in rule.outbox_actions:
            yield from sent.reads


def _place(path: Path) -> tuple[str, tuple[str, ...]]:
    return path.root, (*path.base, *path.rest)


def _is_seen(path: Path, seen: set[tuple[str, tuple[str, ...]]]) -> bool:
    if path.root == "experiment" or path.base == ("event_name",):
        return True  # receipts have both
    roots = ("bare",) if path.root == "bare" else (path.root, "bare")
    return any((root, where) in seen for root in roots for where in (path.base, _place(path)[1]))


def _effects(decision: Decision) -> Iterable[str]:
    event, personal = decision.event, decision.personalization
    if event is not None and event.drop:
        yield "dropped"
    elif event is not None:
        if event.rename is not None:
            yield "renamed"
        if event.modifications:
            yield "modified"
    if personal is not None and personal.reason == "MATCHED":
        yield "personalized"


def _action_types(decision: Decision) -> Iterable[str]:
    if decision.personalization is None:
        return ()
    answered = [str(action["type"]) for action in decision.personalization.actions]
    return answered + [entry.type for entry in decision.personalization.outbox]


def _leaving(event: Event, decision: Decision) -> Mapping[str, Any] | None:
    """Return the event as it leaves, or None when it does not."""
    if decision.event is None:
        return {**event.parameters, "event_name": event.name}
    if decision.event.drop:
        return None
    return {"event_name": event.name, **decision.event.apply_to(event)}


def _applied(decision: Decision) -> set[tuple[str, str]]:
    parts = (("event", decision.event), ("personalization", decision.personalization))
    return {(kind, rule_id) for kind, part in parts if part for rule_id in part.rule_ids}


def _outcome(decision: Decision) -> bytes:
    """Return what somebody outside would notice, without which rules it came from."""
    event, personal = decision.event, decision.personalization
    told: list[Any] = []
    if event is not None:
        told.append(True if event.drop else [event.rename, event.set, sorted(event.unset)])
    if personal is not None:
        actions = [{k: v for k, v in a.items() if k != "rule_id"} for a in personal.actions]
        outbox = [[entry.type, entry.fields] for entry in personal.outbox]
        told += [actions, outbox, personal.variants]
    told += [decision.changes.state]
    return _encoded(told)


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool):
        return None
    return Decimal(str(value)) if is_number(value) or is_numeric_text(value) else None


def _rounded(amount: Decimal) -> float:
    return round(float(amount), 6)


def _pair(before: Any, after: Any) -> dict[str, Any]:
    return {"before": before, "after": after}


def _tally_json(tally: _RuleTally) -> dict[str, int]:
    return {
        "before": tally.before,
        "after": tally.after,
        "only_before": tally.only_before,
        "only_after": tally.only_after,
    }
