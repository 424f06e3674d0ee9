"""What must hold after a soak, of everything that was stored, recorded and received."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from tagstitch.core.callback import ENDPOINT_LEFT_ALONE
from tagstitch.core.trait_state import stored_traits, trait_values
from tagstitch.pipeline.claims import STITCH_TOPIC
from tagstitch.pipeline.keyring import own_profile_id
from tests.end_to_end.running_stack import RunningStack
from tests.soak.faults import LOG
from tests.soak.operator_desk import OperatorDesk
from tests.soak.receiver import Received
from tests.soak.sending import Senders
from tests.soak.traffic import CAP, Operation, Person, Traffic

_KILL_WINDOW_S: Final = 40.0
"""Seconds before a kill in which an answer may have come that nobody marked: a handler's longest."""

_REFUSALS_MIN: Final = 20
"""Refusals in a row that have an endpoint left alone (core/circuit_breaker.py)."""

_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, how often it was looked at, and where it did not."""

    name: str
    looked_at: int
    violations: Sequence[str]


@dataclass(frozen=True)
class Evidence:
    """Everything that a soak left."""

    traffic: Traffic
    senders: Senders
    received: Sequence[Received]
    kills: Sequence[float]
    stack: RunningStack
    desk: OperatorDesk

    @cached_property
    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """The audit by record id, as the view without repetitions has it, and what left by the log."""
        sql = (
            "SELECT record_id, record_type, request_id, decision_id, outcome, subject,"
            " resolved_event_name, extra FROM audit_deduplicated"
        )
        found = {str(row["record_id"]): row for row in self.desk.query(sql)}
        for line in self.log:
            if line["message"] == "AUDIT_FALLBACK":
                found.setdefault(line["record"]["record_id"], line["record"])
        return found

    @cached_property
    def log(self) -> Sequence[Mapping[str, Any]]:
        return [line for line in self.stack.log_lines() if "message" in line]

    @cached_property
    def faults(self) -> Sequence[Mapping[str, Any]]:
        lines = (self.stack.data_dir / LOG).read_text().splitlines()
        return [json.loads(line) for line in lines]

    def interrupted(self, status: int) -> set[str]:
        """Return the ids of what was answered so and perhaps not marked: a fault came."""
        faulty = {key for fault in self.faults for key in fault.get("sent", ())}
        return faulty | {
            each.webhook_id
            for each in self.received
            if each.status == status
            and any(kill - _KILL_WINDOW_S <= each.at <= kill for kill in self.kills)
        }

    @cached_property
    def callback_ends(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Outbox id -> the records of the ends of a callback."""
        ends = defaultdict(list)
        for record_id, row in self.rows.items():
            if record_id.startswith("callback_"):
                ends[record_id.split("_")[1]].append(row)
        return ends

    @cached_property
    def left_alone(self) -> set[str]:
        """The requests whose callbacks outlived their use behind an endpoint that was left alone.

        None of them was sent, and the record of their end says why.
        """
        sent = {each.webhook_id for each in self.received} - self.interrupted(404)
        return {
            each.request_id
            for each in self.of_kind("stitch")
            if each.callback == "strict"
            and each.request_id not in sent
            and self._has_outlived_its_use(self.stitch_key(each))
        }

    def _has_outlived_its_use(self, outbox_id: str) -> bool:
        entry = self.outbox.get(outbox_id)
        ends = self.callback_ends.get(outbox_id, [])
        if entry is None or [row["outcome"] for row in ends] != ["expired"]:
            return False
        was_late = entry["created_at"] >= entry["useful_until"]
        reasons = {None if was_late else ENDPOINT_LEFT_ALONE}
        if outbox_id in self.untold:
            reasons.add(None)
        is_over = entry["ended_at"] >= entry["useful_until"]
        return bool(is_over and ends[0]["extra"].get("reason") in reasons)

    @cached_property
    def untold(self) -> set[str]:
        """The outbox entries of which topic `actions` could not be told behind an attempt.

        They wait for the sweep, which leaves alone for two minutes what may be under way: as long
        as callbacks to the endpoint that refuses are of use.
        """
        return {
            outbox_id
            for fault in self.faults
            if fault["what"] == "publish actions"
            for outbox_id in fault.get("about", ())
        }

    def story(self, outbox_id: str) -> Sequence[str]:
        """Return what became of an outbox entry, for whoever looks for the cause."""
        entry = self.outbox.get(outbox_id, {})
        names = ("created_at", "useful_until", "ended_at", "told_at", "attempts", "why", "status")
        fields = [f"{name} {entry[name]}" for name in names if name in entry]
        faults = [
            f"{fault['kind']} at {datetime.fromtimestamp(fault['at'], UTC):%H:%M:%S.%f}"
            f" of {fault['function']}{fault['path']}: {fault['what']}"
            for fault in self.faults
            if outbox_id in fault.get("about", ())
        ]
        return [*fields, *faults]

    @property
    def fault_counts(self) -> dict[str, int]:
        return dict(Counter(fault["kind"] for fault in self.faults))

    @cached_property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        return self.desk.documents("profiles")

    @cached_property
    def outbox(self) -> Mapping[str, Mapping[str, Any]]:
        return self.desk.documents("outbox")

    @cached_property
    def letters(self) -> Mapping[str, Mapping[str, Any]]:
        return self.desk.documents("dead_letters")

    def of_kind(self, *kinds: str) -> list[Operation]:
        return [each for each in self.traffic.operations if each.kind in kinds]

    def stitch_key(self, operation: Operation) -> str:
        """Return the id of a stitch request's mark, and of its callback's entry."""
        # What came by HTTP has the caller's request id; a stack without keys has one caller.
        caller = ("none",) if operation.kind == "stitch" else ()
        return self.desk.keyring.derived_id(
            "stitch_async", STITCH_TOPIC, *caller, operation.request_id
        )

    def home(self, person: Person) -> str | None:
        """Return the id of the living profile that a person's first identifier leads to."""
        key = self.desk.keyring.identifier_key(person.identifiers[0])
        place = own_profile_id(key)
        fields = self.profiles.get(place, {})
        home = str(fields.get("merged_into", place))
        return home if "identifiers" in self.profiles.get(home, {}) else None


