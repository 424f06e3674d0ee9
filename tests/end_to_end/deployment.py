"""Function processes, topics, subscriptions, tables and rules on the emulators, for a test."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.settings import Settings, read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.cli.opened_backend import Opened
from tagstitch.cli.rules import push_rules
from tagstitch.cli.samples import load_samples
from tagstitch.core.limits import DEADLINE_MS_MAX
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.local_stack.bigquery_setup import create_audit_dataset
from tagstitch.local_stack.emulators import Emulators
from tagstitch.local_stack.pubsub_topology import create_topology
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline
from tests.emulators import REPOSITORY
from tests.end_to_end.function_process import FunctionProcess
from tests.end_to_end.stub_sgtm import StubSgtm

T = TypeVar("T")

TOPOLOGY = json.loads((REPOSITORY / "infra" / "topology.json").read_text())
FUNCTIONS = tuple(TOPOLOGY["functions"])
KEY = "a key of the end-to-end tests"

ONCE_ONLY_OFFER = {
    "once_only_offer": {
        "event_name_trigger": "view_promotion",
        "conditions": {"user_state.offer_shown": {"notEquals": True}},
        "action_type": "set_client_cookie",
        "action_details": {"cookie_name": "offer", "cookie_value": "ten"},
        "updates_user_state": {"offer_shown": True},
        "priority": 1,
        "is_active": True,
    }
}
"""A rule that reads and writes a visitor's state, which no sample does."""

CAPPED_OFFER = {
    "capped_offer": {
        "event_name_trigger": "select_promotion",
        "match_all": True,
        "action_type": "return_value",
        "action_details": {"key": "offer", "value": "ten"},
        "frequency_cap": {"max": 3, "per": "day", "group": "offers"},
    }
}
"""A rule that a visitor gets three times a day."""


@dataclass(frozen=True)
class Deployment:
    """What runs."""

    environment: Mapping[str, str]
    settings: Settings
    functions: Mapping[str, FunctionProcess]
    sgtm: StubSgtm

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[Backend]:
        """The stores and topics behind the functions, from this process."""
        try:
            yield open_backend(self.settings)
        finally:
            await close_backend(self.settings)

    async def publish(self, topic: str, content: Any) -> str:
        """Publish as somebody with publish rights does; bytes go out as they are."""
        return (await self.publish_all(topic, [content]))[0]

    async def publish_all(self, topic: str, contents: Sequence[Any]) -> list[str]:
        """Publish all at once, each as a message of its own."""
        bodies = [c if isinstance(c, bytes) else json.dumps(c).encode() for c in contents]
        async with self.backend() as backend:
            publish = partial(backend.publisher.publish, topic, deadline=Deadline.after(10))
            return list(await asyncio.gather(*map(publish, bodies)))

    async def document(self, path: str) -> Mapping[str, Any] | None:
        async with self.backend() as backend:
            found = await backend.documents.get(path, deadline=Deadline.after(10))
        return found.fields if found else None

    async def documents(self, collection: str) -> list[Mapping[str, Any]]:
        async with self.backend() as backend:
            found = await backend.documents.list_documents(
                collection, limit=1000, deadline=Deadline.after(10)
            )
        return [document.fields for document in found]

    async def query(self, sql: str) -> Sequence[Mapping[str, Any]]:
        async with self.backend() as backend:
            return await backend.audit_queries.run(sql, deadline=Deadline.after(20))

    async def audit(self, request_id: str, *, table: str = "audit") -> list[Mapping[str, Any]]:
        """The rows of one request, the oldest first."""
        sql = f"SELECT * FROM {table} WHERE request_id = '{request_id}' ORDER BY recorded_at"  # noqa: S608 - our own id
        return list(await self.query(sql))

    async def wait_for_audit(self, request_id: str, count: int = 1) -> list[Mapping[str, Any]]:
        async def rows() -> list[Mapping[str, Any]] | None:
            found = await self.audit(request_id)
            return found if len({row["record_id"] for row in found}) >= count else None

        found: list[Mapping[str, Any]] = await until(rows)
        return found

    def post(self, function: str, path: str = "/", **options: Any) -> httpx.Response:
        return httpx.post(
            self.functions[function].url + path,
            headers={"x-tagstitch-key": KEY},
            timeout=30,
            **options,
        )

    def look_up(self, **identifiers: str) -> dict[str, Any]:
        """Return stitch_sync's answer, which must have been made in time."""
        answer = self.post("stitch_sync", json=patient_lookup(**identifiers))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["degraded"] == [], found
        return found


