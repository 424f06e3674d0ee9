"""Checks of one rule's conditions: those that never hold, always hold, or hold for what is absent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tagstitch.core.checked_rule import IN_AUDIENCE, CheckedConditions, CheckedRule
from tagstitch.core.condition import Condition, Group, Match, Predicate
from tagstitch.core.condition_form import conditions_below, form_of
from tagstitch.core.finding import Finding
from tagstitch.core.operators import Comparison
from tagstitch.core.paths import Path
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.value_kinds import possible_kinds

_ROOT = "conditions"


def check_conditions(rule: CheckedConditions) -> Iterator[Finding]:
    """Yield what is wrong with a rule's conditions."""
    if not rule.form.can_hold():
        yield rule.finding(
            "never_holds", rule.place, "the conditions can never hold together",
            "every entry must hold at once; alternatives stand in any: [...]",
        )  # fmt: skip
        return
    yield from _needless(rule)
    yield from _dead_alternatives(rule, rule.condition)
    yield from _for_lists_only(rule)
    yield from _true_when_absent(rule)


def check_drops(rules: Iterable[CheckedRule]) -> Iterator[Finding]:
    """Yield a finding for each rule that drops every event, or every event of a name."""
    found = sorted(rules, key=lambda rule: rule.order)
    first_stop = next((rule.order for rule in found if rule.stops and not rule.drops), None)
    for rule in found:
        may_stay_out = rule.may_stay_out or rule.purposes
        if not rule.drops or may_stay_out or not always_holds(rule.condition):
            continue
        is_unstopped = first_stop is None or rule.order < first_stop
        if EVERY_EVENT in rule.event_names and is_unstopped:
            yield rule.finding(
                "drops_everything", _ROOT, "every event is dropped, whatever its name",
                "name the events, or add conditions",
            )  # fmt: skip
        else:
            yield rule.finding(
                "drops_every_event_of_a_name", _ROOT, "every event that gets as far is dropped"
            )


def always_holds(condition: Condition) -> bool:
    """Return True only when the condition holds for every event."""
    return not form_of(condition, negate=True).can_hold()


def _needless(rule: CheckedConditions) -> Iterator[Finding]:
    for entry in conditions_below(rule.condition):
        is_plain = isinstance(entry, Predicate) and entry.path.quantifier != "$count"
        if not is_plain and always_holds(entry):
            yield rule.finding(
                "always_holds", _where(entry, rule.place), "this holds for every event",
                "leave it out; match_all: true says that every event is meant",
            )  # fmt: skip


def _dead_alternatives(rule: CheckedConditions, condition: Condition) -> Iterator[Finding]:
    if not isinstance(condition, Group):
        return
    for member in condition.members:
        if condition.kind == "any" and not form_of(member).can_hold():
            yield rule.finding(
                "dead_alternative", _where(member, rule.place), "this alternative can never hold"
            )
        else:
            yield from _dead_alternatives(rule, member)


def _for_lists_only(rule: CheckedConditions) -> Iterator[Finding]:
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
                "lists_only", _own_place(predicates),
                "holds only for a list that has a value of each, never for a single value",
                "anyOf says that a list is meant",
            )  # fmt: skip


def _own_place(predicates: Sequence[Predicate]) -> str:
    """Return where one of them stands, in the rule itself rather than in an audience."""
    return min((p.where for p in predicates), key=lambda where: where.startswith(IN_AUDIENCE))


def _true_when_absent(rule: CheckedConditions) -> Iterator[Finding]:
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


def _where(condition: Condition, root: str) -> str:
    """Return the place of a condition below the root."""
    if isinstance(condition, Predicate | Match):
        return condition.where
    inner = next((_where(member, root) for member in condition.members), root)
    return inner[: len(root)] + inner[len(root) :].partition("[")[0]
