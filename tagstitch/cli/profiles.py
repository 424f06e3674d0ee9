"""`tagstitch profiles`: what is known about people, in and out."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from tagstitch.cli.import_checkpoint import ImportCheckpoint, Progress
from tagstitch.cli.import_options import NoRampOption, RestartOption, needs_ramp
from tagstitch.cli.json_lines import BadLine, count_lines
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
from tagstitch.cli.profile_files import ProfileFile, ProfileFormat, open_profile_file
from tagstitch.cli.rejects_file import RejectsFile, rejection_of
from tagstitch.core.errors import Conflict, InvalidInput, TagstitchError
from tagstitch.core.profile import is_erased, own_shape, survivor_id
from tagstitch.pipeline.backend import Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.profile_import import (
    ImportResult,
    export_line,
    import_profiles,
    in_batches,
)
from tagstitch.pipeline.profile_line import ProfileLine, parse_profile_line
from tagstitch.pipeline.write_ramp import RampedDocuments

_TIMEOUT_S = 30.0
"""Seconds for one batch or one page."""

_PAGE_DOCUMENTS = 300

_LAST_LINE = sys.maxsize

app = typer.Typer(help="Profiles, in and out.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, allow_dash=False)]


@app.command("import")
def import_(
    file: FileArgument,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")
    ] = False,
    restart: RestartOption = False,
    format_: Annotated[
        ProfileFormat | None, typer.Option("--format", help="Without it the file's name tells.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="COLUMN", help="CSV: its cells are text; repeatable."),
    ] = None,
    no_ramp: NoRampOption = False,
    json: JsonOption = False,
) -> None:
    """Import profiles from JSON Lines or CSV (.gz too); rejects go to FILE.rejects.jsonl.

    An interrupted import of the same file goes on where it stopped. Into Firestore it writes at
    most 500 documents a second at first, and half as many more each five minutes.
    """

    async def work() -> dict[str, Any]:
        source = open_profile_file(file, format_=format_, text_columns=text or ())
        async with opened_backend() as opened:
            ramp = None
            if not (no_ramp or dry_run) and needs_ramp(opened.settings):
                ramp = RampedDocuments(opened.backend.documents)
            return await _import(opened, source, ramp, dry_run=dry_run, restart=restart)

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: out.print(_summary(answer), markup=False))
    if answer["rejected"]:
        raise typer.Exit(1)


@app.command()
def export(
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write every profile as a line that an import reads back."""

    async def work() -> int:
        async with opened_backend() as opened:
            lines = _exported(opened.backend.documents)
            if json:
                write_json([line async for line in lines])
                return 0
            if output is None:  # on a terminal a bar would stand among the lines
                return await _write_lines(sys.stdout.buffer, lines, advance=_no_bar)
            with output.open("wb") as target, progress_bar("profiles", None) as bar:
                return await _write_lines(target, lines, advance=bar)

    count = run(work(), as_json=json)
    if not json:
        err().print(f"{count} profiles")


@app.command()
def get(
    profile_id: Annotated[str, typer.Argument(metavar="ID")], *, json: JsonOption = False
) -> None:
    """Show one profile as it is stored, with its version."""

    async def work() -> Mapping[str, Any]:
        async with opened_backend() as opened:
            document = await _stored(opened.backend.documents, profile_id)
        if document is None:
            raise CommandFailed("no profile has this id")
        fields = document.fields
        if not fields.keys().isdisjoint(("profile_id", "version")):
            fields = own_shape(fields)  # written by hand: these are attributes
        name = document.path.partition("/")[2]
        return {"profile_id": name, "version": document.version, **fields}

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: out.print(json_text(answer), markup=False))


@app.command()
def put(
    profile_id: Annotated[str, typer.Argument(metavar="ID")],
    file: FileArgument,
    *,
    if_version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help='Only while `get` shows this version; "" only while there is no such profile.',
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the attributes of one profile those of a JSON file, in the form of an import's line."""

    async def work() -> dict[str, Any]:
        try:
            raw = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise CommandFailed("the file must hold one JSON object") from error
        async with opened_backend() as opened:
            line = parse_profile_line(
                {**raw, "profile_id": profile_id}, opened.settings.identity, opened.keyring
            )
            with _version_demanded(if_version):
                result = await import_profiles(
                    opened.backend.documents,
                    [(1, line)],
                    now=opened.backend.clock(),
                    deadline=Deadline.after(_TIMEOUT_S),
                    replace_attributes=True,
                    if_version=if_version,
                )
        if result.rejections:
            raise CommandFailed(result.rejections[0].message)
        return {"profile_id": profile_id, **_document(result)}

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: out.print(_summary(answer), markup=False))


@contextmanager
def _version_demanded(if_version: str | None) -> Iterator[None]:
    """Say of a conflict what to do about it."""
    try:
        yield
    except Conflict as error:
        if if_version is None:
            raise
        message = f"{error}: somebody wrote it meanwhile, and nothing was changed"
        hint = "`tagstitch profiles get` shows what is stored and its version"
        problem = {"code": "version_conflict", "message": message, "hint": hint}
        raise CommandFailed(f"{message}; {hint}", {"error": problem}) from error


