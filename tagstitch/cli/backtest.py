"""`tagstitch rules backtest`: what other rules would have done with the same events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tagstitch.cli.json_lines import BadLine, count_lines, read_lines
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
from tagstitch.cli.rejects_file import RejectsFile
from tagstitch.cli.replay_events import read_events
from tagstitch.cli.rule_files import RuleFilesError, read_rule_files
from tagstitch.core.backtest import Backtest, unseen_paths
from tagstitch.core.decision import decide
from tagstitch.core.errors import InvalidInput
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backtest_situations import SituationMaker
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.replay_decisions import (
    DecisionReplayer,
    latest_decisions,
    load_rule_book_of_version,
)
from tagstitch.pipeline.rule_publication import load_bundle, load_pointer

_TIMEOUT_S = 120.0
_RECEIPTS_MAX = 100_000
"""Decisions of one backtest: about a gigabyte of receipts at most."""

_RULES_SHOWN_MAX = 40


class FailOn(StrEnum):
    """What the new rules may not do."""

    change = "change"
    drop = "drop"


def backtest(
    new_rules: Annotated[Path, typer.Argument(exists=True, help="Files of the whole new set.")],
    *,
    events: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON Lines of events or export rows, .gz too."
        ),
    ] = None,
    profiles: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="With --events: lines of a profile export."),
    ] = None,
    receipts: Annotated[
        int | None,
        typer.Option(
            min=1, max=24 * 400, help="Instead of events: the recorded decisions of the last hours."
        ),
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option(exists=True, help="Compare with these files, not what is published."),
    ] = None,
    max_changed: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Fail when more percent of the events change."),
    ] = None,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(help="Fail on any change, or on any event that is newly dropped."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare what the published rules and NEW_RULES do with the same events.

    Each event stands alone, at its own time: it sees no state that an earlier one would have left.
    """  # fmt: skip
    if bool(events) == (receipts is not None):
        raise typer.BadParameter("give --events FILE, or --receipts HOURS")
    if receipts is not None and (old or profiles):
        raise typer.BadParameter("recorded decisions have their own rules and profiles")

    async def work() -> dict[str, Any]:
        new = _book_of(_read(new_rules))
        async with opened_backend() as opened:
            if receipts is not None:
                return await _with_receipts(opened, new, receipts)
            old_book = _book_of(_read(old)) if old else await _published(opened)
            return _with_events(opened, old_book, new, events or [], profiles or [])

    document = run(work(), as_json=json)
    failures = _failures(document, max_changed, fail_on or ())
    document |= {"ok": not failures, "failures": failures}
    emit(document, as_json=json, show=lambda out: _show(out, document))
    if failures:
        raise typer.Exit(1)


def _read(path: Path) -> RuleDefinitions:
    try:
        return read_rule_files(path)
    except RuleFilesError as error:
        raise CommandFailed("\n".join(f"{p.file}: {p.message}" for p in error.problems)) from error


def _book_of(definitions: RuleDefinitions) -> RuleBook:
    book = compile_rule_book(definitions)
    if book.broken:
        ids = ", ".join(broken.rule_id for broken in book.broken[:10])
        raise CommandFailed(f"broken rules, see tagstitch rules validate: {ids}")
    return book


async def _published(opened: Opened) -> RuleBook:
    deadline = Deadline.after(_TIMEOUT_S)
    pointer = await load_pointer(opened.backend.documents, deadline)
    if pointer is None:
        raise CommandFailed("no rules are published; --old PATH compares with files")
    definitions = await load_bundle(opened.backend.documents, pointer, deadline)
    return compile_rule_book(definitions)


