"""The cloud backend behind the contracts, on Google's emulators."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import grpc
import pytest
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tagstitch.adapters.firestore_documents import FirestoreDocuments
from tagstitch.adapters.pubsub_publisher import PubsubPublisher
from tagstitch.local_stack.emulators import Emulators
from tests.contract.document_store_contract import DocumentStoreContract
from tests.contract.publisher_contract import PublisherContract, Receive, ReceivedMessage
from tests.emulators import PROJECT

pytestmark = pytest.mark.emulators


class TestFirestoreDocuments(DocumentStoreContract):
    @pytest.fixture
    async def store(self, emulators: Emulators) -> AsyncIterator[FirestoreDocuments]:
        store = FirestoreDocuments(PROJECT, emulator=emulators.firestore)
        yield store
        await store.close()


class TestPubsubPublisher(PublisherContract):
    @pytest.fixture
    async def publisher(self, emulators: Emulators) -> AsyncIterator[PubsubPublisher]:
        publisher = PubsubPublisher(PROJECT, emulator=emulators.pubsub)
        yield publisher
        await publisher.close()

    @pytest.fixture
    def topic(self) -> str:
        return "contract-" + secrets.token_hex(6)

    @pytest.fixture
    async def receive(self, emulators: Emulators, topic: str) -> AsyncIterator[Receive]:
        subscription = f"projects/{PROJECT}/subscriptions/{topic}"
        with grpc.insecure_channel(emulators.pubsub) as channel:
            subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
            name = f"projects/{PROJECT}/topics/{topic}"
            PublisherClient(transport=PublisherGrpcTransport(channel=channel)).create_topic(
                {"name": name}, timeout=10, retry=None
            )
            subscriber.create_subscription(
                {"name": subscription, "topic": name}, timeout=10, retry=None
            )

            def pull(count: int) -> list[ReceivedMessage]:
                messages: dict[str, ReceivedMessage] = {}
                while len(messages) < count:
                    answer = subscriber.pull(
                        {"subscription": subscription, "max_messages": 100}, timeout=20, retry=None
                    )
                    for received in answer.received_messages:
                        message = received.message
                        messages[message.message_id] = ReceivedMessage(
                            message.message_id, message.data, dict(message.attributes)
                        )
                    subscriber.acknowledge(
                        {
                            "subscription": subscription,
                            "ack_ids": [r.ack_id for r in answer.received_messages],
                        },
                        timeout=10,
                        retry=None,
                    )
                return list(messages.values())

            yield lambda count: asyncio.to_thread(pull, count)
