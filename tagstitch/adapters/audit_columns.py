"""The columns of the table `audit`, and the check of one row against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

SCHEMAS_DIR: Final = Path(__file__).resolve().parents[2] / "schemas"


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column, in the form of BigQuery's JSON schema files."""

    name: str
    type: Literal["STRING", "TIMESTAMP", "FLOAT", "BYTES", "JSON"]
    mode: Literal["REQUIRED", "NULLABLE", "REPEATED"] = "NULLABLE"
    description: str = ""


def read_audit_columns() -> tuple[Column, ...]:
    """Return the columns of `schemas/audit_table.json` in their order."""
    text = (SCHEMAS_DIR / "audit_table.json").read_bytes()
    return msgspec.json.decode(text, type=tuple[Column, ...])


def find_fault(columns: Sequence[Column], row: Mapping[str, Any]) -> str | None:
    """Return why the table refuses the row, without any of its values; None when it takes it.

    TIMESTAMP takes aware datetimes, FLOAT finite numbers, BYTES bytes, JSON what JSON can say, and
    REPEATED a list without nulls.
    """
    for column in columns:
        value = row.get(column.name)
        if column.mode == "REPEATED":
            items = [] if value is None else value
            if not isinstance(items, list) or not all(_fits(column, item) for item in items):
                return f"{column.name} must be a list of {column.type}"
        elif value is None:
            if column.mode == "REQUIRED":
                return f"{column.name} is required"
        elif not _fits(column, value):
            return f"{column.name} must be {column.type}"
    unknown = len(row.keys() - {column.name for column in columns})
    return f"{unknown} columns do not exist" if unknown else None


def _fits(column: Column, value: Any) -> bool:
    match column.type:
        case "STRING":
            return isinstance(value, str)
        case "TIMESTAMP":
            return isinstance(value, datetime) and value.tzinfo is not None
        case "FLOAT":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and math.isfinite(value)
        case "BYTES":
            return isinstance(value, bytes)
        case "JSON":
            return _is_json(value)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)
