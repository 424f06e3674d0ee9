"""The export of a person: everything that is held, in words and without our own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tagstitch.core.attribute_times import times_of
from tagstitch.core.identity_graph import type_of
from tagstitch.core.link_log import LinkEntry
from tagstitch.core.profile import Profile
from tagstitch.core.quarantine import told_link

_OURS: Final = frozenset(
    {
        "salt",
        "subject",
        "fingerprint",
        "lease",
        "lease_until",
        "pending",
        "pending_since",
        "told_at",
        "records",
    }
)
"""Fields of a document that are about our own work; the records stand in the audit."""

_BY_KEY: Final = frozenset({"identifiers", "demoted", "kept_apart"})
"""Fields that are maps by the key of an identifier: a keyed hash tells nobody anything."""

_SHOWN: Final = frozenset(
    {
        "identifiers", "attributes", "attribute_times", "traits", "state", "caps", "assignments",
        "consent", "demoted", "kept_apart", "contributors", "created_at", "updated_at",
        "expires_at", "merges",
    }
)  # fmt: skip
"""Fields of a profile that have a section of their own."""

_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "profile": ("The profile", "13 months after the last change"),
    "identifiers": ("Identifiers by which you are recognised, as keyed hashes", "as the profile"),
    "attributes": ("What was imported about you", "as the profile"),
    "traits": ("What was computed from your events", "as the profile, or as its window says"),
    "trait_states": ("What these are computed from", "as the profile"),
    "state": ("What decisions remember", "as the profile"),
    "frequency_caps": ("When limited offers were used", "as the profile; each as its window says"),
    "experiments": ("Experiments that you take part in", "as the profile"),
    "consent": ("What you allowed and denied", "as the profile"),
    "kept_apart": ("Identifiers that are not taken for yours", "as the profile"),
    "other": ("Other fields of the profile", "as the profile"),
    "history": ("How your identifiers were brought together", "until they are erased"),
    "identifier_links": ("Where each identifier leads", "with the profile"),
    "contributions": ("What each identifier contributed", "as the profile"),
    "deliveries": ("What was or is to be sent because of you", "30 days"),
    "messages": ("Messages that wait for your browser", "10 minutes"),
    "exposures": ("Which variants of experiments you saw", "90 days"),
    "quarantine": ("Links that wait for a review", "30 days"),
    "answers": ("Answers to requests, kept to repeat them", "7 days"),
    "audit": ("What was decided, and why", "400 days"),
}
"""Section -> what it is, and for how long it is kept."""


def profile_sections(profile: Profile | None) -> dict[str, Any]:
    """Return the sections that the profile's document fills."""
    if profile is None:
        return {}
    fields, times = profile.fields, times_of(profile.fields)
    computed = {n: v for n, v in profile.attributes.items() if n not in profile.imported}
    apart = {**profile.demoted, **profile.kept_apart}
    return {
        "profile": {
            "profile_id": profile.profile_id,
            "known_since": profile.created_at,
            "changed_at": fields.get("updated_at"),
            "expires_at": profile.expires_at,
            "profiles_merged": profile.merges,
        },
        "identifiers": [
            {"type": type_of(key), **plain(told_link(link))}
            for key, link in profile.identifiers.items()
        ],
        "attributes": [
            {"name": name, "value": plain(value), "set_at": times.get(name)}
            for name, value in profile.imported.items()
        ],
        "traits": [{"name": name, "value": plain(value)} for name, value in computed.items()],
        "trait_states": plain(fields.get("traits") or {}),
        "state": plain(profile.state),
        "frequency_caps": plain(profile.caps),
        "experiments": plain(profile.assignments),
        "consent": [{"purpose": name, **plain(said)} for name, said in profile.consent.items()],
        "kept_apart": [{"type": type_of(key), "since": at} for key, at in apart.items()],
        "other": document_section({n: v for n, v in fields.items() if n not in _SHOWN}),
    }


def history_section(entries: Sequence[LinkEntry]) -> list[dict[str, Any]]:
    """Return the log of links; a merge shows what each profile was before it."""
    return [
        {
            "at": entry.committed_at,
            "kind": entry.kind,
            "linked": [type_of(key) for key in entry.linked],
            "moved": [type_of(key) for key in entry.moved],
            "merged": [document_section(document) for document in entry.merged.values()],
            "before": document_section(entry.survivor),
        }
        for entry in entries
    ]


def audit_section(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the audit's rows; a receipt is sealed, and opens only for a replay."""
    return [
        {
            **{name: value for name, value in row.items() if name not in ("subject", "receipt")},
            "receipt": "sealed" if row.get("receipt") is not None else None,
        }
        for row in rows
    ]


def labelled(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return every section with what it is and how long it is kept, empty ones too."""
    return {
        name: {"label": label, "kept": kept, "data": sections.get(name, [])}
        for name, (label, kept) in _LABELS.items()
    }


def document_section(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored document without what is only about our own work, and without our keys."""
    shown: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "identifiers" and isinstance(value, Mapping):
            shown[name] = [
                {"type": type_of(k), "data": plain(told_link(v) if isinstance(v, Mapping) else v)}
                for k, v in value.items()
            ]
        elif name in _BY_KEY and isinstance(value, Mapping):
            shown[name] = [{"type": type_of(k), "data": plain(v)} for k, v in value.items()]
        elif name not in _OURS:
            shown[name] = plain(value)
    return shown


def plain(value: Any) -> Any:
    """Return a stored value as JSON can say it: bytes decoded where they are JSON, else counted."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return _plain_bytes(value) if isinstance(value, bytes) else value


def _plain_bytes(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"{len(value)} bytes that are not text"
