"""The backend that the settings name, one for each event loop."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from tagstitch.adapters.settings import Settings
from tagstitch.pipeline.backend import Backend

_backends: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, Backend]] = (
    WeakKeyDictionary()
)


def open_backend(settings: Settings) -> Backend:
    """Return the backend of these settings, the same one for every caller of an event loop.

    To be called inside the event loop that will use it, so never at import: connections belong to
    one loop, and the server forks after import.
    """
    backends = _backends.setdefault(asyncio.get_running_loop(), {})
    if settings not in backends:
        backends[settings] = _open(settings)
    return backends[settings]


async def close_backend(settings: Settings) -> None:
    """Close the backend of these settings, if there is one; the next `open_backend` makes another.

    To be called inside the event loop that opened it.
    """
    backend = _backends.get(asyncio.get_running_loop(), {}).pop(settings, None)
    if backend is None:
        return
    if settings.backend == "local":
        from tagstitch.adapters.local import close_local_backend

        close_local_backend(backend)
    else:
        from tagstitch.adapters.cloud import close_cloud_backend

        await close_cloud_backend(backend)


def _open(settings: Settings) -> Backend:
    if settings.backend == "local":
        from tagstitch.adapters.local import open_local_backend

        return open_local_backend(settings)
    from tagstitch.adapters.cloud import open_cloud_backend

    return open_cloud_backend(settings)
