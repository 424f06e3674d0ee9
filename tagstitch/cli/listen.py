"""`tagstitch listen`: what arrives at a running local stack, live."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import httpx
import msgspec
import typer

from tagstitch.cli.output import CommandFailed, JsonOption, err, out, printable, run, write_json
from tagstitch.local_stack.live_feed import FeedLine

_PATH: Final = "/_local/listen"
_CONNECT_S: Final = 5.0
_KIND_CHARS: Final = 19
_NAME_CHARS: Final = 34


def listen(
    *,
    url: Annotated[str, typer.Option(help="A running local stack.")] = "http://127.0.0.1:8080",
    json: JsonOption = False,
) -> None:
    """Show hits, decisions, callbacks and what leaves for GA4 as they come, a line each.

    Until Ctrl-C. It shows names, never a visitor's values; with --json one document a line.
    """
    try:
        run(_listen(url.rstrip("/"), as_json=json), as_json=json)
    except KeyboardInterrupt:
        return


async def _listen(url: str, *, as_json: bool) -> None:
    timeout = httpx.Timeout(_CONNECT_S, read=None)
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False) as client,
            client.stream("GET", url + _PATH) as answer,
        ):
            if answer.status_code != 200:
                raise CommandFailed(f"{url} is no local stack")
            async for text in answer.aiter_lines():
                _show(text, url, as_json=as_json)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandFailed(f"{url} does not answer: `make up` starts a local stack") from error
    except asyncio.CancelledError:  # Ctrl-C
        return


def _show(text: str, url: str, *, as_json: bool) -> None:
    if not text:  # the first line: the feed is listened to
        err().print(f"listening to {url}, Ctrl-C ends it", markup=False)
        return
    line = msgspec.json.decode(text, type=FeedLine)
    if as_json:
        write_json(line)
        return
    time = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    shown = f"{time}  {line.kind:<{_KIND_CHARS}}{line.name:<{_NAME_CHARS}}{line.detail}"
    out().print(printable(shown).rstrip(), markup=False)
