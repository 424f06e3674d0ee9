"""audit_sink /deadletters: our own envelopes and what a subscription forwards, in one shape."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch import __version__
from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.fields import is_request_id
from tagstitch.core.limits import DEAD_LETTER_EXPIRY_DAYS, MESSAGE_BYTES_MAX
from tagstitch.core.message_version import MESSAGE_VERSION, is_known_version
from tagstitch.pipeline.backend import Backend, Put
from tagstitch.pipeline.dead_letter import (
    ENVELOPE_ATTRIBUTE,
    ENVELOPE_TYPE,
    Message,
    dead_letter_id,
    plain_path,
    readable_request_id,
)
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.log_events import DeadLetterKnown, DeadLetterRecordRefused, log
from tagstitch.pipeline.tracing import current_trace_id

PAYLOAD_PURPOSE: Final = "dead-letter-payload"


_PART_BYTES: Final = 900_000
"""Bytes of the sealed payload in one document: below Firestore's limit of 1 MiB."""

_LETTER_ID: Final = re.compile(r"[0-9a-f]{32}")

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
    path = f"dead_letters/{letter_id}"
    if await backend.documents.get(path, deadline=deadline) is None:
        sealed = keyring.seal(zlib.compress(payload), purpose=PAYLOAD_PURPOSE)
        head = envelope | {"payload_bytes": len(payload)}
        await _store(backend, path, head, sealed, now=now, deadline=deadline)
    record = AuditRecord(
        record_id=f"dead_letter_{letter_id}",
        record_type="dead_letter",
        occurred_at=now,
        outcome="rejected",
        request_id=envelope["request_id"],
        trace_id=current_trace_id(),
        extra={
            "dead_letter_id": letter_id,
            "reason": envelope["reason"],
            "topic": envelope["source"]["topic"],
        },
    )
    row = record.to_row() | {"recorded_at": now}
    for rejected in await backend.audit_table.append([row], deadline=deadline):
        # A dead letter of a dead letter could go round for ever; the letter itself is stored.
        log(DeadLetterRecordRefused(dead_letter_id=letter_id, why=rejected.reason))


async def _store(
    backend: Backend,
    path: str,
    head: Mapping[str, Any],
    sealed: bytes,
    *,
    now: datetime,
    deadline: Deadline,
) -> None:
    """Store the sealed payload's further parts, then the document that names them.

    Each sealing has a nonce of its own: two deliveries at once write different bytes, and must not
    mix their parts. Those of the one that comes second expire.
    """
    letter_id = path.partition("/")[2]
    sealing = hashlib.sha256(sealed).hexdigest()[:16]
    expires_at = now + timedelta(days=DEAD_LETTER_EXPIRY_DAYS)
    further: dict[str, bytes] = {
        f"dead_letter_parts/{letter_id}:{sealing}:{number}": sealed[start : start + _PART_BYTES]
        for number, start in enumerate(range(_PART_BYTES, len(sealed), _PART_BYTES), start=1)
    }
    for part_path, part in further.items():  # a commit takes 10 MiB at most
        fields = {"sealed": part, "expires_at": expires_at}
        await backend.documents.commit([Put(part_path, fields)], deadline=deadline)
    letter = {
        **head,
        "received_at": now,
        "expires_at": expires_at,
        "sealed": sealed[:_PART_BYTES],
        "parts": list(further),
    }
    try:
        await backend.documents.commit([Put(path, letter, if_version="")], deadline=deadline)
    except Conflict:
        log(DeadLetterKnown(dead_letter_id=letter_id))


async def open_payload(
    backend: Backend, keyring: Keyring, letter_id: str, *, deadline: Deadline
) -> bytes | None:
    """Return the payload of a stored dead letter, or None when there is no such letter.

    Raises InvalidInput when it cannot be opened any more: it was sealed with a key that was
    replaced since, or a part of it has expired.
    """
    from cryptography.exceptions import InvalidTag

    document = await backend.documents.get(f"dead_letters/{letter_id}", deadline=deadline)
    if document is None:
        return None
    sealed = bytes(document.fields["sealed"])
    paths = document.fields["parts"]
    if paths:
        found = await backend.documents.get_many(paths, deadline=deadline)
        sealed += b"".join(found[path].fields["sealed"] for path in paths if path in found)
    try:
        return zlib.decompress(keyring.unseal(sealed, purpose=PAYLOAD_PURPOSE))
    except InvalidTag:
        raise InvalidInput(
            "invalid_field", "its payload cannot be opened: the receipt key is another one now"
        ) from None


