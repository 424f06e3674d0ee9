"""The two ways to write actions: one with `action_type`, or several in a list `actions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from tagstitch.core.definition import Definition
from tagstitch.core.limits import RULE_ACTIONS_MAX
from tagstitch.core.values import is_object

T = TypeVar("T")


class WrittenAction(msgspec.Struct, frozen=True, gc=False):
    """One action as it stands in a rule."""

    type: object
    type_place: str
    details: Definition
    index: int = 0
    """Its place among the rule's actions."""

    def find(self, known: Mapping[str, T]) -> T | None:
        """Return the entry for the action's type, or None after noting that there is none."""
        entry = known.get(self.type) if isinstance(self.type, str) else None
        if entry is None:
            self.details.problems.add_unknown(self.type_place, "action type", self.type, known)
        return entry


def take_actions(rule: Definition) -> list[WrittenAction]:
    """Return a rule's actions in their order; problems are noted."""
    type_, raw_details = rule.take("action_type"), rule.take("action_details")
    raw_list = rule.take("actions")
    if raw_list is None:
        return _single(type_, raw_details, rule)
    place = rule.place("actions")
    if type_ is not None or raw_details is not None:
        rule.problems.add(place, "either actions, or action_type with action_details")
    if not isinstance(raw_list, list) or not raw_list or len(raw_list) > RULE_ACTIONS_MAX:
        rule.problems.add(place, f"needs a list of 1 to {RULE_ACTIONS_MAX} actions")
        return []
    found = []
    for index, raw in enumerate(raw_list):
        if not isinstance(raw, Mapping):
            rule.problems.add(f"{place}[{index}]", "an action must be an object")
            continue
        details = Definition(raw, f"{place}[{index}]", rule.problems)
        found.append(WrittenAction(details.take("type"), details.place("type"), details, index))
    return found


def _single(type_: object, raw_details: object, rule: Definition) -> list[WrittenAction]:
    if type_ is None:
        if raw_details is not None:
            rule.problems.add(rule.place("action_type"), "is missing")
        return []
    if raw_details is not None and not is_object(raw_details):
        rule.problems.add(rule.place("action_details"), "must be an object")
        return []
    details = Definition(raw_details or {}, rule.place("action_details"), rule.problems)
    return [WrittenAction(type_, rule.place("action_type"), details)]
