"""What fails leaves nothing behind that only a garbage collection finds.

An exception that is kept, and that some frame of its own traceback leads to, is such a thing. In
an outage each request would leave one, and each collection would hold up whatever is under way:
25 ms for 850 requests (bench/lateness.py).
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import Any

import grpc
import pytest

from tests.faults.conftest import Start
from tests.faults.stub_google import FIRESTORE, Fault, StubGoogle, refusing, silent
from tests.faults.test_lateness import lateness

FAULTS: dict[str, tuple[Fault, Sequence[str]]] = {
    "Firestore refuses": (refusing(grpc.StatusCode.UNAVAILABLE), FIRESTORE),
    "Firestore commits nothing": (silent, ["Commit"]),
    "Firestore sees a conflict each time": (refusing(grpc.StatusCode.ABORTED), ["Commit"]),
    "Pub/Sub never answers": (silent, ["Publish"]),
    "Pub/Sub refuses": (refusing(grpc.StatusCode.UNAVAILABLE), ["Publish"]),
}

_REQUESTS = 5


@pytest.mark.parametrize("kind", ["view_promotion", "stitch_sync"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_request_leaves_no_garbage_whatever_fails(
    google: StubGoogle, start: Start, fault: str, kind: str
) -> None:
    client = await start("decide" if kind == "view_promotion" else "stitch_sync")
    google.fail(FAULTS[fault][0], *FAULTS[fault][1])
    await lateness(client, kind, 40)

    async def ask() -> None:
        for _ in range(_REQUESTS):
            await lateness(client, kind, 40)

    assert await own_garbage(ask) == []


async def own_garbage(act: Callable[[], Awaitable[None]]) -> list[str]:
    """Return our code's frames and objects among what only a collection finds behind `act`."""
    gc.collect()
    gc.disable()
    try:
        await act()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return [name for each in gc.garbage if (name := _own_name(each))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _own_name(each: Any) -> str:
    if isinstance(each, FrameType):
        is_ours = str(each.f_globals.get("__name__")).startswith("tagstitch.")
        return each.f_code.co_qualname if is_ours else ""
    name = f"{type(each).__module__}.{type(each).__qualname__}"
    return name if name.startswith("tagstitch.") else ""
