"""decide: what to do with an event, and what to show its visitor, in one round trip."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import Call, HttpFunction
from tagstitch.adapters.http_request import json_response
from tagstitch.core.decide_answer import DecideAnswer
from tagstitch.core.decide_request import parse_decide_request, published_request
from tagstitch.core.limits import DECIDE_BODY_BYTES_MAX

function = HttpFunction("decide", body_bytes_max=DECIDE_BODY_BYTES_MAX)


@function.post("/", "/decide", scope="decide")
async def decide_all(call: Call) -> Response:
    asked = parse_decide_request(call.body, header_request_id=call.idempotency_header)
    decider = call.wiring.decider
    return json_response(await decider.decide(asked, call.caller, DecideAnswer.to_json))


@function.post("/make-event-decision", scope="decide")
async def make_event_decision(call: Call) -> Response:
    asked = published_request(call.body, "event", header_request_id=call.idempotency_header)
    decider = call.wiring.decider
    return json_response(await decider.decide(asked, call.caller, DecideAnswer.to_event_json))


@function.post("/make-personalization-decision", scope="decide")
async def make_personalization_decision(call: Call) -> Response:
    asked = published_request(
        call.body, "personalization", header_request_id=call.idempotency_header
    )
    shape = DecideAnswer.to_personalization_json
    return json_response(await call.wiring.decider.decide(asked, call.caller, shape))


@functions_framework.aio.http
async def decide(request: Request) -> Response:
    return await function(request)
