"""The published design, as plainly as it is described: Flask, gunicorn, the client library.

`/stitch` reads one profile. `/decide` reads one profile, goes through the rules one by one, and
writes the time of the event, as "Real-time Personalization" does. The rules are in memory here;
parsing, authentication, audit and logging are left out, which favours this side.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, jsonify, request
from google.cloud import firestore

app = Flask(__name__)
RULES: list[dict[str, Any]] = json.loads(Path(os.environ["BENCH_RULES"]).read_text())
_client: firestore.Client | None = None


def database() -> firestore.Client:
    global _client  # noqa: PLW0603 - the usual way in such services
    if _client is None:
        _client = firestore.Client(os.environ["BENCH_PROJECT"])
    return _client


@app.post("/stitch")
def stitch() -> Any:
    client_id = request.get_json()["identifiers"]["client_id"]
    snapshot = database().collection("bench_profiles").document(client_id).get()
    return jsonify({"found": snapshot.exists, "attributes": snapshot.to_dict() or {}})


@app.post("/decide")
def decide() -> Any:
    event = request.get_json()["event"]
    reference = database().collection("bench_profiles").document(event["client_id"])
    profile = reference.get().to_dict() or {}
    applied = []
    for rule in RULES:
        if rule["target_event_name"] != event["event_name"]:
            continue
        if all(_holds(event | profile, path, want) for path, want in rule["conditions"].items()):
            applied.append(rule["rule_id"])
            if rule["action_type"] == "rename_event":
                event["event_name"] = rule["action_details"]["new_event_name"]
    reference.set({"last_action_timestamp": datetime.now(UTC)}, merge=True)
    return jsonify({"resolved_event_payload": event, "applied_modifications": applied})


def _holds(data: dict[str, Any], path: str, want: Any) -> bool:
    value = data.get(path)
    if not isinstance(want, dict):
        return bool(value == want)
    for operator, operand in want.items():
        if operator == "lessThan" and not (value is not None and value < operand):
            return False
        if operator == "greaterThan" and not (value is not None and value > operand):
            return False
        if operator == "equals" and value != operand:
            return False
        if operator == "in" and value not in operand:
            return False
    return True
