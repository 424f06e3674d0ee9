"""`tagstitch identity erase | export | …`: what the law asks for, for one person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tagstitch.cli.named_identifier import named_identifier
from tagstitch.cli.opened_backend import Opened, opened_backend
from tagstitch.cli.output import (
    CommandFailed,
    JsonOption,
    emit,
    err,
    json_text,
    progress_bar,
    run,
    write_json,
)
from tagstitch.core.document_id import is_document_id
from tagstitch.core.erasure import is_tombstone
from tagstitch.core.identifier import IdentitySettings
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.export_person import export_person
from tagstitch.pipeline.holdings import count_rows, held_documents, rows_sql, subjects_of
from tagstitch.pipeline.person import (
    Asked,
    find_person,
    find_relatives,
    profile_paths,
    refuse_held,
)
from tagstitch.pipeline.publish_audit import AuditPublisher

_TIMEOUT_S: Final = 300.0

_Type = Annotated[str | None, typer.Argument(metavar="[TYPE", help="Such as client_id.")]
_Value = Annotated[str | None, typer.Argument(metavar="VALUE]")]
_Profile = Annotated[
    str | None, typer.Option("--profile", metavar="ID", help="A profile's id instead.")
]


def erase(
    type_: _Type = None,
    value: _Value = None,
    *,
    profile: _Profile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would go; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Erase a person for good: nothing that is queued, imported or seen later brings them back.

    What is not in the audit table yet is erased with it 90 minutes and 8 days later, by the sweep.
    The same command goes on where an interrupted one stopped.
    """
    if dry_run:
        found = run(_with_person(type_, value, profile, _counted), as_json=json)
        emit(found, as_json=json, show=lambda out: _print_counts(out, "would go", found["held"]))
        return
    if not yes:
        found = run(_with_person(type_, value, profile, _whom), as_json=json)
        err().print(found["whom"], markup=False)
        typer.confirm("Erase for good?", abort=True, err=True)
    done = run(_with_person(type_, value, profile, _erased), as_json=json)
    emit(done, as_json=json, show=lambda out: _print_erased(out, done))


