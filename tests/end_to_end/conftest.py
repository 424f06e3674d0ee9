"""The deployments that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.end_to_end.deployment import Deployment, deploy


@pytest.fixture(scope="session")
def deployment(
    emulators: Emulators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """All four functions on the emulators; every test uses visitors of its own."""
    with deploy(emulators, tmp_path_factory.mktemp("deployment")) as running:
        yield running
