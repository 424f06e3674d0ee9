"""The rules of one event name, with an index when they are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import is_, itemgetter
from typing import Final, Generic, TypeAlias, TypeVar

from tagstitch.core.consent import Purpose
from tagstitch.core.event_action import EventAction
from tagstitch.core.limits import TRACED_RULES_MAX
from tagstitch.core.paths import Facts, Lookup, Path, Source, is_lacking
from tagstitch.core.requirements import NO_REQUIREMENTS, Requirements, requirements_of
from tagstitch.core.rule import EventRule, Rule
from tagstitch.core.rule_gates import OPEN_GATES
from tagstitch.core.rule_index import RuleIndex, index_in_steps
from tagstitch.core.steps import Steps, sorted_in_steps
from tagstitch.core.targeting import EVERY_EVENT

R = TypeVar("R", bound=Rule)
T = TypeVar("T")

PLAIN_RULES_MAX: Final = 4
"""Rules up to which asking each costs no more than an index: half a microsecond for each, beside
one for the index."""

_RULES_PER_STEP: Final = 20

Candidate: TypeAlias = tuple[R, bool, str]
"""A rule that may hold; whether it surely does, and its condition need not be asked; its id."""

ToApply: TypeAlias = tuple[R | EventAction, bool, str]
"""The same; in the place of a rule that surely holds stands its `sole_action` if it has one."""

COPIED_RULES_MAX: Final = 1_000
"""Rules for every event that each event name's bucket holds besides its own. More of them stay in
one bucket: 100 event names would hold 100 copies."""


@dataclass(frozen=True, slots=True)
class RuleBucket(Generic[R]):
    """The active rules for one event name."""

    own_rules: tuple[R, ...]
    """In the order in which they apply."""
    purposes: frozenset[Purpose] = frozenset()
    """Every purpose that one of the rules needs."""
    remembers: bool = False
    """Whether one of the rules needs a commit."""
    looks_at: tuple[tuple[Path, Lookup], ...] = ()
    """Every path of the rules that may lead to data behind consent."""
    read_paths: frozenset[Path] = frozenset()
    """Every path that decides whether one of the rules applies."""
    cap_keys: frozenset[str] = frozenset()
    """Under which names the uses stand that its own rules look at and add to."""
    experiments: frozenset[str] = frozenset()
    """The experiments at whose variant one of the rules looks."""
    index: RuleIndex | None = None
    to_apply: tuple[R | EventAction, ...] = ()
    """Each of its own rules where there is an index, or its `sole_action` in its place."""
    rule_ids: tuple[str, ...] = ()
    """Of the same. Both could be had from the rules, but not as fast: where many of many rules hold,
    time goes by waiting for memory, and only look-ups in a row wait for several at once."""
    unindexed: tuple[Candidate[R], ...] = ()
    """Its own rules as candidates, where there is no index."""
    for_all: RuleBucket[R] | None = None
    """Rules for every event that are not among its own."""

    def has_just(self, rules: Sequence[R]) -> bool:
        """Return whether its own rules are these very ones."""
        own = self.own_rules
        return len(own) == len(rules) and all(map(is_, own, rules))

    def looks_behind(self, facts: Facts, sources: frozenset[Source]) -> bool:
        """Return whether a rule looks at one of these sources, for want of the event's own data."""
        return any(is_lacking(path, find, facts, sources) for path, find in self.looks_at)

    def counts_under(self, cap_key: str) -> bool:
        """Return whether a rule looks at the uses under this name, or adds to them."""
        for_all = self.for_all
        return cap_key in self.cap_keys or (for_all is not None and for_all.counts_under(cap_key))

    @property
    def rules(self) -> Sequence[R]:
        """All rules, in the order in which they apply."""
        if self.for_all is None:
            return self.own_rules
        return tuple(sorted((*self.own_rules, *self.for_all.own_rules), key=_order))

    def candidates(self, facts: Facts, *, has_profile: bool = True) -> Sequence[Candidate[R]]:
        """Return, in their order, all rules that hold for these facts, and perhaps others.

        The facts must be those that conditions will see, but for state and experiments.
        `has_profile` False says that the profile could not be loaded: then the rules are there
        that may hold whatever it says. Where to choose fails, or is too much work, all are there.
        """
        try:
            found = self._candidates(facts, has_profile=has_profile)
        except Exception:  # noqa: BLE001 - the rule that breaks it is left out when it is asked
            return _unsure(self.rules)
        if self.for_all is None:
            return found
        both = (*found, *self.for_all.candidates(facts, has_profile=has_profile))
        return sorted(both, key=lambda candidate: _order(candidate[0]))

    def candidates_to_apply(self, facts: Facts) -> Sequence[ToApply[R]]:
        """Return the same where nothing is missing, the quicker way for many."""
        if self.index is None or self.for_all is not None:
            return self.candidates(facts)
        try:
            positions, is_sure = self.index.find(facts)
        except Exception:  # noqa: BLE001 - as in `candidates`
            return _unsure(self.rules)
        if is_sure is not None or len(positions) < 2:
            return self._one_by_one(self.to_apply, positions, is_sure)
        pick = itemgetter(*positions)
        return list(zip(pick(self.to_apply), repeat(True), pick(self.rule_ids), strict=False))

    def _candidates(self, facts: Facts, *, has_profile: bool) -> Sequence[Candidate[R]]:
        if self.index is None:
            return self.unindexed
        return self._one_by_one(self.own_rules, *self.index.find(facts, has_profile=has_profile))

    def _one_by_one(
        self, sure_ones: Sequence[T], positions: Sequence[int], is_sure: Sequence[bool] | None
    ) -> Sequence[tuple[R | T, bool, str]]:
        """Return what stands at these positions: of what is not sure, the rule itself."""
        if not positions:
            return ()
        return [
            (sure_ones[at] if sure else self.own_rules[at], sure, self.rule_ids[at])
            for at, sure in zip(positions, is_sure or repeat(True), strict=False)
        ]


