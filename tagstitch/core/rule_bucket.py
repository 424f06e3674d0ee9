"""The rules of one event name, with an index when they are many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tagstitch.core.paths import Facts
from tagstitch.core.requirements import NO_REQUIREMENTS, Requirements
from tagstitch.core.rule import EVERY_EVENT, Rule
from tagstitch.core.rule_index import RuleIndex, index_in_steps
from tagstitch.core.steps import Steps

R = TypeVar("R", bound=Rule)

PLAIN_RULES_MAX: Final = 32
"""Rules up to which asking each costs less than an index (measured by bench/rule_book_load.py)."""

COPIED_RULES_MAX: Final = 1_000
"""Rules for every event that each event name's bucket holds besides its own. More of them stay in
one bucket: 100 event names would hold 100 copies."""


@dataclass(frozen=True, slots=True)
class RuleBucket(Generic[R]):
    """The active rules for one event name."""

    own_rules: tuple[R, ...]
    """In the order in which they apply."""
    index: RuleIndex | None = None
    for_all: RuleBucket[R] | None = None
    """Rules for every event that are not among its own."""

    @property
    def rules(self) -> Sequence[R]:
        """All rules, in the order in which they apply."""
        if self.for_all is None:
            return self.own_rules
        return tuple(sorted((*self.own_rules, *self.for_all.own_rules), key=_order))

    def candidates(self, facts: Facts, *, has_profile: bool = True) -> Sequence[R]:
        """Return the rules that may hold for these facts, in their order, and perhaps others.

        The facts must be those that conditions will see, but for state and experiments.
        `has_profile` False says that the profile could not be loaded: then the rules are there
        that may hold whatever it says.
        """
        rules: Sequence[R] = self.own_rules
        if self.index is not None:
            rules = [
                rules[position]
                for position in self.index.candidates(facts, has_profile=has_profile)
            ]
        if self.for_all is None:
            return rules
        return sorted(
            (*rules, *self.for_all.candidates(facts, has_profile=has_profile)), key=_order
        )


def buckets_in_steps(rules: Iterable[R]) -> Steps[Mapping[str, RuleBucket[R]]]:
    """Return event name -> its active rules; under `*` those of all other events."""
    by_name: dict[str, list[R]] = {EVERY_EVENT: []}
    for count, rule in enumerate(rules):
        if rule.is_active:
            for name in rule.event_names:
                by_name.setdefault(name, []).append(rule)
        if count % 500 == 0:
            yield
    every_event = by_name.pop(EVERY_EVENT)
    for_all = yield from bucket_in_steps(every_event)
    buckets = {EVERY_EVENT: for_all}
    is_copied = len(every_event) <= COPIED_RULES_MAX
    for name, named in by_name.items():
        if is_copied:
            buckets[name] = yield from bucket_in_steps([*named, *every_event])
        else:
            buckets[name] = yield from bucket_in_steps(named, for_all)
    return buckets


def bucket_in_steps(
    rules: Iterable[R], for_all: RuleBucket[R] | None = None
) -> Steps[RuleBucket[R]]:
    """Return the bucket of these rules."""
    ordered = tuple(sorted(rules, key=_order))
    yield
    index = None
    if len(ordered) > PLAIN_RULES_MAX:
        index = yield from index_in_steps([_requirements_of(rule) for rule in ordered])
    return RuleBucket(ordered, index, for_all)


def _order(rule: Rule) -> tuple[int, str]:
    return (rule.priority, rule.rule_id)


def _requirements_of(rule: Rule) -> Requirements:
    """Return what an index may look up; a chained rule looks at an event that others changed."""
    return NO_REQUIREMENTS if getattr(rule, "is_chained", False) else rule.condition.requirements
