"""stitch_async: link, create and update profiles, and post the result back to sGTM."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import HttpFunction
from tagstitch.adapters.http_request import decode_json, json_response
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.callback import parse_action
from tagstitch.core.stitch_request import parse_stitch_request
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.sweep import sweep

function = HttpFunction("stitch_async")


@function.push("/", topic="stitch-requests")
async def stitch(wiring: Wiring, message: Message, deadline: Deadline) -> None:
    request = parse_stitch_request(
        decode_json(message.data),
        wiring.identity,
        default_request_id=message.message_id,
        received_at=message.published_at,
    )
    await wiring.stitcher.process(request, deadline=deadline)


@function.push("/actions", topic="actions")
async def act(wiring: Wiring, message: Message, deadline: Deadline) -> None:
    await wiring.delivery.resume(parse_action(decode_json(message.data)), deadline=deadline)


@function.schedule("/sweep")
async def sweep_forgotten(wiring: Wiring, deadline: Deadline) -> Response:
    swept = await sweep(wiring.backend, wiring.audit, deadline=deadline)
    return json_response(swept.to_json())


@functions_framework.aio.http
async def stitch_async(request: Request) -> Response:
    return await function(request)
