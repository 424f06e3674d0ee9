"""How `tagstitch rules explain` shows a trace and a decision to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rich.console import Console

from tagstitch.cli.output import printable

_TITLES = {
    "experiments": "Experiments",
    "event": "Event rules",
    "personalization": "Personalization rules",
}

Fields = Mapping[str, Any]


def show_explained(out: Console, answer: Fields) -> None:
    """Print why each rule did or did not apply, then what the decision does."""
    for text in _lines(answer):
        out.print(printable(text), markup=False)


def _lines(answer: Fields) -> Iterator[str]:
    yield f"{answer['event_name']}, decided at {answer['now']:%F %T} UTC"
    for problem in answer["problems"]:
        place = f" {problem['path']}" if problem["path"] else ""
        yield f"left out: {problem['kind']} {problem['rule_id']}:{place} {problem['message']}"
    for switched_off in answer["inactive"]:
        yield f"switched off: {switched_off['id']} of {switched_off['collection']}"
    yield from (f"note: {note}" for note in answer["notes"])
    for part, title in _TITLES.items():
        lines = answer["trace"].get(part, [])
        if lines or part != "experiments":
            yield ""
            yield title if lines else f"{title}: none for this event"
        for line in lines:
            yield from _rule(line) if "rule_id" in line else _experiment(line)
    yield ""
    yield from _decision(answer["decision"], answer["changes"])


def _rule(line: Fields) -> Iterator[str]:
    yield f"{'✔' if line['applied'] else '✘'} {line['rule_id']}: {line['reason']}"
    yield from _gates(line.get("gate", {}))
    yield from map(_condition, line["conditions"])
    for action in line.get("withheld", ()):
        why = ", ".join(action.get("missing", ())) or f"once per {action['once_per']}"
        yield f"    withheld: {action['type']}, {action['reason']} ({why})"


def _experiment(line: Fields) -> Iterator[str]:
    found = line["variant"]
    result = f"variant {found} ({line['reason']})" if found else line["reason"]
    yield f"{'✔' if found else '✘'} {line['experiment_id']}: {result}"
    yield from _gates(line["gate"])
    yield from map(_condition, line["conditions"])


def _condition(condition: Fields) -> str:
    mark = "  ➤ " if condition.get("decisive") else "    "
    actual = "(concealed)" if condition.get("concealed") else _json(condition["actual"])
    results = {True: "true", False: "false", None: condition.get("error", "could not be loaded")}
    expected = f"{condition['operator']} {_json(condition['expected'])}"
    is_plain = condition["where"].startswith(f"conditions.{condition['path']}")
    place = "" if is_plain else f" ({condition['where']})"
    result = results[condition["result"]]
    return f"{mark}{condition['path']} is {actual}, wanted {expected}: {result}{place}"


def _gates(gate: Fields) -> Iterator[str]:
    for purpose in gate.get("purposes", ()):
        state = "granted" if purpose["granted"] else "denied"
        yield f"    consent {purpose['purpose']}: {state} (by the {purpose['source']})"
    if schedule := gate.get("schedule"):
        bounds = [f"{name} {schedule[name]}" for name in ("from", "until") if name in schedule]
        when = ", ".join([*bounds, *schedule.get("week", ()), schedule["time_zone"]])
        yield f"    schedule: {'open' if schedule['open'] else 'closed'} ({when})"
    if rollout := gate.get("rollout"):
        included = {True: "included", False: "not included", None: "nobody is known"}
        state = included[rollout["includes"]]
        yield f"    rollout: {rollout['percent']:g} % by {rollout['by']}, {state}"
    for cap in gate.get("frequency_cap", ()):
        yield f"    frequency cap: {_cap(cap)}"
    if gate.get("unavailable"):
        yield f"    could not be loaded: {', '.join(gate['unavailable'])}"


def _cap(cap: Fields) -> str:
    window = "in all"
    if "per" in cap:
        window = f"per {cap['per']} ({cap['time_zone']})"
    elif "within" in cap:
        window = f"within {cap['within']}"
    group = f" in group {cap['group']}" if "group" in cap else ""
    used = "unreadable" if cap["used"] is None else f"{cap['used']} of {cap['max']} used"
    return f"{used} {window}{group}"


def _decision(decision: Fields, changes: Fields) -> Iterator[str]:
    event, personalization = decision["event"], decision["personalization"]
    yield "Decision"
    if event["drop"]:
        yield "    the event is dropped"
    if event["rename"] is not None:
        yield f"    rename to {event['rename']}"
    yield from (f"    set {name} = {_json(value)}" for name, value in event["set"].items())
    yield from (f"    unset {name}" for name in event["unset"])
    yield from (f"    modification {_json(change)}" for change in event["modifications"])
    if not event["modifications"]:
        yield "    the event leaves as it came"
    yield f"    personalization: {personalization['reason']}"
    variants = personalization["variants"].items()
    yield from (f"    variant {name} = {_json(value)}" for name, value in variants)
    yield from (f"    action {_json(action)}" for action in personalization["actions"])
    yield from (f"    later {_json(entry)}" for entry in changes["outbox"])
    yield from (f"    remember {name} = {_json(value)}" for name, value in changes["state"].items())
    yield from (f"    use of cap {name}" for name in changes["caps"])
    yield from (f"    keep the variant of {name}" for name in changes["assignments"])


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
