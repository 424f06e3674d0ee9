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
from tagstitch.pipeline.deadline import Deadline

_WHAT: Final = "pubsub"
_Publish: Final = pubsub_types.PublishRequest.pb()
_PublishAnswer: Final = pubsub_types.PublishResponse.pb()


class PubsubPublisher:
    """The topics of one project; the first call opens the channel in the running event loop."""

    def __init__(self, project: str, *, emulator: str | None = None) -> None:
        self._topics = f"projects/{project}/topics/"
        self._emulator = emulator
        self._channel: Any = None
        self._stub: Any = None

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
            answer = await self._publish(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise_failure(_WHAT, error.code())
        return str(answer.message_ids[0])

    async def close(self) -> None:
        """Close the channel; a later call opens a new one."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    @property
    def _publish(self) -> Any:
        if self._stub is None:
            self._channel = open_channel(
                PublisherGrpcAsyncIOTransport.DEFAULT_HOST,
                PublisherGrpcAsyncIOTransport.AUTH_SCOPES,
                emulator=self._emulator,
            )
            self._stub = self._channel.unary_unary(
                "/google.pubsub.v1.Publisher/Publish",
                request_serializer=_Publish.SerializeToString,
                response_deserializer=_PublishAnswer.FromString,
            )
        return self._stub
