"""A function for tests of the stack itself: it shows what it is given and uses the backend."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.webhook_signature import sign_callback

swept: list[float] = []


@functions_framework.aio.http
async def FUNCTION(request: Request) -> Response:  # noqa: N802 - replaced by the function's name
    settings = read_settings()
    backend = open_backend(settings)
    body = await request.body()
    if request.url.path == "/sweep":
        swept.append(time.monotonic())
        return Response(status_code=204)
    if request.url.path == "/swept":
        return JSONResponse(len(swept))
    if request.url.path == "/raise":
        raise ValueError
    if request.url.path.startswith("/publish/"):
        topic = request.url.path.removeprefix("/publish/")
        message_id = await backend.publisher.publish(topic, body, deadline=Deadline.after(5))
        return JSONResponse({"message_id": message_id}, status_code=202)
    if request.method == "POST" and b'"subscription"' in body:
        message = json.loads(body)["message"]
        data = base64.b64decode(message["data"])
        put = Put(
            f"processed/{message['messageId']}", {"function": "FUNCTION", "path": request.url.path}
        )
        await backend.documents.commit([put], deadline=Deadline.after(5))
        if data.startswith(b"callback"):
            await asyncio.sleep(0)
            endpoint = settings.callbacks[0]
            callback = json.dumps({"data": {"request_id": data.decode()}}).encode()
            headers = sign_callback(endpoint, data.decode(), callback, sent_at=backend.clock())
            answer = await backend.callbacks.post(
                endpoint.url,
                headers=headers,
                body=callback,
                allow_private=endpoint.allow_private,
                deadline=Deadline.after(5),
            )
            return Response(status_code=answer.status)
        return Response(status_code=204)
    return JSONResponse(
        {
            "function": "FUNCTION",
            "method": request.method,
            "path": request.url.path,
            "query": str(request.query_params),
            "body": body.decode(),
        }
    )
