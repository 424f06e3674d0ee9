"""What all tests share."""

from __future__ import annotations

import signal

import pytest

from tests.emulators import audit_dataset, emulators, installed_emulators

__all__ = ["audit_dataset", "emulators", "installed_emulators"]


# What a shell starts in the background ignores Ctrl-C, and so do its children; ours must heed it
# (https://www.gnu.org/software/bash/manual/bash.html#Signals).
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests with emulators to one worker (`--dist loadgroup`): they cost 0.5 GB."""
    for item in items:
        if item.get_closest_marker("emulators"):
            item.add_marker(pytest.mark.xdist_group("emulators"))
