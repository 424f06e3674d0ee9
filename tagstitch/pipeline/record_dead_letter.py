"""audit_sink /deadletters: our own envelopes and what a subscription forwards, in one shape."""

from __future__ import annotations

import base64
import binascii
import logging
import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Conflict
from tagstitch.core.limits import DEAD_LETTER_EXPIRY_DAYS
from tagstitch.pipeline.backend import Backend, Put, Write
from tagstitch.pipeline.dead_letter import (
    ENVELOPE_TYPE,
    Message,
    dead_letter_id,
    readable_request_id,
)
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring

PAYLOAD_PURPOSE: Final = "dead-letter-payload"

logger = logging.getLogger("tagstitch")

_PART_BYTES: Final = 900_000
"""Bytes of the sealed payload in one document: below Firestore's limit of 1 MiB."""

_FORWARDED: Final = "CloudPubSubDeadLetterSource"
"""Prefix of the attributes that Pub/Sub adds when a subscription gives a message up
(https://cloud.google.com/pubsub/docs/handling-failures)."""


async def record_dead_letter(
    backend: Backend, keyring: Keyring, message: Message, *, deadline: Deadline
) -> None:
    """Store one dead letter, its payload sealed, and its audit record.

    Raises Unavailable when that may work later. A dead letter that is stored already stays as it
    is, so a redelivery changes nothing.
    """
    now = backend.clock()
    envelope, payload = _normalise(message)
    letter_id = envelope["dead_letter_id"]
    sealed = keyring.seal(zlib.compress(payload), purpose=PAYLOAD_PURPOSE)
    parts = [sealed[i : i + _PART_BYTES] for i in range(0, len(sealed), _PART_BYTES)]
    expires_at = now + timedelta(days=DEAD_LETTER_EXPIRY_DAYS)
    writes: list[Write] = [
        Put(
            f"dead_letters/{letter_id}",
            envelope
            | {
                "received_at": now,
                "expires_at": expires_at,
                "payload_bytes": len(payload),
                "sealed": parts[0],
                "parts": len(parts),
            },
            if_version="",
        )
    ]
    try:
        for number, part in enumerate(parts[1:], start=1):  # a commit takes 10 MiB at most
            path = f"dead_letter_parts/{letter_id}:{number}"
            await backend.documents.commit(
                [Put(path, {"sealed": part, "expires_at": expires_at})], deadline=deadline
            )
        await backend.documents.commit(writes, deadline=deadline)
    except Conflict:
        logger.info("dead_letter_known", extra={"fields": {"dead_letter_id": letter_id}})
    record = AuditRecord(
        record_id=f"dead_letter_{letter_id}",
        record_type="dead_letter",
        occurred_at=now,
        outcome="rejected",
        request_id=envelope["request_id"],
        extra={
            "dead_letter_id": letter_id,
            "reason": envelope["reason"],
            "topic": envelope["source"]["topic"],
        },
    )
    await backend.audit_table.append([record.to_row() | {"recorded_at": now}], deadline=deadline)


async def open_payload(
    backend: Backend, keyring: Keyring, letter_id: str, *, deadline: Deadline
) -> bytes | None:
    """Return the payload of a stored dead letter, or None when there is no such letter."""
    document = await backend.documents.get(f"dead_letters/{letter_id}", deadline=deadline)
    if document is None:
        return None
    sealed = bytes(document.fields["sealed"])
    paths = [f"dead_letter_parts/{letter_id}:{n}" for n in range(1, document.fields["parts"])]
    if paths:
        found = await backend.documents.get_many(paths, deadline=deadline)
        sealed += b"".join(found[path].fields["sealed"] for path in paths)
    return zlib.decompress(keyring.unseal(sealed, purpose=PAYLOAD_PURPOSE))


def _normalise(message: Message) -> tuple[dict[str, Any], bytes]:
    """Return the redacted envelope and the payload of either kind of dead letter."""
    own = _own_envelope(message)
    if own is not None:
        return own
    source = {
        name.removeprefix(_FORWARDED): value
        for name, value in message.attributes.items()
        if name.startswith(_FORWARDED)
    }
    topic = source.get("Subscription", "").removesuffix("-push") or message.topic
    return _envelope(
        letter_id=dead_letter_id(topic, message.message_id),
        reason={
            "code": "delivery_attempts_exceeded" if source else "not_an_envelope",
            "message": "every delivery of this message failed; the function's log says why"
            if source
            else "published to the dead-letter topic by nobody we know",
            "path": None,
        },
        source={
            "topic": topic,
            "message_id": message.message_id,
            "published_at": source.get("TopicPublishTime", message.published_at.isoformat()),
            "delivery_attempt": _count(source.get("DeliveryCount")),
        },
        request_id=readable_request_id(message.data),
        processor={"name": "pubsub", "version": None},
        failed_at=message.published_at.isoformat(),
    ), message.data


class _Reason(msgspec.Struct):
    code: str
    message: str
    path: str | None = None


class _Source(msgspec.Struct):
    topic: str
    message_id: str
    published_at: str
    delivery_attempt: int | None = None


class _OwnEnvelope(msgspec.Struct):
    type: str
    dead_letter_id: str
    reason: _Reason
    source: _Source
    processor: dict[str, str]
    failed_at: str
    payload: str
    request_id: str | None = None


def _own_envelope(message: Message) -> tuple[dict[str, Any], bytes] | None:
    """Return envelope and payload of a message that `publish_dead_letter` made, else None."""
    try:
        own = msgspec.json.decode(message.data, type=_OwnEnvelope)
        payload = base64.b64decode(own.payload, validate=True)
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError, RecursionError):
        return None
    if own.type != ENVELOPE_TYPE:
        return None
    return _envelope(
        letter_id=own.dead_letter_id,
        reason=msgspec.to_builtins(own.reason),
        source=msgspec.to_builtins(own.source),
        request_id=own.request_id,
        processor=own.processor,
        failed_at=own.failed_at,
    ), payload


def _envelope(
    *,
    letter_id: str,
    reason: Mapping[str, Any],
    source: Mapping[str, Any],
    request_id: str | None,
    processor: Mapping[str, Any],
    failed_at: str,
) -> dict[str, Any]:
    return {
        "dead_letter_id": letter_id,
        "request_id": request_id,
        "reason": dict(reason),
        "source": dict(source),
        "processor": dict(processor),
        "failed_at": failed_at,
    }


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
