"""Messages out through Pub/Sub: one call a message, awaited, no batching, no retries.

The client library's default batching costs a caller that waits 14 ms, and its result was still
pending 100 s after the service had gone (bench/cloud_calls.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import grpc
import grpc.aio
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.types import pubsub as pubsub_types

from tagstitch.adapters.grpc_channel import (
    call_metadata,
    open_channel,
    raise_failure,
    timeout_s,
)
from tagstitch.adapters.message_limits import check_message
from tagstitch.adapters.reconnecting_channel import ReconnectingChannel
from tagstitch.pipeline.deadline import Deadline

_WHAT: Final = "pubsub"
_Publish: Final = pubsub_types.PublishRequest.pb()
_PublishAnswer: Final = pubsub_types.PublishResponse.pb()
# As Pub/Sub's own client: a connection that has silently gone ends, also between calls, since the
# kernel then gives up bytes that nobody acknowledges after 20 s (TCP_USER_TIMEOUT).
_OPTIONS: Final = (("grpc.keepalive_time_ms", 30_000),)


class PubsubPublisher:
    """The topics of one project; the first call opens the channel in the running event loop."""

    def __init__(self, project: str, *, emulator: str | None = None) -> None:
        self._topics = f"projects/{project}/topics/"
        self._emulator = emulator
        self._channel = ReconnectingChannel(self._open_channel, _publish_stub)

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        """Return the message id once Pub/Sub has stored the message."""
        check_message(data, attributes or {})
        timeout = timeout_s(_WHAT, deadline)
        request = _Publish(topic=self._topics + topic)
        message = request.messages.add(data=data)
        message.attributes.update(attributes or {})
        metadata = call_metadata("topic=" + quote(request.topic, safe=""), emulator=self._emulator)
        try:
            with self._channel.calling() as publish:
                answer = await publish(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise_failure(_WHAT, error.code())
        return str(answer.message_ids[0])

    async def close(self) -> None:
        """Close the channel; a later call opens a new one."""
        await self._channel.close()

    def _open_channel(self) -> Any:
        return open_channel(
            PublisherGrpcAsyncIOTransport.DEFAULT_HOST,
            PublisherGrpcAsyncIOTransport.AUTH_SCOPES,
            emulator=self._emulator,
            options=_OPTIONS,
        )


def _publish_stub(channel: Any) -> Any:
    return channel.unary_unary(
        "/google.pubsub.v1.Publisher/Publish",
        request_serializer=_Publish.SerializeToString,
        response_deserializer=_PublishAnswer.FromString,
    )
