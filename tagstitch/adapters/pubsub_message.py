"""Pub/Sub push requests in, acknowledgements out: one parser, one table."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.dead_letter import Message

ACKNOWLEDGE: Final = 204
"""Pub/Sub acknowledges on 102, 200, 201, 202 and 204; its emulator takes 202 for a refusal
(https://cloud.google.com/pubsub/docs/push)."""

NEGATIVE_ACKNOWLEDGE: Final = 503
"""Delivered again after the subscription's backoff; and 500 for a bug, likewise."""


class _PubsubMessage(msgspec.Struct):
    data: str = ""
    attributes: dict[str, str] = {}
    message_id: str | None = None
    messageId: str | None = None  # noqa: N815 - Pub/Sub's own name
    publish_time: str | None = None
    publishTime: str | None = None  # noqa: N815 - Pub/Sub's own name


class _Push(msgspec.Struct):
    message: _PubsubMessage
    subscription: str = ""
    deliveryAttempt: int | None = None  # noqa: N815 - Pub/Sub's own name


class _StructuredCloudEvent(msgspec.Struct):
    """A CloudEvent in structured mode: the push body is its `data`."""

    specversion: str
    data: _Push


def parse_push(body: bytes, content_type: str, *, topic: str, received_at: datetime) -> Message:
    """Return the message of a push request.

    Takes Pub/Sub's own push body, a CloudEvent in binary mode (the same body, with `ce-` headers)
    and in structured mode. Raises InvalidInput for anything else: nobody but Pub/Sub posts here.
    """
    kind: Any = _StructuredCloudEvent if "cloudevents+json" in content_type else _Push
    try:
        decoded = msgspec.json.decode(body, type=kind)
        push: _Push = decoded.data if isinstance(decoded, _StructuredCloudEvent) else decoded
        data = base64.b64decode(push.message.data, validate=True)
    except (msgspec.DecodeError, ValueError, RecursionError):  # base64 raises several ValueErrors
        raise InvalidInput(
            "invalid_json", "not a Pub/Sub push request",
            hint="this endpoint is for a push subscription",
        ) from None  # fmt: skip
    message_id = push.message.messageId or push.message.message_id
    if not message_id:
        raise InvalidInput("missing_field", "a push request needs its id", "message.messageId")
    return Message(
        data=data,
        message_id=message_id,
        topic=topic,
        published_at=_time(push.message.publishTime or push.message.publish_time, received_at),
        attributes=push.message.attributes,
        delivery_attempt=push.deliveryAttempt,
    )


def _time(text: str | None, default: datetime) -> datetime:
    try:
        parsed = datetime.fromisoformat(text) if text else default
    except ValueError:
        return default
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
