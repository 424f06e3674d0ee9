"""Checks of what personalization may hang on: consent for what it reads, and who can forge it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from tagstitch.core.checked_rule import CheckedRule, leaves_of
from tagstitch.core.consent import Purpose
from tagstitch.core.finding import Finding
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.paths import Path, parse_path
from tagstitch.core.problems import Problems

AttributePurposes = Mapping[str, Collection[Purpose]]
"""Attribute -> the purposes for which it may be used."""

_SENDING: Final = frozenset(("send_email", "update_crm", "webhook"))
_WHO: Final = ("recipient", "external_id")
"""Constants of an action that are paths into the profile."""


def check_purposes(rule: CheckedRule, purposes: AttributePurposes) -> Iterator[Finding]:
    """Yield attributes that the rule reads for a purpose that it does not ask consent for."""
    if rule.kind != "personalization" or not purposes:
        return
    seen: set[str] = set()
    for name, where, also in _attributes_read(rule, purposes):
        if name not in seen and not rule.purposes | also >= set(purposes[name]):
            seen.add(name)
            yield rule.finding(
                "purpose_missing", where,
                "the attribute may be used only for purposes that the rule does not ask for",
                "add the attribute's purposes to the rule's purposes",
            )  # fmt: skip


def check_forgeable(rule: CheckedRule, attributes: Collection[str]) -> Iterator[Finding]:
    """Yield conditions of a personalization rule that anybody can make true by an event.

    `attributes` are the known names of profile attributes.
    """
    if rule.kind != "personalization":
        return
    leaves = [leaf for leaf in leaves_of(rule.condition) if leaf.path.root != "item"]
    for leaf in leaves:
        if leaf.path.root == "bare" and _attribute_of(leaf.path, attributes) is not None:
            yield rule.finding(
                "forgeable_condition", leaf.where,
                "a profile has an attribute of this name, and an event may carry it too: a "
                "browser can forge it",
                "write profile. in front of it, or declare it protected",
            )  # fmt: skip
    sending = [action for action in rule.outbox_actions if action.type in _SENDING]
    if sending and leaves and all(leaf.path.root in ("bare", "event") for leaf in leaves):
        yield rule.finding(
            "forgeable_sending", rule.effects[sending[0].index].place,
            "sends something out because of event parameters alone, which anybody can make up",
            "add a condition on profile. or user_state.",
        )  # fmt: skip


def _attributes_read(
    rule: CheckedRule, known: Collection[str]
) -> Iterator[tuple[str, str, frozenset[Purpose]]]:
    """Yield (attribute, place, purposes that the action itself asks for)."""
    read = [(leaf.path, leaf.where, frozenset[Purpose]()) for leaf in leaves_of(rule.condition)]
    for action in rule.outbox_actions:
        place, also = rule.effects[action.index].place, frozenset(action.purposes)
        read += [(path, place, also) for path in (*action.reads, *_whom(action))]
    for path, where, also in read:
        name = _attribute_of(path, known)
        if name is not None and path.root in ("bare", "profile"):
            yield name, where, also


def _whom(action: OutboxAction) -> Iterator[Path]:
    """Yield where the profile says whom the action is for."""
    for name in _WHO:
        path = parse_path(action.constants.get(name), "", Problems())
        if path is not None:
            yield path


def _attribute_of(path: Path, known: Collection[str]) -> str | None:
    """Return the known attribute that a path leads to or into."""
    names = (".".join(path.base[:length]) for length in range(len(path.base), 0, -1))
    return next((name for name in names if name in known), None)
