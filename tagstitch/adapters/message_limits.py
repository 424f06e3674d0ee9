"""Pub/Sub's limits on a message, checked by us: the emulator and the local queue have none."""

from __future__ import annotations

from collections.abc import Mapping

from tagstitch.core.errors import InvalidInput
from tagstitch.core.limits import (
    MESSAGE_ATTRIBUTE_NAME_BYTES_MAX,
    MESSAGE_ATTRIBUTE_VALUE_BYTES_MAX,
    MESSAGE_ATTRIBUTES_MAX,
    MESSAGE_BYTES_MAX,
)


def check_message(data: bytes, attributes: Mapping[str, str]) -> None:
    """Raise InvalidInput for a message that Pub/Sub refuses whenever it is published.

    https://cloud.google.com/pubsub/quotas#resource_limits
    """
    if not data and not attributes:
        raise InvalidInput("invalid_field", "a message needs data or attributes")
    if len(attributes) > MESSAGE_ATTRIBUTES_MAX:
        raise InvalidInput("invalid_field", "the message has too many attributes")
    for name, value in attributes.items():
        if not 0 < len(name.encode()) <= MESSAGE_ATTRIBUTE_NAME_BYTES_MAX or name.startswith(
            "goog"
        ):
            raise InvalidInput("invalid_field", "a message attribute's name is not allowed")
        if len(value.encode()) > MESSAGE_ATTRIBUTE_VALUE_BYTES_MAX:
            raise InvalidInput("invalid_field", "a message attribute's value is too long")
    if message_size(data, attributes) > MESSAGE_BYTES_MAX:
        raise InvalidInput("body_too_large", "the message is above Pub/Sub's 10 MB")


def message_size(data: bytes, attributes: Mapping[str, str]) -> int:
    """Return the bytes that count against the limit of one message."""
    return len(data) + sum(len(n.encode()) + len(v.encode()) for n, v in attributes.items())
