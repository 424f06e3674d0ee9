"""`tagstitch identity simulate`: what events would do to the graph, and nothing is written."""

from __future__ import annotations

import heapq
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from tagstitch.adapters.throw_away import Source, ThrownAway, throw_away
from tagstitch.cli.identity_diagram import mermaid
from tagstitch.cli.json_lines import count_lines
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.output import (
    CommandFailed,
    JsonOption,
    err,
    out,
    printable,
    progress_bar,
    run,
    write_json_parts,
)
from tagstitch.cli.rejects_file import RejectsFile, rejection_of
from tagstitch.cli.simulated_graph import GivenIdentifiers, SimulatedProfile, profiles_of
from tagstitch.cli.simulated_requests import read_requests
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.identity_settings import parse_identity_settings
from tagstitch.core.problems import Problems
from tagstitch.pipeline.simulate import Step, StepIdentifier

_SHOWN_MAX: Final = 50
"""Profiles that are printed at the end, those with the most identifiers."""
_DRAWN_MAX: Final = 100
"""Profiles of a diagram: Mermaid takes 500 edges by itself."""

_SIGNS: Final = {
    "linked": "+",
    "demoted": "≠",
    "apart": "≠",
    "blocked": "✗",
    "unasserted": "?",
    "held": "!",
}


