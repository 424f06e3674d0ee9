"""Messages and their deliveries in SQLite: what the in-process Pub/Sub must not forget."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.topology import Subscription, Topology
from tagstitch.pipeline.deadline import Deadline

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        data BLOB NOT NULL,
        attributes BLOB NOT NULL,
        published_at REAL NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS deliveries (
        subscription TEXT NOT NULL,
        message_id INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        leased INTEGER NOT NULL DEFAULT 0,
        due_at REAL NOT NULL,
        PRIMARY KEY (subscription, message_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (subscription, due_at, message_id)",
    "CREATE INDEX IF NOT EXISTS deliveries_message ON deliveries (message_id)",
    "CREATE INDEX IF NOT EXISTS messages_age ON messages (topic, published_at)",
)

_LEASE_MARGIN_S = 10.0
"""Beyond the ack deadline, at which the dispatcher itself gives a delivery up."""

_JITTER = (1.0, 1.25)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver one message."""

    subscription: str
    message_id: int
    attempt: int
    data: bytes
    attributes: Mapping[str, str]
    published_at: float


@dataclass(frozen=True, slots=True)
class Settled:
    """How an attempt ended."""

    delivery: Delivery
    acknowledged: bool


class SqliteQueue:
    """Every topic's messages, one delivery a subscription. Times are seconds since 1970."""

    def __init__(
        self, database: SqliteDatabase, topology: Topology, *, project: str, retry_scale: float
    ) -> None:
        self._database = database
        self._topology = topology
        self._project = project
        self._retry_scale = retry_scale
        self._subscriptions = {
            topic: [name for name, sub in topology.subscriptions.items() if sub.topic == topic]
            for topic in topology.topics
        }
        database.create(*_TABLES)

    async def insert(
        self,
        topic: str,
        data: bytes,
        attributes: Mapping[str, str],
        *,
        now: float,
        deadline: Deadline,
    ) -> int:
        """Return the new message's id once it is stored."""
        return await self._database.write(
            lambda connection: self._insert(connection, topic, data, attributes, now), deadline
        )

    async def advance(
        self,
        settled: Sequence[Settled],
        free: Mapping[str, int],
        *,
        now: float,
        deadline: Deadline,
    ) -> list[Delivery]:
        """Book what ended and lease, by subscription, as many due messages as are `free`."""

        def book_and_lease(connection: sqlite3.Connection) -> list[Delivery]:
            self._settle(connection, settled, now)
            return [
                delivery
                for name, count in free.items()
                for delivery in self._lease(connection, name, count, now)
            ]

        return await self._database.write(book_and_lease, deadline)

    async def next_due_at(self, subscriptions: Iterable[str], *, deadline: Deadline) -> float:
        """Return when the first of these has something to deliver; infinity for never."""

        def first(connection: sqlite3.Connection) -> float:
            rows = [
                connection.execute(
                    "SELECT due_at FROM deliveries WHERE subscription = ? AND leased = 0"
                    " ORDER BY due_at LIMIT 1",
                    (name,),
                ).fetchone()
                for name in subscriptions
            ]
            return min((row[0] for row in rows if row), default=float("inf"))

        return await self._database.read(first, deadline)

    async def has_due(self, *, now: float, deadline: Deadline) -> bool:
        """Return whether anything is due or leased."""
        statement = "SELECT 1 FROM deliveries WHERE due_at <= ? OR leased = 1 LIMIT 1"
        row = await self._database.read(
            lambda connection: connection.execute(statement, (now,)).fetchone(), deadline
        )
        return row is not None

    async def release(self, *, now: float, deadline: Deadline) -> None:
        """Make everything that a process leased and never settled due at once."""
        statement = "UPDATE deliveries SET leased = 0, due_at = ? WHERE leased = 1"
        await self._database.write(
            lambda connection: connection.execute(statement, (now,)), deadline
        )

    async def purge(self, *, now: float, deadline: Deadline) -> None:
        """Delete messages that are older than their topic keeps them, delivered or not."""

        def delete(connection: sqlite3.Connection) -> None:
            for name, topic in self._topology.topics.items():
                rows = connection.execute(
                    "DELETE FROM messages WHERE topic = ? AND published_at < ? RETURNING id",
                    (name, now - topic.retention_s),
                ).fetchall()
                connection.executemany("DELETE FROM deliveries WHERE message_id = ?", rows)

        await self._database.write(delete, deadline)

    async def clear(self, *, deadline: Deadline) -> None:
        """Delete every message; what is being delivered is then settled without effect."""

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM deliveries")
            connection.execute("DELETE FROM messages")

        await self._database.write(delete, deadline)

    def _insert(
        self,
        connection: sqlite3.Connection,
        topic: str,
        data: bytes,
        attributes: Mapping[str, str],
        now: float,
    ) -> int:
        message_id: int = connection.execute(
            "INSERT INTO messages (topic, data, attributes, published_at) VALUES (?, ?, ?, ?)"
            " RETURNING id",
            (topic, data, msgspec.json.encode(attributes), now),
        ).fetchone()[0]
        connection.executemany(
            "INSERT INTO deliveries (subscription, message_id, due_at) VALUES (?, ?, ?)",
            [(name, message_id, now) for name in self._subscriptions[topic]],
        )
        return message_id

    def _lease(
        self, connection: sqlite3.Connection, name: str, count: int, now: float
    ) -> list[Delivery]:
        leased_until = now + self._topology.subscriptions[name].ack_deadline_s + _LEASE_MARGIN_S
        attempts: dict[int, int] = dict(
            connection.execute(
                "UPDATE deliveries SET attempts = attempts + 1, leased = 1, due_at = ?"
                " WHERE subscription = ? AND message_id IN ("
                "  SELECT message_id FROM deliveries WHERE subscription = ? AND due_at <= ?"
                "  ORDER BY due_at, message_id LIMIT ?)"
                " RETURNING message_id, attempts",
                (leased_until, name, name, now, count),
            ).fetchall()
        )
        marks = ", ".join("?" for _ in attempts)
        rows = connection.execute(
            f"SELECT id, data, attributes, published_at FROM messages WHERE id IN ({marks})",  # noqa: S608 - marks only
            list(attempts),
        )
        return [
            Delivery(
                name,
                message_id,
                attempts[message_id],
                data,
                msgspec.json.decode(attributes, type=dict[str, str]),
                published_at,
            )
            for message_id, data, attributes, published_at in rows
        ]

    def _settle(
        self, connection: sqlite3.Connection, settled: Sequence[Settled], now: float
    ) -> None:
        done = []
        for item in settled:
            subscription = self._topology.subscriptions[item.delivery.subscription]
            if item.acknowledged:
                done.append(item.delivery)
            elif item.delivery.attempt >= (subscription.max_delivery_attempts or float("inf")):
                done.append(item.delivery)
                self._forward(connection, subscription, item.delivery, now)
            else:
                self._postpone(connection, subscription, item.delivery, now)
        connection.executemany(
            "DELETE FROM deliveries WHERE subscription = ? AND message_id = ?",
            [(delivery.subscription, delivery.message_id) for delivery in done],
        )
        connection.executemany(
            "DELETE FROM messages WHERE id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message_id = ?1)",
            [(delivery.message_id,) for delivery in done],
        )

    def _postpone(
        self,
        connection: sqlite3.Connection,
        subscription: Subscription,
        delivery: Delivery,
        now: float,
    ) -> None:
        wait_s = subscription.backoff_s(delivery.attempt) * random.uniform(*_JITTER)
        due_at = now + min(wait_s, subscription.backoff_max_s) * self._retry_scale
        connection.execute(
            "UPDATE deliveries SET leased = 0, due_at = ?"
            " WHERE subscription = ? AND message_id = ?",
            (due_at, delivery.subscription, delivery.message_id),
        )

    def _forward(
        self,
        connection: sqlite3.Connection,
        subscription: Subscription,
        delivery: Delivery,
        now: float,
    ) -> None:
        """Publish to the dead-letter topic as Pub/Sub does.

        https://cloud.google.com/pubsub/docs/handling-failures#how_dead_letter_topics_work
        """
        exists = connection.execute(
            "SELECT 1 FROM deliveries WHERE subscription = ? AND message_id = ?",
            (delivery.subscription, delivery.message_id),
        ).fetchone()
        if exists is None or subscription.dead_letter_topic is None:
            return  # cleared while it was being delivered
        attributes = {
            **delivery.attributes,
            "CloudPubSubDeadLetterSourceDeliveryCount": str(delivery.attempt),
            "CloudPubSubDeadLetterSourceSubscription": delivery.subscription,
            "CloudPubSubDeadLetterSourceSubscriptionProject": self._project,
            "CloudPubSubDeadLetterSourceTopicPublishTime": rfc3339(delivery.published_at),
        }
        self._insert(connection, subscription.dead_letter_topic, delivery.data, attributes, now)


def rfc3339(seconds: float) -> str:
    """Return a time as Pub/Sub writes it, to the millisecond."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
