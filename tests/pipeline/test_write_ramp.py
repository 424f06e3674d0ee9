"""A large import begins at 500 writes a second and grows by half each five minutes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagstitch.adapters.sqlite_database import SqliteDatabase
from tagstitch.adapters.sqlite_documents import SqliteDocuments
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.write_ramp import RampedDocuments, WriteRamp, writes_per_s


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.mark.parametrize(
    ("minutes", "limit"),
    [(0, 500), (4.99, 500), (5, 750), (9.99, 750), (10, 1_125), (15, 1_687.5), (30, 5_695.3125)],
)
def test_the_limit_grows_by_half_each_five_minutes(minutes: float, limit: float) -> None:
    assert writes_per_s(minutes * 60) == limit


def test_the_limit_stays_a_number_for_days() -> None:
    assert writes_per_s(30 * 86_400) == writes_per_s(7_000)
    assert math.isfinite(writes_per_s(1e12))


def test_commits_in_a_row_keep_to_the_limit() -> None:
    ramp, now_s, written = WriteRamp(started_s=0.0), 0.0, 0
    while now_s < 600.0:
        now_s += ramp.wait_s(60, now_s=now_s)
        written += 60

    assert written == pytest.approx(300 * 500 + 300 * 750, rel=0.001)


def test_a_pause_earns_no_burst() -> None:
    ramp = WriteRamp(started_s=0.0)
    ramp.wait_s(500, now_s=0.0)

    assert ramp.wait_s(500, now_s=100.0) == 0.0
    assert ramp.wait_s(500, now_s=100.0) == 1.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteDocuments]:
    database = SqliteDatabase(tmp_path)
    yield SqliteDocuments(database)
    database.close()


async def test_every_commit_waits_for_its_turn_and_is_made(store: SqliteDocuments) -> None:
    clock = FakeClock()
    ramped = RampedDocuments(store, clock=clock, sleep=clock.sleep)

    for batch in range(3):
        puts = [Put(f"profiles/{batch}-{n}", {"n": n}) for n in range(100)]
        await ramped.commit(puts, deadline=Deadline.after(5))

    assert clock.slept == pytest.approx([0.2, 0.2])
    assert (
        len(await ramped.list_documents("profiles", limit=500, deadline=Deadline.after(5))) == 300
    )
    assert ramped.limit == 500.0
