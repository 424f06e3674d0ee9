"""`tagstitch decisions`: recorded decisions, made once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from tagstitch.cli.opened_backend import Opened, opened_backend
from tagstitch.cli.output import (
    JsonOption,
    emit,
    json_text,
    printable,
    progress_bar,
    run,
    table_of,
)
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.replay_decisions import (
    DecisionReplayer,
    RecordedDecision,
    Replay,
    find_decisions,
    latest_decisions,
    load_rule_book_of_version,
)

_QUERY_TIMEOUT_S = 120.0
_REPLAY_TIMEOUT_S = 60.0
"""Seconds for one decision: the first of a version loads its rule book."""

LIMIT_DEFAULT = 1_000

app = typer.Typer(help="Recorded decisions.", no_args_is_help=True)


@app.callback()
def decisions() -> None:
    """Keep `replay` a word of its own while it is the only command."""


@app.command()
def replay(
    decision_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="As decide and the audit name them."),
    ] = None,
    *,
    last: Annotated[
        int | None,
        typer.Option(min=1, max=24 * 400, help="Instead: every replayable one of the last hours."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="With --last: the newest so many.")
    ] = LIMIT_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Decide again from receipts and the rules of that time, and compare byte by byte.

    Fails when a decision comes out differently, or cannot be read: its visitor was erased, it has
    no receipt, or its rule book is not kept.
    """  # fmt: skip
    if bool(decision_ids) == (last is not None):
        raise typer.BadParameter("give ids of decisions, or --last HOURS")

    async def work() -> list[Replay]:
        async with opened_backend() as opened:
            recorded = await _recorded(opened, decision_ids or [], last, limit)
            replays = await _replay(opened, recorded)
        found = {each.decision_id for each in replays}
        missing = [each for each in dict.fromkeys(decision_ids or []) if each not in found]
        return replays + [
            Replay(each, None, "unreadable", problem="the audit has no receipt of this decision")
            for each in missing
        ]

    replays = run(work(), as_json=json)
    document = _document(replays)
    emit(document, as_json=json, show=lambda out: _show(out, document))
    if document["identical"] != len(replays):
        raise typer.Exit(1)


async def _recorded(
    opened: Opened, decision_ids: Sequence[str], last: int | None, limit: int
) -> list[RecordedDecision]:
    queries, deadline = opened.backend.audit_queries, Deadline.after(_QUERY_TIMEOUT_S)
    if last is None:
        return await find_decisions(queries, decision_ids, deadline=deadline)
    return await latest_decisions(queries, hours=last, limit=limit, deadline=deadline)


async def _replay(opened: Opened, recorded: Sequence[RecordedDecision]) -> list[Replay]:
    documents = opened.backend.documents
    replayer = DecisionReplayer(documents, opened.keyring, load_rule_book_of_version(documents))
    replays = []
    with progress_bar("decisions", len(recorded)) as advance:
        for each in recorded:
            replays.append(await replayer.replay(each, deadline=Deadline.after(_REPLAY_TIMEOUT_S)))
            advance(1)
    return replays


def _document(replays: Sequence[Replay]) -> dict[str, Any]:
    counts = {
        outcome: sum(replay.outcome == outcome for replay in replays)
        for outcome in ("identical", "different", "unreadable")
    }
    return {**counts, "decisions": [replay.to_json() for replay in replays]}


def _show(out: Console, document: Mapping[str, Any]) -> None:
    found = document["decisions"]
    if len(found) == 1 and found[0]["decision"] is not None:
        out.print(f"{found[0]['decision_id']}: {found[0]['outcome']}", markup=False)
        out.print(printable(f"rules {found[0]['rules_version']}"), markup=False)
        out.print(json_text(found[0]["decision"]), markup=False)
        return
    told = [each for each in found if each["outcome"] != "identical"] if len(found) > 20 else found
    if told:
        out.print(table_of(told, ("decision_id", "outcome", "problem")), markup=False)
    counts = (f"{document[word]} {word}" for word in ("identical", "different", "unreadable"))
    out.print(", ".join(counts), markup=False)