def export(
    type_: _Type = None,
    value: _Value = None,
    *,
    profile: _Profile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write everything that is held of a person as one JSON document."""

    async def work(opened: Opened, asked: Asked) -> dict[str, Any]:
        return await export_person(
            opened.backend, opened.keyring, asked, deadline=Deadline.after(_TIMEOUT_S)
        )

    document = run(_with_person(type_, value, profile, work), as_json=json)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json_text(document) + "\n", encoding="utf-8")
        err().print(f"written to {output}", markup=False)
    elif json:
        write_json(document)
    else:
        typer.echo(json_text(document))


def erasure_proof(
    type_: _Type = None,
    value: _Value = None,
    *,
    profile: _Profile = None,
    json: JsonOption = False,
) -> None:
    """Look again for everything of an erased person, and fail when anything is left."""
    found = run(_with_person(type_, value, profile, _proved), as_json=json)
    emit(found, as_json=json, show=lambda out: _print_proof(out, found))
    if any(found["left"].values()):
        raise typer.Exit(1)


def unerase(
    type_: _Type = None,
    value: _Value = None,
    *,
    profile: _Profile = None,
    json: JsonOption = False,
) -> None:
    """Let somebody who was erased come back, as a new person; what is queued of them counts then.

    All identifiers that were erased together are free again. Nothing that was erased returns.
    """

    async def work(opened: Opened, asked: Asked) -> dict[str, int]:
        lifted = await _eraser(opened).lift(asked, deadline=Deadline.after(_TIMEOUT_S))
        return {"tombstones": lifted}

    done = run(_with_person(type_, value, profile, work), as_json=json)
    emit(done, as_json=json, show=lambda out: out.print(f"{done['tombstones']} identifiers free"))


def add_to(app: typer.Typer) -> None:
    """Add the commands to `tagstitch identity`."""
    app.command()(erase)
    app.command()(export)
    app.command("erasure-proof")(erasure_proof)
    app.command()(unerase)


_Work = Callable[[Opened, Asked], Awaitable[dict[str, Any]]]


async def _with_person(
    type_: str | None, value: str | None, profile_id: str | None, work: _Work
) -> dict[str, Any]:
    if (profile_id is None) == (type_ is None or value is None):
        raise typer.BadParameter("name an identifier (TYPE VALUE) or a profile (--profile ID)")
    async with opened_backend() as opened:
        if profile_id is not None:
            if not is_document_id(profile_id):
                raise CommandFailed("this cannot be a profile's id")
            return await work(opened, Asked(profile_id))
        identifier = named_identifier(str(type_), str(value), opened.settings.identity)
        if IdentitySettings().is_blocked(identifier):
            raise CommandFailed("many visitors share this value: it leads to nobody")
        asked = Asked.by_identifier(identifier, opened.keyring)
        await refuse_held(
            opened.backend.documents,
            asked,
            now=opened.backend.clock(),
            deadline=Deadline.after(_TIMEOUT_S),
        )
        return await work(opened, asked)


def _eraser(opened: Opened) -> PersonEraser:
    return PersonEraser(opened.backend, opened.keyring, AuditPublisher(opened.backend.publisher))


async def _erased(opened: Opened, asked: Asked) -> dict[str, Any]:
    with progress_bar("erasing", None) as bar:
        result = await _eraser(opened).erase(
            asked, deadline=Deadline.after(_TIMEOUT_S), told=bar.say
        )
    return result.to_json()


async def _whom(opened: Opened, asked: Asked) -> dict[str, Any]:
    """Return in words whom an erasure would meet."""
    deadline = Deadline.after(_TIMEOUT_S)
    if await _eraser(opened).begun(asked, deadline=deadline) is not None:
        return {"whom": "erased already: the same command goes on from there"}
    documents, now = opened.backend.documents, opened.backend.clock()
    person = await find_person(documents, asked, now=now, deadline=deadline)
    if person.profile is None:
        told = (
            "nobody is known by this: a tombstone would keep what is queued from making a profile"
        )
        return {"whom": told}
    number = len(person.profile.identifiers)
    return {"whom": f"a profile with {number} identifiers, {person.profile.merges} merges"}


async def _counted(opened: Opened, asked: Asked) -> dict[str, Any]:
    """Return what an erasure would find."""
    deadline = Deadline.after(_TIMEOUT_S)
    documents = opened.backend.documents
    person = await find_person(documents, asked, now=opened.backend.clock(), deadline=deadline)
    relatives = await find_relatives(documents, person, deadline=deadline)
    held = await _left(opened, person.profile_ids, person.keys, relatives, deadline)
    return {"held": {"profiles": int(person.profile is not None), **held}}


async def _proved(opened: Opened, asked: Asked) -> dict[str, Any]:
    deadline = Deadline.after(_TIMEOUT_S)
    journal = await _eraser(opened).begun(asked, deadline=deadline)
    if journal is None:
        raise CommandFailed("nobody was erased by this identifier")
    held = await _left(opened, journal.profile_ids, journal.keys, journal.split_from, deadline)
    paths = profile_paths({*journal.places, *journal.profile_ids})
    found = await opened.backend.documents.get_many(paths, deadline=deadline)
    now = opened.backend.clock()
    living = [path for path, d in found.items() if not is_tombstone(d.fields, now=now)]
    subjects = subjects_of(opened.keyring, journal.profile_ids)
    return {
        "erasure_id": journal.erasure_id,
        "started_at": journal.started_at,
        "status": journal.status,
        "next_pass_at": journal.due_at,
        "tombstones": len(journal.places),
        "left": {"profiles": len(living), **held},
        "sql": rows_sql(subjects, columns="COUNT(*) AS n"),
    }


async def _left(
    opened: Opened,
    profile_ids: tuple[str, ...],
    keys: tuple[str, ...],
    split_from: tuple[str, ...],
    deadline: Deadline,
) -> dict[str, int]:
    """Return how much is held, by kind."""
    subjects = subjects_of(opened.keyring, profile_ids)
    held = await held_documents(
        opened.backend.documents,
        profile_ids=profile_ids,
        keys=keys,
        subjects=subjects,
        split_from=split_from,
        deadline=deadline,
    )
    rows = await count_rows(opened.backend.audit_queries, subjects, deadline=deadline)
    return {**{kind: len(found) for kind, found in held.items()}, "audit_rows": rows}


def _print_counts(out: Console, what: str, counts: Mapping[str, int]) -> None:
    found = {kind.replace("_", " "): count for kind, count in counts.items() if count}
    told = ", ".join(f"{kind} {count}" for kind, count in found.items())
    out.print(f"{what}: {told or 'nothing'}", markup=False)


def _print_erased(out: Console, done: Mapping[str, Any]) -> None:
    if not done["was_known"]:
        out.print("nobody was known; a tombstone keeps what is queued from making a profile")
    counts = dict(done["counts"])
    out.print(f"tombstones: {counts.pop('tombstones')}", markup=False)
    _print_counts(out, "gone", counts)
    if done["next_pass_at"]:
        out.print(f"to be repeated at {done['next_pass_at']}", markup=False)


def _print_proof(out: Console, found: Mapping[str, Any]) -> None:
    out.print(f"erased at {found['started_at']}, {found['tombstones']} tombstones", markup=False)
    _print_counts(out, "left", found["left"])
    out.print(found["sql"], markup=False)
