"""The rule book: all rules, compiled, in order, under one version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

from tagstitch.core.audience import parse_audience
from tagstitch.core.condition import Condition
from tagstitch.core.consent import Purpose
from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.experiment import Experiment
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.limits import RULE_DEPTH_MAX
from tagstitch.core.paths import Facts, Lookup, Path, Source, is_lacking
from tagstitch.core.read_set import ReadSet, read_set_of
from tagstitch.core.rule import (
    EventRule,
    PersonalizationRule,
    Rule,
    parse_event_rule,
    parse_personalization_rule,
)
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.targeting import EVERY_EVENT

RuleKind = Literal["event", "personalization", "experiment", "audience"]

R = TypeVar("R", bound=Rule)
D = TypeVar("D", EventRule, PersonalizationRule, Experiment)


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule or an audience that was left out, and why."""

    rule_id: str
    kind: RuleKind | Literal["audience"]
    problems: tuple[Problem, ...]

    @property
    def collection(self) -> str:
        """Where its authors edit it."""
        return "audiences" if self.kind == "audience" else f"{self.kind}_rules"


@dataclass(frozen=True, slots=True)
class RuleBucket(Generic[R]):
    """The active rules for one event name."""

    rules: tuple[R, ...]
    """In the order in which they apply."""
    purposes: frozenset[Purpose] = frozenset()
    """Every purpose that one of the rules needs."""
    remembers: bool = False
    """Whether one of the rules needs a commit."""
    reads_experiments: bool = False
    """Whether one of the rules looks at a variant."""
    looks_at: tuple[tuple[Path, Lookup], ...] = ()
    """Every path of the rules that may lead to data behind consent."""

    def candidates(self, facts: Facts) -> Sequence[R]:
        """Return the rules that may hold for these facts, in their order, and perhaps others."""
        del facts
        return self.rules

    def looks_behind(self, facts: Facts, sources: frozenset[Source]) -> bool:
        """Return whether a rule looks at one of these sources, for want of the event's own data."""
        return any(is_lacking(path, find, facts, sources) for path, find in self.looks_at)


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Compiled rules; the same content gives the same version, in whatever order it came."""

    version: str
    count: int
    """Rules that can be used, the inactive ones included."""
    broken: tuple[BrokenRule, ...]
    event_buckets: Mapping[str, RuleBucket[EventRule]]
    personalization_buckets: Mapping[str, RuleBucket[PersonalizationRule]]

    experiment_buckets: Mapping[str, tuple[Experiment, ...]]

    read_sets: Mapping[str, ReadSet]

    # The methods below are the only way to the rules of an event.

    def read_set_for(self, event_name: str) -> ReadSet:
        """Return what rules and experiments look at for an event."""
        sets = self.read_sets
        return sets[event_name] if event_name in sets else sets[EVERY_EVENT]

    def experiments_for(self, event_name: str) -> Sequence[Experiment]:
        """Return the active experiments for an event, by id."""
        buckets = self.experiment_buckets
        return buckets[event_name] if event_name in buckets else buckets[EVERY_EVENT]

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
    """Return the book of these definitions; a broken one is left out and listed."""
    broken: list[BrokenRule] = []
    declared = Declarations(
        protected=frozenset(definitions.protected),
        audiences=_audiences(definitions, broken),
    )

    def parse_all(
        kind: RuleKind,
        raw_by_id: Mapping[str, object],
        parse: Callable[..., D],
        declared: Declarations,
    ) -> list[D]:
        parsed = []
        for definition_id, raw in raw_by_id.items():
            try:
                parsed.append(parse(definition_id, raw, declared=declared))
            except InvalidRule as invalid:
                broken.append(BrokenRule(invalid.rule_id, kind, invalid.problems))
        return parsed

    experiments = parse_all("experiment", definitions.experiments, parse_experiment, declared)
    declared = replace(
        declared,
        experiments={
            experiment.experiment_id: frozenset(variant.name for variant in experiment.variants)
            for experiment in experiments
        },
    )
    for_events = parse_all("event", definitions.event_rules, parse_event_rule, declared)
    for_visitors = parse_all(
        "personalization",
        definitions.personalization_rules,
        parse_personalization_rule,
        declared,
    )
    event_buckets = {name: _bucket(rules) for name, rules in _by_event(for_events).items()}
    personalization_buckets = {
        name: _bucket(rules) for name, rules in _by_event(for_visitors).items()
    }
    experiment_buckets = _by_event(experiments)
    return RuleBook(
        version=_version(definitions),
        count=len(for_events) + len(for_visitors),
        broken=tuple(sorted(broken, key=lambda rule: (rule.kind, rule.rule_id))),
        event_buckets=event_buckets,
        personalization_buckets=personalization_buckets,
        experiment_buckets=experiment_buckets,
        read_sets=_read_sets(
            {name: bucket.rules for name, bucket in event_buckets.items()},
            {name: bucket.rules for name, bucket in personalization_buckets.items()},
            experiment_buckets,
        ),
    )


def _audiences(definitions: RuleDefinitions, broken: list[BrokenRule]) -> Mapping[str, Condition]:
    """Return the audiences that can be used; a rule that names another one is broken."""
    audiences: dict[str, Condition] = {}
    for audience_id, raw in definitions.audiences.items():
        try:
            audiences[audience_id] = parse_audience(audience_id, raw)
        except InvalidRule as invalid:
            broken.append(BrokenRule(invalid.rule_id, "audience", invalid.problems))
    return audiences


def _by_event(definitions: Iterable[D]) -> dict[str, tuple[D, ...]]:
    """Return event name -> its active definitions; those of `*` are under every name."""
    found: dict[str, list[D]] = {EVERY_EVENT: []}
    for definition in definitions:
        if definition.is_active:
            for name in definition.event_names:
                found.setdefault(name, []).append(definition)
    for_all = found[EVERY_EVENT]
    return {
        name: tuple(named if name == EVERY_EVENT else named + for_all)
        for name, named in found.items()
    }


def _read_sets(*buckets: Mapping[str, Iterable[Rule] | Iterable[Experiment]]) -> dict[str, ReadSet]:
    """Return event name -> everything that rules and experiments of this event look at."""
    names = {name for by_name in buckets for name in by_name}
    return {
        name: read_set_of(
            path
            for by_name in buckets
            for definition in by_name.get(name, by_name[EVERY_EVENT])
            for path in definition.read_paths
        )
        for name in names
    }


def _bucket(rules: Iterable[R]) -> RuleBucket[R]:
    ordered = tuple(sorted(rules, key=lambda rule: (rule.priority, rule.rule_id)))
    looks_at = {
        path.text: (path, look_up)
        for rule in ordered
        for path, look_up in (*rule.condition.lookups, *rule.other_lookups)
        if path.root not in ("event", "item")
    }
    return RuleBucket(
        ordered,
        purposes=frozenset(purpose for rule in ordered for purpose in rule.gates.purposes),
        remembers=any(rule.remembers for rule in ordered),
        reads_experiments=any(path.root == "experiment" for path, _ in looks_at.values()),
        looks_at=tuple(looks_at.values()),
    )


def _version(definitions: RuleDefinitions) -> str:
    content = {
        **{
            name: _canonical(rules, RULE_DEPTH_MAX + 2)
            for name, rules in definitions.collections.items()
        },
        "protected": sorted(definitions.protected),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object, depth: int) -> Any:
    """Return the value as JSON can write it; below a rule's depth limit nothing counts."""
    if isinstance(value, Mapping):
        return {str(k): _canonical(v, depth - 1) for k, v in value.items()} if depth else {}
    if isinstance(value, list | tuple):
        return [_canonical(element, depth - 1) for element in value] if depth else []
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(type(value))


EMPTY_RULE_BOOK: Final = compile_rule_book(RuleDefinitions())