def _normalise(message: Message) -> tuple[dict[str, Any], bytes]:
    """Return the redacted envelope and the payload of either kind of dead letter."""
    own = _own_envelope(message) or _envelope_beside(message)
    if own is not None:
        return own
    if _is_of_another_version(message):
        return _kept_whole(message)
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


def _is_forwarded(message: Message) -> bool:
    """Return whether a subscription gave the message up, whoever had published it."""
    return any(name.startswith(_FORWARDED) for name in message.attributes)


class _Head(msgspec.Struct):
    v: Any = MESSAGE_VERSION
    type: Any = None


def _is_of_another_version(message: Message) -> bool:
    """Return whether it is an envelope of a release whose envelopes this one cannot read."""
    if _is_forwarded(message):
        return False
    for data in (message.data, message.attributes.get(ENVELOPE_ATTRIBUTE, "").encode()):
        try:
            head = msgspec.json.decode(data, type=_Head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if head.type == ENVELOPE_TYPE and not is_known_version({"v": head.v}):
            return True
    return False


def _kept_whole(message: Message) -> tuple[dict[str, Any], bytes]:
    """Return a letter whose payload is the message itself: nothing of it is understood."""
    return _envelope(
        letter_id=dead_letter_id(message.topic, message.message_id),
        reason={
            "code": "unsupported_version",
            "message": f"this release reads dead letters of version {MESSAGE_VERSION}",
            "path": "v",
        },
        source={
            "topic": message.topic,
            "message_id": message.message_id,
            "published_at": message.published_at.isoformat(),
            "delivery_attempt": message.delivery_attempt,
        },
        request_id=None,
        processor={"name": "audit_sink", "version": __version__},
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
    v: Any = MESSAGE_VERSION
    payload: str | None = None
    payload_encoding: str | None = None
    request_id: str | None = None


def _own_envelope(message: Message) -> tuple[dict[str, Any], bytes] | None:
    """Return envelope and payload of a message that `publish_dead_letter` made, else None."""
    own = _read_envelope(message.data)
    if own is None or own.payload is None:
        return None
    try:
        payload = base64.b64decode(own.payload, validate=True)
        if own.payload_encoding == "zlib":
            payload = _inflate(payload)
    except (binascii.Error, zlib.error, ValueError):
        return None
    return _redacted(own), payload


def _envelope_beside(message: Message) -> tuple[dict[str, Any], bytes] | None:
    """Return envelope and payload of a message too large for an envelope around it, else None."""
    if _is_forwarded(message):
        return None  # not from us: its first publisher chose its attributes
    own = _read_envelope(message.attributes.get(ENVELOPE_ATTRIBUTE, "").encode())
    return None if own is None else (_redacted(own), message.data)


def _read_envelope(data: bytes) -> _OwnEnvelope | None:
    try:
        own = msgspec.json.decode(data, type=_OwnEnvelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_ours = own.type == ENVELOPE_TYPE and _LETTER_ID.fullmatch(own.dead_letter_id)
    return own if is_ours and is_known_version({"v": own.v}) else None


def _inflate(data: bytes) -> bytes:
    """Return the bytes; raises zlib.error for more than a message has."""
    inflater = zlib.decompressobj()
    payload = inflater.decompress(data, MESSAGE_BYTES_MAX)
    if not inflater.eof:
        raise zlib.error("larger than a message, or cut off")
    return payload


def _redacted(own: _OwnEnvelope) -> dict[str, Any]:
    """Return the envelope; what could be a person's is checked again, whoever published it."""
    reason = msgspec.to_builtins(own.reason)
    return _envelope(
        letter_id=own.dead_letter_id,
        reason=reason | {"path": plain_path(own.reason.path)},
        source=msgspec.to_builtins(own.source),
        request_id=own.request_id if is_request_id(own.request_id) else None,
        processor=own.processor,
        failed_at=own.failed_at,
    )


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
