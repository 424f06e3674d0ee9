"""Replaying a dead letter: its message goes to its topic again, once the cause is mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from tagstitch.core.callback import parse_action
from tagstitch.core.errors import Conflict, InvalidInput
from tagstitch.core.fields import optional_time
from tagstitch.core.json_input import decode_json
from tagstitch.core.limits import ACTION_REPLAY_S, CALLBACK_EXPIRY_S, OUTBOX_EXPIRY_DAYS
from tagstitch.core.message_version import MESSAGE_VERSION
from tagstitch.pipeline.backend import Backend, Patch
from tagstitch.pipeline.claims import STITCH_TOPIC
from tagstitch.pipeline.dead_letter import DEAD_LETTER_TOPIC
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.idempotency import pending_shard
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.log_events import ReplayedLetterGone, log
from tagstitch.pipeline.outbox import ACTIONS_TOPIC
from tagstitch.pipeline.publish_audit import AUDIT_TOPIC
from tagstitch.pipeline.record_dead_letter import open_payload

_TOPICS: Final = (STITCH_TOPIC, ACTIONS_TOPIC, AUDIT_TOPIC)


@dataclass(frozen=True, slots=True)
class Replay:
    """What replaying one dead letter means; nothing is written yet."""

    path: str
    topic: str
    data: bytes
    reopened: Patch | None
    """What makes an outbox entry of use again."""


async def replay_dead_letter(
    backend: Backend,
    keyring: Keyring,
    letter_id: str,
    *,
    deadline: Deadline,
    even_if_done: bool = False,
) -> str:
    """Publish the letter's message again and return the topic; raises as `plan_replay`.

    Safe at any moment, again and from several places: whatever its message had done already is
    not repeated. Conflict is raised when somebody moved its outbox entry meanwhile.
    """
    replay = await plan_replay(
        backend, keyring, letter_id, deadline=deadline, even_if_done=even_if_done
    )
    if replay.reopened is not None:  # a crash behind this leaves the entry to the sweep
        await backend.documents.commit([replay.reopened], deadline=deadline)
    await backend.publisher.publish(replay.topic, replay.data, deadline=deadline)
    noted = Patch(replay.path, {"replayed_at": backend.clock()})
    try:
        await backend.documents.commit([noted], deadline=deadline)
    except Conflict:
        log(ReplayedLetterGone())  # it expired, or its person was erased
    return replay.topic


async def plan_replay(
    backend: Backend,
    keyring: Keyring,
    letter_id: str,
    *,
    deadline: Deadline,
    even_if_done: bool = False,
) -> Replay:
    """Return what a replay would do.

    A message that had no request id was known by its message id: that becomes its request id, so
    that an effect it had already is not repeated. Likewise its publish time stays the time of what
    it says, where it named none. A callback or an action that was refused is put
    back into the outbox. Raises InvalidInput when there is no such letter, when it cannot be
    opened, when its topic is none that takes messages, when nothing is left to send, and for an
    action of which nobody knows whether it was done: that one goes `even_if_done` only.
    """
    if "/" in letter_id:
        raise _no_such_letter()
    path = f"dead_letters/{letter_id}"
    document = await backend.documents.get(path, deadline=deadline)
    payload = await open_payload(backend, keyring, letter_id, deadline=deadline)
    if document is None or payload is None:
        raise _no_such_letter()
    source = document.fields["source"]
    topic = str(source["topic"])
    is_unread = document.fields["reason"]["code"] == "unsupported_version"
    if topic not in _TOPICS and not (topic == DEAD_LETTER_TOPIC and is_unread):
        raise InvalidInput("invalid_field", "its topic takes no messages", "source.topic")
    if topic == STITCH_TOPIC:
        payload = _as_first_published(payload, source)
    if topic != ACTIONS_TOPIC:
        return Replay(path, topic, payload, None)
    outbox_id = parse_action(decode_json(payload))
    reopened = await _reopened(backend, outbox_id, even_if_done=even_if_done, deadline=deadline)
    # The letter may have told more than the topic's schema knows.
    data = msgspec.json.encode({"v": MESSAGE_VERSION, "outbox_id": outbox_id})
    return Replay(path, topic, data, reopened)


async def _reopened(
    backend: Backend, outbox_id: str, *, even_if_done: bool, deadline: Deadline
) -> Patch:
    """Return what makes an entry of use again, from now on; pending when it had been refused."""
    path = f"outbox/{outbox_id}"
    document = await backend.documents.get(path, deadline=deadline)
    if document is None:
        raise InvalidInput("not_found", "it is no longer in the outbox")
    fields = document.fields
    _check_reopening(fields, even_if_done=even_if_done)
    now = backend.clock()
    useful_s = ACTION_REPLAY_S if fields["kind"] == "action" else CALLBACK_EXPIRY_S
    reopened: dict[str, Any] = {
        "useful_until": max(fields["useful_until"], now + timedelta(seconds=useful_s)),
        "pending": fields.get("pending", pending_shard()),
        "pending_since": now,
    }
    remove = ["not_before", "told_at", "ended_at", "reason"]
    if fields["status"] != "pending":
        remove += ["lease", "lease_until", "why"]
        reopened |= {
            "status": "pending",
            "attempts": 0,
            "replays": fields.get("replays", 0) + 1,
            "expires_at": now + timedelta(days=OUTBOX_EXPIRY_DAYS),
        }
    return Patch(path, reopened, remove=remove, if_version=document.version)


def _no_such_letter() -> InvalidInput:
    return InvalidInput("not_found", "no dead letter has this id")


def _check_reopening(fields: Mapping[str, Any], *, even_if_done: bool) -> None:
    is_kept = "data" in fields or "fields" in fields.get("action", {})
    if fields["status"] not in ("pending", "rejected", "dead_letter") or not is_kept:
        raise InvalidInput("invalid_field", "it has ended, and nothing is left to send")
    if fields.get("reason") == "OUTCOME_UNKNOWN" and not even_if_done:
        raise InvalidInput(
            "invalid_field",
            "nobody knows whether it was done: ask the provider, then replay it --even-if-done",
        )


def _as_first_published(payload: bytes, source: Mapping[str, Any]) -> bytes:
    """Return a stitch request with what its first message stood for: its request id and its time.

    By the time of the replay an old grant would win over a denial that came between.
    """
    try:
        message = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload  # it was refused for this and will be again
    stood_for = {"request_id": source["message_id"], "occurred_at": _time(source["published_at"])}
    missing = {
        name: value
        for name, value in stood_for.items()
        if value is not None and message.get(name, b"null") == b"null"
    }
    return msgspec.json.encode({**message, **missing}) if missing else payload


def _time(text: object) -> datetime | None:
    """Return the publish time that a letter's source names; Pub/Sub's attribute is only text."""
    try:
        return optional_time({"published_at": text}, "published_at")
    except InvalidInput:
        return None
