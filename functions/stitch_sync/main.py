"""stitch_sync: identifiers in, the stitched visitor profile out."""

from typing import TYPE_CHECKING

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import Call, HttpFunction
from tagstitch.adapters.http_request import json_response
from tagstitch.core.limits import LOOKUP_BODY_BYTES_MAX

if TYPE_CHECKING:
    from tagstitch.core.lookup import AcceptedLookup, LookupAnswer

function = HttpFunction("stitch_sync", body_bytes_max=LOOKUP_BODY_BYTES_MAX)


@function.get("/", scope="lookup")
async def get(call: Call) -> Response:
    answer = call.wiring.lookup.answer_query
    return respond(call, await answer(call.query, call.caller, request_id=call.request_id))


@function.post("/", scope="lookup")
async def post(call: Call) -> Response:
    answer = call.wiring.lookup.answer
    return respond(call, await answer(call.body, call.caller, request_id=call.request_id))


def respond(call: Call, answer: "LookupAnswer | AcceptedLookup") -> Response:
    is_missing = answer.is_unknown and call.query.get("not_found") == "404"
    status = 202 if answer.is_accepted else 404 if is_missing else 200
    return json_response(answer.to_json(), status)


@functions_framework.aio.http
async def stitch_sync(request: Request) -> Response:
    return await function(request)
