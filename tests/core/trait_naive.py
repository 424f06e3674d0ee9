"""Traits computed from all their events at once, the slow and obvious way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tagstitch.core.event import Event
from tagstitch.core.limits import CLOCK_SKEW_S
from tagstitch.core.trait import TraitDefinition
from tagstitch.core.trait_scalars import json_key

Timed = tuple[datetime, Event]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SILENCE = timedelta(minutes=30)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def naive_value(definition: TraitDefinition, events: Sequence[Timed], now: datetime) -> Any:
    """Return the value of the definition's window, or None when nothing is in it."""
    counted = [(at, value) for at, event in events for value in found(definition, event, at)]
    if not counted:
        return None
    newest = max(at for at, _ in counted)
    terms = definition.terms
    if terms.expires_s and now - newest >= timedelta(seconds=terms.expires_s):
        return None
    inside = in_window(definition, counted, now, newest)
    return compute(definition, inside, now) if inside else None


def found(definition: TraitDefinition, event: Event, at: datetime) -> list[Any]:
    """Return the values of the events that this file's tests make."""
    name = definition.terms.operation
    local = at.astimezone(definition.time_zone)
    if name == "hour_of_day":
        return [local.hour]
    if name == "day_of_week":
        return [DAYS[local.weekday()]]
    if name == "sessions":
        return [event.parameters.get("ga_session_id")]
    if definition.field is None:
        return [definition.constant]
    if definition.field.quantifier == "$":
        return [item["name"] for item in event.parameters.get("items", [])]
    value = event.parameters.get(definition.field.base[0])
    return [] if value is None else [value]


def in_window(
    definition: TraitDefinition,
    counted: list[tuple[datetime, Any]],
    now: datetime,
    newest: datetime,
) -> list[tuple[datetime, Any]]:
    """Return what is in the window, which begins with a whole bucket."""
    window = definition.terms.window
    if window.kind == "lifetime":
        return counted
    if window.kind == "rolling":
        start = now - timedelta(seconds=window.length_s)
    else:
        kept = newest - timedelta(seconds=window.length_s + CLOCK_SKEW_S)
        start = session_start([at for at, _ in counted if at >= floor(kept, 1_800)], now)
    if window.bucket_s and window.kind == "rolling":
        start = floor(start, window.bucket_s)
    return [(at, value) for at, value in counted if at >= start]


def floor(at: datetime, bucket_s: int) -> datetime:
    """Return the start of the bucket."""
    return EPOCH + (at - EPOCH) // timedelta(seconds=bucket_s) * timedelta(seconds=bucket_s)


def session_start(times: list[datetime], now: datetime) -> datetime:
    """Return the first of the times that no silence divides from now."""
    start = now
    for at in sorted(times, reverse=True):
        if start - at > SILENCE:
            break
        start = at
    return start if times and now - max(times) <= SILENCE else now + timedelta(days=1)


def compute(definition: TraitDefinition, inside: list[tuple[datetime, Any]], now: datetime) -> Any:
    """Return the value of what is inside the window."""
    values = [value for _, value in inside]
    name, limit = definition.terms.operation, definition.terms.limit
    if name in ("sum", "min", "max", "mean"):
        return compute_number(name, values)
    if name in ("first", "set_once", "last", "set", "unique_list"):
        return compute_by_time(name, inside, limit)
    if name in ("time_since_first", "time_since_last"):
        times = [at for at, _ in inside]
        at = min(times) if name == "time_since_first" else max(times)
        return max(timedelta(), now - at) // timedelta(seconds=definition.terms.unit_s)
    counts = Counter(values)
    if name in ("most_frequent", "hour_of_day", "day_of_week"):
        ordered = {"hour_of_day": range(24), "day_of_week": DAYS}.get(name) or sorted(counts)
        return max(ordered, key=lambda value: counts[value])
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
    return {
        "count": len(values),
        "count_distinct": len(counts),
        "badge": True,
        "tally": dict(ranked[:limit]),
    }[name]


def compute_by_time(name: str, inside: list[tuple[datetime, Any]], limit: int) -> Any:
    """Return the first, the last, or the last different values."""
    by_time = sorted(inside, key=lambda entry: (entry[0], json_key(entry[1])))
    if name in ("first", "set_once"):
        return by_time[0][1]
    if name in ("last", "set"):
        return by_time[-1][1]
    return list(dict.fromkeys(value for _, value in reversed(by_time)))[:limit]


def compute_number(name: str, values: list[Any]) -> Any:
    """Return a result in decimal."""
    places = Decimal("0.000001")
    numbers = [Decimal(str(value)).quantize(places, rounding=ROUND_HALF_UP) for value in values]
    if name == "min":
        return float(min(numbers))
    if name == "max":
        return float(max(numbers))
    total = sum(numbers, Decimal())
    return float(total) if name == "sum" else float(total / len(numbers))
