"""`tagstitch identity`: who an identifier leads to, since when and why, and taking people apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tagstitch.cli.named_identifier import named_identifier
from tagstitch.cli.opened_backend import Opened, opened_backend
from tagstitch.cli.output import CommandFailed, JsonOption, emit, printable, run, table_of
from tagstitch.core.fields import optional_time
from tagstitch.core.identifier import Identifier
from tagstitch.core.identity_graph import type_of
from tagstitch.core.link_log import LinkEntry
from tagstitch.core.profile import Profile
from tagstitch.core.quarantine import is_held
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.link_log import entries_of, home_as_of
from tagstitch.pipeline.load_graph import GraphLoader
from tagstitch.pipeline.load_traits import load_traits
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.split_profiles import ProfileSplitter, SplitResult

_TIMEOUT_S: Final = 30.0

app = typer.Typer(help="Who is one person, and since when.", no_args_is_help=True)

_Type = Annotated[str, typer.Argument(metavar="TYPE", help="Such as client_id.")]
_Value = Annotated[str, typer.Argument(metavar="VALUE")]


@app.command()
def show(type_: _Type, value: _Value, *, json: JsonOption = False) -> None:
    """Show to whom an identifier leads, what else leads there, and the log of that profile."""

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            deadline = Deadline.after(_TIMEOUT_S)
            profile = await _profile_of(opened, _identifier(opened, type_, value), deadline)
            if profile is None:
                raise CommandFailed("nobody is known by this identifier")
            entries = await entries_of(
                opened.backend.documents, profile.profile_id, deadline=deadline
            )
            return _shown(profile, entries, now=opened.backend.clock())

    found = run(work(), as_json=json)
    emit(found, as_json=json, show=lambda out: _print(out, found))


@app.command("as-of")
def as_of(
    type_: _Type,
    value: _Value,
    time: Annotated[str, typer.Argument(metavar="TIME", help="Such as 2026-11-21T20:00:00Z.")],
    *,
    json: JsonOption = False,
) -> None:
    """Tell to which profile an identifier belonged at a time, as it was known then."""

    async def work() -> dict[str, Any]:
        at = optional_time({"time": time}, "time")
        async with opened_backend() as opened:
            deadline = Deadline.after(_TIMEOUT_S)
            identifier = _identifier(opened, type_, value)
            profile = await _profile_of(opened, identifier, deadline)
            now = opened.backend.clock()
            home = await home_as_of(
                opened.backend.documents,
                opened.keyring.identifier_key(identifier),
                profile.profile_id if profile is not None else None,
                at or now,
                kept_since=now - timedelta(days=opened.settings.identity.link_log_days),
                deadline=deadline,
            )
        return {"at": at, "profile_id": home}

    found = run(work(), as_json=json)
    emit(
        found,
        as_json=json,
        show=lambda out: out.print(found["profile_id"] or "nobody was known by it then"),
    )


@app.command()
def split(
    type_: Annotated[str | None, typer.Argument(metavar="[TYPE")] = None,
    value: Annotated[str | None, typer.Argument(metavar="VALUE]")] = None,
    *,
    undo: Annotated[
        str | None,
        typer.Option(
            "--undo", metavar="RECORD_ID", help="Undo the merge of this audit record instead."
        ),
    ] = None,
    merged: Annotated[
        str | None,
        typer.Option(metavar="PROFILE_ID", help="Which one leaves, where several were merged."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Give an identifier a profile of its own, or undo a merge; they never meet again."""
    if (undo is None) == (type_ is None or value is None):
        raise typer.BadParameter("name an identifier (TYPE VALUE), or a merge (--undo RECORD_ID)")

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            return (await _split(opened, undo, merged, (type_ or "", value or ""))).to_json()

    done = run(work(), as_json=json)
    emit(done, as_json=json, show=lambda out: _print_split(out, done))


async def _split(
    opened: Opened, undo: str | None, merged: str | None, named: tuple[str, str]
) -> SplitResult:
    deadline = Deadline.after(_TIMEOUT_S)
    splitter = ProfileSplitter(
        opened.backend,
        opened.keyring,
        audit=AuditPublisher(opened.backend.publisher),
        definitions=await load_traits(
            opened.backend.documents, time_zone=opened.settings.time_zone
        )(None, deadline),
        log_days=opened.settings.identity.link_log_days,
    )
    if undo is not None:
        return await splitter.undo_merge(undo, merged_id=merged, deadline=deadline)
    key = opened.keyring.identifier_key(_identifier(opened, *named))
    return await splitter.take_out(key, deadline=deadline)


def _identifier(opened: Opened, type_: str, value: str) -> Identifier:
    identifier = named_identifier(type_, value, opened.settings.identity)
    if opened.settings.identity.is_blocked(identifier):
        raise CommandFailed("many visitors share this value: it leads to nobody")
    return identifier


async def _profile_of(opened: Opened, identifier: Identifier, deadline: Deadline) -> Profile | None:
    """Return the profile that an identifier belongs to, also while it recognises nobody."""
    graphs = GraphLoader(opened.backend.documents, opened.keyring)
    now = opened.backend.clock()
    loaded = await graphs.load([identifier], at=now, now=now, deadline=deadline)
    return loaded.graph.nodes[0].profile


def _shown(profile: Profile, entries: Sequence[LinkEntry], *, now: datetime) -> dict[str, Any]:
    return {
        "profile_id": profile.profile_id,
        "identifiers": [
            {"type": type_of(key), "first_seen": link.get("first_seen"),
             "last_seen": link.get("last_seen"), "held": is_held(profile, key, now=now)}
            for key, link in profile.identifiers.items()
        ],
        "demoted": [type_of(key) for key in profile.demoted],
        "kept_apart": [type_of(key) for key in profile.kept_apart],
        "merges": profile.merges,
        "log": [
            {
                "at": entry.committed_at,
                "kind": entry.kind,
                "linked": [type_of(key) for key in entry.linked],
                "demoted_for": [
                    {"type": type_of(key), "reason": reason}
                    for key, reason in entry.demoted_for.items()
                ],
                "merged": list(entry.merged),
                "moved": [type_of(key) for key in entry.moved],
                "other": entry.other_id,
                "record_id": entry.record_id,
            }
            for entry in entries
        ],
    }  # fmt: skip


def _print(out: Console, found: dict[str, Any]) -> None:
    out.print(f"{found['profile_id']}, {found['merges']} merges")
    out.print(table_of(found["identifiers"]))
    for entry in found["log"]:  # lines: a table would cut the ids that `split --undo` takes
        apart = (f"≠{each['type']} ({each['reason']})" for each in entry["demoted_for"])
        types = ", ".join((*entry["linked"], *entry["moved"], *entry["merged"], *apart))
        out.print(f"{entry['at']}  {entry['kind']}  {types}  {entry['record_id']}", markup=False)


def _print_split(out: Console, done: dict[str, Any]) -> None:
    types = ", ".join(type_of(key) for key in done["moved"])
    out.print(f"{types} left {done['stays']} for {done['leaves']}", markup=False)
    if left_out := done.get("left_out"):
        out.print(
            printable(f"traits that could not be divided: {', '.join(left_out)}"), markup=False
        )
