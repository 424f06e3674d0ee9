"""Runs the local stack, and kills it by SIGKILL at a named point, once in a data folder.

    python crashing_stack.py DATA_DIR PORT [POINT]

The product has no hooks for this: the points are patched in from outside. A flag file in the data
folder says that the crash has happened, so that a restart with the same arguments goes on.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagstitch.adapters.in_process_pubsub import InProcessPubSub
from tagstitch.adapters.requests_callbacks import RequestsCallbackSender
from tagstitch.adapters.sqlite_audit import SqliteAuditTable
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.local_stack.server import StackOptions, run_local_stack
from tagstitch.pipeline.backend import Write
from tagstitch.pipeline.deliver import CallbackDelivery
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.stitch import Stitcher

FLAG = "crashed.json"


@dataclass(frozen=True)
class Point:
    """A place in the code: before or behind one call of a method."""

    owner: type
    method: str
    where: str
    applies: Callable[..., bool] = lambda *_, **__: True


def _writes(collection: str) -> Callable[..., bool]:
    """Return whether a commit writes into the collection."""

    def applies(_: object, writes: Sequence[Write], **__: Any) -> bool:
        return any(write.path.startswith(f"{collection}/") for write in writes)

    return applies


def _marks(_: object, writes: Sequence[Write], **__: Any) -> bool:
    """Return whether a commit marks an outbox entry as ended."""
    fields = [getattr(write, "fields", {}) for write in writes]
    return any("ended_at" in each for each in fields)


def _holds(collection: str) -> Callable[..., bool]:
    """Return whether committed records lie in a document of the collection."""

    def applies(*_: object, path: str, **__: Any) -> bool:
        return path.startswith(f"{collection}/")

    return applies


def _to_topic(topic: str) -> Callable[..., bool]:
    def applies(_: object, to: str, *__: object, **___: Any) -> bool:
        return to == topic

    return applies


POINTS = {
    "behind the accepted message": Point(
        InProcessPubSub, "publish", "behind", _to_topic("stitch-requests")
    ),
    "before the commit": Point(SqliteDocuments, "commit", "before", _writes("processed")),
    "between commit and publish": Point(
        AuditPublisher, "publish_committed", "before", _holds("processed")
    ),
    "between publish and callback": Point(CallbackDelivery, "deliver_first", "before"),
    "between callback and its mark": Point(RequestsCallbackSender, "post", "behind"),
    "between mark and publish": Point(SqliteDocuments, "commit", "behind", _marks),
    "between publish and acknowledge": Point(Stitcher, "process", "behind"),
    "between audit row and acknowledge": Point(SqliteAuditTable, "append", "behind"),
}


class Unmarked:
    """The callbacks that this process has begun to post and has not marked as ended."""

    def __init__(self) -> None:
        self.request_ids: set[str] = set()
        self._of_path: dict[str, str] = {}

    def watch(self) -> None:
        """Follow every POST and every commit from now on."""
        post, commit = RequestsCallbackSender.post, SqliteDocuments.commit

        async def watched_post(sender: Any, url: str, **options: Any) -> Any:
            self.request_ids.add(options["headers"]["webhook-id"])
            return await post(sender, url, **options)

        async def watched_commit(store: Any, writes: Sequence[Write], **options: Any) -> None:
            await commit(store, writes, **options)
            for write in writes:
                fields = getattr(write, "fields", {})
                if "request_id" in fields:
                    self._of_path[write.path] = fields["request_id"]
                if "ended_at" in fields:
                    self.request_ids.discard(self._of_path[write.path])

        RequestsCallbackSender.post = watched_post  # type: ignore[method-assign, assignment]
        SqliteDocuments.commit = watched_commit  # type: ignore[method-assign, assignment]


def crash_at(point: Point, flag: Path) -> None:
    """Make the process die at the point, and leave in the flag what it had not marked."""
    unmarked = Unmarked()
    unmarked.watch()
    original = getattr(point.owner, point.method)

    def die() -> None:
        flag.write_text(json.dumps(sorted(unmarked.request_ids)))
        os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    async def crashing(*arguments: Any, **options: Any) -> Any:
        is_here = point.applies(*arguments, **options)
        if is_here and point.where == "before":
            die()
        result = await original(*arguments, **options)
        if is_here and point.where == "behind":
            die()
        return result

    setattr(point.owner, point.method, crashing)


def main(data_dir: Path, port: int, point: str | None = None) -> None:
    """Serve until a signal, or until the crash."""
    flag = data_dir / FLAG
    if point is not None and not flag.exists():
        crash_at(POINTS[point], flag)

    def announce(url: str) -> None:
        print(json.dumps({"severity": "INFO", "message": "ready", "url": url}), flush=True)

    run_local_stack(StackOptions(data_dir=data_dir, port=port), announce)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
