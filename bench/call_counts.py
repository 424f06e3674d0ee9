"""Calls to the stores for each kind of request, counted on the pipeline itself.

    .venv/bin/python -m bench.call_counts

The functions run in process on the local backend with every port counted; an adapter makes exactly
one RPC for each of these calls (tests/contract).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagstitch.adapters.local import close_local_backend, open_local_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.callback import CallbackEndpoint
from tagstitch.core.caller import Caller
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Backend, CallbackAnswer
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules

OPERATOR = Caller("bench", frozenset({"lookup", "decide", "stitch", "assert"}))

OFFER = {
    "once_only_offer": {
        "event_name_trigger": "view_item",
        "conditions": {"user_state.offer_shown": {"notEquals": True}},
        "action_type": "set_client_cookie",
        "action_details": {"cookie_name": "offer", "cookie_value": "ten"},
        "updates_user_state": {"offer_shown": True},
        "match_all": False,
        "priority": 1,
        "is_active": True,
    }
}

TRAITS = {"orders": {"event": "purchase", "operation": "count"}}


@dataclass
class Counted:
    """Passes every call on and counts it, with the documents that it names."""

    port: Any
    counts: Counter[str]

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self.port, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self.counts[name] += 1
            if name == "get":
                self.counts["documents read"] += 1
            if name == "get_many":
                self.counts["documents read"] += len(arguments[0])
            if name == "commit":
                self.counts["documents written"] += len(arguments[0])
            return await method(*arguments, **options)

        return call


class Endpoint:
    """An sGTM endpoint that takes every callback."""

    async def post(self, url: str, **options: Any) -> CallbackAnswer:
        del url, options
        return CallbackAnswer(200)


async def count_all(data_dir: Path) -> dict[str, Counter[str]]:
    """Return kind of request -> calls by name."""
    settings = replace(
        read_settings({"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}),
        callbacks=(
            CallbackEndpoint(
                id="main",
                url="https://sgtm.example.com/",
                secret="whsec_" + "c2VjcmV0" * 6,
                attributes=frozenset({"*"}),
            ),
        ),
    )
    real = open_local_backend(settings)
    counts: Counter[str] = Counter()
    backend = Backend(
        documents=Counted(real.documents, counts),
        publisher=Counted(real.publisher, counts),
        audit_table=Counted(real.audit_table, counts),
        audit_queries=real.audit_queries,
        callbacks=Counted(Endpoint(), counts),
        clock=real.clock,
    )
    definitions = RuleDefinitions({}, OFFER, traits=TRAITS)
    await publish_rules(real.documents, definitions, real.clock(), Deadline.after(10))
    wiring = Wiring(settings)
    vars(wiring)["backend"] = backend
    await wiring.rule_book.get(Deadline.after(10))
    await wiring.views.get(Deadline.after(10))
    await wiring.traits.get(Deadline.after(10))
    results: dict[str, Counter[str]] = {}

    async def count(what: str, work: Awaitable[Any]) -> None:
        counts.clear()
        await work
        results[what] = Counter(counts)

    await _requests(wiring, count)
    close_local_backend(real)
    return results


async def _requests(
    wiring: Wiring, count: Callable[[str, Awaitable[Any]], Awaitable[None]]
) -> None:
    def stitch(request_id: str, identifiers: Mapping[str, str], **fields: Any) -> Awaitable[None]:
        body = {"request_id": request_id, "identifiers": identifiers, **fields}
        message = Message(json.dumps(body).encode(), request_id, "stitch-requests", now)
        return wiring.stitcher.process_message(message, deadline=Deadline.after(10))

    def look_up(identifiers: Mapping[str, str]) -> Awaitable[Any]:
        return wiring.lookup.answer({"identifiers": identifiers}, reader, request_id="r")

    def decide(name: str, client_id: str, **fields: Any) -> Awaitable[bytes]:
        event = {"event_name": name, "client_id": client_id}
        return wiring.decider.decide({"event": event, **fields}, OPERATOR)

    now = wiring.backend.clock()
    reader = Caller("reader", frozenset({"lookup", "assert"}))
    known = {"client_id": "1.1763700000"}
    both = {"user_id": "u-1", **known}
    await count(
        "stitch_async: a new visitor, with a callback", stitch("r1", known, callback="main")
    )
    await count("stitch_async: a link to a known visitor", stitch("r2", both))
    await count("stitch_async: nothing new", stitch("r3", both))
    await count("stitch_async: the same message again", stitch("r1", known, callback="main"))
    purchase = {"event_name": "purchase"}
    await count("stitch_async: an event that a trait counts", stitch("r4", both, event=purchase))
    await count(
        "stitch_async: the same event again", stitch("r5", both, event=purchase, event_id="r4")
    )
    wiring.finder.forget()
    await count("stitch_sync: a primary identifier, unseen by this process", look_up(known))
    await count("stitch_sync: a primary identifier, seen before", look_up(known))
    await count("stitch_sync: an alias, unseen by this process", look_up({"user_id": "u-1"}))
    await count("stitch_sync: an alias, seen before", look_up({"user_id": "u-1"}))
    await count("stitch_sync: nobody known", look_up({"client_id": "9.1763700009"}))
    await count("decide: nothing changes", decide("page_view", known["client_id"]))
    await count("decide: a trait names the event", decide("purchase", known["client_id"]))
    await count("decide: state changes", decide("view_item", known["client_id"]))
    await count(
        "decide: state changes, with a request id",
        decide("view_item", "2.1763700002", request_id="d1"),
    )
    await count(
        "decide: the same request again", decide("view_item", "2.1763700002", request_id="d1")
    )


def run() -> list[str]:
    """Count everything; return the section of RESULTS.md."""
    with tempfile.TemporaryDirectory(prefix="tagstitch-bench-") as name:
        results = asyncio.run(count_all(Path(name)))
    columns: Sequence[tuple[str, Sequence[str]]] = (
        ("read calls", ("get", "get_many", "list_documents")),
        ("documents read", ("documents read",)),
        ("write calls", ("commit",)),
        ("documents written", ("documents written",)),
        ("publishes", ("publish",)),
        ("callbacks", ("post",)),
    )
    lines = [
        "| request | " + " | ".join(title for title, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for what, counts in results.items():
        figures = (str(sum(counts[name] for name in names)) for _, names in columns)
        lines.append(f"| {what} | " + " | ".join(figures) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(run()))
