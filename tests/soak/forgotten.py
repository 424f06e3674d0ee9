"""What the emulator of Pub/Sub never delivers again is delivered here, as Pub/Sub does.

Of some thousand messages that it sees refused it forgets a few (docs/emulator-gaps.md). They were
published and not acknowledged, so that they must come again.
"""

from __future__ import annotations

import base64
import json

from tagstitch.adapters.topology import read_topology
from tests.end_to_end.running_stack import RunningStack, until
from tests.end_to_end.samples import push_body
from tests.soak.faults import MESSAGES
from tests.soak.operator_desk import OperatorDesk

_ROUNDS_MAX = 10
"""What is delivered publishes in turn: a request, its record, perhaps a dead letter and its record."""


def deliver_forgotten(stack: RunningStack, desk: OperatorDesk) -> int:
    """Deliver every message that nobody acknowledged; return how many there were."""
    subscriptions = {s.topic: s for s in read_topology().subscriptions.values()}
    delivered = 0
    for _ in range(_ROUNDS_MAX):
        forgotten = _unacknowledged(stack, desk)
        for message_id, (topic, data) in forgotten.items():
            path = f"/{subscriptions[topic].function}{subscriptions[topic].path}"
            _push(stack, path, data, message_id)
        delivered += len(forgotten)
        if not forgotten:
            break
    return delivered


def _unacknowledged(stack: RunningStack, desk: OperatorDesk) -> dict[str, tuple[str, bytes]]:
    published = {message_id: (topic, data) for message_id, topic, data in desk.published}
    acknowledged = set()
    for text in (stack.data_dir / MESSAGES).read_text().splitlines():
        line = json.loads(text)
        if "acknowledged" in line:
            acknowledged.add(line["acknowledged"])
        else:
            published[line["id"]] = (line["topic"], base64.b64decode(line["data"]))
    return {m: content for m, content in published.items() if m not in acknowledged}


def _push(stack: RunningStack, path: str, data: bytes, message_id: str) -> None:
    with stack.client() as client:
        until(
            lambda: client.post(path, json=push_body(data, message_id)).status_code == 204,
            seconds=60,
            what=f"an acknowledgement of {message_id}",
        )
