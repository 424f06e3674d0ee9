"""audit_sink: every decision and modification into the audit table, every dead letter kept."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import HttpFunction, Push

function = HttpFunction("audit_sink")


@function.push("/", topic="audit")
async def record(push: Push) -> None:
    await push.wiring.record_audit(push.message, deadline=push.deadline)


@function.push("/deadletters", topic="dead-letter")
async def bury(push: Push) -> None:
    await push.wiring.record_dead_letter(push.message, deadline=push.deadline)


@functions_framework.aio.http
async def audit_sink(request: Request) -> Response:
    return await function(request)
