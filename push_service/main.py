"""push_service: messages of `push_message` to browsers, by server-sent events."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tagstitch.adapters.http_request import json_response
from tagstitch.adapters.log import configure_logging
from tagstitch.adapters.push_stream import push_response
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import Wiring

configure_logging()
settings = read_settings()
wiring = Wiring(settings)


async def listen(request: Request) -> Response:
    return push_response(
        request, wiring.push_tokens, wiring.push_listener, origins=settings.push_origins
    )


async def health(_: Request) -> Response:
    return json_response({"status": "ok", "function": "push_service"})


app = Starlette(routes=[Route("/", listen), Route("/health", health)])
