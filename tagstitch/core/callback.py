"""Callbacks: the stitched result on its way back to a registered sGTM endpoint."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from tagstitch.core.errors import InvalidInput
from tagstitch.core.fields import object_of, optional_request_id
from tagstitch.core.message_version import check_version

CallbackVerdict = Literal["delivered", "retry", "rejected"]

_SECRET_BYTES_MIN: Final = 24
"""Bytes that Standard Webhooks asks of a secret."""

_RETRY_STATUSES: Final = frozenset({408, 429})

BACKOFF_S: Final = (10.0, 600.0)
"""Seconds between two deliveries of a message, at least and at most (infra/topology.json)."""

_BACKOFF_PART: Final = 0.75
"""Part of Pub/Sub's own doubling backoff that an entry insists on: a message that comes a little
early, because that backoff is not exact, must not wait for a whole further round."""


class CallbackEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A registered sGTM endpoint; a message names its `id`, never a URL."""

    id: str
    url: str
    secret: str
    """`whsec_` + base64; during a rotation two, separated by a space, the new one first."""
    attributes: frozenset[str]
    """The profile attributes that may leave to this endpoint; `*` means all."""
    scheme: Literal["standard", "sha256"] = "standard"
    """`sha256` adds a signature for sGTM servers that have no key file."""
    allow_private: bool = False
    """Exempts this host and port from the address guard; for local work only."""
    acknowledges: bool = False
    """Its answer names the callback; a 2xx that does not comes from something else, such as a
    container of which no client took the request, and counts as a failed attempt."""

    def allowed(
        self, attributes: Mapping[str, Any], *, concealed: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Return the attributes that may leave to this endpoint; `*` means no concealed one."""
        listed = self.attributes
        if "*" in listed:
            listed |= attributes.keys() - concealed
        return {name: value for name, value in attributes.items() if name in listed}


def callback_body(data: msgspec.Raw, *, sent_at: datetime) -> bytes:
    """Return the JSON body `visitor.stitched`; `data` is encoded already."""
    body = {"type": "visitor.stitched", "timestamp": sent_at, "data": data}
    return msgspec.json.encode(body)


NOT_ACKNOWLEDGED: Final = "NOT_ACKNOWLEDGED"
"""Why an attempt failed whose answer was a 2xx of something else."""

ENDPOINT_LEFT_ALONE: Final = "ENDPOINT_LEFT_ALONE"
"""Why no attempt was made: others had shown that the endpoint fails, or refuses everything."""


class _Acknowledgement(msgspec.Struct):
    acknowledged: str


def is_acknowledged(body: bytes, webhook_id: str) -> bool:
    """Return whether an answer says that this callback was taken: `{"acknowledged": webhook_id}`."""
    try:
        answer = msgspec.json.decode(body, type=_Acknowledgement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return answer.acknowledged == webhook_id


def judge_status(status: int) -> CallbackVerdict:
    """Return what an endpoint's answer means.

    2xx has arrived; 408, 429 and 5xx may work later; anything else, redirects included, will be
    the same next time.
    """
    if 200 <= status < 300:
        return "delivered"
    if status in _RETRY_STATUSES or status >= 500:
        return "retry"
    return "rejected"


def retry_delay_s(attempts: int, retry_after_s: float | None, *, scale: float) -> float:
    """Return the seconds to leave an endpoint alone after its n-th attempt failed and may work later.

    At least 10, doubling to 600, times `scale`; its own Retry-After when that is longer, up to
    600 too.
    """
    shortest_s, longest_s = BACKOFF_S
    doubled_s = shortest_s * _BACKOFF_PART * float(2 ** min(attempts - 1, 10))
    backoff_s = min(max(doubled_s, shortest_s), longest_s) * scale
    return min(max(backoff_s, retry_after_s or 0.0), longest_s)


def parse_action(raw: object) -> str:
    """Return the outbox id of a message of topic `actions`; it carries nothing else."""
    action = object_of(raw, "")
    check_version(action)
    outbox_id = optional_request_id(action, "outbox_id")
    if outbox_id is None:
        raise InvalidInput("missing_field", "an action names its outbox entry", "outbox_id")
    return outbox_id


def unknown_callback() -> InvalidInput:
    """Return the error for an endpoint that nobody registered."""
    return InvalidInput(
        "unknown_callback", "no endpoint of this id is registered", "callback",
        "TAGSTITCH_CALLBACKS lists the registered endpoints",
    )  # fmt: skip


def is_strong_secret(secret: str) -> bool:
    """Return whether a secret has at least 24 bytes, as the specification asks."""
    try:
        return (
            len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= _SECRET_BYTES_MIN
        )
    except ValueError:
        return False