def check_all(evidence: Evidence) -> list[Check]:
    """Return every check, done."""
    checks: dict[str, Callable[[Evidence], Iterator[str | None]]] = {
        "every operation was accepted in the end": _accepted,
        "every stitch request has one outcome": _outcomes,
        "every callback ends once": _callback_ends,
        "what was delivered is not sent again": _repeats,
        "every request has one webhook-id": _webhook_ids,
        "every decision is recorded": _decisions,
        "caps are met, and never exceeded": _caps,
        "every action is done once": _actions,
        "traits are the fold of the events": _traits,
        "everybody is one person": _people,
        "nobody gets what is another's": _others,
        "who was erased stays erased": _erased,
        "what cannot be processed is one dead letter": _dead_letters,
        "nothing waits": _nothing_waits,
        "no bug was logged": _bugs,
    }
    done = []
    for name, check in checks.items():
        results = list(check(evidence))
        done.append(Check(name, len(results), [text for text in results if text is not None]))
    return done


def _accepted(evidence: Evidence) -> Iterator[str | None]:
    refused = set(evidence.senders.unaccepted)
    for each in evidence.traffic.operations:
        yield f"{each.request_id} ({each.kind}) was not" if each.request_id in refused else None


def _is_leaver(operation: Operation) -> bool:
    return operation.person is not None and operation.person.kind == "leaver"


def _outcomes(evidence: Evidence) -> Iterator[str | None]:
    found = defaultdict(list)
    for record_id, row in evidence.rows.items():
        if record_id.startswith("stitch_"):
            found[record_id.split("_")[1]].append(row)
    for each in evidence.of_kind("stitch", "publish"):
        outcomes = [row["outcome"] for row in found[evidence.stitch_key(each)]]
        # Of an erased person a request that comes again is another one: its mark has gone.
        is_right = len(outcomes) == 1 or (_is_leaver(each) and len(outcomes) == 2)
        yield None if is_right else f"{each.request_id} has {outcomes}"


def _callback_ends(evidence: Evidence) -> Iterator[str | None]:
    for each in evidence.of_kind("stitch"):
        if each.callback is None:
            continue
        wanted = "rejected" if each.callback == "strict" else "delivered"
        if each.request_id in evidence.left_alone:
            wanted = "expired"
        rows = evidence.callback_ends.get(evidence.stitch_key(each), [])
        got = [row["outcome"] for row in rows]
        if _is_leaver(each):  # what waits is not sent, and one that comes again is another one
            is_right = bool(got) and set(got) <= {wanted, "suppressed"}
        else:
            is_right = got == [wanted]
        if is_right:
            yield None
        else:
            told = f"{each.request_id} to {each.callback} ended as {got}"
            yield "; ".join([told, *evidence.story(evidence.stitch_key(each))])
    refused = {each.webhook_id for each in evidence.received if each.status == 404}
    is_reason = not evidence.left_alone or len(refused) >= _REFUSALS_MIN
    yield None if is_reason else f"{len(refused)} refusals had the endpoint left alone"


