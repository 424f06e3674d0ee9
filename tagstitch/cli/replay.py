"""`tagstitch replay`: recorded events through decide and stitching, as a container sends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from tagstitch.adapters.settings import read_identity_settings
from tagstitch.cli.json_lines import count_lines
from tagstitch.cli.opened_backend import command_settings
from tagstitch.cli.output import CommandFailed, JsonOption, emit, err, progress_bar, run
from tagstitch.cli.rejects_file import RejectsFile
from tagstitch.cli.replay_events import ReplayEvent, read_events
from tagstitch.cli.replay_tally import ReplayTally, show_tally
from tagstitch.cli.started_stack import started_stack
from tagstitch.core.limits import DEADLINE_MS_MAX

CONCURRENCY = 16
"""Events under way at once."""

_REQUEST_TIMEOUT_S = 15.0
_ATTEMPTS_MAX = 5
"""Tries of a request that is answered 429 or 503, or not at all."""
_RETRY_S_MAX = 2.0
_RETRIED = frozenset({429, 503})

_DRAIN_TIMEOUT_S = 300.0
_DRAIN_POLL_S = 0.2
_DRAIN_QUIET_S = 1.5
"""Seconds without a new audit record after which the queue counts as drained."""


class ConsentDefault(StrEnum):
    """What holds for a visitor whose event says nothing about consent."""

    granted = "granted"
    denied = "denied"


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False)],
    *,
    url: Annotated[
        str | None,
        typer.Option(
            help="A running local stack; without it one runs on TAGSTITCH_DATA_DIR meanwhile."
        ),
    ] = None,
    consent_default: Annotated[
        ConsentDefault | None,
        typer.Option(help="Consent of events that say nothing; not together with --url."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Send each event to decide and to stitching, and show what became of them.

    A FILE holds JSON Lines (.gz too) of sGTM event data or rows of the GA4 BigQuery export.
    Rejects go to FILE.rejects.jsonl.
    """
    if url is not None and consent_default is not None:
        raise typer.BadParameter("a running stack has its own consent default: restart that one")
    document = run(_replay(files, url, consent_default), as_json=json)
    emit(document, as_json=json, show=lambda out: show_tally(out, document))
    if document["failed"] or document["rejected"]:
        raise typer.Exit(1)


async def _replay(
    files: Sequence[Path], url: str | None, consent_default: ConsentDefault | None
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        if url is None:
            environment = (
                {"TAGSTITCH_CONSENT_DEFAULT": consent_default.value} if consent_default else {}
            )
            data_dir = command_settings().data_dir
            log = data_dir / "replay.log"
            err().print(f"starting a local stack on {data_dir}, its log in {log}", markup=False)
            url = await stack.enter_async_context(
                started_stack(data_dir=data_dir, log=log, environment=environment)
            )
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url.rstrip("/"),
                timeout=_REQUEST_TIMEOUT_S,
                limits=httpx.Limits(max_connections=2 * CONCURRENCY),
                trust_env=False,
            )
        )
        return await _replay_files(client, files)


async def _replay_files(client: httpx.AsyncClient, files: Sequence[Path]) -> dict[str, Any]:
    tally, identity = ReplayTally(), read_identity_settings()
    rejected: dict[str, Any] = {"rejected": 0, "rejections": [], "rejects_files": []}
    with progress_bar("events", sum(count_lines(file) for file in files)) as advance:
        for file in files:
            rejects = RejectsFile(file)
            events = read_events(file, rejects, identity)
            await _replay_file(client, events, tally, rejects, advance)
            rejects.write(up_to_line=2**63)
            summary = rejects.summary()
            rejected["rejected"] += summary["rejected"]
            rejected["rejections"] += summary["rejections"]
            if summary["rejects_file"]:
                rejected["rejects_files"].append(summary["rejects_file"])
    err().print("waiting until the queue is empty")
    if await _drained(client, tally):
        await _count_profiles(client, tally)
    return tally.to_document() | rejected


async def _replay_file(
    client: httpx.AsyncClient,
    events: Iterator[ReplayEvent],
    tally: ReplayTally,
    rejects: RejectsFile,
    advance: Callable[[int], None],
) -> None:
    """Send the events of a file; each worker takes the next one, so the order is nearly kept."""

    async def worker() -> None:
        for event in events:
            await _send(client, event, tally, rejects)
            rejects.release(event.line)
            advance(1)

    started = time.monotonic()
    await _in_parallel(worker)
    tally.seconds += time.monotonic() - started


