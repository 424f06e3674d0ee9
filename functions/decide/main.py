"""decide: what to do with an event, and what to show its visitor, in one round trip."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import Call, HttpFunction
from tagstitch.adapters.http_request import json_response
from tagstitch.core.limits import DECIDE_BODY_BYTES_MAX

function = HttpFunction("decide", body_bytes_max=DECIDE_BODY_BYTES_MAX)


@function.post("/", "/decide", scope="decide")
async def decide_all(call: Call) -> Response:
    decider = call.wiring.decider
    return json_response(await decider.decide(call.body, call.caller, call.idempotency_header))


@function.post("/make-event-decision", scope="decide", has_event_body=True)
async def make_event_decision(call: Call) -> Response:
    decide = call.wiring.decider.make_event_decision
    return json_response(await decide(call.body, call.caller, call.idempotency_header))


@function.post("/make-personalization-decision", scope="decide", has_event_body=True)
async def make_personalization_decision(call: Call) -> Response:
    decide = call.wiring.decider.make_personalization_decision
    return json_response(await decide(call.body, call.caller, call.idempotency_header))


@functions_framework.aio.http
async def decide(request: Request) -> Response:
    return await function(request)
