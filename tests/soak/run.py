"""One soak: a stack, its traffic with kills in between, and then what must hold."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tagstitch.adapters.settings import environment_with, exported_settings, read_settings
from tagstitch.local_stack.emulator_stack import stack_on_emulators
from tagstitch.local_stack.emulators import Emulators
from tests.end_to_end.running_stack import RunningStack, until
from tests.end_to_end.samples import has_rules
from tests.soak.checks import Check, Evidence, check_all
from tests.soak.faults import CALM, CLOCK
from tests.soak.forgotten import deliver_forgotten
from tests.soak.operator_desk import OperatorDesk
from tests.soak.receiver import Receiver
from tests.soak.sending import Senders
from tests.soak.traffic import RULES, Person, Traffic, make_traffic

_PROGRAM: Final = Path(__file__).with_name("faulty_stack.py")
_SENDERS: Final = 16
_KILL_EVERY: Final = 5_000
"""Operations between two kills of the whole process, and half of that before the first. None on
emulators: that of Pub/Sub forgets messages that it pushed to a closed port (docs/emulator-gaps.md)."""

_AHEAD_S: Final = 130
"""Seconds by which the clock goes on at the end: the sweep leaves alone what is younger than 120,
and a signature holds for 300."""

_SETTLE_S: Final = 300.0
_POLL_S: Final = 0.25
_STILL_S: Final = {"local": 1.0, "cloud": 2.5}
"""Seconds without a change that count as an end. The emulator does not tell what it still holds,
and may wait for longer before it delivers again: what it holds then is delivered for it."""

_JUDGE_AGAIN_S: Final = 60.0
"""Seconds that a violation may take to go, on a machine that is busy with other things."""

_SETTINGS: Final = {
    "TAGSTITCH_RETRY_SCALE": "0.01",
    "TAGSTITCH_RULES_REFRESH_S": "2",
    "TAGSTITCH_CONSENT_DEFAULT": "granted",
}

Progress = Callable[[int], None]
"""Hears of operations that are done."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak came to."""

    checks: Sequence[Check]
    faults: dict[str, int]
    kills: int
    took_s: float
    settled_s: float
    forgotten: int
    """Messages that had to be delivered for the emulator of Pub/Sub."""

    @property
    def violations(self) -> list[str]:
        """Every violation, with the name of what it violates."""
        return [f"{check.name}: {text}" for check in self.checks for text in check.violations]


def soak(
    folder: Path,
    *,
    seed: int,
    count: int,
    emulators: Emulators | None = None,
    progress: Progress = lambda _: None,
) -> Soaked:
    """Run so many operations on a stack of its own, on SQLite or on emulators."""
    traffic = make_traffic(seed, count)
    with (
        Receiver() as receiver,
        _stack(folder, seed, receiver, emulators) as stack,
        OperatorDesk(read_settings(environment_with(overrides=stack.settings))) as desk,
    ):
        _prepare(desk, traffic)
        stack.start()
        until(lambda: has_rules(stack), seconds=60, what="the rules in decide")
        started = time.monotonic()
        senders = Senders(urlsplit(stack.url).port or 0, desk)
        kill_every = _KILL_EVERY if emulators is None else None
        kills = _send(stack, senders, traffic, kill_every, progress)
        sent_s = time.monotonic() - started
        forgotten = _settle(stack, desk)
        settled_s = time.monotonic() - started - sent_s
        evidence = Evidence(traffic, senders, receiver.received, kills, stack, desk)
        soaked = _judge(evidence, sent_s, settled_s, forgotten)
        assert stack.stop() == 0
    return soaked


def _judge(evidence: Evidence, sent_s: float, settled_s: float, forgotten: int) -> Soaked:
    """Return what holds, once it does; what goes on to be wrong is a violation."""
    end = time.monotonic() + _JUDGE_AGAIN_S
    while True:
        fresh = replace(evidence)  # what was read before is not read again otherwise
        soaked = Soaked(
            check_all(fresh), fresh.fault_counts, len(fresh.kills), sent_s, settled_s, forgotten
        )
        if not soaked.violations or time.monotonic() > end:
            return soaked
        time.sleep(_POLL_S)


