"""What one decision writes: the visitor's document, outbox entries and exposures, in one commit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tagstitch.core.action_delivery import granted_by_event
from tagstitch.core.identity_graph import SALT_BYTES, new_profile_fields, touch_profile
from tagstitch.core.limits import EXPOSURE_EXPIRY_DAYS, OUTBOX_EXPIRY_DAYS
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.decision import CallDecision, DecideCall
from tagstitch.pipeline.idempotency import pending_records
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.outbox import action_path


def decision_writes(
    call: DecideCall, decided: CallDecision, keyring: Keyring, *, now: datetime
) -> list[Put]:
    """Return the writes; the first is the visitor's document, refused if somebody else wrote it."""
    return [
        _profile_write(call, decided, keyring, now=now),
        *_outbox_writes(call, decided, keyring, now=now),
        *_exposure_writes(call, decided, keyring, now=now),
    ]


def _profile_write(
    call: DecideCall, decided: CallDecision, keyring: Keyring, *, now: datetime
) -> Put:
    visitor = decided.loaded.visitor
    if visitor.profile is not None:
        profile_id = visitor.profile.profile_id
        fields = {"salt": os.urandom(SALT_BYTES), **visitor.profile.fields}
    else:
        primary = call.identifiers[0]
        profile_id = keyring.profile_id(primary)
        fields = new_profile_fields(now=now, salt=os.urandom(SALT_BYTES))
        seen = {"first_seen": now, "last_seen": now}
        fields["identifiers"] = {keyring.identifier_key(primary): seen}
    changes = decided.decision.changes
    for name, changed in (
        ("state", changes.state),
        ("caps", changes.caps),
        ("assignments", changes.assignments),
    ):
        if changed:
            stored = fields.get(name)
            fields[name] = {**(stored if isinstance(stored, Mapping) else {}), **changed}
    return Put(f"profiles/{profile_id}", touch_profile(fields, now=now), if_version=visitor.version)


def _outbox_writes(
    call: DecideCall, decided: CallDecision, keyring: Keyring, *, now: datetime
) -> list[Put]:
    """Return the outbox entries; the visitor's data is looked up in the profile when one is sent."""
    subject = decided.situation.subject
    assert subject is not None  # noqa: S101 - without a visitor no rule sends anything
    decided_at = datetime.fromtimestamp(decided.situation.now, UTC)
    shared: dict[str, Any] = {
        "kind": "action",
        "status": "pending",
        "attempts": 0,
        "profile_id": subject,
        "subject": keyring.pseudonym(subject),
        "decision_id": call.decision_id,
        "event_name": call.request.event.name,
        "rules_version": decided.loaded.rules_version,
        "created_at": now,
        "expires_at": now + timedelta(days=OUTBOX_EXPIRY_DAYS),
    }
    writes = []
    paths = outbox_paths(call, decided, keyring)
    for path, entry in zip(paths, decided.decision.changes.outbox, strict=True):
        if path in decided.loaded.visitor.riders:
            continue  # it was sent in its window, and the visitor's document has forgotten that
        # As JSON: an event may hold lists in lists and names that no document field can have.
        action = entry.to_json() | {"fields": msgspec.json.encode(entry.fields)}
        own = {
            "action": action,
            "rule_purposes": list(entry.rule_purposes),
            "window": entry.window(decided_at),
            "granted": granted_by_event(entry, decided.loaded.consent),
            "useful_until": entry.useful_until(decided_at),
        }
        writes.append(Put(path, shared | own | pending_records((), now=now), if_version=""))
    return writes


def outbox_paths(call: DecideCall, decided: CallDecision, keyring: Keyring) -> list[str]:
    """Return where the outbox entries of a decision go, in their order.

    The id derives from the visitor, the action and its window, else the decision: it is the key by
    which neither a second decision nor a provider does it twice.
    """
    subject = decided.situation.subject or ""
    decided_at = datetime.fromtimestamp(decided.situation.now, UTC)
    return [
        action_path(
            keyring, subject, entry.action_key, entry.window(decided_at) or call.decision_id
        )
        for entry in decided.decision.changes.outbox
    ]


def _exposure_writes(
    call: DecideCall, decided: CallDecision, keyring: Keyring, *, now: datetime
) -> list[Put]:
    """Return one document a visitor, experiment and version: a repeat would overwrite its twin."""
    subject = decided.situation.subject
    if subject is None:
        return []
    shared = {
        "subject": keyring.pseudonym(subject),
        "decision_id": call.decision_id,
        "event_name": call.request.event.name,
        "rules_version": decided.loaded.rules_version,
        "consent": decided.loaded.consent.to_record("analytics_storage", "ad_personalization"),
        "at": now,
        "expires_at": now + timedelta(days=EXPOSURE_EXPIRY_DAYS),
    }
    return [
        Put(
            "exposures/"
            + keyring.derived_id(
                "exposure", subject, exposure.experiment_id, str(exposure.version)
            ),
            shared | exposure.to_json(),
        )
        for exposure in decided.decision.exposures
    ]
