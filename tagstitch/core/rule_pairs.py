"""Which rules can meet: in the bucket of one event name, and by the values that they ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from tagstitch.core.checked_rule import CheckedRule
from tagstitch.core.condition_form import Alternative, Place
from tagstitch.core.limits import CHECK_PAIRS_MAX
from tagstitch.core.targeting import EVERY_EVENT
from tagstitch.core.value_kinds import pinned_values

Key = tuple[Place, Hashable]
"""A place, and one value that it may have."""


class Budget:
    """How many pairs of rules, or of their alternatives, one check may still compare."""

    __slots__ = ("left",)

    def __init__(self, pairs: int = CHECK_PAIRS_MAX) -> None:
        self.left = pairs

    def spend(self, one: CheckedRule, other: CheckedRule) -> bool:
        """Count the alternatives of a pair; False when there was nothing left."""
        self.left -= len(one.form.alternatives) * len(other.form.alternatives)
        return self.left >= 0


def buckets_of(rules: Iterable[CheckedRule]) -> Mapping[str, list[CheckedRule]]:
    """Return event name -> the rules of one kind for it in their order, those of `*` included."""
    named: dict[str, list[CheckedRule]] = defaultdict(list)
    for rule in rules:
        for name in rule.event_names:
            named[name].append(rule)
    for_all = named.pop(EVERY_EVENT, [])
    named = {name: found + for_all for name, found in named.items()}
    named[EVERY_EVENT] = for_all
    return {name: sorted(found, key=lambda rule: rule.order) for name, found in named.items()}


def pinned_keys(alternative: Alternative) -> dict[Place, list[Key]]:
    """Return for each place that has one of few values those values."""
    found: dict[Place, list[Key]] = {}
    for place, requirements in alternative.places.items():
        values = pinned_values(requirements.value)
        if values:
            found[place] = [(place, (isinstance(value, bool), value)) for value in values]
    return found
