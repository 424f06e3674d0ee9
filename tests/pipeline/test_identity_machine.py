"""Identity as a whole: random requests, faults and interleavings against a model in plain Python.

A Hypothesis state machine drives the real pipelines. After each step the store must be what the
model says of some order of what was under way, and the graph must be sound. A failure prints the
steps that lead to it, and a blob that repeats it. A long run:

    TAGSTITCH_MACHINE_EXAMPLES=3000 TAGSTITCH_MACHINE_STEPS=60 python -m pytest -n 0 \\
        tests/pipeline/test_identity_machine.py --hypothesis-seed=7
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tagstitch.adapters.firestore_documents import FirestoreDocuments
from tagstitch.core.identifier import Identifier
from tagstitch.local_stack.emulators import Emulators
from tests.pipeline.identity_end import check_audit, check_log
from tests.pipeline.identity_jobs import (
    JUNK,
    POOL,
    SETTINGS,
    Draft,
    Erase,
    Job,
    Queued,
    TakeOut,
    Undo,
    drafts,
    first_of_pair,
    numbers,
    perhaps_a_fault,
    seldom_statements,
    some_identifiers,
    turns,
)
from tests.pipeline.identity_people import Decide, Import, vouched_for
from tests.pipeline.identity_run import IdentityRun
from tests.pipeline.stepped_ports import Fault, Stepper
from tests.pipeline.world import KEYRING, World


class IdentityMachine(RuleBasedStateMachine):
    """Requests, decisions, splits, imports and erasures, alone and two at a time, with faults."""

    def __init__(self) -> None:
        super().__init__()
        self.run = IdentityRun(self.make_stepper)
        self.counter = itertools.count(1)
        self.has_erasures = False

    def make_stepper(self, world: World) -> Stepper:
        return Stepper(world)

    @initialize(
        name=st.sampled_from(sorted(SETTINGS)),
        known=st.lists(
            st.tuples(st.sampled_from(POOL), st.integers(0, 1)), unique_by=first_of_pair
        ),
        erases=st.integers(0, 3),
    )
    def begin(self, name: str, known: list[tuple[Identifier, int]], erases: int) -> None:
        """Choose the limits, and let some visitors be known already, each by one identifier."""
        self.has_erasures = erases == 1
        self.run.choose(name)
        for identifier, days in known:
            self.run.world.now += timedelta(days=days)
            self.run.happen(self.put(Draft([identifier])))

    @rule(draft=drafts, fault=perhaps_a_fault)
    def tell(self, draft: Draft, fault: Fault | None) -> None:
        """Publish a request and deliver it."""
        self.run.happen(self.put(draft), fault=fault)

    @rule(first=drafts, second=drafts, turns=turns, fault=perhaps_a_fault)
    def tell_two(self, first: Draft, second: Draft, turns: list[int], fault: Fault | None) -> None:
        self.run.happen(self.put(first), self.put(second), turns=turns, fault=fault)

    @rule(some=st.lists(drafts, min_size=1, max_size=3))
    def publish(self, some: list[Draft]) -> None:
        for draft in some:
            self.put(draft)

    @precondition(lambda self: self.run.queue)
    @rule(number=numbers, fault=perhaps_a_fault)
    def deliver(self, number: int, fault: Fault | None) -> None:
        self.run.happen(self.queued(number), fault=fault)

    @precondition(lambda self: self.run.queue)
    @rule()
    def deliver_all(self) -> None:
        for message in list(self.run.queue):
            self.run.happen(message)

    @precondition(lambda self: self.run.delivered)
    @rule(number=numbers)
    def deliver_again(self, number: int) -> None:
        self.run.happen(self.run.delivered[number % len(self.run.delivered)])

    @rule(named=some_identifiers, event=st.sampled_from(["view_item", "add_to_cart"]),
          asserted=st.booleans(), denied=st.sampled_from([None] * 5 + ["analytics_storage", "email"]),
          fault=perhaps_a_fault)  # fmt: skip
    def decide(
        self,
        named: list[Identifier],
        event: Any,
        asserted: bool,  # noqa: FBT001 - Hypothesis passes by name
        denied: str | None,
        fault: Fault | None,
    ) -> None:
        job = self.decision(named, event, {denied} if denied else set(), asserted=asserted)
        self.run.happen(job, fault=fault)

    @precondition(lambda self: self.run.decisions)
    @rule(number=numbers)
    def decide_again(self, number: int) -> None:
        self.run.happen(self.run.decisions[number % len(self.run.decisions)])

    @precondition(lambda self: self.run.model.people)
    @rule(number=numbers, fault=perhaps_a_fault)
    def take_out(self, number: int, fault: Fault | None) -> None:
        self.run.happen(self.a_take_out(number), fault=fault)

    @precondition(lambda self: self.run.model.merges)
    @rule(number=numbers, fault=perhaps_a_fault)
    def undo(self, number: int, fault: Fault | None) -> None:
        self.run.happen(self.an_undo(number), fault=fault)

    @rule(profile_id=st.sampled_from([None, "X1", "X2"]), named=some_identifiers,
          names=st.sets(st.sampled_from(["plan", "city"]), max_size=2))  # fmt: skip
    def imports(self, profile_id: str | None, named: list[Identifier], names: set[str]) -> None:
        line = self.a_line(profile_id, named, names)
        if line is not None:
            self.run.happen(line)

    @rule(data=st.data(), turns=turns, fault=perhaps_a_fault)
    def two_at_once(self, data: st.DataObject, turns: list[int], fault: Fault | None) -> None:
        jobs = [self.any_job(data) for _ in range(2)]
        self.run.happen(*jobs, turns=turns, fault=fault)

    @precondition(lambda self: self.has_erasures)
    @rule(identifier=st.sampled_from(POOL), fault=perhaps_a_fault)
    def erase(self, identifier: Identifier, fault: Fault | None) -> None:
        self.run.happen(Erase(identifier), fault=fault)

    @rule(by=st.sampled_from([None, timedelta(minutes=2), timedelta(hours=2), timedelta(days=4)]))
    def time_passes(self, by: timedelta | None) -> None:
        """Let time pass, or another process go on."""
        if by is None:
            self.run.world.restart()
        elif by > timedelta(hours=1):  # by then everything has arrived
            self.run.world.now += timedelta(minutes=3)
            self.run.catch_up()
            self.run.world.now += by
        else:
            self.run.world.now += by

    @rule(named=some_identifiers, consent=seldom_statements,
          bare_id=st.sampled_from([None, None, "X1", "X2", "c1", "u2"]))  # fmt: skip
    def look_up(
        self, named: list[Identifier], consent: dict[str, bool], bare_id: str | None
    ) -> None:
        if bare_id is not None:
            self.look_up_bare(bare_id)
            return
        body = {"identifiers": [{"type": i.type, "value": i.value} for i in named]}
        answer = self.run.stepper.run(
            self.run.lookup(body | ({"consent": consent} if consent else {}))
        )
        usable = vouched_for(named, self.run.limits.settings, asserted=True)
        person = self.run.model.known(usable, self.run.world.now)
        self.run.check_answer(answer, person, consent, is_blocked=not usable)
        self.run.drain()

    def look_up_bare(self, bare_id: str) -> None:
        answer = self.run.stepper.run(self.run.lookup({"id": bare_id}))
        person = self.run.model.people.get(self.run.model.aliases.get(bare_id, bare_id))
        if person is None:
            homes = (
                self.run.model.home(Identifier(t, bare_id)) for t in self.run.limits.settings.types
            )
            person = next((home for home in homes if home is not None), None)
        self.run.check_answer(answer, person, {}, is_blocked=False)

    def any_job(self, data: st.DataObject) -> Job:
        run, number = self.run, data.draw(numbers)
        named = data.draw(some_identifiers)
        jobs: list[Callable[[], Job | None]] = [
            *[lambda: self.decision(named, "view_item", set(), asserted=bool(number % 2))] * 2,
            lambda: self.a_take_out(number),
            lambda: self.a_line(None, named, {"plan"}),
        ]
        jobs += [lambda: self.queued(number)] * 4 * bool(run.queue)
        jobs += [lambda: self.an_undo(number)] * bool(run.model.merges)
        jobs += [lambda: run.delivered[number % len(run.delivered)]] * bool(run.delivered)
        jobs += [lambda: Erase(POOL[number % len(POOL)])] * self.has_erasures
        chosen = jobs[data.draw(st.integers(0, len(jobs) - 1))]()
        return chosen or TakeOut(POOL[number % len(POOL)])

    def put(self, draft: Draft) -> Queued:
        """Put a request into the queue, seldom under an id that was used."""
        number = next(self.counter)
        named = [*draft.named, JUNK] if draft.with_junk else draft.named
        body: dict[str, Any] = {
            "request_id": f"r{number - 1 if draft.is_repeated_id else number}",
            "identifiers": [{"type": i.type, "value": i.value} for i in named],
            "asserted": draft.asserted,
            "occurred_at": (self.run.world.now - draft.age).isoformat(),
        }
        if draft.consent:
            body["consent"] = dict(draft.consent)
        if draft.event is not None:
            body["event"] = {
                "event_name": draft.event,
                "consent_state": dict(draft.signals),
                "value": draft.number / 4,
                "page": f"/{draft.number % 5}",
                "ga_session_id": draft.number % 4,
            }
        if draft.callback is not None:
            body["callback"] = draft.callback
        self.run.queue.append(Queued(body, f"m{number}", self.run.world.now))
        return self.run.queue[-1]

    def queued(self, number: int) -> Queued:
        return self.run.queue[number % len(self.run.queue)]

    def decision(
        self, named: Sequence[Identifier], event: Any, denied: set[str], *, asserted: bool
    ) -> Decide:
        usable = vouched_for(named, self.run.limits.settings, asserted=asserted)
        seen: dict[str, int] = {}
        few = []
        for identifier in usable:  # an event has room for two of most types
            seen[identifier.type] = seen.get(identifier.type, 0) + 1
            few += [identifier] if seen[identifier.type] <= 2 else []
        request_id = f"d{next(self.counter)}"
        return Decide(request_id, event, tuple(few), frozenset(denied))

    def a_take_out(self, number: int) -> TakeOut:
        """Return one that can be taken out, where there is one; seldom any other."""
        linked = [i for i in POOL if KEYRING.profile_id(i) in self.run.model.aliases]
        some = linked if linked and number % 8 else POOL
        return TakeOut(some[number % len(some)])

    def an_undo(self, number: int) -> Undo:
        every = [Undo(n, g) for n, m in enumerate(self.run.model.merges) for g in sorted(m.gone)]
        left = [u for u in every if u.gone_id not in self.run.model.merges[u.number].undone]
        some = left if left and number % 4 else every
        return some[number % len(some)]

    def a_line(
        self, profile_id: str | None, named: Sequence[Identifier], names: set[str]
    ) -> Import | None:
        usable = vouched_for(named, self.run.limits.settings, asserted=True)
        users = {i for i in usable if i.type == "user_id"}
        line = Import(
            profile_id, usable, {n: f"{n} {next(self.counter)}" for n in sorted(names)},
            self.run.world.now,
        )  # fmt: skip
        after = self.run.model.copy()
        if usable:
            after.imports(line)
        people = after.people.values()
        is_odd = any(sum(i.type == "user_id" for i in p.linked) > 1 for p in people)
        return None if not usable or len(users) > 1 or is_odd else line

    def teardown(self) -> None:
        try:
            if self.run.is_sound:
                check_log(self.run)
                check_audit(self.run)
        finally:
            self.close()

    def close(self) -> None:
        self.run.close()


class FirestoreMachine(IdentityMachine):
    """The same on Firestore, whose answers come when they come."""

    address = ""

    def make_stepper(self, world: World) -> Stepper:
        project = "machine-" + secrets.token_hex(6)
        self.firestore = FirestoreDocuments(project, emulator=self.address)
        world.store = self.firestore
        return Stepper(world, in_turns=False)

    def close(self) -> None:
        self.run.stepper.run(self.firestore.close())
        super().close()


@pytest.mark.emulators
def test_the_same_holds_on_firestore(emulators: Emulators) -> None:
    class Machine(FirestoreMachine):
        address = emulators.firestore

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=int(os.environ.get("TAGSTITCH_MACHINE_EXAMPLES", "6")),
            stateful_step_count=15,
            deadline=None,
            database=None,
            phases=(Phase.generate,),  # to shrink what fails takes hours there
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


TestIdentityMachine = IdentityMachine.TestCase
TestIdentityMachine.settings = settings(
    max_examples=int(os.environ.get("TAGSTITCH_MACHINE_EXAMPLES", "100")),
    stateful_step_count=int(os.environ.get("TAGSTITCH_MACHINE_STEPS", "40")),
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
