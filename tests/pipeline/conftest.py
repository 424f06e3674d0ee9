"""What pipeline tests share."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tagstitch.adapters.firestore_documents import FirestoreDocuments
from tagstitch.local_stack.emulators import Emulators
from tests.emulators import wake
from tests.pipeline.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.database.close()


@pytest.fixture(params=["sqlite", pytest.param("firestore", marks=pytest.mark.emulators)])
async def place(request: pytest.FixtureRequest, world: World) -> AsyncIterator[World]:
    """A world on each store; on Firestore with a database of its own."""
    if request.param == "sqlite":
        yield world
        return
    emulators: Emulators = request.getfixturevalue("emulators")
    project = f"tagstitch-{secrets.token_hex(6)}"
    store = FirestoreDocuments(project, emulator=emulators.firestore)
    await wake(store)
    world.store = store
    yield world
    await store.close()
