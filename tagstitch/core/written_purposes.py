"""The two ways to name purposes: `purposes: [a, b]`, or `consent: {purpose: a}`."""

from __future__ import annotations

from collections.abc import Mapping

from tagstitch.core.consent import Purpose, is_purpose
from tagstitch.core.definition import Definition
from tagstitch.core.limits import CONSENT_PURPOSES_MAX


def take_purposes(fields: Definition) -> tuple[Purpose, ...]:
    """Return the purposes that the visitor must allow, all of them; empty when none is named."""
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
        return ()
    purposes = [raw] if isinstance(raw, str) else raw
    is_list = isinstance(purposes, list) and 0 < len(purposes) <= CONSENT_PURPOSES_MAX
    if is_list and all(map(is_purpose, purposes)):
        return tuple(dict.fromkeys(purposes))
    hint = "for example purposes: [email]"
    fields.problems.add(place, "needs the name of a purpose, or a list of names", hint)
    return ()
