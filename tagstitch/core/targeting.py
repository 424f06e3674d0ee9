"""What rules, experiments and traits say alike: for which events, and for which purposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from tagstitch.core.consent import Purpose, is_purpose
from tagstitch.core.definition import Definition
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.limits import CONSENT_PURPOSES_MAX, RULE_EVENT_NAMES_MAX

EVERY_EVENT: Final = "*"


EVENT_WORDS: Final = ("target_event_name", "event_name_trigger")
"""What rules and experiments call the events that they are for."""


def take_event_names(fields: Definition, words: Sequence[str] = EVENT_WORDS) -> tuple[str, ...]:
    """Return the events that a definition is for; `*` alone stands for every event."""
    place = words[0]
    raw = fields.require(*words)
    if raw is None:
        return ()
    if raw.__class__ is str and 0 < len(raw) <= EVENT_NAME_CHARS_MAX:  # nearly every rule
        return _shared((raw,))
    names = [raw] if isinstance(raw, str) else raw
    if not isinstance(names, list) or not 0 < len(names) <= RULE_EVENT_NAMES_MAX:
        hint = f'a name, a list of up to {RULE_EVENT_NAMES_MAX} names, or "{EVERY_EVENT}"'
        fields.problems.add(place, "not an event name", hint)
        return ()
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= EVENT_NAME_CHARS_MAX:
            fields.problems.add(place, f"a name is text of 1 to {EVENT_NAME_CHARS_MAX} characters")
            return ()
    return _shared((EVERY_EVENT,) if EVERY_EVENT in names else tuple(dict.fromkeys(names)))


@lru_cache(maxsize=1_024)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the one tuple that all rules for these events share."""
    return names


def take_purposes(fields: Definition, *, default: tuple[Purpose, ...] = ()) -> tuple[Purpose, ...]:
    """Return what `purposes: [a, b]` or `consent: {purpose: a}` say, or the default.

    The visitor must allow all of them.
    """
    raw, consent = fields.take("purposes"), fields.take("consent")
    place = fields.place("purposes")
    if consent is not None:
        place = fields.place("consent")
        if raw is not None:
            fields.problems.add(place, "either purposes or consent")
        if not isinstance(consent, Mapping):
            fields.problems.add(place, "must be an object", "consent: {purpose: a_purpose}")
            return ()
        inner = Definition(consent, place, fields.problems)
        raw = inner.require("purpose", "purposes")
        inner.refuse_rest()
    if raw is None:
        return default
    purposes = [raw] if isinstance(raw, str) else raw
    is_list = isinstance(purposes, list) and 0 < len(purposes) <= CONSENT_PURPOSES_MAX
    if is_list and all(map(is_purpose, purposes)):
        return tuple(dict.fromkeys(purposes))
    hint = "for example purposes: [email]"
    fields.problems.add(place, "needs the name of a purpose, or a list of names", hint)
    return ()
