"""`tagstitch traits`: computed traits, from events of the past too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tagstitch.cli.backfill_run import BackfillRun
from tagstitch.cli.import_options import NoRampOption, RestartOption
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.output import JsonOption, emit, run
from tagstitch.core.fields import optional_time
from tagstitch.pipeline.backfill_traits import LeftOut

_WORDS: Final[Mapping[LeftOut, str]] = {
    "no_trait": "that no trait names",
    "no_identifier": "without an identifier",
    "denied": "whose visitor denied it",
    "later": "of the time that is counted live",
}

app = typer.Typer(help="Computed traits.", no_args_is_help=True)


@app.callback()
def _traits() -> None:
    """Keep `backfill` a command of its own: typer would run a lone one without its name."""


@app.command()
def backfill(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False)],
    *,
    trait: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Count for this trait alone; repeatable."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Leave out events from this time on: counted live."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be counted; write nothing.")
    ] = False,
    restart: RestartOption = False,
    no_ramp: NoRampOption = False,
    json: JsonOption = False,
) -> None:
    """Count the events of files for the traits of their visitors, as if they came now.

    A FILE holds JSON Lines (.gz too) of sGTM event data or rows of the GA4 BigQuery export.
    Rejects go to FILE.rejects.jsonl. An interrupted backfill of the same file goes on where it
    stopped; an event that was counted before, also by a replay, is not counted again. With --trait
    the others stay as they are: for a new definition beside those that counted already.
    """

    async def work() -> dict[str, Any]:
        before = optional_time({"until": until}, "until")
        async with opened_backend() as opened:
            backfill_run = await BackfillRun.begin(
                opened,
                frozenset(trait or ()),
                before,
                is_dry=dry_run,
                is_ramped=not no_ramp,
            )
            return await backfill_run.files(files, restart=restart)

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: _show(out, answer))
    if answer["rejected"]:
        raise typer.Exit(1)


def _show(out: Console, answer: Mapping[str, Any]) -> None:
    would = "would be " if answer["dry_run"] else ""
    out.print(f"{answer['events']} events {would}counted:", markup=False)
    for name, number in answer["traits"].items():
        out.print(f"  {name}: {number}", markup=False)
    for reason, words in _WORDS.items():
        if answer["left_out"][reason]:
            out.print(f"{answer['left_out'][reason]} events {words}", markup=False)
    if answer["rejected"]:
        where = ", ".join(answer["rejects_files"]) or "--json"
        out.print(f"{answer['rejected']} lines rejected, see {where}", markup=False)
    if not answer["dry_run"]:
        out.print(
            f"{answer['changed']} events changed their visitor's profile; the others were counted"
            " before, or change no value",
            markup=False,
        )
        out.print(f"{answer['events_per_second']} events/s, {answer['seconds']} s", markup=False)
