"""`tagstitch deadletters`: messages that could not be processed, and what to do with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from tagstitch.cli.opened_backend import Opened, opened_backend
from tagstitch.cli.output import (
    CommandFailed,
    JsonOption,
    emit,
    err,
    json_text,
    printable,
    progress_bar,
    run,
    table_of,
)
from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.backend import Document
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.record_dead_letter import open_payload
from tagstitch.pipeline.replay_dead_letter import replay_dead_letter

_TIMEOUT_S: Final = 30.0
_SEALED_FIELDS: Final = frozenset({"sealed", "parts"})

app = typer.Typer(help="Messages that could not be processed.", no_args_is_help=True)


@app.command("list")
def list_(
    *,
    limit: Annotated[int, typer.Option(min=1, help="The newest ones.")] = 100,
    json: JsonOption = False,
) -> None:
    """List dead letters, the newest first."""

    async def work() -> list[dict[str, Any]]:
        async with opened_backend() as opened:
            found = await list_all(
                opened.backend.documents, "dead_letters", deadline=Deadline.after(_TIMEOUT_S)
            )
        letters = sorted(map(_listed, found), key=lambda letter: letter["failed_at"])
        return letters[::-1][:limit]

    letters = run(work(), as_json=json)
    emit(
        letters,
        as_json=json,
        show=lambda out: out.print(table_of(letters) if letters else "no dead letters"),
    )


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    payload: Annotated[
        bool, typer.Option("--payload", help="The message itself too; it may name a person.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show one dead letter."""

    async def work() -> Mapping[str, Any]:
        async with opened_backend() as opened:
            return await _stored_letter(opened, letter_id, payload=payload)

    letter = run(work(), as_json=json)
    emit(letter, as_json=json, show=lambda out: out.print(json_text(letter), markup=False))


@app.command()
def replay(
    letter_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    *,
    even_if_done: Annotated[
        bool,
        typer.Option("--even-if-done", help="Also actions that may have been done already."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Publish the messages of dead letters again, after their cause was mended."""

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            return await _replay(opened, letter_ids, even_if_done=even_if_done)

    answer = run(work(), as_json=json)
    for letter_id, reason in answer["failed"].items():
        err().print(printable(f"{letter_id}: {reason}"), style="red", markup=False)
    emit(
        answer,
        as_json=json,
        show=lambda out: out.print(f"{len(answer['replayed'])} messages published again"),
    )
    if answer["failed"]:
        raise typer.Exit(1)


async def _stored_letter(opened: Opened, letter_id: str, *, payload: bool) -> Mapping[str, Any]:
    deadline = Deadline.after(_TIMEOUT_S)
    document = None
    if "/" not in letter_id:
        path = f"dead_letters/{letter_id}"
        document = await opened.backend.documents.get(path, deadline=deadline)
    if document is None:
        raise CommandFailed("no dead letter has this id")
    letter = {k: v for k, v in document.fields.items() if k not in _SEALED_FIELDS}
    if payload:
        content = await open_payload(opened.backend, opened.keyring, letter_id, deadline=deadline)
        letter["payload"] = (content or b"").decode(errors="replace")
    return letter


async def _replay(opened: Opened, letter_ids: list[str], *, even_if_done: bool) -> dict[str, Any]:
    replayed, failed = [], {}
    with progress_bar("dead letters", len(letter_ids)) as advance:
        for letter_id in letter_ids:
            deadline = Deadline.after(_TIMEOUT_S)
            try:
                topic = await replay_dead_letter(
                    opened.backend,
                    opened.keyring,
                    letter_id,
                    deadline=deadline,
                    even_if_done=even_if_done,
                )
                replayed.append({"dead_letter_id": letter_id, "topic": topic})
            except InvalidInput as error:
                failed[letter_id] = error.message
            advance(1)
    return {"replayed": replayed, "failed": failed}


def _listed(document: Document) -> dict[str, Any]:
    fields = document.fields
    reason, source = fields.get("reason") or {}, fields.get("source") or {}
    return {
        "dead_letter_id": document.path.partition("/")[2],
        "failed_at": str(fields.get("failed_at") or ""),
        "topic": source.get("topic"),
        "code": reason.get("code"),
        "message": reason.get("message"),
        "path": reason.get("path"),
        "request_id": fields.get("request_id"),
        "replayed_at": fields.get("replayed_at"),
    }
