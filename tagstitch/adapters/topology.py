"""`infra/topology.json`: what the local stack builds in one process, and a deployment in the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

TOPOLOGY_FILE: Final = Path(__file__).resolve().parents[2] / "infra" / "topology.json"
"""Of the checkout: only the local stack reads it, and that runs in one."""


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One deployed function."""

    public: bool
    timeout_s: float
    publishes: tuple[str, ...]


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One optional service, which browsers reach: the local stack answers in its place."""

    timeout_s: float
    concurrency: int
    max_instances: int


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One topic."""

    retention_s: float


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One push subscription."""

    topic: str
    function: str
    path: str
    ack_deadline_s: float
    backoff_min_s: float
    backoff_max_s: float
    dead_letter_topic: str | None = None
    max_delivery_attempts: int | None = None

    def backoff_s(self, attempts: int) -> float:
        """Return the seconds to wait after that many failed deliveries."""
        doublings = min(attempts - 1, 60)  # beyond that any maximum is long reached
        return min(self.backoff_min_s * 2.0**doublings, self.backoff_max_s)


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One job that calls a function regularly."""

    function: str
    path: str
    every_s: float


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Functions, services, topics, subscriptions and schedules by name."""

    functions: Mapping[str, Function]
    topics: Mapping[str, Topic]
    subscriptions: Mapping[str, Subscription]
    schedules: Mapping[str, Schedule]
    services: Mapping[str, Service] = {}


def read_topology(path: Path = TOPOLOGY_FILE) -> Topology:
    """Return the topology; raises ValueError when a name in it leads nowhere."""
    topology = msgspec.json.decode(path.read_bytes(), type=Topology)
    for name, subscription in topology.subscriptions.items():
        topics = {subscription.topic, subscription.dead_letter_topic or subscription.topic}
        if topics - topology.topics.keys() or subscription.function not in topology.functions:
            raise ValueError(f"{path.name}: the subscription {name} names what does not exist")
        if (subscription.dead_letter_topic is None) != (subscription.max_delivery_attempts is None):
            raise ValueError(f"{path.name}: the dead-letter policy of {name} is incomplete")
    for name, schedule in topology.schedules.items():
        if schedule.function not in topology.functions:
            raise ValueError(f"{path.name}: the schedule {name} names what does not exist")
    return topology
