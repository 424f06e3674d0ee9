"""Checks of one rule's conditions: those that never hold, always hold, or hold for what is absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tagstitch.core.checked_rule import CheckedRule
from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.condition_form import conditions_below, form_of
from tagstitch.core.finding import Finding
from tagstitch.core.operators import Comparison
from tagstitch.core.paths import Path
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.value_kinds import possible_kinds

_ROOT = "conditions"


def check_conditions(rule: CheckedRule) -> Iterator[Finding]:
    """Yield what is wrong with a rule's conditions."""
    if not rule.form.can_hold():
        yield rule.finding(
            "never_holds", _ROOT, "the conditions can never hold together",
            "every entry must hold at once; alternatives stand in any: [...]",
        )  # fmt: skip
        return
    yield from _needless(rule)
    yield from _dead_alternatives(rule, rule.condition, _ROOT)
    yield from _for_lists_only(rule)
    yield from _true_when_absent(rule)


def check_drops(rule: CheckedRule) -> Iterator[Finding]:
    """Yield a finding when the rule drops every event, or every event of a name."""
    effect = next((effect for effect in rule.effects if effect.type == "drop_event"), None)
    if effect is None or rule.kind != "event" or not always_holds(rule.condition):
        return
    if EVERY_EVENT in rule.event_names and not rule.is_gated:
        yield rule.finding(
            "drops_everything", _ROOT, "every event is dropped, whatever its name",
            "name the events, or add conditions",
        )  # fmt: skip
    else:
        yield rule.finding(
            "drops_every_event_of_a_name", _ROOT, "every event that the rule is for is dropped"
        )


def always_holds(condition: Condition) -> bool:
    """Return True only when the condition holds for every event."""
    return not form_of(condition, negate=True).can_hold()


def _needless(rule: CheckedRule) -> Iterator[Finding]:
    for entry in conditions_below(rule.condition):
        is_plain = isinstance(entry, Predicate) and entry.path.quantifier != "$count"
        if not is_plain and always_holds(entry):
            yield rule.finding(
                "always_holds", _where(entry), "this holds for every event",
                "leave it out; match_all: true says that every event is meant",
            )  # fmt: skip


def _dead_alternatives(rule: CheckedRule, condition: Condition, where: str) -> Iterator[Finding]:
    if not isinstance(condition, Group):
        return
    for member in condition.members:
        if condition.kind == "any" and not form_of(member).can_hold():
            yield rule.finding(
                "dead_alternative", _where(member), "this alternative can never hold"
            )
        else:
            yield from _dead_alternatives(rule, member, where)


def _for_lists_only(rule: CheckedRule) -> Iterator[Finding]:
    """Two lists of values without a common one: only a list of values can hold one of each."""
    entries = _by_path(rule.condition)
    for path, predicates in entries.items():
        comparisons = [predicate.comparison for predicate in predicates]
        memberships = [c for c in comparisons if c.operator == "in" and not c.is_negated]
        if (
            path.quantifier is None
            and len(memberships) > 1
            and possible_kinds(comparisons) == {"list"}
        ):
            yield rule.finding(
                "lists_only", predicates[0].where,
                "holds only for a list that has a value of each, never for a single value",
                "anyOf says that a list is meant",
            )  # fmt: skip


def _true_when_absent(rule: CheckedRule) -> Iterator[Finding]:
    for where, comparison in _loose_negations(rule.condition, {}):
        yield rule.finding(
            "true_when_absent", where, f"{comparison.name} is also true when there is no value",
            "add exists: true beside it, or none: [...] when absence is meant",
        )  # fmt: skip


def _loose_negations(
    condition: Condition, above: Mapping[Path, list[Comparison]]
) -> Iterator[tuple[str, Comparison]]:
    """Yield the negations beside or above which nothing says that there must be a value."""
    beside = {**above}
    for path, predicates in _by_path(condition).items():
        beside[path] = [*above.get(path, ()), *(p.comparison for p in predicates)]
        for predicate in predicates:
            is_loose = _is_loose_negation(path, predicate.comparison)
            if is_loose and "absent" in possible_kinds(beside[path]):
                yield predicate.where, predicate.comparison
                break
    for entry in conditions_below(condition):
        if isinstance(entry, Group) and entry.kind == "any":
            for member in entry.members:
                yield from _loose_negations(member, beside)


def _is_loose_negation(path: Path, comparison: Comparison) -> bool:
    """State begins empty, so `notEquals` of a state means what it says."""
    is_value = path.quantifier is None and path.root not in ("user_state", "experiment")
    return is_value and comparison.is_negated and comparison.operator != "exists"


def _by_path(condition: Condition) -> dict[Path, list[Predicate]]:
    """Return the comparisons that stand side by side, by path."""
    found: dict[Path, list[Predicate]] = {}
    for entry in conditions_below(condition):
        if isinstance(entry, Predicate):
            found.setdefault(entry.path, []).append(entry)
    return found


def _where(condition: Condition) -> str:
    if isinstance(condition, Predicate | Match):
        return condition.where
    inner = next((_where(member) for member in condition.members), _ROOT)
    return inner.partition("[")[0]
