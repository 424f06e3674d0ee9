"""A backend to be thrown away: documents in a folder that goes with it, and nothing leaves it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from tagstitch.adapters.local import close_local_backend, open_local_backend
from tagstitch.adapters.settings import Settings, environment_with, read_settings
from tagstitch.adapters.wiring import Wiring
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.limits import CLOCK_SKEW_S
from tagstitch.pipeline.backend import Backend, DocumentStore
from tagstitch.pipeline.copied_documents import CopiedDocuments
from tagstitch.pipeline.simulate import (
    ObservedDocuments,
    ObservedPublisher,
    SimulatedClock,
    Simulation,
)

_KEY: Final = "a-key-that-keeps-no-secret:-what-it-hashes-is-thrown-away"
"""The same every time, so that two simulations of one file can be compared."""

_NOT_TAKEN_OVER: Final = (
    "TAGSTITCH_AUTH", "TAGSTITCH_KEYS", "TAGSTITCH_SIGNING_SECRETS", "TAGSTITCH_CALLBACKS",
    "TAGSTITCH_RATE_LIMIT", "TAGSTITCH_RULES_REFRESH_S", "FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST",
    "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST",
)  # fmt: skip
"""Settings of the operator's that mean nothing to a simulation."""

_NEVER_S: Final = 9e8
"""Seconds between two looks at the definitions: nobody changes them meanwhile."""


@dataclass(frozen=True, slots=True)
class ThrownAway:
    """What is there until it is thrown away."""

    wiring: Wiring
    simulation: Simulation
    clock: SimulatedClock
    scratch: DocumentStore
    """The documents, and room for what the caller wants to keep beside them."""


@dataclass(frozen=True, slots=True)
class Source:
    """A store to begin with, and the settings by which its profiles are found."""

    settings: Settings
    documents: DocumentStore


@contextmanager
def throw_away(
    *, identity: IdentitySettings | None = None, source: Source | None = None
) -> Iterator[ThrownAway]:
    """Yield a simulation on a store of its own, which is deleted on leaving.

    `identity` stands in for the project's identity settings. With a `source` it begins with copies
    of the profiles that it meets there, and with that identity key; nothing is ever written there.
    """
    with tempfile.TemporaryDirectory(prefix="tagstitch-simulation-") as folder:
        settings = _settings(Path(folder), source)
        if identity is not None:
            settings = replace(settings, identity=identity)
        local = open_local_backend(settings, is_durable=False)
        try:
            yield _thrown_away(settings, local, source.documents if source else None)
        finally:
            close_local_backend(local)


def _settings(folder: Path, source: Source | None) -> Settings:
    """Return settings under which nothing of the operator's is touched."""
    own = {
        "TAGSTITCH_BACKEND": "local",
        "TAGSTITCH_DATA_DIR": str(folder),
        "TAGSTITCH_IDENTITY_KEY": _KEY,
        "TAGSTITCH_PSEUDONYM_KEYS": f"simulated:{_KEY}",
        "TAGSTITCH_RECEIPT_KEY": _KEY,
        **dict.fromkeys(_NOT_TAKEN_OVER, ""),
    }
    settings = read_settings(environment_with(overrides=own))
    if source is not None:
        settings = replace(settings, identity_key=source.settings.identity_key)
    return replace(settings, rules_refresh_s=_NEVER_S)


def _thrown_away(settings: Settings, local: Backend, source: DocumentStore | None) -> ThrownAway:
    now = datetime.now(UTC)
    latest = now + timedelta(seconds=CLOCK_SKEW_S)
    clock = SimulatedClock(now, latest, goes_back=source is None)
    scratch = local.documents
    documents = ObservedDocuments(CopiedDocuments(scratch, source) if source else scratch)
    publisher = ObservedPublisher()
    wiring = _ThrowAwayWiring(
        settings, replace(local, documents=documents, publisher=publisher, clock=clock)
    )
    simulation = Simulation(
        wiring.stitcher.process,
        wiring.finder,
        wiring.graphs,
        wiring.identity,
        documents=documents,
        publisher=publisher,
        clock=clock,
    )
    return ThrownAway(wiring, simulation, clock, scratch)


class _ThrowAwayWiring(Wiring):
    """The object graph of every function, on a backend that is given."""

    def __init__(self, settings: Settings, backend: Backend) -> None:
        super().__init__(settings)
        self._given = backend

    @cached_property
    def backend(self) -> Backend:
        """The stores and topics."""
        return self._given
