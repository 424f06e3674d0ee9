"""One run of the state machine: it does jobs in the real pipelines and compares with the model."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tagstitch.core import identity_graph
from tagstitch.core.errors import Conflict, InvalidInput, Unavailable
from tagstitch.core.identifier import Identifier
from tagstitch.core.lookup import LookupAnswer
from tagstitch.core.profile_traits import compile_traits
from tagstitch.pipeline.claims import STITCH_TOPIC
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.person import Asked
from tagstitch.pipeline.profile_import import import_profiles
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.split_profiles import ProfileSplitter
from tagstitch.pipeline.sweep import sweep
from tests.pipeline.identity_checks import (
    Stored,
    check_apart,
    check_consent,
    check_expiries,
    check_graph,
    read_stored,
    records_of,
    settle,
)
from tests.pipeline.identity_jobs import (
    KEYS,
    POOL,
    SERVER,
    SETTINGS,
    VISITOR_RULES,
    Erase,
    Job,
    Queued,
    TakeOut,
    Undo,
    decided_mark_of,
    mark_of,
)
from tests.pipeline.identity_model import TRAIT_DEFINITIONS, Model
from tests.pipeline.identity_people import Decide, Import, Merge, Person, Refused
from tests.pipeline.stepped_ports import Fault, Stepper
from tests.pipeline.world import KEYRING, World

_PACE: Final = 10
"""Seconds of the world for one that a pause really takes: nobody waits for a dead owner's lease."""