def _with_events(
    opened: Opened,
    old: RuleBook,
    new: RuleBook,
    events: Sequence[Path],
    profiles: Sequence[Path],
) -> dict[str, Any]:
    maker = SituationMaker(
        opened.keyring,
        opened.settings.identity,
        consent_default_granted=opened.settings.consent_default == "granted",
    )
    rejected = sum(_add_profiles(maker, file) for file in profiles)
    test = Backtest(frozenset(opened.settings.audit_parameters))
    with progress_bar("events", sum(map(count_lines, events))) as advance:
        for file in events:
            rejects = RejectsFile(None)
            for event in read_events(file, rejects, opened.settings.identity):
                rejects.release(event.line)
                at = event.occurred_at or opened.backend.clock()
                situation = maker.situation(event.parameters, at=at)
                index = event.line if len(events) == 1 else f"{file.name}:{event.line}"
                test.add(index, situation.event, decide(situation, old), decide(situation, new))
                advance(1)
            rejected += rejects.count
    versions = {"old_version": old.version, "new_version": new.version}
    return {**versions, **test.to_json(), "rejected_lines": rejected, "unseen_paths": []}


def _add_profiles(maker: SituationMaker, file: Path) -> int:
    """Read profiles; return how many lines could not be."""
    rejected = 0
    for _, line in read_lines(file):
        if isinstance(line, BadLine):
            rejected += 1
            continue
        try:
            maker.add_profile(line)
        except InvalidInput:
            rejected += 1
    return rejected


async def _with_receipts(opened: Opened, new: RuleBook, hours: int) -> dict[str, Any]:
    """Compare with what each decision's own version decided, by what its receipt holds."""
    backend = opened.backend
    recorded = await latest_decisions(
        backend.audit_queries, hours=hours, limit=_RECEIPTS_MAX, deadline=Deadline.after(_TIMEOUT_S)
    )
    documents = backend.documents
    replayer = DecisionReplayer(documents, opened.keyring, load_rule_book_of_version(documents))
    test = Backtest(frozenset(opened.settings.audit_parameters))
    unreadable = 0
    unseen: dict[tuple[str, str], frozenset[str]] = {}
    with progress_bar("decisions", len(recorded)) as advance:
        for each in recorded:
            advance(1)
            deadline = Deadline.after(_TIMEOUT_S)
            try:
                receipt = await replayer.open(each, deadline=deadline)
                old = await replayer.rule_book_of(each, deadline=deadline)
            except InvalidInput:
                unreadable += 1
                continue
            event = receipt.situation().event
            test.add(each.decision_id, event, receipt.replay(old), receipt.replay(new))
            if (old.version, event.name) not in unseen:
                unseen[old.version, event.name] = unseen_paths(old, new, event.name)
    return {
        "old_version": None,
        "new_version": new.version,
        **test.to_json(),
        "unreadable": unreadable,
        "unseen_paths": sorted(frozenset().union(*unseen.values())),
    }


def _failures(
    document: Mapping[str, Any], max_changed: float | None, fail_on: Sequence[FailOn]
) -> list[str]:
    failures = []
    if not document["events"] and (max_changed is not None or fail_on):
        failures.append("nothing was compared")
    if max_changed is not None and document["changed_percent"] > max_changed:
        failures.append(f"{document['changed_percent']:g} % changed, more than {max_changed:g} %")
    if FailOn.change in fail_on and document["changed"]:
        failures.append(f"{document['changed']} events changed")
    if FailOn.drop in fail_on and document["newly_dropped"]:
        failures.append(f"{document['newly_dropped']} events are newly dropped")
    return failures


def _show(out: Console, document: Mapping[str, Any]) -> None:
    out.print(
        f"{document['events']} events, {document['changed']} changed"
        f" ({document['changed_percent']:g} %), {document['newly_dropped']} newly dropped"
    )
    rows = [
        {"what": what, "name": name, **pair}
        for what in ("counts", "values", "actions")
        for name, pair in document[what].items()
    ]
    out.print(table_of(rows), markup=False)
    moved = [r for r in document["rules"] if r["only_before"] or r["only_after"]]
    if moved:
        out.print(table_of(moved[:_RULES_SHOWN_MAX]), markup=False)
    for example in document["examples"]:
        out.print(printable(json_text(example)), markup=False)
    for name in ("rejected_lines", "unreadable"):
        if document.get(name):
            err().print(f"{name.replace('_', ' ')}: {document[name]}")
    if document["unseen_paths"]:
        paths = ", ".join(document["unseen_paths"])
        err().print(printable(f"receipts may lack what the new rules use: {paths}"), markup=False)
    for failure in document["failures"]:
        err().print(failure, style="red")
