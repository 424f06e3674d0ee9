"""The requests of a simulated file: stitch requests, event data or rows of the GA4 export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tagstitch.adapters.ga4_export import row_from_text
from tagstitch.cli.json_lines import BadLine, read_lines
from tagstitch.cli.rejects_file import RejectsFile, rejection_of
from tagstitch.cli.replay_events import event_of
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import named_identifiers, parse_event
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.stitch_request import StitchRequest, parse_stitch_request


class SimulatedRequest(NamedTuple):
    """One line to simulate."""

    line: int
    request: StitchRequest | None
    """None for an event that names nobody."""


def read_requests(
    file: Path,
    rejects: RejectsFile,
    identity: IdentitySettings,
    *,
    received_at: datetime,
    clock: Callable[[], datetime],
) -> Iterator[SimulatedRequest]:
    """Yield the requests of a file; a line that is none goes to the rejects.

    `received_at` bounds the times of events; what has none happens when the clock says.
    """
    seen: Counter[str] = Counter()
    for number, raw in read_lines(file):
        rejects.hold(number, raw)
        row = row_from_text(raw.text) if isinstance(raw, BadLine) else raw
        if row is None:
            assert isinstance(raw, BadLine)  # noqa: S101 - only such a line has no row
            rejects.add(number, {"line": number, "code": raw.code, "message": raw.message})
            continue
        try:
            message = _message(number, row, seen, identity)
            request = message and parse_stitch_request(
                {"occurred_at": clock().isoformat(), **message},
                identity,
                default_request_id=f"line_{number}",
                received_at=received_at,
            )
        except InvalidInput as error:
            rejects.add(number, rejection_of(number, error))
            continue
        # Nobody is called: the answers go to whoever simulates.
        yield SimulatedRequest(number, replace(request, callback=None) if request else None)


def _message(
    number: int, row: Mapping[str, Any], seen: Counter[str], identity: IdentitySettings
) -> Mapping[str, Any] | None:
    """Return the stitch request of a line, None for an event that names nobody."""
    if "event_name" not in row and ("identifiers" in row or "id" in row):
        return row
    event = event_of(number, row, seen, identity)
    named = named_identifiers(parse_event(event.parameters), identity)
    if not named:
        return None
    message: dict[str, Any] = {
        "identifiers": [{"type": i.type, "value": i.value} for i in named],
        "event": event.parameters,
        "event_id": event.event_id,
        "request_id": event.event_id,
    }
    if event.occurred_at is not None:
        message["occurred_at"] = event.occurred_at.isoformat()
    return message
