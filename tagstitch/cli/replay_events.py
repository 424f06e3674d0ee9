"""The events of a replayed file: event data or export rows, with ids that derive from them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tagstitch.adapters.ga4_export import (
    convert_row,
    event_id_of_row,
    is_export_row,
    row_from_text,
)
from tagstitch.cli.json_lines import BadLine, read_lines
from tagstitch.cli.rejects_file import RejectsFile, rejection_of
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import event_time, identify_event, parse_event
from tagstitch.core.identifier import IdentitySettings


@dataclass(frozen=True, slots=True)
class ReplayEvent:
    """One event to send."""

    line: int
    event_id: str
    """The same line gives the same id again, so that a second replay changes nothing."""
    parameters: Mapping[str, Any]
    identifiers: tuple[Mapping[str, str], ...]
    """`{type, value}`, the strongest first; empty when the event says nothing about its visitor."""
    occurred_at: datetime | None


def read_events(
    file: Path, rejects: RejectsFile, identity: IdentitySettings
) -> Iterator[ReplayEvent]:
    """Yield the events of a file; a line that is none goes to the rejects."""
    seen: Counter[str] = Counter()
    for number, raw in read_lines(file):
        rejects.hold(number, raw)
        row = raw
        if isinstance(row, BadLine):
            if (row_with_nan := row_from_text(row.text)) is None:
                rejects.add(number, {"line": number, "code": row.code, "message": row.message})
                continue
            row = row_with_nan
        try:
            yield event_of(number, row, seen, identity)
        except InvalidInput as error:
            rejects.add(number, rejection_of(number, error))


def event_of(
    number: int, raw: Mapping[str, Any], seen: Counter[str], identity: IdentitySettings
) -> ReplayEvent:
    """Return the event of a line; `seen` counts ids, so that equal lines are two events.

    Raises InvalidInput for a line that is none.
    """
    if is_export_row(raw):
        parameters, first_id = convert_row(raw), event_id_of_row(raw)
    else:
        parameters, first_id = dict(raw), _content_id(raw, 0)
    ordinal = seen[first_id]
    seen[first_id] += 1
    if ordinal == 0:
        event_id = first_id
    elif is_export_row(raw):
        event_id = event_id_of_row(raw, ordinal)
    else:
        event_id = _content_id(raw, ordinal)
    event = parse_event(parameters)
    found = identify_event(event, identity, asserted=True)
    never = datetime.max.replace(tzinfo=UTC, year=9000)  # an event without a time gets this one
    occurred_at = event_time(event, received_at=never)
    return ReplayEvent(
        line=number,
        event_id=event_id,
        parameters=parameters,
        identifiers=tuple({"type": i.type, "value": i.value} for i in found),
        occurred_at=None if occurred_at == never else occurred_at,
    )


def _content_id(event: Mapping[str, Any], ordinal: int) -> str:
    content = msgspec.json.encode(event, order="deterministic") + f"\x1f{ordinal}".encode()
    return "event_" + hashlib.sha256(content).hexdigest()[:32]
