"""`tagstitch profiles`: what is known about people, in and out as JSON Lines."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from tagstitch.cli.json_lines import BadLine, count_lines, read_lines
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
from tagstitch.cli.rejects_file import RejectsFile, rejection_of
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.profile import is_erased, survivor_id
from tagstitch.pipeline.backend import Document, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.profile_import import (
    ImportResult,
    export_line,
    import_profiles,
    in_batches,
)
from tagstitch.pipeline.profile_line import ProfileLine, parse_profile_line

_TIMEOUT_S = 30.0
"""Seconds for one batch or one page."""

_PAGE_DOCUMENTS = 300

app = typer.Typer(help="Profiles, in and out.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, allow_dash=False)]


@app.command("import")
def import_(
    file: FileArgument,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the first line after an interruption.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Import profiles from JSON Lines (.gz too); rejects go to FILE.rejects.jsonl.

    An interrupted import of the same file goes on where it stopped.
    """

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            return await _import(opened, file, dry_run=dry_run, restart=restart)

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
            with nullcontext(sys.stdout.buffer) if output is None else output.open("wb") as target:
                return await _write_lines(target, lines)

    count = run(work(), as_json=json)
    if not json:
        err().print(f"{count} profiles")


@app.command()
def get(
    profile_id: Annotated[str, typer.Argument(metavar="ID")], *, json: JsonOption = False
) -> None:
    """Show one profile as it is stored."""

    async def work() -> Mapping[str, Any]:
        async with opened_backend() as opened:
            document = await _stored(opened.backend.documents, profile_id)
        if document is None:
            raise CommandFailed("no profile has this id")
        return {"profile_id": document.path.partition("/")[2], **document.fields}

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: out.print(json_text(answer), markup=False))


@app.command()
def put(
    profile_id: Annotated[str, typer.Argument(metavar="ID")],
    file: FileArgument,
    *,
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
                {**raw, "profile_id": profile_id}, IdentitySettings(), opened.keyring
            )
            result = await import_profiles(
                opened.backend.documents,
                [(1, line)],
                now=opened.backend.clock(),
                deadline=Deadline.after(_TIMEOUT_S),
                replace_attributes=True,
            )
        if result.rejections:
            raise CommandFailed(result.rejections[0].message)
        return {"profile_id": profile_id, **_document(result)}

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: out.print(_summary(answer), markup=False))


async def _import(opened: Opened, file: Path, *, dry_run: bool, restart: bool) -> dict[str, Any]:
    progress = _Progress(file, opened)
    done = 0 if restart or dry_run else progress.lines_done()
    rejects = RejectsFile(None if dry_run else file, keep=done > 0)
    whole = ImportResult()
    total = count_lines(file)
    with progress_bar("profiles", total) as advance:
        advance(done)
        for batch in in_batches(_parsed(file, done, opened, rejects)):
            result = await import_profiles(
                opened.backend.documents,
                batch,
                now=opened.backend.clock(),
                deadline=Deadline.after(_TIMEOUT_S),
                dry_run=dry_run,
            )
            whole.add(result)
            for rejection in result.rejections:
                rejects.add(rejection.line, asdict(rejection))
            advance(batch[-1][0] - done)
            done = batch[-1][0]
            rejects.write(up_to_line=done)
            if not dry_run:
                progress.save(done)
        rejects.write(up_to_line=total)
        advance(total - done)
    if not dry_run:
        progress.clear()
    return _document(whole) | rejects.summary() | {"dry_run": dry_run, "lines": total}


def _parsed(
    file: Path, done: int, opened: Opened, rejects: RejectsFile
) -> Iterator[tuple[int, ProfileLine]]:
    """Yield the lines that are good; the others go to the rejects."""
    settings = IdentitySettings()
    for number, raw in read_lines(file):
        if number <= done:
            continue
        rejects.hold(number, raw)
        if isinstance(raw, BadLine):
            rejects.add(number, {"line": number, "code": raw.code, "message": raw.message})
            continue
        try:
            yield number, parse_profile_line(raw, settings, opened.keyring)
        except InvalidInput as error:
            rejects.add(number, rejection_of(number, error))


async def _write_lines(target: BinaryIO, lines: AsyncIterator[Mapping[str, Any]]) -> int:
    count = 0
    async for line in lines:
        target.write(msgspec.json.encode(line) + b"\n")
        count += 1
    target.flush()
    return count


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
    prefix = "would be: " if answer.get("dry_run") else ""
    return prefix + ", ".join(parts)


class _Progress:
    """How far an import of this file into this store has come; a file beside the imported one."""

    def __init__(self, file: Path, opened: Opened) -> None:
        self._path = file.with_name(file.name + ".import")
        stat, settings = file.stat(), opened.settings
        identity = f"{stat.st_size} {stat.st_mtime_ns} {settings.backend} {settings.project}"
        if settings.backend == "local":
            identity += f" {settings.data_dir.resolve()}"
        self._of = hashlib.sha256(identity.encode()).hexdigest()

    def lines_done(self) -> int:
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str | int])
        except (FileNotFoundError, msgspec.MsgspecError):
            return 0
        return int(saved.get("lines_done", 0)) if saved.get("of") == self._of else 0

    def save(self, lines_done: int) -> None:
        draft = self._path.with_name(self._path.name + ".draft")
        draft.write_bytes(msgspec.json.encode({"of": self._of, "lines_done": lines_done}))
        draft.replace(self._path)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
