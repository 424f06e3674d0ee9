"""stitch_sync: identifiers in, the stitched visitor profile out."""

from collections.abc import Mapping
from typing import Any

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import Call, HttpFunction
from tagstitch.adapters.http_request import json_response
from tagstitch.core.limits import LOOKUP_BODY_BYTES_MAX
from tagstitch.core.lookup import lookup_body, parse_lookup

function = HttpFunction("stitch_sync", body_bytes_max=LOOKUP_BODY_BYTES_MAX)


@function.get("/", scope="lookup")
async def get(call: Call) -> Response:
    return await answer(call, lookup_body(call.query, call.wiring.identity), may_publish=False)


@function.post("/", scope="lookup")
async def post(call: Call) -> Response:
    return await answer(call, call.body, may_publish=True)


async def answer(call: Call, body: Mapping[str, Any], *, may_publish: bool) -> Response:
    lookup = parse_lookup(body, call.wiring.identity)
    pipeline = call.wiring.lookup
    if lookup.mode == "async":
        request_id = await pipeline.accept(body, call.caller, default_request_id=call.request_id)
        return json_response({"request_id": request_id, "status": "accepted"}, 202)
    found = await pipeline.look_up(lookup, call.caller, may_publish=may_publish)
    is_missing = not found.found and call.query.get("not_found") == "404"
    return json_response(found.to_json(call.request_id), 404 if is_missing else 200)


@functions_framework.aio.http
async def stitch_sync(request: Request) -> Response:
    return await function(request)
