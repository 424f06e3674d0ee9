"""The message of topic `audit`: one record, or several, as `pipeline/record_audit.py` reads it."""

from __future__ import annotations

from typing import Any

import msgspec

from tagstitch.adapters.audit_columns import read_audit_columns
from tagstitch.core.audit import AuditRecord
from tagstitch.core.limits import AUDIT_RECORDS_PER_MESSAGE_MAX


def audit_record_schema() -> dict[str, Any]:
    """Return the schema of one message; the record's fields come from the class itself."""
    _, components = msgspec.json.schema_components([AuditRecord], ref_template="#/$defs/{name}")
    record = components["AuditRecord"]
    for column in read_audit_columns():
        if column.name in record["properties"]:
            record["properties"][column.name]["description"] = column.description
    record["description"] = (
        "One row of the table audit. Fields that are no column go into its column extra."
    )
    return {
        "title": "Audit record",
        "description": "A message of the topic audit. Only the functions' own service accounts"
        " may publish it. A record that no table takes becomes a dead letter.",
        "type": "object",
        "if": {"required": ["records"]},
        "then": {
            "properties": {
                "v": {"const": 1},
                "records": {
                    "type": "array",
                    "maxItems": AUDIT_RECORDS_PER_MESSAGE_MAX,
                    "items": {"$ref": "#/$defs/record"},
                },
                "pending": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "The documents that hold these records until they are stored:"
                    " audit_sink clears their field pending.",
                },
            }
        },
        "else": {"$ref": "#/$defs/record"},
        "$defs": {"record": record},
    }
