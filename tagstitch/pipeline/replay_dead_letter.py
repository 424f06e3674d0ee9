"""Replaying a dead letter: its message goes to its topic again, once the cause is mended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.callback import parse_action
from tagstitch.core.errors import InvalidInput
from tagstitch.core.json_input import decode_json
from tagstitch.core.limits import CALLBACK_EXPIRY_S, OUTBOX_EXPIRY_DAYS
from tagstitch.pipeline.backend import Backend, Patch
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.deliver import ACTIONS_TOPIC
from tagstitch.pipeline.idempotency import pending_shard
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.record_dead_letter import open_payload

_TOPICS: Final = ("stitch-requests", "actions", "audit")


async def replay_dead_letter(
    backend: Backend, keyring: Keyring, letter_id: str, *, deadline: Deadline
) -> str:
    """Publish the letter's message again and return the topic.

    A message that had no request id was known by its message id: that becomes its request id, so
    that an effect it had already is not repeated. A callback that its endpoint refused is put back
    into the outbox. Raises InvalidInput when there is no such letter, when its topic is none that
    takes messages, and when nothing of its callback is left to send.
    """
    if "/" in letter_id:
        raise InvalidInput("not_found", "no dead letter has this id")
    path = f"dead_letters/{letter_id}"
    document = await backend.documents.get(path, deadline=deadline)
    payload = await open_payload(backend, keyring, letter_id, deadline=deadline)
    if document is None or payload is None:
        raise InvalidInput("not_found", "no dead letter has this id")
    source = document.fields["source"]
    topic = source["topic"]
    if topic not in _TOPICS:
        raise InvalidInput("invalid_field", "its topic takes no messages", "source.topic")
    if topic == "stitch-requests":
        payload = _with_request_id(payload, source["message_id"])
    if topic == ACTIONS_TOPIC:
        await _reopen_callback(backend, parse_action(decode_json(payload)), deadline=deadline)
    await backend.publisher.publish(topic, payload, deadline=deadline)
    replayed: dict[str, Any] = {"replayed_at": backend.clock()}
    await backend.documents.commit([Patch(path, replayed)], deadline=deadline)
    return str(topic)


async def _reopen_callback(backend: Backend, outbox_id: str, *, deadline: Deadline) -> None:
    """Make a callback of use again, from now on, and pending when its endpoint had refused it.

    A crash behind this leaves it to the sweep.
    """
    path = f"outbox/{outbox_id}"
    document = await backend.documents.get(path, deadline=deadline)
    if document is None:
        raise InvalidInput("not_found", "its callback is no longer in the outbox")
    fields = document.fields
    if fields["status"] not in ("pending", "rejected") or "data" not in fields:
        raise InvalidInput("invalid_field", "its callback has ended, and nothing is left to send")
    now = backend.clock()
    useful_until = max(fields["useful_until"], now + timedelta(seconds=CALLBACK_EXPIRY_S))
    reopened: dict[str, Any] = {
        "useful_until": useful_until,
        "pending": fields.get("pending", pending_shard()),
        "pending_since": now,
    }
    if fields["status"] == "rejected":
        reopened |= {
            "status": "pending",
            "attempts": 0,
            "replays": fields.get("replays", 0) + 1,
            "lease_until": now,
            "expires_at": now + timedelta(days=OUTBOX_EXPIRY_DAYS),
        }
    patch = Patch(path, reopened, remove=("not_before", "ended_at"), if_version=document.version)
    await backend.documents.commit([patch], deadline=deadline)


def _with_request_id(payload: bytes, message_id: str) -> bytes:
    try:
        message = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload  # it was refused for this and will be again
    if message.get("request_id", b"null") != b"null":
        return payload
    return msgspec.json.encode({**message, "request_id": message_id})