async def _import(
    opened: Opened,
    source: ProfileFile,
    ramp: RampedDocuments | None,
    *,
    dry_run: bool,
    restart: bool,
) -> dict[str, Any]:
    checkpoint = ImportCheckpoint(source.path, opened.settings, reading=source.reading)
    begun = Progress() if restart or dry_run else checkpoint.read()
    if begun.lines_done and not await _holds(opened, source, begun):
        err().print("the store lacks what the interrupted import wrote: from the first line")
        begun = Progress()
    rejects = RejectsFile(
        None if dry_run else source.path, keep_bytes=begun.rejects_bytes, written=begun.rejected
    )
    done, whole, total = begun.lines_done, ImportResult(), count_lines(source.path)
    with progress_bar("profiles", total) as bar:
        bar(done)
        for batch in in_batches(_parsed(source, done, opened, rejects)):
            with _place_told(done):
                whole.add(await _import_batch(opened, ramp, batch, rejects, dry_run=dry_run))
            bar(batch[-1][0] - done)
            bar.say(f"at most {ramp.limit:,.0f} writes/s" if ramp else "")
            done = batch[-1][0]
            rejects.write(up_to_line=done)
            if not dry_run:
                checkpoint.save(
                    Progress(
                        lines_done=done,
                        batch_from=batch[0][0],
                        rejected=rejects.written,
                        rejects_bytes=rejects.bytes_written,
                    )
                )
        rejects.write(up_to_line=_LAST_LINE)
    if not dry_run:
        checkpoint.clear()
    report = {"dry_run": dry_run, "lines": total, "resumed_after_line": begun.lines_done}
    return _document(whole) | rejects.summary() | report


async def _import_batch(
    opened: Opened,
    ramp: RampedDocuments | None,
    batch: list[tuple[int, ProfileLine]],
    rejects: RejectsFile,
    *,
    dry_run: bool,
) -> ImportResult:
    result = await import_profiles(
        ramp or opened.backend.documents,
        batch,
        now=opened.backend.clock(),
        deadline=Deadline.after(_TIMEOUT_S),
        dry_run=dry_run,
    )
    for rejection in result.rejections:
        rejects.add(rejection.line, asdict(rejection))
    return result


async def _holds(opened: Opened, source: ProfileFile, begun: Progress) -> bool:
    """Return whether the store has the last batch that the checkpoint calls done.

    It may have been cleared or restored meanwhile, and the machine may have lost its power.
    """
    no_rejects = RejectsFile(None)
    lines = _parsed(source, begun.batch_from - 1, opened, no_rejects)
    for batch in in_batches(takewhile(lambda line: line[0] <= begun.lines_done, lines)):
        result = await _import_batch(opened, None, batch, no_rejects, dry_run=True)
        if result.created or result.updated:
            return False
    return True


@contextmanager
def _place_told(done: int) -> Iterator[None]:
    """Add to a failure how far the import has come."""
    try:
        yield
    except TagstitchError as error:
        raise CommandFailed(
            f"{error}; {done} lines are done, and the same command goes on behind them"
        ) from error


def _parsed(
    source: ProfileFile, done: int, opened: Opened, rejects: RejectsFile
) -> Iterator[tuple[int, ProfileLine]]:
    """Yield the lines that are good; the others go to the rejects."""
    for number, raw in source.lines():
        if number <= done:
            continue
        rejects.hold(number, raw)
        if isinstance(raw, BadLine):
            why = {"code": raw.code, "message": raw.message, "path": raw.path}
            rejects.add(number, {"line": number, **why})
            continue
        try:
            yield number, parse_profile_line(raw, opened.settings.identity, opened.keyring)
        except InvalidInput as error:
            rejects.add(number, rejection_of(number, error))


async def _write_lines(
    target: BinaryIO, lines: AsyncIterator[Mapping[str, Any]], *, advance: Callable[[int], None]
) -> int:
    count = 0
    async for line in lines:
        target.write(msgspec.json.encode(line) + b"\n")
        advance(1)
        count += 1
    target.flush()
    return count


def _no_bar(steps: int) -> None:
    del steps


async def _exported(documents: DocumentStore) -> AsyncIterator[dict[str, Any]]:
    after: str | None = None
    while True:
        page = await documents.list_documents(
            "profiles", after=after, limit=_PAGE_DOCUMENTS, deadline=Deadline.after(_TIMEOUT_S)
        )
        for document in page:
            if survivor_id(document.fields) is None and not is_erased(document.fields):
                yield export_line(document)
        if len(page) < _PAGE_DOCUMENTS:
            return
        after = page[-1].path


async def _stored(documents: DocumentStore, profile_id: str) -> Document | None:
    if "/" in profile_id or not profile_id:
        return None
    return await documents.get(f"profiles/{profile_id}", deadline=Deadline.after(_TIMEOUT_S))


def _document(result: ImportResult) -> dict[str, Any]:
    return {
        "created": result.created,
        "updated": result.updated,
        "unchanged": result.unchanged,
        "identifiers_held_elsewhere": result.held_elsewhere,
        "older_values": result.older_values,
    }


def _summary(answer: Mapping[str, Any]) -> str:
    parts = [
        f"{answer['created']} created",
        f"{answer['updated']} updated",
        f"{answer['unchanged']} unchanged",
    ]
    if answer.get("rejected"):
        parts.append(f"{answer['rejected']} rejected, see {answer['rejects_file'] or '--json'}")
    if answer["identifiers_held_elsewhere"]:
        held = answer["identifiers_held_elsewhere"]
        parts.append(f"{held} identifiers stay with another profile")
    if answer["older_values"]:
        parts.append(f"{answer['older_values']} values stay because they were set later")
    prefix = "would be: " if answer.get("dry_run") else ""
    return prefix + ", ".join(parts)