def every_rule(
    bucket: RuleBucket[R], candidates: Iterable[Candidate[R]]
) -> Sequence[tuple[R, bool | None, str]]:
    """Return all rules as the candidates say; None for one that is not among them.

    Of those, only as many as a trace can tell of besides the candidates.
    """
    found = {rule_id: is_sure for _, is_sure, rule_id in candidates}
    room = TRACED_RULES_MAX - len(found)
    rules: list[tuple[R, bool | None, str]] = []
    for rule in bucket.rules:
        is_sure = found.get(rule.rule_id)
        room -= is_sure is None
        if is_sure is not None or room >= 0:
            rules.append((rule, is_sure, rule.rule_id))
    return rules


def buckets_in_steps(
    rules: Iterable[R], present: Mapping[str, RuleBucket[R]]
) -> Steps[dict[str, RuleBucket[R]]]:
    """Return event name -> its active rules; under `*` those of all other events.

    A bucket of the very same rules is taken over from the present ones.
    """
    by_name: dict[str, list[R]] = {EVERY_EVENT: []}
    for count, rule in enumerate(rules):
        if rule.is_active:
            for name in rule.event_names:
                by_name.setdefault(name, []).append(rule)
        if count % 500 == 0:
            yield
    every_event = by_name.pop(EVERY_EVENT)
    for_all = yield from _bucket_in_steps(every_event, present.get(EVERY_EVENT), None)
    buckets = {EVERY_EVENT: for_all}
    is_copied = len(every_event) <= COPIED_RULES_MAX
    for name, named in by_name.items():
        own, others = ([*named, *every_event], None) if is_copied else (named, for_all)
        buckets[name] = yield from _bucket_in_steps(own, present.get(name), others)
    return buckets


def _bucket_in_steps(
    rules: Iterable[R], present: RuleBucket[R] | None, for_all: RuleBucket[R] | None
) -> Steps[RuleBucket[R]]:
    """Return the bucket of these rules and of those in `for_all`."""
    ordered = tuple((yield from sorted_in_steps(rules, _order)))
    if present is not None and present.for_all is for_all and present.has_just(ordered):
        return present
    return (yield from bucket_in_steps(ordered, for_all))


def bucket_in_steps(
    ordered: tuple[R, ...], for_all: RuleBucket[R] | None = None
) -> Steps[RuleBucket[R]]:
    """Return the bucket of these rules, in this order, and of those in `for_all`."""
    purposes = set(for_all.purposes if for_all else ())
    remembers = for_all is not None and for_all.remembers
    paths = set(for_all.read_paths if for_all else ())
    cap_keys: set[str] = set()
    lookups: dict[Path, Lookup] = dict(for_all.looks_at if for_all else ())
    seen: set[int] = set()
    requirements: list[Requirements] = []
    is_indexed = len(ordered) > PLAIN_RULES_MAX
    for count, rule in enumerate(ordered):
        condition = rule.condition
        if id(condition.lookups) not in seen:  # many rules share these tuples
            seen.add(id(condition.lookups))
            lookups.update(condition.lookups)
        if id(condition.read_paths) not in seen:
            seen.add(id(condition.read_paths))
            paths.update(condition.read_paths)
        lookups.update(rule.other_lookups)
        if rule.gates is not OPEN_GATES or not isinstance(rule, EventRule):
            purposes.update(rule.gates.purposes)
            remembers = remembers or rule.remembers
            paths.update(rule.read_paths)
            cap_keys.update(rule.cap_keys)
        if is_indexed:
            requirements.append(_requirements_of(rule))
        if count % _RULES_PER_STEP == 0:
            yield
    index = (yield from index_in_steps(requirements)) if is_indexed else None
    return RuleBucket(
        ordered,
        purposes=frozenset(purposes),
        remembers=remembers,
        looks_at=tuple(
            (path, find) for path, find in lookups.items() if path.root not in ("event", "item")
        ),
        read_paths=frozenset(paths),
        cap_keys=frozenset(cap_keys),
        experiments=frozenset(_experiments(lookups)),
        index=index,
        to_apply=tuple(map(_to_apply, ordered)) if is_indexed else (),
        rule_ids=tuple([rule.rule_id for rule in ordered]) if is_indexed else (),
        unindexed=() if is_indexed else _unsure(ordered),
        for_all=for_all,
    )


def _experiments(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the names that a path may mean: a dot in it is perhaps part of the name."""
    for path in paths:
        if path.root == "experiment":
            yield from (path.base[0], ".".join(path.base))


def _unsure(rules: Iterable[R]) -> tuple[Candidate[R], ...]:
    return tuple((rule, False, rule.rule_id) for rule in rules)


def _to_apply(rule: R) -> R | EventAction:
    return (isinstance(rule, EventRule) and rule.sole_action) or rule


def _order(rule: Rule) -> tuple[int, str]:
    return (rule.priority, rule.rule_id)


def _requirements_of(rule: Rule) -> Requirements:
    """Return what an index may look up; a chained rule looks at an event that others changed."""
    return (
        NO_REQUIREMENTS
        if getattr(rule, "is_chained", False)
        else requirements_of(rule.condition.condition)
    )
