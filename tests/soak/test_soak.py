"""A short soak of each stack: `make soak` runs the long one, with a seed of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tagstitch.local_stack.emulators import Emulators
from tests.soak.checks import first_of
from tests.soak.run import Soaked, soak

SEED: Final = 1
COUNT: Final = 2_000
EMULATOR_COUNT: Final = 500

EXPECTED: Final = {
    "twice at once", "later", "crash before", "crash behind", "slow", "answer lost", "down",
}  # fmt: skip


def check(soaked: Soaked, *, kinds: set[str]) -> None:
    assert first_of(soaked.violations) == []
    assert [check.name for check in soaked.checks if not check.looked_at] == []
    assert kinds <= soaked.faults.keys()


def test_nothing_is_lost_or_doubled_on_the_local_stack(tmp_path: Path) -> None:
    soaked = soak(tmp_path, seed=SEED, count=COUNT)

    check(soaked, kinds=EXPECTED)
    assert soaked.kills == 1


@pytest.mark.emulators
def test_nothing_is_lost_or_doubled_on_the_emulators(tmp_path: Path, emulators: Emulators) -> None:
    soaked = soak(tmp_path, seed=SEED, count=EMULATOR_COUNT, emulators=emulators)

    # So few deliveries may be spared one kind or another.
    check(soaked, kinds={"twice at once", "later", "down"})
