"""The topics and push subscriptions of `infra/topology.json`, made in the Pub/Sub emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

_CALL_S: Final = 10.0

PushUrl = Callable[[str, str], str]
"""Returns the URL that a function listens on, from its name and the subscription's path."""


def one_server(base_url: str) -> PushUrl:
    """Return the URLs of functions that one server mounts below their names."""
    return lambda function, path: f"{base_url.rstrip('/')}/{function}{path}"


def create_topology(
    topology: Mapping[str, Any],
    *,
    emulator: str,
    project: str,
    push_url: PushUrl,
    retry_scale: float = 1.0,
) -> None:
    """Make every topic and subscription; what exists already is an error (the emulator is empty).

    `retry_scale` is a factor on the backoff, for tests. The emulator honours the backoff only
    roughly and sends no identity token (docs/emulator-gaps.md).
    """
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    with grpc.insecure_channel(emulator) as channel:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for name, topic in topology["topics"].items():
            request = {
                "name": f"projects/{project}/topics/{name}",
                "message_retention_duration": {"seconds": topic["retention_s"]},
            }
            publisher.create_topic(request, timeout=_CALL_S, retry=None)
        for name, subscription in topology["subscriptions"].items():
            request = _subscription(subscription, project, push_url, retry_scale)
            request["name"] = f"projects/{project}/subscriptions/{name}"
            subscriber.create_subscription(request, timeout=_CALL_S, retry=None)


def drop_messages(subscriptions: Iterable[str], *, emulator: str, project: str) -> None:
    """Forget what was published until now and not delivered yet."""
    import grpc
    from google.pubsub_v1 import SubscriberClient
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    with grpc.insecure_channel(emulator) as channel:
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for name in subscriptions:
            path = f"projects/{project}/subscriptions/{name}"
            request = {"subscription": path, "time": datetime.now(UTC)}
            subscriber.seek(request, timeout=_CALL_S, retry=None)


def _subscription(
    subscription: Mapping[str, Any], project: str, push_url: PushUrl, retry_scale: float
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "topic": f"projects/{project}/topics/{subscription['topic']}",
        "ack_deadline_seconds": subscription["ack_deadline_s"],
        "push_config": {"push_endpoint": push_url(subscription["function"], subscription["path"])},
        "retry_policy": {
            "minimum_backoff": _duration(subscription["backoff_min_s"] * retry_scale),
            "maximum_backoff": _duration(subscription["backoff_max_s"] * retry_scale),
        },
    }
    if "dead_letter_topic" in subscription:
        request["dead_letter_policy"] = {
            "dead_letter_topic": f"projects/{project}/topics/{subscription['dead_letter_topic']}",
            "max_delivery_attempts": subscription["max_delivery_attempts"],
        }
    return request


def _duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"seconds": whole, "nanos": int((seconds - whole) * 1e9)}
