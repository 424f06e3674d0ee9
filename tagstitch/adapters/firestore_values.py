"""Plain values to and from Firestore's protocol buffers, without the client library's wrapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.cloud.firestore_v1.types import document as document_types
from google.protobuf.timestamp_pb2 import Timestamp

ValueMessage: Final = document_types.Value.pb()
DocumentMessage: Final = document_types.Document.pb()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SCALAR_FIELDS: Final = (
    (str, "string_value"),
    (bool, "boolean_value"),  # before int, of which it is a subclass
    (int, "integer_value"),
    (float, "double_value"),
    (bytes, "bytes_value"),
)
_PLAIN_KINDS: Final = frozenset(
    {"string_value", "integer_value", "double_value", "boolean_value", "bytes_value"}
)

_SIMPLE_FIELD_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def write_fields(fields: Mapping[str, Any], target: Any) -> None:
    """Write field values into the `fields` of a document or map message."""
    for name, value in fields.items():
        _write_value(value, target[name])


def read_fields(fields: Any) -> dict[str, Any]:
    """Return the plain values of a document's or map's `fields`."""
    return {name: _read_value(fields[name]) for name in fields}  # items() takes twice as long


def field_path(name: str) -> str:
    """Return a top-level field's path for an update mask, quoted where its name needs it.

    https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#documentmask
    """
    if _SIMPLE_FIELD_PATH.fullmatch(name):
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def version_of(update_time: Timestamp) -> str:
    """Return a document's version: its update time, with every digit."""
    return f"{update_time.seconds}.{update_time.nanos:09}"


def write_version(version: str, target: Timestamp) -> None:
    """Write the update time that `version_of` gave into a precondition."""
    seconds, _, nanos = version.partition(".")
    target.seconds, target.nanos = int(seconds), int(nanos)


def _write_value(value: Any, target: Any) -> None:
    for type_, field in _SCALAR_FIELDS:
        if isinstance(value, type_):
            setattr(target, field, value)
            return
    if value is None:
        target.null_value = 0
    elif isinstance(value, datetime):
        _write_time(value, target.timestamp_value)
    elif isinstance(value, dict):
        target.map_value.SetInParent()  # an empty map is a map, too
        write_fields(value, target.map_value.fields)
    elif isinstance(value, list):
        target.array_value.SetInParent()
        for item in value:
            _write_value(item, target.array_value.values.add())
    else:
        raise TypeError(f"a document cannot hold {type(value).__name__}")


def _write_time(value: datetime, target: Timestamp) -> None:
    microseconds = (value - _EPOCH) // _MICROSECOND
    target.seconds = microseconds // 1_000_000
    target.nanos = microseconds % 1_000_000 * 1_000
    target.SetInParent()  # the epoch itself has only default values


def _read_time(value: Timestamp) -> datetime:
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000)


def _read_value(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind in _PLAIN_KINDS:
        return getattr(value, kind)
    if kind == "map_value":
        return read_fields(value.map_value.fields)
    if kind == "timestamp_value":
        return _read_time(value.timestamp_value)
    if kind == "array_value":
        return [_read_value(item) for item in value.array_value.values]
    if kind == "geo_point_value":  # only a document that somebody wrote by hand has one
        point = value.geo_point_value
        return {"latitude": point.latitude, "longitude": point.longitude}
    return None if kind in ("null_value", None) else getattr(value, kind)
