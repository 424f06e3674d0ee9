"""The emulators for tests: started once a process, on first use; see conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagstitch.core.errors import Unavailable
from tagstitch.local_stack.bigquery_setup import create_audit_dataset
from tagstitch.local_stack.emulators import Emulators, missing_parts, run_emulators
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.deadline import Deadline

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = "tagstitch-test"


@pytest.fixture(scope="session")
def installed_emulators() -> None:
    """Skip, or fail where the emulators must be there, when a part of them is not installed."""
    if missing := missing_parts(REPOSITORY):
        reason = "the emulators need " + "; ".join(missing)
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def emulators(installed_emulators: None) -> Iterator[Emulators]:  # noqa: ARG001 - it skips
    """The running emulators, shared by all tests of this process, so each names its own things."""
    with run_emulators(REPOSITORY, project=PROJECT) as running:
        yield running


@pytest.fixture(scope="session")
def audit_dataset(emulators: Emulators) -> str:
    """The name of a dataset with the audit table and its views, shared by all tests."""
    create_audit_dataset("tagstitch", emulator=emulators.bigquery, project=PROJECT)
    return "tagstitch"


async def wake(store: DocumentStore) -> None:
    """Wait until an emulator answers: its first answers take seconds on a busy machine."""
    deadline = Deadline.after(60)
    while True:
        try:
            await store.get("profiles/nobody", deadline=deadline)
        except Unavailable:
            if deadline.is_over:
                raise
        else:
            return
