"""`tagstitch demo`: the main job end to end on a local stack of its own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import typer
from rich.console import Console, Group
from rich.json import JSON
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from tagstitch.adapters.settings import environment_with
from tagstitch.cli import demo_steps
from tagstitch.cli.demo_steps import Step
from tagstitch.cli.output import CommandFailed, JsonOption, err, out, run, write_json
from tagstitch.cli.started_stack import log_end, started_stack

_REQUEST_TIMEOUT_S = 10.0
_QUERY_TIMEOUT_S = 30.0

_RECORDS = 12
"""Audit records that the demo leaves: one of the link, one of its callback, five decisions, and five
of events that traits count, of which three made a profile."""

_AUDIT_SQL = """
SELECT record_type, event_name, outcome, rule_ids, request_id FROM audit_deduplicated
ORDER BY record_type, outcome
"""


def demo(*, json: JsonOption = False) -> None:
    """Walk through the main job on a local stack of its own; fails when an answer is wrong."""
    steps = run(_demo(None if json else out()), as_json=json)
    wrong = [step for step in steps if step.problems]
    if json:
        write_json({"ok": not wrong, "steps": [_document(step) for step in steps]})
    elif wrong:
        err().print(f"{len(wrong)} of {len(steps)} answers are wrong", style="red")
    else:
        out().print(f"[green]✓[/green] all {len(steps)} answers are right")
    if wrong:
        raise typer.Exit(1)


async def _demo(console: Console | None) -> list[Step]:
    steps = []
    with tempfile.TemporaryDirectory(prefix="tagstitch-demo-") as folder:
        data_dir, log = Path(folder) / "data", Path(folder) / "log"
        environment = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_AUTH": "none"}
        try:
            async with started_stack(data_dir=data_dir, log=log, environment=environment) as url:
                async for step in _walk(url, data_dir):
                    steps.append(step)
                    if console is not None:
                        _show(console, step)
        except (CommandFailed, httpx.HTTPError, ValueError) as error:
            err().print(log_end(log), markup=False)
            message = str(error) or type(error).__name__
            raise CommandFailed(f"the demo stopped after {len(steps)} steps: {message}") from error
        if any(step.problems for step in steps):
            err().print(log_end(log), markup=False)
    return steps


async def _walk(url: str, data_dir: Path) -> AsyncIterator[Step]:
    async with httpx.AsyncClient(
        base_url=url, timeout=_REQUEST_TIMEOUT_S, trust_env=False
    ) as client:
        yield await demo_steps.known_visitor(client)
        yield await demo_steps.unknown_visitor(client)
        yield await demo_steps.accepted_request(client)
        yield await demo_steps.signed_callback(client)
        yield await demo_steps.linked_visitor(client)
        for step in await demo_steps.event_decisions(client):
            yield step
        yield await demo_steps.personalization_decision(client)
        yield await demo_steps.computed_traits(client)
        await demo_steps.audit_has(client, _RECORDS)
        yield await _audit_step(data_dir)


async def _audit_step(data_dir: Path) -> Step:
    """Ask the audit table in another process, as an analyst would."""
    overrides = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tagstitch.cli", "audit", "query", _AUDIT_SQL, "--json",
        stdout=PIPE,
        env=environment_with(overrides=overrides),
    )  # fmt: skip
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), _QUERY_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        raise CommandFailed("the audit query took too long") from None
    rows: Any = msgspec.json.decode(printed)
    return Step(
        "audit: every record that the demo left",
        "tagstitch audit query " + '"' + " ".join(_AUDIT_SQL.split()) + '"',
        None,
        rows,
        {
            "0.record_type": "callback_delivery",
            "0.outcome": "delivered",
            "1.outcome": "dropped",
            "2.outcome": "modified",
            "5.record_type": "identity_link",
            "5.outcome": "created",
            "8.record_type": "identity_link",
            "8.outcome": "linked",
            "9.record_type": "personalization_decision",
            "9.rule_ids": ["discount_electronics_items_gold_tier"],
            "10.record_type": "profile_update",
            "10.outcome": "updated",
        },
    )


def _show(console: Console, step: Step) -> None:
    parts: list[Any] = [Text(step.request, style="bold")]
    if step.sent is not None:
        parts.append(_json(step.sent))
    parts.append(Text("answer", style="dim"))
    parts.append(_table(step.answer) if isinstance(step.answer, list) else _json(step.answer))
    mark = "[red]✗[/red]" if step.problems else "[green]✓[/green]"
    parts += [Text(problem, style="red") for problem in step.problems]
    console.print(Panel(Group(*parts), title=f"{mark} {step.title}", title_align="left"))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*(Column(name, overflow="fold") for name in (rows[0] if rows else ())), box=None)
    for row in rows:
        shown = (", ".join(v) if isinstance(v, list) else v for v in row.values())
        table.add_row(*("" if value is None else str(value) for value in shown))
    return table


def _json(value: Any) -> Text:
    text = JSON(msgspec.json.encode(value).decode(), indent=None).text
    text.no_wrap, text.overflow = False, "fold"
    return text


def _document(step: Step) -> dict[str, Any]:
    return {
        "title": step.title,
        "ok": not step.problems,
        "problems": step.problems,
        "request": step.request,
        "sent": step.sent,
        "answer": step.answer,
    }