class IdentityRun:
    """A world, the model of it, and what is under way."""

    def __init__(self, make_stepper: Callable[[World], Stepper]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="machine", dir=fast_folder())
        self.patch = pytest.MonkeyPatch()
        self.world = World(Path(self.folder.name), traits=TRAIT_DEFINITIONS)
        self.world.database._connection.execute("PRAGMA synchronous = OFF")
        self.stepper = make_stepper(self.world)
        self.limits = SETTINGS["without limits"]
        self.model = Model(self.limits)
        self.queue: list[Queued] = []
        self.delivered: list[Queued] = []
        self.decisions: list[Decide] = []
        self.history: list[tuple[datetime, dict[Identifier, str]]] = []
        self.heard = 0
        self.told: dict[str, tuple[str, ...]] = {}
        self.stored = self.stepper.run(read_stored(self.world.store))
        self.counter = itertools.count(1)
        self._looked_at = time.monotonic()
        self.is_sound = True
        """Whether the last step held: what comes after one that did not says nothing."""

    def choose(self, name: str) -> None:
        """Choose the limits, before anything happens."""
        self.limits = SETTINGS[name]
        self.model = Model(self.limits)
        self.world.identity = self.limits.settings
        self.patch.setattr(
            identity_graph, "IDENTIFIERS_PER_PROFILE_MAX", self.limits.identifiers_max
        )
        self.patch.setattr(identity_graph, "MERGES_PER_PROFILE_MAX", self.limits.merges_max)
        self.world.backend = replace(self.world.backend, clock=self.tick)
        self.world.restart()

    def tick(self) -> datetime:
        """Return the present time, which never stands still."""
        before, self._looked_at = self._looked_at, time.monotonic()
        paused_s = 0.0 if self.stepper.in_turns else self._looked_at - before
        self.world.now += timedelta(seconds=max(0.001, paused_s * _PACE))
        return self.world.now

    def happen(self, *jobs: Job, turns: Sequence[int] = (), fault: Fault | None = None) -> None:
        """Do the jobs, side by side, and compare with the model in some order of them."""
        self.is_sound = False
        self._looked_at = time.monotonic()
        self.forget_expired()
        outcomes = self.stepper.together(*map(self.work, jobs), turns=turns, fault=fault)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                self.check_error(outcome, fault)
        before, self.stored = self.stored, self.stepper.run(read_stored(self.world.store))
        erases = any(isinstance(job, Erase) for job in jobs)
        if erases:
            self.forget_erased()
        self.model = self.explained(jobs, outcomes)
        if erases:  # what happened beside it, too
            self.forget_erased()
        self.learn_merges()
        for job, outcome in zip(jobs, outcomes, strict=True):
            is_done = not isinstance(outcome, BaseException) or isinstance(outcome, InvalidInput)
            if isinstance(job, Queued) and is_done and job in self.queue:
                self.queue.remove(job)
                self.delivered.append(job)
            if isinstance(job, Decide) and job not in self.decisions:
                self.decisions.append(job)
        self.drain()
        self.check(before, jobs)
        self.is_sound = True

    def forget_expired(self) -> None:
        """Let the model forget what the store may forget: marks have an expiry."""
        known = {r: mark_of(r) for r in self.model.processed}
        known |= {r: decided_mark_of(r) for r in self.model.decided}
        marks = self.stored.processed
        expired = {r for r, k in known.items() if marks[k]["expires_at"] <= self.world.now}
        self.model.forget(expired)
        for record_id in [r for r in self.told if any(known[e] in r for e in expired)]:
            del self.told[record_id]  # after a week the same request may be told of anew
        self.model.changed.clear()

    def catch_up(self) -> None:
        """Let the sweep run, and what is on its way to the audit arrive."""
        self.stepper.run(self.swept())
        self.heard = 0
        self.stored = self.stepper.run(read_stored(self.world.store))
        if self.model.erased:
            self.forget_erased()

    async def swept(self) -> None:
        await self.world.store_audit()
        eraser = PersonEraser(self.world.backend, KEYRING, self.world.audit)
        deadline = Deadline.after(60)
        await sweep(self.world.backend, self.world.audit, eraser=eraser, deadline=deadline)
        await self.world.store_audit()

    def forget_erased(self) -> None:
        """Let the model forget requests whose marks went with a person."""
        marks = self.stored.processed
        gone = {r for r in self.model.processed if mark_of(r) not in marks}
        gone |= {r for r in self.model.decided if decided_mark_of(r) not in marks}
        self.model.forget(gone)

    def work(self, job: Job) -> Coroutine[Any, Any, Any]:
        deadline = Deadline.after(60)
        if isinstance(job, Queued):
            return self.world.stitcher().process_message(job.message(), deadline=deadline)
        if isinstance(job, Decide):
            return self.ask(job)
        if isinstance(job, Import):
            return self.imported(job)
        if isinstance(job, Erase):
            eraser = PersonEraser(self.world.backend, KEYRING, self.world.audit)
            return eraser.erase(Asked.by_identifier(job.identifier, KEYRING), deadline=deadline)
        splitter = ProfileSplitter(
            self.world.backend,
            KEYRING,
            audit=self.world.audit,
            definitions=compile_traits(self.world.traits),
        )
        if isinstance(job, TakeOut):
            return splitter.take_out(KEYRING.identifier_key(job.identifier), deadline=deadline)
        record_id = self.model.merges[job.number].record_id
        assert record_id is not None
        return splitter.undo_merge(record_id, merged_id=job.gone_id, deadline=deadline)

    async def ask(self, job: Decide) -> dict[str, Any]:
        """Ask decide; the caller vouches for the identifiers as far as they are in the job."""
        event: dict[str, Any] = {"event_name": job.event, "page": "/decided", "ga_session_id": 9}
        addresses = []
        for identifier in job.identifiers:
            if identifier.type == "email_sha256":
                addresses.append(identifier.value)
            elif identifier.type in event:  # a second one of a type is resolved elsewhere
                event[f"_resolved.{identifier.type}"] = identifier.value
            else:
                event[identifier.type] = identifier.value
        if addresses:
            event["user_data"] = {"sha256_email_address": addresses}
        body = {"event": event, "request_id": job.request_id, "deadline_ms": 5000}
        if job.denied:
            body["consent"] = dict.fromkeys(sorted(job.denied), "denied")
        decider = self.world.decider({}, VISITOR_RULES)
        answer: dict[str, Any] = json.loads(await decider.decide(body, SERVER))
        return answer

    async def imported(self, job: Import) -> None:
        raw: dict[str, Any] = {"attributes": dict(job.attributes), "identifiers": {}}
        raw["attributes_at"] = job.at.isoformat()
        for identifier in job.identifiers:
            raw["identifiers"].setdefault(identifier.type, []).append(identifier.value)
        if job.profile_id is not None:
            raw["profile_id"] = job.profile_id
        line = parse_profile_line(raw, self.limits.settings, KEYRING)
        await import_profiles(
            self.world.backend.documents, [(1, line)], now=self.tick(), deadline=Deadline.after(60)
        )

    async def lookup(self, body: Mapping[str, Any]) -> LookupAnswer:
        answer = await self.world.lookup().answer(
            {**body, "deadline_ms": 5000}, SERVER, request_id="x"
        )
        assert isinstance(answer, LookupAnswer)
        return answer

    def check_error(self, error: BaseException, fault: Fault | None) -> None:
        if isinstance(error, InvalidInput | Conflict):
            return  # the model says where that is right
        is_failure = isinstance(error, Unavailable) or not isinstance(error, Exception)
        if fault is None or not is_failure:
            raise error

    def explained(self, jobs: Sequence[Job], outcomes: Sequence[Any]) -> Model:
        """Return the model after those of the jobs that were done, in the order that fits."""
        told = []
        for order in itertools.permutations(range(len(jobs))):
            done = [(True,) if _is_done(outcomes[n]) else (False, True) for n in range(len(jobs))]
            for applied in itertools.product(*done):
                model = self.model.copy()
                fits = all(
                    _fits(self.apply(model, jobs[n]), outcomes[n]) for n in order if applied[n]
                )
                fits &= all(_may_be_undone(outcomes[n]) for n in order if not applied[n])
                differences = (
                    settle(model, self.stored, KEYS, now=self.world.now)
                    if fits
                    else ["another outcome"]
                )
                differences += self.differing_marks(model, jobs) if fits else []
                if not differences:
                    return model
                told.append(f"order {order}, applied {applied}: " + "; ".join(differences))
        raise AssertionError(
            "no order explains what is stored:\n" + "\n".join([*told, *map(str, outcomes)])
        )

    def apply(self, model: Model, job: Job) -> object:
        if isinstance(job, Queued):
            return model.stitch(job.request(self.limits.settings))
        if isinstance(job, Decide):
            return model.decide(job, self.world.now)
        if isinstance(job, TakeOut):
            return model.take_out(job.identifier)
        if isinstance(job, Undo):
            return model.undo(model.merges[job.number], job.gone_id)
        if isinstance(job, Erase):
            model.erase(job.identifier)
        else:
            model.imports(job)
        return None

    def differing_marks(self, model: Model, jobs: Sequence[Job]) -> list[str]:
        """Return how the marks of requests differ: one for each that changed something."""
        marks, now = self.stored.processed, self.world.now
        decisions = [*self.decisions, *(job for job in jobs if isinstance(job, Decide))]
        requests = {str(q.body["request_id"]) for q in (*self.queue, *self.delivered)}
        for name, expected, keys in (
            ("processed", model.processed.keys(), {r: mark_of(r) for r in requests}),
            ("decided", model.decided.keys(), {d: decided_mark_of(d) for d in
                                               (job.request_id for job in decisions)}),
        ):  # fmt: skip
            live = {r for r, k in keys.items() if k in marks and marks[k]["expires_at"] > now}
            if model.erased:  # marks go with a person
                live |= expected
            if live != expected:
                return [f"{name}: expected {sorted(expected)}, stored {sorted(live)}"]
        merged = sorted(_merge_of(m) for m in model.merges if m.record_id is None)
        known_records = {m.record_id for m in model.merges}
        entries = [e for e in self.stored.links.values() if e.get("kind") == "merge"]
        new = [e for e in entries if e["record_id"] not in known_records]
        logged = sorted(
            (e["profile_id"], sorted((g, sorted(f["identifiers"])) for g, f in e["merged"].items()))
            for e in new
        )
        if merged != logged and not model.erased:
            return [f"merges: expected {merged}, logged {logged}"]
        outcomes = {
            request_id: [record["outcome"] for record in records_of(marks[key])]
            for request_id in model.changed
            if (key := mark_of(request_id)) in marks  # an erasure takes them
        }
        effects = {request_id: [model.effects[request_id]] for request_id in outcomes}
        return [] if outcomes == effects else [f"outcomes: {effects}, recorded {outcomes}"]

    def learn_merges(self) -> None:
        """Take over the record ids of new merges."""
        new = [merge for merge in self.model.merges if merge.record_id is None]
        known = {merge.record_id for merge in self.model.merges}
        entries = [e for e in self.stored.links.values() if e.get("kind") == "merge"]
        for entry in entries:
            if entry["record_id"] not in known:
                [merge] = [m for m in new if m.survivor.profile_id == entry["profile_id"]
                           and m.gone.keys() == entry["merged"].keys()]  # fmt: skip
                merge.record_id, merge.at = entry["record_id"], entry["committed_at"]
        untold = [m for m in self.model.merges if not m.record_id and m.gone.keys() - m.undone]
        assert not untold, "a merge that the log does not tell of"

    def check(self, before: Stored, jobs: Sequence[Job]) -> None:
        check_graph(self.stored, self.limits, exempt=self.model.exempt)
        check_expiries(self.stored)
        check_apart(self.stored, self.model.apart, KEYS)
        granted = {
            purpose
            for job in jobs
            if isinstance(job, Queued)
            for purpose, value in (job.body.get("consent") or {}).items()
            if value
        }
        check_consent(before, self.stored, granted)
        self.check_records(before, jobs)
        homes = {i: home.profile_id for i in POOL if (home := self.model.home(i)) is not None}
        if not self.history or self.history[-1][1] != homes:
            self.history.append((self.world.now, homes))

    def check_records(self, before: Stored, jobs: Sequence[Job]) -> None:
        """Check that every change has its record, and every record one content."""
        new = [f for k, f in self.stored.processed.items() if f != before.processed.get(k)]
        is_unmarked = any(isinstance(job, Import | Erase) for job in jobs)
        if before.graph() != self.stored.graph() and not is_unmarked:
            assert any(map(records_of, new)), "a change without a record"
        for record in (r for fields in new for r in records_of(fields)):
            if record["record_type"] not in _DECISIONS:  # what was not given is told at once
                content = _content(record)
                told = self.told.setdefault(record["record_id"], content)
                assert told == content, "the table has another record of this id already"
        messages = self.world.published.get("audit", [])
        heard, self.heard = self.heard, len(messages)
        for message in messages[heard:]:
            for record in message["records"]:
                self.told.setdefault(record["record_id"], _content(record))
        if any(isinstance(job, Erase) for job in jobs):
            self.told.clear()  # what is delivered again is told of anew, as nobody's

    def check_answer(
        self,
        answer: LookupAnswer,
        person: Person | None,
        consent: Mapping[str, bool],
        *,
        is_blocked: bool,
    ) -> None:
        said = consent.get("analytics_storage")
        if said is False:
            assert answer.reason == "CONSENT_DENIED"
        elif is_blocked:
            assert answer.reason == "BLOCKED_IDENTIFIER"
        elif person is None:
            assert answer.reason == "UNKNOWN_PROFILE"
        elif said is None and not person.consent.get("analytics_storage", (True,))[0]:
            assert answer.reason == "CONSENT_DENIED"
        else:
            assert (answer.found, answer.profile_id) == (True, person.profile_id)
            known = {name: value for name, (value, _) in person.attributes.items()}
            assert answer.attributes == known | self.model.traits(person, self.world.now)

    def drain(self) -> None:
        """Take what the pipelines published to the queue."""
        for body in self.world.published.pop(STITCH_TOPIC, []):
            self.queue.append(Queued(body, f"m{next(self.counter)}", self.world.now))

    def close(self) -> None:
        self.patch.undo()
        self.stepper.close()
        self.world.database.close()
        self.folder.cleanup()


