"""stitch_sync: identifiers in, the stitched visitor profile out."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import Call, HttpFunction
from tagstitch.adapters.http_request import json_response
from tagstitch.adapters.lookup_response import lookup_response
from tagstitch.core.limits import LOOKUP_BODY_BYTES_MAX

function = HttpFunction("stitch_sync", body_bytes_max=LOOKUP_BODY_BYTES_MAX)


@function.get("/", scope="lookup")
async def get(call: Call) -> Response:
    answer = call.wiring.lookup.answer_query
    found = await answer(call.query, call.caller, request_id=call.request_id)
    return lookup_response(found, call.query)


@function.post("/", scope="lookup")
async def post(call: Call) -> Response:
    answer = call.wiring.lookup.answer
    found = await answer(call.body, call.caller, request_id=call.request_id)
    return lookup_response(found, call.query)


@function.post("/activation", scope="lookup")
async def activate(call: Call) -> Response:
    answer = call.wiring.activation.answer
    features = await answer(call.body, call.caller, request_id=call.request_id)
    return json_response(features.to_json())


@functions_framework.aio.http
async def stitch_sync(request: Request) -> Response:
    return await function(request)
