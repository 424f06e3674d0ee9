"""What all tests share."""

from __future__ import annotations

import pytest

from tests.emulators import audit_dataset, emulators, installed_emulators

__all__ = ["audit_dataset", "emulators", "installed_emulators"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests with emulators to one worker (`--dist loadgroup`): they cost 0.5 GB."""
    for item in items:
        if item.get_closest_marker("emulators"):
            item.add_marker(pytest.mark.xdist_group("emulators"))
