"""The deployments that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.end_to_end.deployment import Deployment, deploy
from tests.end_to_end.running_stack import RunningStack, running_stack, until
from tests.end_to_end.samples import has_rules, load_samples


@pytest.fixture(scope="session")
def deployment(
    emulators: Emulators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """All four functions on the emulators; every test uses visitors of its own."""
    with deploy(emulators, tmp_path_factory.mktemp("deployment")) as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack with the samples for a whole file: its tests use visitors of their own."""
    folder = tmp_path_factory.mktemp("stack")
    settings = {"TAGSTITCH_RULES_REFRESH_S": "0.2", "TAGSTITCH_RETRY_SCALE": "0.01"}
    with running_stack(folder, **settings) as stack:
        load_samples(stack.data_dir, folder)
        until(lambda: has_rules(stack), seconds=20, what="the rules in decide")
        yield stack


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client