def _repeats(evidence: Evidence) -> Iterator[str | None]:
    interrupted = evidence.interrupted(200)
    taken = defaultdict(list)
    for each in evidence.received:
        if each.status == 200:
            taken[each.webhook_id].append(each.at)
    leavers = {each.request_id for each in evidence.traffic.operations if _is_leaver(each)}
    for webhook_id, times in taken.items():
        is_excused = webhook_id in interrupted or webhook_id in leavers
        is_right = len(times) == 1 or is_excused
        yield None if is_right else f"{webhook_id} was taken {len(times)} times"


def _webhook_ids(evidence: Evidence) -> Iterator[str | None]:
    expected = {each.request_id for each in evidence.of_kind("stitch") if each.callback}
    leavers = {each.request_id for each in evidence.of_kind("stitch") if _is_leaver(each)}
    got: dict[str, set[str]] = defaultdict(set)
    for each in evidence.received:
        if each.endpoint == "warehouse":
            continue
        got[each.body["data"]["request_id"]].add(each.webhook_id)
        yield None if each.is_signed else f"{each.webhook_id} is not signed"
    for request_id in expected | got.keys():
        is_excused = request_id in leavers or request_id in evidence.left_alone
        is_none = is_excused and not got[request_id]  # erased, or of no more use, while it waited
        is_right = request_id in expected and (is_none or got[request_id] == {request_id})
        yield None if is_right else f"{request_id} came as {got[request_id]}"


def _decisions(evidence: Evidence) -> Iterator[str | None]:
    for each in evidence.of_kind("decide"):
        answer = evidence.senders.answers[each.request_id]
        decision_id = answer.body.get("decision_id")
        for part in ("event", "personalization"):
            is_there = f"{decision_id}:{part}" in evidence.rows
            yield None if is_there else f"{each.request_id}: no {part} record of {decision_id}"


def _caps(evidence: Evidence) -> Iterator[str | None]:
    asked: Counter[str] = Counter()
    got: Counter[str] = Counter()
    for each in evidence.of_kind("decide"):
        assert each.event is not None
        assert each.person is not None
        if each.event["event_name"] == "select_promotion":
            asked[each.person.name] += 1
            got[each.person.name] += len(_given(evidence, each))
    for name, count in asked.items():
        wanted = min(count, CAP)
        yield None if got[name] == wanted else f"{name} got {got[name]} of {wanted}"


def _given(evidence: Evidence, operation: Operation) -> Sequence[Any]:
    body = evidence.senders.answers[operation.request_id].body
    return list(body.get("personalization", {}).get("actions", ()))


def _actions(evidence: Evidence) -> Iterator[str | None]:
    wanted = {
        each.person.name: evidence.home(each.person)
        for each in evidence.of_kind("decide")
        if each.person is not None and (each.event or {}).get("event_name") == "add_to_cart"
    }
    entries = defaultdict(list)
    for outbox_id, fields in evidence.outbox.items():
        if fields["kind"] == "action":
            entries[fields["profile_id"]].append((outbox_id, fields["status"]))
    ends = Counter(
        record_id.split("_")[1]
        for record_id, row in evidence.rows.items()
        if record_id.startswith("action_") and row["outcome"] == "delivered"
    )
    done = {each.webhook_id for each in evidence.received if each.endpoint == "warehouse"}
    for name, home in wanted.items():
        [*ids] = entries.pop(home or "", [])
        is_right = (
            len(ids) == 1
            and ids[0][1] == "delivered"
            and ends[ids[0][0]] == 1
            and ids[0][0] in done
        )
        yield None if is_right else f"{name} has {ids}"
    for home, others in entries.items():
        yield f"{home} has {others}, and nobody asked"
    count = len(wanted)
    yield None if len(done) == count else f"{len(done)} actions were done for {count} visitors"


def _traits(evidence: Evidence) -> Iterator[str | None]:
    events: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for each in evidence.of_kind("stitch", "publish", "decide"):
        if each.event is not None and each.event["event_name"] == "purchase":
            assert each.person is not None
            events[each.person.name][each.request_id] = each.event
    for person in evidence.traffic.people:
        if person.kind == "leaver" or person.name not in events:
            continue
        bought = list(events[person.name].values())
        values = [event["value"] for event in bought]
        # The page is the time of an event of the past; decide was asked about events of today.
        told = sorted(event["page"] for event in bought if event["page"] != "/none")
        wanted = {
            "orders": len(bought),
            "revenue": sum(values),
            "largest": max(values),
            "first_page": told[0] if told else "/none",
        }
        home = evidence.home(person)
        fields = evidence.profiles.get(home or "", {})
        got = trait_values(stored_traits(fields.get("traits")), now=datetime.now(UTC))
        has_decided = any(event["page"] == "/none" for event in bought)
        if has_decided != fields.get("state", {}).get("has_bought", False):
            yield f"{person.name} has the state {fields.get('state')}"
        yield None if got == wanted else f"{person.name} has {got}, and {wanted} was counted"


