"""Ports on 127.0.0.1 behind which nothing speaks as it should."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_SETTINGS = bytes(3) + b"\x04" + bytes(5)
"""The frame with which an HTTP/2 server greets (RFC 9113, section 6.5)."""


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Take what comes, for ever."""
    while await reader.read(65_536):
        pass


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close at once."""
    writer.close()


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection off with an RST."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def answer_in_another_language(
    _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer as a proxy does that knows HTTP/1.1 alone."""
    writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def greet_and_be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet as HTTP/2 wants, and answer nothing."""
    writer.write(_SETTINGS)
    await say_nothing(reader, writer)


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send greetings without end, a byte at a time, and never an answer."""
    for byte in itertools.cycle(_SETTINGS):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send greetings without end, as fast as they are taken."""
    while True:
        writer.write(_SETTINGS * 4096)
        await writer.drain()


@asynccontextmanager
async def serving(connection: Connection) -> AsyncIterator[int]:
    """Serve a port; every connection is treated alike."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await connection(reader, writer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()  # what is buffered would keep it open
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the event loop closes what was aborted


@asynccontextmanager
async def closed() -> AsyncIterator[int]:
    """Give a port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """Give a port whose connections are neither accepted nor refused.

    The queue of connections that wait to be accepted is full: the kernel drops what else comes, as
    a firewall does.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


PORTS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "hangs up": partial(serving, hang_up),
    "resets": partial(serving, reset),
    "speaks HTTP/1.1": partial(serving, answer_in_another_language),
    "greets and is silent": partial(serving, greet_and_be_silent),
    "drips greetings": partial(serving, drip),
    "greets without end": partial(serving, flood),
    "a black hole": black_hole,
}
"""What a service must not keep anybody waiting with -> the port, which is served meanwhile."""
