"""Checks of what personalization may hang on: consent for what it reads, and who can forge it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from tagstitch.core.checked_rule import CheckedRule, leaves_of
from tagstitch.core.consent import Purpose
from tagstitch.core.finding import Finding
from tagstitch.core.paths import Path

AttributePurposes = Mapping[str, Collection[Purpose]]
"""Attribute -> the purposes for which it may be used."""

_SENDING: Final = ("send_email", "send_marketing_email", "update_crm", "webhook")
_PROFILE_PATH: Final = re.compile(r'"profile\.([^"\\]+)"|\$\{profile\.([^}"\\]+)\}')


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
    sending = [effect for effect in rule.effects if effect.type in _SENDING]
    if sending and leaves and all(leaf.path.root in ("bare", "event") for leaf in leaves):
        yield rule.finding(
            "forgeable_sending", sending[0].place,
            "sends something out because of event parameters alone, which anybody can make up",
            "add a condition on profile. or user_state.",
        )  # fmt: skip


def _attributes_read(
    rule: CheckedRule, known: Collection[str]
) -> Iterator[tuple[str, str, frozenset[Purpose]]]:
    """Yield (attribute, place, purposes that the action itself asks for)."""
    for leaf in leaves_of(rule.condition):
        name = _attribute_of(leaf.path, known)
        if name is not None and leaf.path.root in ("bare", "profile"):
            yield name, leaf.where, frozenset()
    for effect in rule.effects:
        raw = effect.details.get("purposes", [])
        also = frozenset(raw if isinstance(raw, list) else [str(raw)])
        written = json.dumps(effect.details, ensure_ascii=False, skipkeys=True, default=str)
        for match in _PROFILE_PATH.finditer(written):
            segments = tuple((match[1] or match[2]).split("."))
            name = _attribute_of(Path("", "profile", segments), known)
            if name is not None:
                yield name, effect.place, also


def _attribute_of(path: Path, known: Collection[str]) -> str | None:
    """Return the known attribute that a path leads to or into."""
    names = (".".join(path.base[:length]) for length in range(len(path.base), 0, -1))
    return next((name for name in names if name in known), None)