@contextmanager
def _stack(
    folder: Path, seed: int, receiver: Receiver, emulators: Emulators | None
) -> Iterator[RunningStack]:
    settings = {**_SETTINGS, **receiver.settings}
    url = ""
    if emulators is not None:
        project = "soak-" + secrets.token_hex(4)
        data_dir = folder / "data"
        with exported_settings(_SETTINGS):  # the subscriptions' backoff is made from one of them
            options = stack_on_emulators(emulators, project, port=0, data_dir=data_dir)
        settings |= options.settings
        url = f"http://127.0.0.1:{options.port}"
    else:
        settings |= {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(folder / "data")}
    stack = RunningStack(folder, settings, program=_PROGRAM, arguments=[str(seed)], url=url)
    (stack.data_dir / CALM).touch()
    try:
        yield stack
    finally:
        stack.close()


def _prepare(desk: OperatorDesk, traffic: Traffic) -> None:
    """Load the rules, and what is known of every second member, before anything starts.

    A function that runs learns of a new trait only when it looks again.
    """
    desk.push_rules(RULES)
    known = [person for person in traffic.people if person.kind == "member"][::2]
    desk.import_profiles([_profile(person) for person in known])


def _profile(person: Person) -> dict[str, object]:
    return {
        "identifiers": {"user_id": [person.user_id]},
        "attributes": {"name": person.name},
        "consent": {},
    }


def _send(
    stack: RunningStack,
    senders: Senders,
    traffic: Traffic,
    kill_every: int | None,
    progress: Progress,
) -> list[float]:
    """Send everything, and kill the process now and then; return when."""
    kills: list[float] = []
    (stack.data_dir / CALM).unlink()
    done = 0
    with ThreadPoolExecutor(_SENDERS) as threads:
        for result in threads.map(senders.send, traffic.operations, chunksize=1):
            assert result is None
            done += 1
            progress(1)
            if kill_every and done % kill_every == min(kill_every, len(traffic.operations)) // 2:
                kills.append(time.time())
                stack.kill()
                stack.start()
    senders.close()
    return kills


def _settle(stack: RunningStack, desk: OperatorDesk) -> int:
    """Let everything come to its end with nothing failing, forgotten things by the sweep.

    Returns how many messages had to be delivered for the emulator.
    """
    (stack.data_dir / CALM).touch()
    _wait_until_still(desk)
    forgotten = 0
    if desk.settings.backend == "cloud":
        forgotten = deliver_forgotten(stack, desk)
        _wait_until_still(desk)
    (stack.data_dir / CLOCK).write_text(str(_AHEAD_S))
    with stack.client() as client:
        until(
            lambda: client.post("/stitch_async/sweep", json={}).is_success,
            seconds=60,
            what="a sweep",
        )
    _wait_until_still(desk)
    return forgotten


def _wait_until_still(desk: OperatorDesk) -> None:
    """Return when nothing has changed for a while, or at the end of patience."""
    end = time.monotonic() + _SETTLE_S
    still_s = _STILL_S[desk.settings.backend]
    before: object = None
    changed_at = time.monotonic()
    while time.monotonic() < min(changed_at + still_s, end):
        time.sleep(_POLL_S)
        queued = _queued(desk)
        now = (desk.waiting(), queued, _rows(desk))
        if queued or now != before:
            changed_at = time.monotonic()
        before = now


def _queued(desk: OperatorDesk) -> int:
    """Return how many messages wait in the local queue; nobody can ask the emulator."""
    if desk.settings.backend == "cloud":
        return 0
    with sqlite3.connect(desk.settings.data_dir / "tagstitch.sqlite") as database:
        [(count,)] = database.execute("SELECT COUNT(*) FROM deliveries")
    return int(count)


def _rows(desk: OperatorDesk) -> int:
    [row] = desk.query("SELECT COUNT(*) AS n FROM audit")
    return int(row["n"])
