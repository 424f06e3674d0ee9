"""Exporting a person: everything that is held of them, as one document (GDPR, articles 15 and 20)."""

from __future__ import annotations

from typing import Any, Final

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identity_graph import type_of
from tagstitch.core.person_export import (
    audit_section,
    document_section,
    history_section,
    labelled,
    profile_sections,
)
from tagstitch.pipeline.backend import Backend, Document
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.holdings import held_documents, rows_sql, subjects_of
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.person import Asked, find_person

_SECTIONS: Final = {
    "identifiers": "identifier_links",
    "contributions": "contributions",
    "quarantine": "quarantine",
    "outbox": "deliveries",
    "push_inboxes": "messages",
    "exposures": "exposures",
    "processed": "answers",
}
"""Collection -> section."""


async def export_person(
    backend: Backend, keyring: Keyring, asked: Asked, *, deadline: Deadline
) -> dict[str, Any]:
    """Return everything that is held of a person; raises InvalidInput when that is nothing."""
    now = backend.clock()
    person = await find_person(backend.documents, asked, now=now, deadline=deadline)
    subjects = subjects_of(keyring, person.profile_ids)
    held = await held_documents(
        backend.documents,
        profile_ids=person.profile_ids,
        keys=person.keys,
        subjects=subjects,
        split_from=(),
        deadline=deadline,
    )
    sql = rows_sql(subjects, columns="*", table="audit_deduplicated") + " ORDER BY occurred_at"
    rows = await backend.audit_queries.run(sql, deadline=deadline)
    if person.profile is None and not rows and not any(held.values()):
        raise InvalidInput(
            "not_found", "nothing is held of this person", "identifier",
            "who was erased, or was never seen, has no export",
        )  # fmt: skip
    sections = profile_sections(person.profile)
    sections |= {
        section: [_shown(document) for document in held[collection]]
        for collection, section in _SECTIONS.items()
    }
    sections["history"] = history_section(person.entries)
    sections["audit"] = audit_section(rows)
    return {"exported_at": now, "sections": labelled(sections)}


def _shown(document: Document) -> dict[str, Any]:
    """Return a document's fields; one that a key names says of which type of identifier it is."""
    collection, _, name = document.path.partition("/")
    named = {"type": type_of(name)} if collection in ("contributions", "quarantine") else {}
    shown = {**named, **document_section(document.fields)}
    if collection == "quarantine":  # other people's profiles: their number alone
        shown["profiles"] = len(document.fields.get("profiles") or ())
    return shown