def _is_done(outcome: object) -> bool:
    if isinstance(outcome, dict):  # a decision, which says itself what it could not do
        return bool(_gives(outcome)) or not outcome["degraded"]
    return not isinstance(outcome, BaseException) or isinstance(outcome, InvalidInput)


def _may_be_undone(outcome: object) -> bool:
    return not _is_done(outcome)


def _fits(said: object, outcome: object) -> bool:
    """Return whether the outcome is what the model said, as far as the caller heard of it."""
    if isinstance(outcome, InvalidInput):
        return said == Refused(outcome.code)
    if isinstance(outcome, Conflict):
        return False
    if isinstance(outcome, dict):
        return bool(said) == _gives(outcome) or bool(said and outcome["degraded"])
    return isinstance(outcome, BaseException) or not isinstance(said, Refused)


def _merge_of(merge: Merge) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return who was merged, with the identifiers that they had then."""
    gone = ((p.profile_id, sorted(map(KEYS.of, p.linked))) for p in merge.gone.values())
    return merge.survivor.profile_id, sorted(gone)


def _gives(answer: Mapping[str, Any]) -> bool:
    actions = answer["personalization"]["actions"]
    return any(action.get("key") == "offer" for action in actions)


_DECISIONS: Final = ("event_decision", "personalization_decision")


def _content(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a record says."""
    names = ("record_type", "outcome", "subject", "extra")
    return tuple(json.dumps(record.get(name), sort_keys=True) for name in names)


def fast_folder() -> str | None:
    """Return a folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - nobody else's name
