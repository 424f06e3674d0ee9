"""Rules that never apply, because an earlier one always ends the evaluation before them.

That is said of decisions for which everything could be loaded and stored.

Rules are compared only where they can meet, so the work grows with the rules and not with their
square.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tagstitch.core.checked_rule import CheckedRule
from tagstitch.core.condition_form import Place
from tagstitch.core.finding import Finding
from tagstitch.core.limits import CHECK_RELATED_MAX
from tagstitch.core.rule_pairs import Budget, Key, buckets_of, pinned_keys


def check_reachability(rules: Sequence[CheckedRule], budget: Budget) -> Iterator[Finding]:
    """Yield the rules that never apply, because for each event name another one comes first."""
    hidden: dict[str, dict[str, CheckedRule]] = defaultdict(dict)
    for name, bucket in buckets_of(rules).items():
        if any(map(_ends_surely, bucket)):
            for rule, by in _hidden_rules(bucket, budget):
                hidden[rule.rule_id][name] = by
    for rule in rules:
        covers = hidden.get(rule.rule_id, {})
        if all(name in covers for name in rule.event_names):
            others = dict.fromkeys(covers[name].rule_id for name in rule.event_names)
            yield rule.finding(
                "unreachable", "", "never applies: an earlier rule holds whenever it would",
                "the other one drops the event or has stop_on_match; look at the priorities",
                related=tuple(others)[:CHECK_RELATED_MAX],
            )  # fmt: skip


def _ends_surely(rule: CheckedRule) -> bool:
    """Return whether no later rule is asked wherever its conditions hold.

    State may change between two rules of one decision, so what reads it proves nothing.
    """
    reads_state = any(
        place.root == "user_state" for alternative in rule.form.alternatives
        for place in alternative.places
    )  # fmt: skip
    return rule.ends and not (rule.may_stay_out or rule.is_chained or reads_state)


def _hidden_rules(
    bucket: Sequence[CheckedRule], budget: Budget
) -> Iterator[tuple[CheckedRule, CheckedRule]]:
    enders = _EndingRules()
    for rule in bucket:
        by = None if rule.is_chained else enders.first_that_covers(rule, budget)
        if by is not None:
            yield rule, by
        elif _ends_surely(rule):
            enders.add(rule)


class _EndingRules:
    """Rules that end the evaluation, found by a value or a place of their conditions."""

    __slots__ = ("_by_key", "_by_place", "_unconditional")

    def __init__(self) -> None:
        self._unconditional: list[CheckedRule] = []
        self._by_key: dict[Key, list[CheckedRule]] = defaultdict(list)
        self._by_place: dict[Place, list[CheckedRule]] = defaultdict(list)

    def add(self, rule: CheckedRule) -> None:
        for alternative in rule.form.alternatives:
            keys = min(pinned_keys(alternative).values(), key=len, default=None)
            if keys is not None:
                for key in keys:
                    self._by_key[key].append(rule)
            elif alternative.places:
                self._by_place[next(iter(alternative.places))].append(rule)
            else:
                self._unconditional.append(rule)

    def first_that_covers(self, rule: CheckedRule, budget: Budget) -> CheckedRule | None:
        for other in self._candidates(rule):
            if not budget.spend(rule, other):
                return None
            if _asks_less(other, rule) and rule.form.implies(other.form):
                return other
        return None

    def _candidates(self, rule: CheckedRule) -> Iterator[CheckedRule]:
        """Yield the rules of which an alternative may cover the rule's first one."""
        yield from self._unconditional
        first = rule.form.alternatives[0]
        for keys in pinned_keys(first).values():
            yield from self._by_key.get(keys[0], ())
        for place in first.places:
            yield from self._by_place.get(place, ())


def _asks_less(other: CheckedRule, rule: CheckedRule) -> bool:
    """Return whether consent never keeps the other rule out where it lets this one apply."""
    return other.purposes <= rule.purposes and (rule.writes_state or not other.writes_state)
