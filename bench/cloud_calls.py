"""Reads from Firestore and publishes to Pub/Sub: our stubs against the client libraries.

    .venv/bin/python -m bench.cloud_calls

On the emulators, so the CPU column is the one to trust: latency and rate are the emulators' own.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import grpc
import uvloop
from google.cloud import firestore
from google.pubsub_v1 import PublisherAsyncClient, PublisherClient, PubsubMessage
from google.pubsub_v1.services.publisher.transports import (
    PublisherGrpcAsyncIOTransport,
    PublisherGrpcTransport,
)

from bench.measure_calls import HEADER, measure
from tagstitch.adapters.firestore_documents import FirestoreDocuments
from tagstitch.adapters.pubsub_publisher import PubsubPublisher
from tagstitch.local_stack.emulators import Emulators, run_emulators
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline

PROJECT = "bench"
FIELDS = {f"field_{n}": value for n, value in enumerate(["text", 1, 2.5, True, None, ["a"]] * 2)}


def soon() -> Deadline:
    return Deadline.after(10)


async def read_documents(emulators: Emulators) -> None:
    ours = FirestoreDocuments(PROJECT, emulator=emulators.firestore)
    await ours.commit([Put(f"c/{n}", FIELDS) for n in range(10)], deadline=soon())
    os.environ.update(emulators.environment())  # the only way to the library's own channel
    theirs = firestore.AsyncClient(PROJECT)
    reference = theirs.collection("c").document("1")
    references = [theirs.collection("c").document(str(n)) for n in range(10)]
    paths = [f"c/{n}" for n in range(10)]

    async def their_many() -> None:
        _ = [snapshot.to_dict() async for snapshot in theirs.get_all(references, timeout=10)]

    async def their_one() -> None:
        (await reference.get(timeout=10)).to_dict()

    for at_once in (1, 16):
        await measure("client library, get", their_one, count=1_000, at_once=at_once)
        await measure(
            "our stub, get", lambda: ours.get("c/1", deadline=soon()), count=1_000, at_once=at_once
        )
        await measure("client library, get 10", their_many, count=300, at_once=at_once)
        await measure(
            "our stub, get_many 10",
            lambda: ours.get_many(paths, deadline=soon()),
            count=300,
            at_once=at_once,
        )
    await ours.close()


async def publish_messages(emulators: Emulators) -> None:
    name = f"bench-{secrets.token_hex(4)}"
    topic = f"projects/{PROJECT}/topics/{name}"
    with grpc.insecure_channel(emulators.pubsub) as channel:
        transport = PublisherGrpcTransport(channel=channel)
        PublisherClient(transport=transport).create_topic({"name": topic}, timeout=10)
    data = b"x" * 600
    ours = PubsubPublisher(PROJECT, emulator=emulators.pubsub)
    async with grpc.aio.insecure_channel(emulators.pubsub) as channel:
        theirs = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        for at_once in (1, 16):
            await measure(
                "asynchronous client, publish",
                lambda: theirs.publish(
                    topic=topic, messages=[PubsubMessage(data=data)], timeout=10, retry=None
                ),
                count=1_000,
                at_once=at_once,
            )
            await measure(
                "our stub, publish",
                lambda: ours.publish(name, data, deadline=soon()),
                count=1_000,
                at_once=at_once,
            )
    await ours.close()


async def measure_all(emulators: Emulators) -> None:
    print(HEADER)
    await read_documents(emulators)
    await publish_messages(emulators)


def main() -> None:
    with run_emulators(Path.cwd(), project=PROJECT) as emulators:
        for name, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
            print(f"\n{name}\n")
            run(measure_all(emulators))


if __name__ == "__main__":
    main()
