"""What is compared: something that loads rules once and then answers bodies with bodies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bench.rule_engines.rule_set import Definition, predicates
from tagstitch.core.json_input import decode_json

Answer = Callable[[bytes], bytes]
"""From the bytes of a request to the bytes of its answer."""

Body = Literal["event", "decide"]
"""The event itself, as the published design takes it, or what `POST /decide` takes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of deciding events."""

    name: str
    how: str
    """How it was used, for the reader of the results."""
    load: Callable[[Mapping[str, Definition]], Answer]
    body: Body = "event"
    is_ours: bool = False


def in_order(rules: Mapping[str, Definition]) -> list[tuple[str, Definition]]:
    """Return the rules as they apply: by priority, then by id."""
    return sorted(rules.items(), key=lambda entry: (entry[1]["priority"], entry[0]))


# --- what the engines that only tell which rules match have in common


@dataclass(frozen=True, slots=True)
class NamedRules:
    """The rules of one event name, in the order in which they apply."""

    rules: tuple[tuple[str, Definition], ...]
    parameters: frozenset[str]
    """What their conditions look at: nothing else of an event needs converting."""

    def facts(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of the event that the conditions look at."""
        return {name: event[name] for name in self.parameters if name in event}


Match = Callable[[Mapping[str, Any]], Iterable[int]]
"""Return the positions of the rules that match an event, in their order."""


def load_by_name(
    rules: Mapping[str, Definition], compile_rules: Callable[[NamedRules], Match]
) -> Answer:
    """Compile the rules of each event name once; read and write JSON as our own decision does."""
    grouped: dict[str, list[tuple[str, Definition]]] = defaultdict(list)
    for rule_id, rule in in_order(rules):
        grouped[rule["target_event_name"]].append((rule_id, rule))
    compiled = {}
    for name, group in grouped.items():
        read = frozenset(p.parameter for _, rule in group for p in predicates(rule))
        named = NamedRules(tuple(group), read)
        compiled[name] = (named, compile_rules(named))

    def answer(body: bytes) -> bytes:
        event = decode_json(body)
        applied: list[dict[str, Any]] = []
        payload = event
        if event["event_name"] in compiled:
            named, match = compiled[event["event_name"]]
            payload = dict(event)
            applied = [_apply(*named.rules[position], payload) for position in match(event)]
        return msgspec.json.encode(
            {
                "status": "success",
                "original_event_name": event["event_name"],
                "resolved_event_payload": payload,
                "applied_modifications": applied,
            }
        )

    return answer


def _apply(rule_id: str, rule: Definition, payload: dict[str, Any]) -> dict[str, Any]:
    details = rule["action_details"]
    if rule["action_type"] == "rename_event":
        payload.setdefault("_original_event_name", payload["event_name"])
        payload["event_name"] = details["new_event_name"]
    elif details["operator"] == "set":
        payload[details["parameter"]] = details["operand"]
    else:
        payload[details["parameter"]] += details["operand"]
    return {"rule_id": rule_id, "type": rule["action_type"]}
