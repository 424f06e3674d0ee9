"""The framework's own empty function: what any function costs to start."""

import functions_framework.aio
from starlette.requests import Request


@functions_framework.aio.http
async def empty(request: Request) -> str:
    del request
    return "ok"
