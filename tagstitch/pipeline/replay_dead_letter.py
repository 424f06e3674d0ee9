"""Replaying a dead letter: its message goes to its topic again, once the cause is mended."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.backend import Backend, Patch
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.record_dead_letter import open_payload

_TOPICS: Final = ("stitch-requests", "actions", "audit")


async def replay_dead_letter(
    backend: Backend, keyring: Keyring, letter_id: str, *, deadline: Deadline
) -> str:
    """Publish the letter's message again and return the topic.

    A message that had no request id was known by its message id: that becomes its request id, so
    that an effect it had already is not repeated. Raises InvalidInput when there is no such letter
    or when its topic is none that takes messages.
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
    await backend.publisher.publish(topic, payload, deadline=deadline)
    replayed: dict[str, Any] = {"replayed_at": backend.clock()}
    await backend.documents.commit([Patch(path, replayed)], deadline=deadline)
    return str(topic)


def _with_request_id(payload: bytes, message_id: str) -> bytes:
    try:
        message = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload  # it was refused for this and will be again
    if message.get("request_id", b"null") != b"null":
        return payload
    return msgspec.json.encode({**message, "request_id": message_id})