def patient_lookup(**identifiers: str) -> dict[str, Any]:
    """Return the body of a lookup that has all the time that a caller may give.

    Within the usual quarter of a second a store may be silent, on a machine that pauses; the answer
    then says so, and finds nobody.
    """
    return {"identifiers": identifiers, "deadline_ms": DEADLINE_MS_MAX}


@contextmanager
def deploy(
    emulators: Emulators,
    folder: Path,
    *,
    functions: Collection[str] = FUNCTIONS,
    sources: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
    retry_scale: float = 0.01,
) -> Iterator[Deployment]:
    """Run functions in a project of their own, with subscriptions that push to them."""
    project = "e2e-" + secrets.token_hex(4)
    with StubSgtm() as sgtm:
        values = {
            **emulators.environment(),
            "TAGSTITCH_BACKEND": "cloud",
            "TAGSTITCH_PROJECT": project,
            "TAGSTITCH_DATASET": "tagstitch",
            "TAGSTITCH_DATA_DIR": str(folder / "data"),
            "TAGSTITCH_RULES_REFRESH_S": "0.5",
            "TAGSTITCH_AUTH": "key",
            "TAGSTITCH_KEYS": _keys(),
            "TAGSTITCH_CALLBACKS": sgtm.setting,
        }
        settings = read_settings(values)
        processes = {
            name: FunctionProcess(
                name, values | dict(environment or {}), folder, source=(sources or {}).get(name)
            )
            for name in functions
        }
        try:
            for process in processes.values():
                process.start()
            _prepare(emulators, settings, processes, retry_scale)
            for process in processes.values():
                process.wait_until_ready()
            yield Deployment(values, settings, processes, sgtm)
        finally:
            for process in processes.values():
                process.stop()


def _prepare(
    emulators: Emulators,
    settings: Settings,
    processes: Mapping[str, FunctionProcess],
    retry_scale: float,
) -> None:
    create_audit_dataset(settings.dataset, emulator=emulators.bigquery, project=settings.project)
    subscriptions = {
        name: subscription
        for name, subscription in TOPOLOGY["subscriptions"].items()
        if subscription["function"] in processes
    }
    create_topology(
        TOPOLOGY | {"subscriptions": subscriptions},
        emulator=emulators.pubsub,
        project=settings.project,
        push_url=lambda function, path: processes[function].url + path,
        retry_scale=retry_scale,
    )
    asyncio.run(_load_definitions(settings))


async def _load_definitions(settings: Settings) -> None:
    try:
        opened = Opened(open_backend(settings), make_keyring(settings), settings)
        await load_samples(opened)
        await push_rules(opened.backend, RuleDefinitions({}, ONCE_ONLY_OFFER | CAPPED_OFFER))
    finally:
        await close_backend(settings)


def _keys() -> str:
    scopes = ["lookup", "decide", "stitch", "assert", "concealed", "explain"]
    return json.dumps([{"id": "sgtm", "secret": KEY, "scopes": scopes}])


def push_body(content: Any, message_id: str) -> dict[str, Any]:
    """The body that a push subscription posts."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {
        "subscription": "projects/p/subscriptions/s",
        "message": {
            "data": base64.b64encode(data).decode(),
            "attributes": {},
            "messageId": message_id,
            "publishTime": datetime.now(UTC).isoformat(),
        },
    }


async def until(condition: Callable[[], Awaitable[T | None]], seconds: float = 40) -> T:
    """Return the first true result of the coroutine function."""
    end = time.monotonic() + seconds
    while not (result := await condition()):
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.05)
    return result
