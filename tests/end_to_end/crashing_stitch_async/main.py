"""stitch_async that dies once, at the point that the environment names, as an instance does."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.pubsub_publisher import PubsubPublisher
from tagstitch.adapters.requests_callbacks import RequestsCallbackSender

POINT = os.environ["CRASH_POINT"]
MARK = Path(os.environ["CRASH_MARK"])
MAIN = Path(__file__).resolve().parents[3] / "functions" / "stitch_async" / "main.py"


def crash_once(point: str) -> None:
    """Kill the whole process group, the server's master included; the mark says it was done."""
    if point == POINT and not MARK.exists():
        MARK.touch()
        os.killpg(os.getpgid(0), signal.SIGKILL)


def load_real_main() -> Any:
    spec = importlib.util.spec_from_file_location("real_stitch_async", MAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


publish = PubsubPublisher.publish
post = RequestsCallbackSender.post


async def publish_or_crash(publisher: PubsubPublisher, topic: str, *args: Any, **kw: Any) -> str:
    if topic == "audit":
        crash_once("between commit and publish")
    return await publish(publisher, topic, *args, **kw)


async def post_and_crash(sender: RequestsCallbackSender, *args: Any, **kw: Any) -> Any:
    answer = await post(sender, *args, **kw)
    crash_once("between the callback and its mark")
    return answer


PubsubPublisher.publish = publish_or_crash  # type: ignore[method-assign, assignment]
RequestsCallbackSender.post = post_and_crash  # type: ignore[method-assign, assignment]
real = load_real_main()


@functions_framework.aio.http
async def stitch_async(request: Request) -> Response:
    response: Response = await real.stitch_async(request)
    if request.method == "POST":
        crash_once("between publish and acknowledge")
    return response
