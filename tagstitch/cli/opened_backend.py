"""The backend that a command works on: the functions' own, from the same settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tagstitch.adapters.settings import Settings, environment_with, read_settings
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.keyring import Keyring


class Opened(NamedTuple):
    """A backend with what belongs to it."""

    backend: Backend
    keyring: Keyring
    settings: Settings


def command_settings() -> Settings:
    """Return the settings of a command: the environment's, on the local backend by default."""
    return read_settings(environment_with(defaults={"TAGSTITCH_BACKEND": "local"}))


@asynccontextmanager
async def opened_backend(settings: Settings | None = None) -> AsyncIterator[Opened]:
    """Yield the backend of the command's settings, closed on leaving."""
    from tagstitch.adapters.backend_factory import close_backend, open_backend

    settings = settings or command_settings()
    keyring = Keyring(settings.identity_key, settings.pseudonym_keys, settings.receipt_key)
    try:
        yield Opened(open_backend(settings), keyring, settings)
    finally:
        await close_backend(settings)
