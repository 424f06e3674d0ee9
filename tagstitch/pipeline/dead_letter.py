"""Dead letters: what can never be processed leaves with its reason, and nothing is lost."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from tagstitch import __version__
from tagstitch.core.errors import InvalidInput, Unavailable
from tagstitch.core.fields import is_request_id
from tagstitch.core.limits import MESSAGE_ATTRIBUTE_VALUE_BYTES_MAX, MESSAGE_BYTES_MAX
from tagstitch.pipeline.backend import Publisher
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import DeadLetterLeftToSubscription, log

DEAD_LETTER_TOPIC: Final = "dead-letter"
ENVELOPE_TYPE: Final = "dead_letter"

ENVELOPE_ATTRIBUTE: Final = "tagstitch-dead-letter"
"""Attribute with the envelope of a message that is its own payload, being too large for both."""


_PLAIN_PATH: Final = re.compile(r"[a-z_]{1,32}(\.[a-z_]{1,32}|\[\d{1,4}\]){0,10}")


@dataclass(frozen=True, slots=True)
class Message:
    """One Pub/Sub message as it was received."""

    data: bytes
    message_id: str
    topic: str
    """The topic it was published to."""
    published_at: datetime
    attributes: Mapping[str, str] = field(default_factory=dict)
    delivery_attempt: int | None = None


async def publish_dead_letter(
    publisher: Publisher,
    message: Message,
    error: InvalidInput,
    *,
    processor: str,
    failed_at: datetime,
    deadline: Deadline,
) -> None:
    """Publish the message with its reason to topic `dead-letter`.

    The id derives from the message, so that a redelivery gives the same dead letter. Raises
    Unavailable when it could not be published: the message must not be acknowledged then.
    """
    envelope: dict[str, Any] = {
        "v": 1,
        "type": ENVELOPE_TYPE,
        "dead_letter_id": dead_letter_id(message.topic, message.message_id),
        "reason": {
            "code": error.code,
            "message": error.message,
            "path": plain_path(error.path),
        },
        "source": {
            "topic": message.topic,
            "message_id": message.message_id,
            "published_at": message.published_at,
            "delivery_attempt": message.delivery_attempt,
        },
        "request_id": readable_request_id(message.data),
        "processor": {"name": processor, "version": __version__},
        "failed_at": failed_at,
    }
    data, attributes = _within_limits(envelope, message)
    await publisher.publish(DEAD_LETTER_TOPIC, data, attributes=attributes, deadline=deadline)


def _within_limits(
    envelope: Mapping[str, Any], message: Message
) -> tuple[bytes, Mapping[str, str] | None]:
    """Return data and attributes of the dead letter.

    A payload in base64 may be a third larger than the message that brought it: then it is
    compressed, and when that does not help it travels as it came, its envelope in an attribute.
    The last resort, a message as large as Pub/Sub takes any, is left to its subscription, which
    forwards it after a number of refusals: raises Unavailable.
    """
    with_attributes = {**envelope, "attributes": dict(message.attributes)}
    plain = with_attributes | {"payload": base64.b64encode(message.data).decode()}
    data = msgspec.json.encode(plain)
    if len(data) <= MESSAGE_BYTES_MAX:
        return data, None
    compressed = base64.b64encode(zlib.compress(message.data)).decode()
    data = msgspec.json.encode(
        with_attributes | {"payload": compressed, "payload_encoding": "zlib"}
    )
    if len(data) <= MESSAGE_BYTES_MAX:
        return data, None
    text = msgspec.json.encode(envelope).decode()
    size = len(message.data) + len(ENVELOPE_ATTRIBUTE) + len(text.encode())
    if len(text.encode()) > MESSAGE_ATTRIBUTE_VALUE_BYTES_MAX or size > MESSAGE_BYTES_MAX:
        log(DeadLetterLeftToSubscription(bytes=size))
        raise Unavailable("pubsub", "the dead letter is above Pub/Sub's limits")
    return message.data, {ENVELOPE_ATTRIBUTE: text}


def dead_letter_id(topic: str, message_id: str) -> str:
    """Return the id of the dead letter of a message."""
    return hashlib.sha256(f"{topic}\x1f{message_id}".encode()).hexdigest()[:32]


def plain_path(path: str | None) -> str | None:
    """Return the path when it is made of names as ours are; a sender's own keys may be anything."""
    return path if path is not None and _PLAIN_PATH.fullmatch(path) else None


class _RequestId(msgspec.Struct):
    request_id: str | None = None


def readable_request_id(data: bytes) -> str | None:
    """Return the payload's request id where there is one to read, so that people can find it."""
    try:
        request_id = msgspec.json.decode(data, type=_RequestId).request_id
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return request_id if is_request_id(request_id) else None
