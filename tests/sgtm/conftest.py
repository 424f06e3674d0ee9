"""What the tests of the sGTM side need installed."""

from __future__ import annotations

import pytest

from tests.node_tests import install_simulator


@pytest.fixture(scope="session")
def installed() -> None:
    """Install the two packages that the simulator needs, where nobody has yet."""
    install_simulator()
