"""Pub/Sub in this process: the push format, retries and dead letters of the real one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from tagstitch.adapters.message_limits import check_message
from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_queue import Delivery, Settled, SqliteQueue, rfc3339
from tagstitch.adapters.topology import Topology
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.log_events import PushFailed, QueueUnavailable, log

Push = Callable[[str, str, bytes], Awaitable[int]]
"""(function, path, body) -> the HTTP status of the answer."""

ACK_STATUSES: Final = frozenset({102, 200, 201, 202, 204})
"""https://cloud.google.com/pubsub/docs/push#receive_push"""

_CONCURRENT_PUSHES_MAX: Final = 32
"""By subscription."""

_POLL_S: Final = 0.2
"""How long a message from another process may wait to be seen."""

_PURGE_EVERY_S: Final = 600.0
_STOP_S: Final = 10.0
_TURN_DEADLINE_S: Final = 30.0
_FAULT_PAUSE_S: Final = 0.5


class InProcessPubSub:
    """Publisher, and the dispatcher that pushes what is published.

    A message is stored before `publish` returns and stays until every subscription acknowledged
    it, so it survives the death of the process. Any process may publish into a data folder; only
    one at a time delivers from it.
    """

    def __init__(
        self,
        database: SqliteDatabase,
        topology: Topology,
        *,
        project: str = "local",
        retry_scale: float = 1.0,
    ) -> None:
        self._topology = topology
        self._project = project
        self._lock_path = database.path.with_name("dispatcher.lock")
        self._queue = SqliteQueue(database, topology, project=project, retry_scale=retry_scale)
        self._pushes: dict[str, set[asyncio.Task[None]]] = {
            name: set() for name in topology.subscriptions
        }
        self._settled: list[Settled] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._purge_at = 0.0

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        """Return the message id once the message is stored."""
        attributes = attributes or {}
        check_message(data, attributes)
        if topic not in self._topology.topics:
            raise Unavailable("pubsub", "the topic does not exist")
        message_id = await self._queue.insert(
            topic, data, attributes, now=time.time(), deadline=deadline
        )
        self._wake.set()
        return str(message_id)

    async def run(self, push: Push) -> None:
        """Deliver until `stop`; what is in flight then has ten seconds to end.

        Raises Unavailable when another process delivers from the same data folder.
        """
        self._stopping = False
        with self._exclusive():
            # Leases of a process that died: nobody is working on them, whatever they say.
            await self._queue.release(now=time.time(), deadline=Deadline.after(_TURN_DEADLINE_S))
            try:
                while not self._stopping:
                    try:
                        await self._purge()
                        await self._turn(push)
                        await self._rest()
                    except Unavailable as error:
                        log(QueueUnavailable(why=str(error)))
                        await asyncio.sleep(_FAULT_PAUSE_S)
            finally:
                await self._end()

    def stop(self) -> None:
        """Make `run` end."""
        self._stopping = True
        self._wake.set()

    async def is_idle(self) -> bool:
        """Return whether nothing is due or being delivered; a retry that waits counts as idle."""
        if self._settled or any(self._pushes.values()):
            return False
        deadline = Deadline.after(_TURN_DEADLINE_S)
        return not await self._queue.has_due(now=time.time(), deadline=deadline)

    async def wait_idle(self, timeout_s: float) -> bool:
        """Return True once idle, False when it is not by then."""
        deadline = Deadline.after(timeout_s)
        while not await self.is_idle():
            if deadline.is_over:
                return False
            await asyncio.sleep(0.005)
        return True

    async def clear(self) -> None:
        """Forget every message."""
        await self._queue.clear(deadline=Deadline.after(_TURN_DEADLINE_S))

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock_path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Unavailable(
                    "pubsub", "another process delivers from this data folder"
                ) from None
            yield  # the lock ends with the file, also when the process dies

    async def _turn(self, push: Push) -> None:
        """Book what ended since the last turn and start what is due, in one transaction."""
        self._wake.clear()
        settled, self._settled = self._settled, []
        try:
            deliveries = await self._queue.advance(
                settled, self._free(), now=time.time(), deadline=Deadline.after(_TURN_DEADLINE_S)
            )
        except Unavailable:
            self._settled = settled + self._settled
            raise
        for delivery in deliveries:
            task = asyncio.create_task(self._deliver(delivery, push))
            pushes = self._pushes[delivery.subscription]
            pushes.add(task)
            task.add_done_callback(pushes.discard)

    async def _rest(self) -> None:
        """Wait for a push to end, for a message, or for the next one to be due."""
        now = time.time()
        deadline = Deadline.after(_TURN_DEADLINE_S)
        due_at = await self._queue.next_due_at(self._free(), deadline=deadline)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(due_at - now, 0.0), _POLL_S)):
                await self._wake.wait()
        # Let other pushes that are about to end do so: one transaction books them all.
        await asyncio.sleep(0)

    def _free(self) -> dict[str, int]:
        """Return subscription -> pushes that may start."""
        return {
            name: _CONCURRENT_PUSHES_MAX - len(pushes)
            for name, pushes in self._pushes.items()
            if len(pushes) < _CONCURRENT_PUSHES_MAX
        }

    async def _deliver(self, delivery: Delivery, push: Push) -> None:
        subscription = self._topology.subscriptions[delivery.subscription]
        acknowledged = False
        try:
            async with asyncio.timeout(subscription.ack_deadline_s):
                status = await push(subscription.function, subscription.path, self._body(delivery))
            acknowledged = status in ACK_STATUSES
        except Exception as error:  # noqa: BLE001 - whatever a push raises is a failed push
            # The class alone: texts of exceptions may quote the message.
            log(PushFailed(subscription=delivery.subscription, error=type(error).__name__))
        finally:
            self._settled.append(Settled(delivery, acknowledged))
            self._wake.set()

    def _body(self, delivery: Delivery) -> bytes:
        """Return the body of a push request.

        https://cloud.google.com/pubsub/docs/push#receive_push
        """
        time_text = rfc3339(delivery.published_at)
        message: dict[str, Any] = {
            "data": base64.b64encode(delivery.data).decode(),
            "messageId": str(delivery.message_id),
            "message_id": str(delivery.message_id),
            "publishTime": time_text,
            "publish_time": time_text,
        }
        if delivery.attributes:
            message["attributes"] = delivery.attributes
        name = f"projects/{self._project}/subscriptions/{delivery.subscription}"
        body: dict[str, Any] = {"subscription": name, "message": message}
        if self._topology.subscriptions[delivery.subscription].max_delivery_attempts is not None:
            body["deliveryAttempt"] = delivery.attempt
        return msgspec.json.encode(body)

    async def _purge(self) -> None:
        """Delete, now and then, what is older than its topic keeps it."""
        if time.monotonic() < self._purge_at:
            return
        await self._queue.purge(now=time.time(), deadline=Deadline.after(_TURN_DEADLINE_S))
        self._purge_at = time.monotonic() + _PURGE_EVERY_S

    async def _end(self) -> None:
        """Wait for the pushes in flight, cancel the rest, and give their leases back."""
        tasks = {task for pushes in self._pushes.values() for task in pushes}
        if tasks and self._stopping:
            await asyncio.wait(tasks, timeout=_STOP_S)
        ended, self._settled = self._settled, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was cancelled did not fail: it is due again at once, without a backoff.
        ended += [item for item in self._settled if item.acknowledged]
        self._settled = []
        now, deadline = time.time(), Deadline.after(_STOP_S)
        try:
            await self._queue.advance(ended, {}, now=now, deadline=deadline)
            await self._queue.release(now=now, deadline=deadline)
        except Unavailable as error:
            # What ended stays leased, and is delivered again at the next start.
            log(QueueUnavailable(why=str(error)))
