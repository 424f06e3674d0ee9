"""What must hold when a run of the state machine has ended: of the log, the audit and the erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.link_log import home_as_of
from tests.pipeline.identity_checks import Stored, home_at, records_of
from tests.pipeline.identity_jobs import KEYS, POOL
from tests.pipeline.identity_run import IdentityRun
from tests.pipeline.world import KEYRING


def check_log(run: IdentityRun) -> None:
    """Check that the log says of each time what was so at it."""
    for at, _ in () if run.model.erased else run.history:
        for identifier in POOL:
            _check_as_of(run, identifier, at)


def _check_as_of(run: IdentityRun, identifier: Identifier, at: datetime) -> None:
    today = run.model.home(identifier)
    found = run.stepper.run(
        home_as_of(
            run.world.store, KEYS.of(identifier), today.profile_id if today else None, at,
            kept_since=at, deadline=Deadline.after(20),
        )
    )  # fmt: skip
    expected = home_at(run.history, at, identifier)
    assert found == expected or (
        expected is None and found == run.model.unlogged.get(identifier)
    ), f"{identifier} at {at}: {found}, not {expected}"


def check_audit(run: IdentityRun) -> None:
    """Check that every committed record reaches the table, once."""
    for wait in (timedelta(minutes=3), timedelta(hours=2), timedelta(days=9)):
        if wait == timedelta(minutes=3) or run.model.erased:
            run.world.now += wait
            run.catch_up()
    rows = run.stepper.run(run.world.rows())
    stored = run.stored
    committed = {record["record_id"] for f in stored.processed.values() for record in records_of(f)}
    told = [row["record_id"] for row in rows]
    assert committed <= set(told)
    assert len(told) == len(set(told))
    assert not any("pending" in fields for fields in stored.processed.values())
    _check_nothing_is_held(run, stored, rows)


def _check_nothing_is_held(
    run: IdentityRun, stored: Stored, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Check that nothing is left of who was erased."""
    subjects = set(map(KEYRING.pseudonym, run.model.erased))
    named = [(row["record_type"], row["outcome"]) for row in rows if row["subject"] in subjects]
    assert not named, f"the audit names the erased: {named}"
    assert not any(f.get("subject") in subjects for f in stored.processed.values())
    for identifier in filter(run.model.is_erased, POOL):
        key = KEYS.of(identifier)
        assert key not in stored.identifiers
        assert key not in stored.contributions
    erased_keys = {KEYS.of(identifier) for identifier in filter(run.model.is_erased, POOL)}
    for fields in stored.links.values():
        documents = (*fields.get("merged", {}).values(), fields.get("survivor") or {})
        held = {key for document in documents for key in document.get("identifiers", ())}
        held |= {key for name in ("linked", "moved") for key in fields.get(name) or ()}
        assert held.isdisjoint(erased_keys), "a log holds an identifier of who was erased"
        merged = map(KEYRING.own_place_of, fields.get("merged", {}))
        assert run.model.erased.keys().isdisjoint(merged), "a log holds who was erased"
