"""Checks of rules against a field catalogue: names that no sample has, types that never fit."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Final

from tagstitch.core.checked_rule import CheckedConditions
from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.field_catalogue import FieldCatalogue, SeenFields
from tagstitch.core.finding import Finding
from tagstitch.core.operators import Comparison
from tagstitch.core.paths import Path
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.value_kinds import negated, possible_kinds

_INTERNAL: Final = ("x-ga-", "x-sst-")
"""Parameters of Google's tags come and go with the tags' settings."""

_Kinds = Mapping[str, frozenset[str]]
"""Field -> the kinds of values that it has in the samples."""


class FieldChecks:
    """The checks of many rules against one catalogue."""

    __slots__ = ("_close_names", "_events", "_is_cut", "_kinds_of_event", "_profile", "_traits")

    def __init__(
        self, catalogue: FieldCatalogue, traits: Collection[str] = frozenset[str]()
    ) -> None:
        self._traits = traits
        self._events = catalogue.events
        self._is_cut = catalogue.is_cut
        self._profile = _kinds_of([catalogue.profiles])
        self._kinds_of_event = cache(self._kinds_of_names)
        self._close_names = cache(self._find_close_names)

    def check(self, rule: CheckedConditions) -> Iterator[Finding]:
        """Yield what the rule asks of events and profiles that no sample has."""
        names = frozenset(rule.event_names)
        unknown = {name for name in names if name != EVERY_EVENT and name not in self._events}
        if unknown and self._events and not self._is_cut and rule.place == "conditions":
            yield rule.finding(
                "unknown_event", "target_event_name", "no event of the samples has this name",
                _did_you_mean(difflib.get_close_matches(min(unknown)[:100], self._events, n=1)),
            )  # fmt: skip
        if rule.is_chained or names <= unknown:
            return  # it sees what other rules write, or nothing is known of its events
        for path, where, comparison in _fields_read(rule.condition):
            yield from self._check_field(rule, names, path, where, comparison)

    def _check_field(
        self,
        rule: CheckedConditions,
        names: frozenset[str],
        path: Path,
        where: str,
        comparison: Comparison | None,
    ) -> Iterator[Finding]:
        kinds = self._kinds_seen(names, path)
        if kinds is None:
            return
        if not kinds:
            close = self._close_names(names, path.root, _field_of(path))
            if path.root == "bare" and not self._profile and not close:
                return  # perhaps an attribute: there were no profiles among the samples
            what = "profile" if path.root == "profile" else "event of this name"
            yield rule.finding(
                "unknown_field", where, f"no {what} in the samples has this field",
                _did_you_mean(close),
            )  # fmt: skip
        elif comparison is not None and comparison.operator != "exists":
            positive = negated(comparison) if comparison.is_negated else comparison
            wanted = possible_kinds([positive])
            if "absent" not in wanted and wanted.isdisjoint(kinds):
                yield rule.finding(
                    "type_mismatch", where,
                    f"{comparison.name} finds no value of the types that the samples have here: "
                    + ", ".join(sorted(kinds)),
                )  # fmt: skip

    def _kinds_seen(self, names: frozenset[str], path: Path) -> frozenset[str] | None:
        """Return the kinds of values that a path leads to in the samples; None when unknown."""
        field = _field_of(path)
        if path.root in ("bare", "profile") and path.base and path.base[0] in self._traits:
            return None
        if path.root in ("bare", "event"):
            if path.base[0].startswith(_INTERNAL):
                return None
            kinds = self._kinds_of_event(names)
            if kinds is None:
                return None
            found = kinds.get(field, frozenset())
            return found | self._profile.get(field, frozenset()) if path.root == "bare" else found
        if path.root == "profile" and self._profile:
            return self._profile.get(field, frozenset())
        return None

    def _kinds_of_names(self, names: frozenset[str]) -> _Kinds | None:
        every = EVERY_EVENT in names
        seen = [fields for name, fields in self._events.items() if every or name in names]
        return None if not seen or any(fields.is_cut for fields in seen) else _kinds_of(seen)

    def _find_close_names(self, names: frozenset[str], root: str, field: str) -> tuple[str, ...]:
        known: list[str] = list(self._profile) if root in ("bare", "profile") else []
        if root != "profile":
            known += self._kinds_of_event(names) or ()
        below = [name for name in known if name.endswith(f".{field}")]  # items.$.item_id
        if below:
            return (min(below, key=len),)
        return tuple(difflib.get_close_matches(field[:100], known, n=1, cutoff=0.75))


def _kinds_of(seen: Collection[SeenFields]) -> _Kinds:
    kinds: dict[str, frozenset[str]] = {}
    for fields in seen:
        for name, each in fields.fields.items():
            kinds[name] = kinds.get(name, frozenset()).union(each.types)
    return kinds


def _fields_read(condition: Condition) -> Iterator[tuple[Path, str, Comparison | None]]:
    """Yield (path, place, comparison of its values); paths inside a match are written out."""
    if isinstance(condition, Group):
        for member in condition.members:
            yield from _fields_read(member)
    elif isinstance(condition, Match):
        path = condition.path
        yield Path(path.text, path.root, path.base), condition.where, None
        for inner, where, comparison in _fields_read(condition.condition):
            rest = (*inner.base, *((inner.quantifier,) if inner.quantifier else ()), *inner.rest)
            yield Path(inner.text, path.root, path.base, "$", rest), where, comparison
    elif isinstance(condition, Predicate):
        is_count = condition.path.quantifier == "$count"
        yield condition.path, condition.where, None if is_count else condition.comparison


def _field_of(path: Path) -> str:
    """Return the path as a catalogue writes it."""
    segments = [*path.base]
    if path.quantifier is not None and path.quantifier != "$count":
        segments += ["$", *path.rest]
    return ".".join("$" if s.isdecimal() or s[0] == "$" else s for s in segments)


def _did_you_mean(close: Collection[str]) -> str | None:
    return f"did you mean {next(iter(close))}?" if close else None