def simulate(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    *,
    settings: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Identity settings, as TAGSTITCH_IDENTITY has them; else those.",
        ),
    ] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="Begin with copies of the stored profiles.")
    ] = False,
    diagram: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Draw the graph at the end (Mermaid)."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what each event of FILE would link, merge and keep apart, and who is who at the end.

    FILE holds JSON Lines (.gz too) of stitch requests, sGTM event data or rows of the GA4 export.
    Nothing is written to the store and nobody is called. Identifiers are shown as FILE has them:
    this output, and the diagram, are personal data.
    """
    rejected = run(
        _simulate(file, settings, diagram, from_store=from_store, json=json), as_json=json
    )
    if rejected:
        raise typer.Exit(1)


async def _simulate(
    file: Path, settings_file: Path | None, diagram: Path | None, *, from_store: bool, json: bool
) -> int:
    identity = None if settings_file is None else _read_settings(settings_file)
    async with AsyncExitStack() as stack:
        source = None
        if from_store:
            opened = await stack.enter_async_context(opened_backend())
            source = Source(opened.settings, opened.backend.documents)
        thrown_away = stack.enter_context(throw_away(identity=identity, source=source))
        spool: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        simulated = _Simulated(thrown_away, spool if json else None)
        await simulated.take(file)
        if diagram is not None:
            _write(diagram, await simulated.diagram())
        if json:
            await write_json_parts(simulated.document())
        else:
            await simulated.show(out())
        return simulated.rejects.count


def _read_settings(file: Path) -> IdentitySettings:
    try:
        raw = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise CommandFailed("--settings must hold one JSON object") from None
    problems = Problems()
    settings = parse_identity_settings(raw, problems)
    if problems.found:
        raise CommandFailed("--settings: " + "; ".join(map(str, problems.found)))
    return settings


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


class _Simulated:
    """A simulation as it goes on, and what is told of it."""

    def __init__(self, thrown_away: ThrownAway, spool: IO[bytes] | None) -> None:
        self._thrown_away = thrown_away
        self._spool = spool
        self._given = GivenIdentifiers(thrown_away.scratch, thrown_away.wiring.finder)
        self._outcomes: Counter[str] = Counter()
        self._without_identifier = 0
        self.rejects = RejectsFile(None)

    async def take(self, file: Path) -> None:
        """Simulate a file; without a spool each step is printed as it happens."""
        clock, identity = self._thrown_away.clock, self._thrown_away.wiring.identity
        requests = read_requests(file, self.rejects, identity, received_at=clock(), clock=clock)
        console = out()
        done = 0
        with progress_bar("events", count_lines(file)) as advance:
            for line, request in requests:
                self.rejects.release(line)
                advance(line - done)
                done = line
                if request is None:
                    self._without_identifier += 1
                    continue
                try:
                    step = await self._thrown_away.simulation.step(request)
                except InvalidInput as error:  # a dead letter, and the next request comes
                    self.rejects.add(line, rejection_of(line, error))
                    continue
                self._outcomes[step.outcome] += 1
                await self._given.add(request.identifiers)
                if self._spool is not None:
                    told = {"line": line, "event_id": request.event_id, **asdict(step)}
                    self._spool.write(msgspec.json.encode(told) + b"\n")
                else:
                    console.print(printable(_line(line, step)), markup=False)
        self.rejects.write(up_to_line=2**63)

    async def document(self) -> AsyncIterator[bytes]:
        """Yield the parts of the JSON document, so that a long file needs no memory."""
        yield b'{"steps":['
        for part in self._steps():
            yield part
        yield b'],"profiles":['
        separator = b""
        async for profile in self._profiles():
            yield separator + msgspec.json.encode(profile.to_json())
            separator = b","
        yield b'],"summary":' + msgspec.json.encode(await self._summary()) + b"}"

    async def show(self, console: Console) -> None:
        """Print who is who at the end, and the totals."""
        console.print()
        largest = await self._largest(_SHOWN_MAX)
        for profile in largest:
            merges = f", {profile.merges} merges" if profile.merges else ""
            console.print(f"{profile.profile_id}{merges}", markup=False)
            for mark, identifiers in (("", profile.identifiers), ("≠ ", profile.demoted)):
                for each in identifiers:
                    value = each["value"] or "(not in the file)"
                    console.print(printable(f"  {mark}{each['type']} {value}"), markup=False)
        summary = await self._summary()
        if summary["profiles"] > len(largest):
            console.print(f"and {summary['profiles'] - len(largest):,} more profiles")
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in summary["outcomes"].items())
        console.print(f"{summary['profiles']:,} profiles; {told or 'no events'}")
        if self._without_identifier:
            console.print(f"{self._without_identifier:,} events name nobody")
        for rejection in summary["rejections"]:
            err().print(
                printable(f"line {rejection['line']}: {rejection['message']}"), markup=False
            )

    async def diagram(self) -> str:
        """Return the graph as a diagram."""
        largest = await self._largest(_DRAWN_MAX)
        total = (await self._summary())["profiles"]
        return mermaid(largest, left_out=total - len(largest))

    def _steps(self) -> Iterator[bytes]:
        assert self._spool is not None  # noqa: S101 - only such a simulation has a document
        self._spool.seek(0)
        for number, line in enumerate(self._spool):
            yield (b"," if number else b"") + line.rstrip(b"\n")

    def _profiles(self) -> AsyncIterator[SimulatedProfile]:
        thrown_away = self._thrown_away
        return profiles_of(thrown_away.scratch, self._given, thrown_away.clock)

    async def _largest(self, count: int) -> list[SimulatedProfile]:
        largest: list[tuple[int, int, str, SimulatedProfile]] = []
        async for profile in self._profiles():
            size = len(profile.identifiers) + len(profile.demoted)
            item = (size, profile.merges, profile.profile_id, profile)
            if len(largest) < count:
                heapq.heappush(largest, item)
            else:
                heapq.heappushpop(largest, item)
        return [profile for *_, profile in sorted(largest, key=lambda item: item[:3], reverse=True)]

    async def _summary(self) -> dict[str, Any]:
        profiles = identifiers = 0
        async for profile in self._profiles():
            profiles += 1
            identifiers += len(profile.identifiers)
        rejects = self.rejects.summary()
        return {
            "outcomes": dict(self._outcomes.most_common()),
            "without_identifier": self._without_identifier,
            "profiles": profiles,
            "identifiers": identifiers,
            "rejected": rejects["rejected"],
            "rejections": rejects["rejections"],
        }


def _line(line: int, step: Step) -> str:
    named = "  ".join(map(_identifier, step.identifiers))
    merged = f"  merged: {', '.join(step.merged)}" if step.merged else ""
    home = f" → {step.profile_id}" if step.profile_id else ""
    reason = f" ({step.reason})" if step.outcome in ("unknown", "suppressed", "repeated") else ""
    return f"{line:>6}  {step.outcome:<9}  {named}{home}{merged}{reason}"


def _identifier(given: StepIdentifier) -> str:
    why = f" ({given.demoted_for})" if given.demoted_for and given.part == "demoted" else ""
    return f"{_SIGNS.get(given.part, '')}{given.type} {given.value}{why}"
