"""What pipeline tests share."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.pipeline.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.database.close()


@pytest.fixture(params=["sqlite", pytest.param("firestore", marks=pytest.mark.emulators)])
async def either_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Give a world on each of the two document stores; Firestore's is a project of its own."""
    if request.param == "sqlite":
        world = World(tmp_path)
        yield world
        world.database.close()
        return
    from tagstitch.adapters.firestore_documents import FirestoreDocuments

    emulators: Emulators = request.getfixturevalue("emulators")
    store = FirestoreDocuments("world-" + secrets.token_hex(6), emulator=emulators.firestore)
    world = World(tmp_path, documents=store)
    yield world
    await store.close()
    world.database.close()
