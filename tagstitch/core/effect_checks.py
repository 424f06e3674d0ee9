"""Checks of what several rules do to one event: names that go in a circle, values set twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tagstitch.core.checked_rule import CheckedRule
from tagstitch.core.condition_form import Place
from tagstitch.core.finding import Finding
from tagstitch.core.limits import CHECK_RELATED_MAX
from tagstitch.core.paths import parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.rule_pairs import Budget, Key, buckets_of, pinned_keys
from tagstitch.core.schedule import never_meet
from tagstitch.core.targeting import EVERY_EVENT


@dataclass(frozen=True, slots=True)
class _Write:
    """One effect of a rule: what it writes, and what value."""

    rule: CheckedRule
    place: str
    target: Hashable
    value: str


_ByValue = dict[str, list[_Write]]


def check_overlaps(rules: Sequence[CheckedRule], budget: Budget) -> Iterator[Finding]:
    """Yield rules that give an event another name, or a parameter another value, than before."""
    for code, writes_of, what in (
        ("overlapping_renames", _renames, "rename the same event"),
        ("overlapping_writes", _sets, "set the same parameter"),
    ):
        seen: set[tuple[str, str]] = set()
        for group in _groups(rules, writes_of):
            for write, earlier in _overlaps(group, budget):
                if (write.rule.rule_id, write.place) in seen:
                    continue
                seen.add((write.rule.rule_id, write.place))
                yield write.rule.finding(
                    code, write.place, f"another rule may {what}; this one comes later and wins",
                    "stop_on_match on the earlier one, or conditions that exclude each other",
                    related=(earlier.rule.rule_id,),
                )  # fmt: skip


def check_rename_cycles(rules: Sequence[CheckedRule]) -> Iterator[Finding]:
    """Yield a finding for each circle of names that renames lead through.

    One decision renames once, by the name that arrived; a container that sends the renamed event
    again goes round.
    """
    edges: dict[str, dict[str, str]] = defaultdict(dict)
    for rule in rules:
        for write in _renames(rule):
            for name in rule.event_names:
                if name != write.value:
                    edges[name].setdefault(write.value, rule.rule_id)
    if EVERY_EVENT in edges:  # every name leads on to the targets of `*`
        for name in {*edges, *(target for targets in edges.values() for target in targets)}:
            edges[name].setdefault(EVERY_EVENT, "")
    by_id = {rule.rule_id: rule for rule in rules}
    for names in _circles({name: list(targets) for name, targets in edges.items()}):
        if len(names - {EVERY_EVENT}) > 1:
            ids = sorted({edges[a][b] for a in names for b in edges[a] if b in names} - {""})
            yield by_id[ids[0]].finding(
                "rename_cycle", "", "the new name leads back through other renames",
                "an event that is sent again after its rename would go round",
                related=tuple(ids[1:])[:CHECK_RELATED_MAX],
            )  # fmt: skip


def _renames(rule: CheckedRule) -> Iterator[_Write]:
    for effect in rule.effects:
        if effect.type == "rename_event":
            yield _Write(rule, effect.place, "name", str(effect.details.get("new_event_name")))


def _sets(rule: CheckedRule) -> Iterator[_Write]:
    for effect in rule.effects:
        details = effect.details
        if effect.type == "modify_parameter" and details.get("operator") == "set":
            path = parse_path(details.get("parameter"), "", Problems())
            value = details.get("operand", details.get("value"))
            if path is not None:
                yield _Write(rule, effect.place, path.base, repr(value))


def _groups(
    rules: Sequence[CheckedRule], writes_of: Callable[[CheckedRule], Iterator[_Write]]
) -> Iterator[list[_Write]]:
    """Yield the writes to one target by rules for one event name, in their order."""
    writers = [rule for rule in rules if any(True for _ in writes_of(rule))]
    for bucket in buckets_of(writers).values():
        by_target: dict[Hashable, list[_Write]] = defaultdict(list)
        for rule in bucket:
            for write in writes_of(rule):
                by_target[write.target].append(write)
        yield from (group for group in by_target.values() if len(group) > 1)


def _overlaps(group: Sequence[_Write], budget: Budget) -> Iterator[tuple[_Write, _Write]]:
    """Yield writes with one earlier write of another value that may meet the same event.

    A rule that ends the evaluation is never followed by the other write.
    """
    place = _commonest_place(group)
    by_key: dict[Key, _ByValue] = defaultdict(dict)
    without_key: _ByValue = {}
    everything: _ByValue = {}
    for write in group:
        keys = _keys_at(write.rule, place)
        near = [*(by_key[key] for key in keys if key in by_key), without_key]
        for earlier in _other_values(near if keys else [everything], write):
            if not budget.spend(write.rule, earlier.rule):
                return
            if _can_meet(write.rule, earlier.rule):
                yield write, earlier
                break
        if not write.rule.ends:
            for found in [by_key[key] for key in keys] or [without_key]:
                found.setdefault(write.value, []).append(write)
            everything.setdefault(write.value, []).append(write)


def _can_meet(rule: CheckedRule, other: CheckedRule) -> bool:
    return not never_meet(rule.schedule, other.schedule) and rule.form.can_hold_with(other.form)


def _other_values(found: Sequence[_ByValue], write: _Write) -> Iterator[_Write]:
    for by_value in found:
        for value, writes in by_value.items():
            if value != write.value:
                yield from (earlier for earlier in writes if earlier.rule is not write.rule)


def _commonest_place(group: Sequence[_Write]) -> Place | None:
    counts = Counter(place for write in group for place in _pins(write.rule))
    return max(counts, key=lambda place: (counts[place], place), default=None)


def _keys_at(rule: CheckedRule, place: Place | None) -> list[Key]:
    return _pins(rule).get(place, []) if place is not None else []


def _pins(rule: CheckedRule) -> Mapping[Place, list[Key]]:
    alternatives = rule.form.alternatives
    return pinned_keys(alternatives[0]) if len(alternatives) == 1 else {}


def _circles(edges: Mapping[str, Sequence[str]]) -> Iterator[frozenset[str]]:
    """Yield the sets of names that lead to each other (Tarjan's algorithm, without recursion)."""
    numbers: dict[str, int] = {}
    lows: dict[str, int] = {}
    open_names: list[str] = []
    closed: set[str] = set()
    for start in sorted(edges):
        if start in numbers:
            continue
        trail = [(start, iter(edges.get(start, ())))]
        numbers[start] = lows[start] = len(numbers)
        open_names.append(start)
        while trail:
            name, rest = trail[-1]
            for target in rest:
                if target not in numbers:
                    numbers[target] = lows[target] = len(numbers)
                    open_names.append(target)
                    trail.append((target, iter(edges.get(target, ()))))
                    break
                if target not in closed:
                    lows[name] = min(lows[name], numbers[target])
            else:
                trail.pop()
                if trail:
                    lows[trail[-1][0]] = min(lows[trail[-1][0]], lows[name])
                if lows[name] == numbers[name]:
                    at = open_names.index(name)
                    circle = frozenset(open_names[at:])
                    closed |= circle
                    del open_names[at:]
                    yield circle
