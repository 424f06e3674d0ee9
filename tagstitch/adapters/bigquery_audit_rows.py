"""Audit rows as the protocol buffers that the Storage Write API takes, described at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tagstitch.adapters.audit_columns import Column

_Field: Final = descriptor_pb2.FieldDescriptorProto

# https://cloud.google.com/bigquery/docs/supported-data-types#supported_protocol_buffer_data_types
_FIELD_TYPES: Final = {
    "STRING": _Field.TYPE_STRING,
    "TIMESTAMP": _Field.TYPE_INT64,  # microseconds since 1970
    "FLOAT": _Field.TYPE_DOUBLE,
    "BYTES": _Field.TYPE_BYTES,
    "JSON": _Field.TYPE_STRING,
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class AuditRowEncoder:
    """Encodes rows that `find_fault` found nothing against."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self.descriptor = descriptor_pb2.DescriptorProto(name="AuditRow")
        for number, column in enumerate(columns, start=1):
            repeated = column.mode == "REPEATED"
            self.descriptor.field.add(
                name=column.name,
                number=number,
                type=_FIELD_TYPES[column.type],
                label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
            )
        # No package: bqemulator cannot resolve a message inside one.
        file = descriptor_pb2.FileDescriptorProto(name="audit_row.proto", syntax="proto2")
        file.message_type.append(self.descriptor)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._message = message_factory.GetMessageClass(
            pool.FindMessageTypeByName(self.descriptor.name)
        )

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """Return the row, serialised; a missing value is NULL."""
        values = {
            column.name: _value(column, row[column.name])
            for column in self._columns
            if row.get(column.name) is not None
        }
        return bytes(self._message(**values).SerializeToString())


def _value(column: Column, value: Any) -> Any:
    if column.type == "TIMESTAMP":
        return (value - _EPOCH) // _MICROSECOND
    if column.type == "JSON":
        return msgspec.json.encode(value).decode()
    return value
