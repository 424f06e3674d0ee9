"""stitch_async: link, create and update profiles, and post the result back to sGTM."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import HttpFunction, Job, Push
from tagstitch.adapters.http_request import json_response

function = HttpFunction("stitch_async")


@function.push("/", topic="stitch-requests")
async def stitch(push: Push) -> None:
    await push.wiring.stitcher.process_message(push.message, deadline=push.deadline)


@function.push("/actions", topic="actions")
async def act(push: Push) -> None:
    await push.wiring.outbox_delivery.resume_message(push.message, deadline=push.deadline)


@function.schedule("/sweep")
async def sweep(job: Job) -> Response:
    swept = await job.wiring.sweep(deadline=job.deadline)
    return json_response(swept.to_json())


@functions_framework.aio.http
async def stitch_async(request: Request) -> Response:
    return await function(request)
