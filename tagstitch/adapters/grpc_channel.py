"""gRPC channels to Google's services or their emulators, and what a failed call means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.api_core.grpc_helpers_async import create_channel

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline

_OPTIONS: Final = (
    # The services have limits of their own; gRPC's 4 MB would refuse a batch of large documents.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits up to two minutes before it dials again; a service that is back is used at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A channel that takes another's place (reconnecting_channel.py) must not share its connection.
    ("grpc.use_local_subchannel_pool", 1),
)

CALL_S_MAX: Final = 5.0
"""Seconds for one call of a service, whatever the deadline: the largest commit takes one or two,
and a message waits better for its redelivery than on a connection that is dead."""

_BUGS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class ServiceRefusedError(RuntimeError):
    """A service said that a request of ours can never work: a bug, never the caller's fault."""


def open_channel(
    host: str,
    scopes: Sequence[str],
    *,
    emulator: str | None,
    options: Sequence[tuple[str, int]] = (),
) -> Any:
    """Return a channel of the running event loop: with the service's credentials, or plain."""
    options = (*_OPTIONS, *options)
    if emulator is not None:
        return grpc.aio.insecure_channel(emulator, options=options)
    return create_channel(f"{host}:443", default_scopes=scopes, options=options)


def call_metadata(routing: str, *, emulator: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call: the routing header, and the emulators' open door."""
    header = (("x-goog-request-params", routing),)
    # The Firestore emulator applies security rules to everybody but its owner.
    return (*header, ("authorization", "Bearer owner")) if emulator is not None else header


def timeout_s(what: str, deadline: Deadline, *, at_most_s: float = CALL_S_MAX) -> float:
    """Return the seconds that a call may take; raises Unavailable when there are none."""
    if deadline.is_over:
        raise Unavailable(what, "the deadline is over")
    return min(deadline.remaining_s, at_most_s)


def raise_failure(what: str, code: grpc.StatusCode) -> NoReturn:
    """Raise what a failed call means.

    Only the status leaves: the details of a status may quote what we sent. A missing permission
    counts as unavailable, because the same request works once the operator has mended it.
    """
    if code in _BUGS:
        raise ServiceRefusedError(f"{what} refused a request: {code.name}") from None
    raise Unavailable(what, code.name) from None
