"""Starting the emulators, and the topology in the Pub/Sub emulator."""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tagstitch.adapters.pubsub_publisher import PubsubPublisher
from tagstitch.local_stack.emulators import (
    EmulatorError,
    Emulators,
    missing_parts,
    run_emulators,
)
from tagstitch.local_stack.pubsub_topology import create_topology, one_server
from tagstitch.pipeline.deadline import Deadline
from tests.emulators import PROJECT, REPOSITORY

TOPOLOGY = json.loads((REPOSITORY / "infra" / "topology.json").read_text())


def test_what_is_missing_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    missing = missing_parts(tmp_path)

    assert [part.partition(" (")[0] for part in missing] == [
        "Java 21 or later",
        "gcloud",
        "bqemulator",
    ]
    with (
        pytest.raises(EmulatorError, match="make bqemulator"),
        run_emulators(tmp_path, project="p"),
    ):
        pytest.fail("nothing can run here")


@dataclass
class PushServer:
    """A server that keeps what is pushed to it and refuses what it is told to."""

    url: str = ""
    refused: set[str] = field(default_factory=set)
    pushed: queue.Queue[tuple[str, dict[str, Any]]] = field(default_factory=queue.Queue)


@pytest.fixture
def push_server() -> Iterator[PushServer]:
    kept = PushServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.pushed.put((self.path, json.loads(body)))
            self.send_response(503 if self.path in kept.refused else 204)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


@pytest.mark.emulators
async def test_the_topology_pushes_each_topic_to_its_function_and_dead_letters_after_five_attempts(
    emulators: Emulators, push_server: PushServer
) -> None:
    project = "topology-test"
    create_topology(
        TOPOLOGY,
        emulator=emulators.pubsub,
        project=project,
        push_url=one_server(push_server.url),
        retry_scale=0.01,
    )
    push_server.refused = {"/stitch_async/"}
    publisher = PubsubPublisher(project, emulator=emulators.pubsub)
    for topic in ("actions", "audit", "stitch-requests"):
        await publisher.publish(topic, topic.encode(), deadline=Deadline.after(10))
    await publisher.close()

    paths: dict[str, list[str]] = {}
    give_up = Deadline.after(120)
    while "/audit_sink/deadletters" not in paths:
        assert not give_up.is_over, paths
        path, body = await asyncio.to_thread(push_server.pushed.get, timeout=60)
        data = base64.b64decode(body["message"]["data"]).decode()
        paths.setdefault(path, []).append(data)

    # Both redelivery and dead-lettering are at least so often, never exactly.
    assert {path: {*data} for path, data in paths.items()} == {
        "/stitch_async/actions": {"actions"},
        "/audit_sink/": {"audit"},
        "/stitch_async/": {"stitch-requests"},
        "/audit_sink/deadletters": {"stitch-requests"},
    }
    assert len(paths["/stitch_async/"]) >= 5


@pytest.mark.emulators
def test_emulators_of_a_second_stack_start_beside_the_first_and_stop(emulators: Emulators) -> None:
    with run_emulators(REPOSITORY, project=PROJECT) as second:
        addresses = {*second.environment().values()}

    assert not addresses & {*emulators.environment().values()}
