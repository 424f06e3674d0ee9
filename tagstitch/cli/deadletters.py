"""`tagstitch deadletters`: messages that could not be processed, and what to do with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.pipeline.backend import Document
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.record_dead_letter import open_payload
from tagstitch.pipeline.replay_dead_letter import plan_replay, replay_dead_letter

_TIMEOUT_S: Final = 30.0
_SEALED_FIELDS: Final = frozenset({"sealed", "parts"})
_TIME_FORMS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]

ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only with this code, such as missing_field.")
]
TopicOption = Annotated[
    str | None, typer.Option("--topic", help="Only of this topic, such as stitch-requests.")
]
SinceOption = Annotated[
    datetime | None,
    typer.Option("--since", formats=_TIME_FORMS, help="Only what failed then or later (UTC)."),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option("--until", formats=_TIME_FORMS, help="Only what failed before (UTC)."),
]

app = typer.Typer(help="Messages that could not be processed.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which dead letters are meant."""

    reason: str | None
    topic: str | None
    since: datetime | None
    until: datetime | None

    @property
    def is_empty(self) -> bool:
        return self == _Filter(None, None, None, None)

    def takes(self, letter: Mapping[str, Any]) -> bool:
        if self.reason is not None and letter["code"] != self.reason:
            return False
        if self.topic is not None and letter["topic"] != self.topic:
            return False
        if self.since is None and self.until is None:
            return True
        failed_at = _time(letter["failed_at"])
        is_since = self.since is None or failed_at >= self.since.replace(tzinfo=UTC)
        return is_since and (self.until is None or failed_at < self.until.replace(tzinfo=UTC))


@app.command("list")
def list_(
    *,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest ones.")] = 100,
    json: JsonOption = False,
) -> None:
    """List dead letters, the newest first."""
    wanted = _Filter(reason, topic, since, until)

    async def work() -> list[dict[str, Any]]:
        async with opened_backend() as opened:
            letters = await _letters(opened, wanted)
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
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]")] = None,
    *,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="With a filter: also those replayed before.")
    ] = False,
    even_if_done: Annotated[
        bool,
        typer.Option("--even-if-done", help="Also actions that may have been done already."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be published, and what not.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Publish the messages of dead letters again, after their cause was mended.

    Those that are named, or those of the filters that were not replayed yet, the oldest first.
    """
    wanted = _Filter(reason, topic, since, until)
    named = tuple(dict.fromkeys(letter_ids or ()))
    if bool(named) == (not wanted.is_empty):
        raise typer.BadParameter("give ids, or --reason, --topic, --since or --until")

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            chosen = named or await _chosen(opened, wanted, again=again)
            return await _replay(opened, chosen, even_if_done=even_if_done, dry_run=dry_run)

    answer = run(work(), as_json=json)
    for letter_id, why in answer["failed"].items():
        err().print(printable(f"{letter_id}: {why}"), style="red", markup=False)
    done = "would be published again" if dry_run else "published again"
    emit(
        answer,
        as_json=json,
        show=lambda out: out.print(f"{len(answer['replayed'])} messages {done}"),
    )
    if answer["failed"]:
        raise typer.Exit(1)


async def _letters(opened: Opened, wanted: _Filter) -> list[dict[str, Any]]:
    """Return the dead letters that are wanted, the oldest first."""
    found = await list_all(
        opened.backend.documents, "dead_letters", deadline=Deadline.after(_TIMEOUT_S)
    )
    letters = [letter for letter in map(_listed, found) if wanted.takes(letter)]
    return sorted(letters, key=lambda letter: _time(letter["failed_at"]))


async def _chosen(opened: Opened, wanted: _Filter, *, again: bool) -> Sequence[str]:
    letters = await _letters(opened, wanted)
    return [each["dead_letter_id"] for each in letters if again or each["replayed_at"] is None]


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


async def _replay(
    opened: Opened, letter_ids: Sequence[str], *, even_if_done: bool, dry_run: bool
) -> dict[str, Any]:
    """Replay each, whatever becomes of the others."""
    replayed, failed = [], {}
    with progress_bar("dead letters", len(letter_ids)) as advance:
        for letter_id in letter_ids:
            try:
                topic = await _replay_one(
                    opened, letter_id, even_if_done=even_if_done, dry_run=dry_run
                )
                replayed.append({"dead_letter_id": letter_id, "topic": topic})
            except InvalidInput as error:
                failed[letter_id] = error.message
            except Conflict:
                failed[letter_id] = "it is being worked on at this moment: replay it again"
            except Unavailable as error:
                failed[letter_id] = f"{error}: replay it again"
            advance(1)
    return {"replayed": replayed, "failed": failed, "dry_run": dry_run}


async def _replay_one(opened: Opened, letter_id: str, *, even_if_done: bool, dry_run: bool) -> str:
    backend, keyring, deadline = opened.backend, opened.keyring, Deadline.after(_TIMEOUT_S)
    if dry_run:
        planned = await plan_replay(
            backend, keyring, letter_id, deadline=deadline, even_if_done=even_if_done
        )
        return planned.topic
    return await replay_dead_letter(
        backend, keyring, letter_id, deadline=deadline, even_if_done=even_if_done
    )


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


def _time(text: str) -> datetime:
    """Return when a letter failed; the beginning of time where nobody can say."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