def _people(evidence: Evidence) -> Iterator[str | None]:
    keyring = evidence.desk.keyring
    holders: Counter[str] = Counter()
    for profile_id, fields in evidence.profiles.items():
        if target := fields.get("merged_into"):
            is_living = "identifiers" in evidence.profiles.get(target, {})
            yield None if is_living else f"{profile_id} leads to {target}, which is no profile"
            continue
        for key in fields.get("identifiers", ()):
            holders[key] += 1
            place = own_profile_id(key)
            leads_to = evidence.profiles.get(place, {}).get("merged_into", place)
            yield None if leads_to == profile_id else f"{key} of {profile_id} leads to {leads_to}"
    for key, count in holders.items():
        yield None if count == 1 else f"{key} is held by {count} profiles"
    for person in evidence.traffic.people:
        if person.kind != "member":
            continue
        linked = evidence.profiles.get(evidence.home(person) or "", {}).get("identifiers", {})
        keys = {keyring.identifier_key(identifier) for identifier in person.identifiers}
        yield None if linked.keys() == keys else f"{person.name} has other identifiers"


def _others(evidence: Evidence) -> Iterator[str | None]:
    owners = {each.request_id: each.person for each in evidence.traffic.operations}
    shown = [
        (request_id, answer.body.get("attributes", {}))
        for request_id, answer in evidence.senders.answers.items()
    ]
    shown += [
        (each.body["data"]["request_id"], each.body["data"]["attributes"])
        for each in evidence.received
        if each.endpoint != "warehouse"
    ]
    for request_id, attributes in shown:
        person = owners.get(request_id)
        name = attributes.get("name")
        is_right = name is None or (person is not None and person.name == name)
        yield None if is_right else f"{request_id} got the name of {name}"


def _erased(evidence: Evidence) -> Iterator[str | None]:
    keyring = evidence.desk.keyring
    for person in evidence.traffic.people:
        if person.kind != "leaver":
            continue
        keys = {keyring.identifier_key(identifier) for identifier in person.identifiers}
        held = [p for p, f in evidence.profiles.items() if keys & f.get("identifiers", {}).keys()]
        named = own_profile_id(keyring.identifier_key(person.identifiers[0]))
        is_gone = not held and "erased_at" in evidence.profiles.get(named, {})
        yield None if is_gone else f"{person.name} is in {held}"
    for each in evidence.of_kind("lookup"):
        answer = evidence.senders.answers[each.request_id]
        if each.person is None or not _is_leaver(each):
            continue
        is_late = answer.at >= evidence.senders.erased_at[each.person.name]
        is_found = is_late and answer.body["found"]
        yield f"{each.request_id} found {each.person.name}" if is_found else None


def _dead_letters(evidence: Evidence) -> Iterator[str | None]:
    published = {each.request_id for each in evidence.of_kind("invalid")}
    strict = {each.request_id for each in evidence.of_kind("stitch") if each.callback == "strict"}
    interrupted = evidence.interrupted(404)
    letters: dict[str, list[str]] = defaultdict(list)
    for letter_id, fields in evidence.letters.items():
        letters[str(fields["request_id"])].append(letter_id)
        is_recorded = f"dead_letter_{letter_id}" in evidence.rows
        yield None if is_recorded else f"dead letter {letter_id} is not in the audit"
    for request_id in published | strict | letters.keys():
        got = len(letters[request_id])
        if request_id in strict:  # one that was left alone may have been refused, and interrupted
            is_maybe = request_id in evidence.left_alone & interrupted
            is_right = got == (request_id not in evidence.left_alone) or (is_maybe and got == 1)
        else:
            is_right = got >= 1 and request_id in published
        reasons = [evidence.letters[each]["reason"] for each in letters[request_id]]
        yield None if is_right else f"{request_id} has {got} dead letters: {reasons}"


def _nothing_waits(evidence: Evidence) -> Iterator[str | None]:
    yield from (f"{path} waits" for path in evidence.desk.waiting())
    for outbox_id, fields in evidence.outbox.items():
        has_ended = fields.get("status") != "pending"
        yield None if has_ended else f"outbox/{outbox_id} has not ended"


def _bugs(evidence: Evidence) -> Iterator[str | None]:
    for line in evidence.log:
        is_bug = line["severity"] in ("ERROR", "CRITICAL") and line["message"] != "AUDIT_FALLBACK"
        yield f"{line['message']}: {line.get('exception')} {line.get('frames')}" if is_bug else None


def first_of(texts: Iterable[str]) -> list[str]:
    """Return the first few, and how many more there are."""
    every = list(texts)
    more = len(every) - _SHOWN_MAX
    return [*every[:_SHOWN_MAX], *([f"… and {more} more"] if more > 0 else [])]