async def _in_parallel(worker: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the worker CONCURRENCY times at once; the first failure ends them all."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures


async def _send(
    client: httpx.AsyncClient, event: ReplayEvent, tally: ReplayTally, rejects: RejectsFile
) -> None:
    decide = {
        "event": event.parameters,
        "include": ["event", "personalization"],
        "request_id": event.event_id,
        "deadline_ms": DEADLINE_MS_MAX,  # nobody waits: a busy machine must not change a decision
    }
    answer = await _post(client, "/decide/decide", decide, tally.decide_ms.append)
    if answer.status_code == httpx.codes.OK:
        tally.count_decision(answer.json())
    else:
        _count_failure("decide", event, answer, tally, rejects)
        return
    if not event.identifiers:
        tally.without_identifier += 1
        return
    answer = await _post(client, "/stitch_sync", _stitch_request(event), tally.stitch_ms.append)
    if answer.status_code == httpx.codes.ACCEPTED:
        tally.sent_to_stitching += 1
        strongest = event.identifiers[0]
        tally.visitors.add((strongest["type"], strongest["value"]))
    else:
        _count_failure("stitch_sync", event, answer, tally, rejects)


def _stitch_request(event: ReplayEvent) -> dict[str, Any]:
    request: dict[str, Any] = {
        "mode": "async",
        "identifiers": list(event.identifiers),
        "event": event.parameters,
        "event_id": event.event_id,
        "request_id": event.event_id,
    }
    if event.occurred_at is not None:
        request["occurred_at"] = event.occurred_at.isoformat()
    return request


async def _post(
    client: httpx.AsyncClient, path: str, body: Mapping[str, Any], record: Callable[[float], None]
) -> httpx.Response:
    """Return the answer; one that asks to come again, or none at all, is tried again."""
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        started = time.monotonic()
        try:
            answer = await client.post(path, json=body)
        except httpx.TransportError as error:
            if attempt == _ATTEMPTS_MAX:
                raise CommandFailed(
                    f"{client.base_url} does not answer: {type(error).__name__}"
                ) from error
            await asyncio.sleep(min(0.1 * 2**attempt, _RETRY_S_MAX))
            continue
        record((time.monotonic() - started) * 1000)
        if answer.status_code not in _RETRIED or attempt == _ATTEMPTS_MAX:
            break
        await asyncio.sleep(min(0.1 * 2**attempt, _RETRY_S_MAX))
    return answer


def _count_failure(
    function: str,
    event: ReplayEvent,
    answer: httpx.Response,
    tally: ReplayTally,
    rejects: RejectsFile,
) -> None:
    tally.failed += 1
    tally.errors[f"{function} {answer.status_code}"] += 1
    error: Mapping[str, Any] = {}
    if answer.headers.get("content-type", "").startswith("application/json"):
        error = answer.json().get("error") or {}
    rejects.add(
        event.line,
        {
            "line": event.line,
            "code": error.get("code", f"http_{answer.status_code}"),
            "message": f"{function}: {error.get('message', 'no reason given')}",
            "path": error.get("path"),
        },
    )


async def _drained(client: httpx.AsyncClient, tally: ReplayTally) -> bool:
    """Wait until a local stack's queue is empty; False when the stack is not a local one."""
    started = time.monotonic()
    last_count, quiet_since = -1, started
    while time.monotonic() - started < _DRAIN_TIMEOUT_S:
        answer = await client.get("/_local/audit", params={"limit": 1})
        if answer.status_code != httpx.codes.OK:
            err().print("not a local stack: its queue cannot be watched from here")
            return False
        count = answer.json()["count"]
        now = time.monotonic()
        if count != last_count:
            last_count, quiet_since = count, now
        elif now - quiet_since >= _DRAIN_QUIET_S:
            tally.drain_seconds = quiet_since - started
            return True
        await asyncio.sleep(_DRAIN_POLL_S)
    raise CommandFailed(f"the queue was not empty after {_DRAIN_TIMEOUT_S:.0f} s")


async def _count_profiles(client: httpx.AsyncClient, tally: ReplayTally) -> None:
    """Look every visitor up once more, now that stitching is done."""
    visitors = iter(sorted(tally.visitors))
    found: set[str] = set()

    async def worker() -> None:
        for type_, value in visitors:
            answer = await _post(
                client, "/stitch_sync", {"identifiers": {type_: value}}, lambda _ms: None
            )
            if answer.status_code == httpx.codes.OK and answer.json()["profile_id"]:
                found.add(answer.json()["profile_id"])

    await _in_parallel(worker)
    tally.profiles = len(found)
