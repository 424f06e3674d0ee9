"""The published design's evaluation, as plainly as it is described.

Every event is read with `json`, copied deeply, held against every rule of the collection in the
order of priority, and written with `json`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from bench.rule_engines.candidate import Answer, in_order
from bench.rule_engines.rule_set import Definition


def load(rules: Mapping[str, Definition]) -> Answer:
    """Keep the documents as they are stored."""
    documents = [{"rule_id": rule_id, **rule} for rule_id, rule in in_order(rules)]

    def answer(body: bytes) -> bytes:
        event = json.loads(body)
        payload = copy.deepcopy(event)
        applied = []
        for rule in documents:
            if not rule["is_active"] or rule["target_event_name"] != event["event_name"]:
                continue
            if _conditions_hold(event, rule["conditions"]):
                applied.append(_apply(rule, payload))
        return json.dumps(
            {
                "status": "success",
                "original_event_name": event["event_name"],
                "resolved_event_payload": payload,
                "applied_modifications": applied,
            }
        ).encode()

    return answer


def _conditions_hold(event: dict[str, Any], conditions: dict[str, Any]) -> bool:
    for path, expected in conditions.items():
        if ".$." in path:
            name, item_property = path.split(".$.")
            values = [item.get(item_property) for item in event.get(name, [])]
        else:
            values = [event.get(path)]
        if not any(_holds(value, expected) for value in values):
            return False
    return True


def _holds(value: Any, expected: Any) -> bool:  # noqa: C901, PLR0911, PLR0912 - as published
    if isinstance(expected, list):
        return value in expected
    if not isinstance(expected, dict):
        return bool(value == expected)
    for operator, operand in expected.items():
        if operator == "equals":
            if value != operand:
                return False
        elif operator == "in":
            if value not in operand:
                return False
        elif operator == "lessThan":
            if value is None or not value < operand:
                return False
        elif operator == "atLeast":
            if value is None or not value >= operand:
                return False
        elif operator == "startsWith":
            if not isinstance(value, str) or not value.startswith(operand):
                return False
        else:
            return False
    return True


def _apply(rule: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
    details = rule["action_details"]
    applied = {"rule_id": rule["rule_id"], "type": rule["action_type"]}
    if rule["action_type"] == "rename_event":
        payload.setdefault("_original_event_name", payload["event_name"])
        payload["event_name"] = details["new_event_name"]
    elif rule["action_type"] == "modify_parameter":
        parameter = details["parameter"]
        if details["operator"] == "set":
            payload[parameter] = details["operand"]
        elif details["operator"] == "add":
            payload[parameter] = payload[parameter] + details["operand"]
    return applied
