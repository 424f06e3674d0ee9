"""The rule book: all rules, compiled, in order, under one version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.rule import (
    EVERY_EVENT,
    EventRule,
    PersonalizationRule,
    Rule,
    parse_event_rule,
    parse_personalization_rule,
)
from tagstitch.core.rule_bucket import RuleBucket, buckets_in_steps
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_lines import lines_of, version_of
from tagstitch.core.steps import finished

RuleKind = Literal["event", "personalization"]

R = TypeVar("R", bound=Rule)


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that was left out, and why."""

    rule_id: str
    kind: RuleKind
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Compiled rules; the same content gives the same version, in whatever order it came."""

    version: str
    count: int
    """Rules that can be used, the inactive ones included."""
    broken: tuple[BrokenRule, ...]
    event_buckets: Mapping[str, RuleBucket[EventRule]]
    personalization_buckets: Mapping[str, RuleBucket[PersonalizationRule]]

    # The two methods below are the only way to the rules of an event.

    def event_bucket(self, event_name: str) -> RuleBucket[EventRule]:
        """Return the active rules for an event."""
        buckets = self.event_buckets
        return buckets[event_name] if event_name in buckets else buckets[EVERY_EVENT]

    def personalization_bucket(self, event_name: str) -> RuleBucket[PersonalizationRule]:
        """Return the active rules for an event."""
        buckets = self.personalization_buckets
        return buckets[event_name] if event_name in buckets else buckets[EVERY_EVENT]


def compile_rule_book(
    definitions: RuleDefinitions,
) -> RuleBook:
    """Return the book of these definitions; a broken rule is left out and listed."""
    declared = Declarations(protected=frozenset(definitions.protected))
    broken: list[BrokenRule] = []

    def parse_all(
        kind: RuleKind, rules_by_id: Mapping[str, object], parse: Callable[..., R]
    ) -> list[R]:
        rules = []
        for rule_id, raw in rules_by_id.items():
            try:
                rules.append(parse(rule_id, raw, declared=declared))
            except InvalidRule as invalid:
                broken.append(BrokenRule(invalid.rule_id, kind, invalid.problems))
        return rules

    for_events = parse_all("event", definitions.event_rules, parse_event_rule)
    for_visitors = parse_all(
        "personalization", definitions.personalization_rules, parse_personalization_rule
    )
    return RuleBook(
        version=version_of(lines_of(definitions)),
        count=len(for_events) + len(for_visitors),
        broken=tuple(sorted(broken, key=lambda rule: (rule.kind, rule.rule_id))),
        event_buckets=finished(buckets_in_steps(for_events)),
        personalization_buckets=finished(buckets_in_steps(for_visitors)),
    )


EMPTY_RULE_BOOK: Final = compile_rule_book(RuleDefinitions())
