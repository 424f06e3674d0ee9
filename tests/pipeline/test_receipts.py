"""Receipts through the whole pipeline: what the audit recorded can be decided again, until the
visitor is erased."""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tagstitch.core.caller import Caller
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.pipeline.backend import Document, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.profile_import import export_line
from tagstitch.pipeline.replay_decisions import (
    DecisionReplayer,
    RecordedDecision,
    load_rule_book_of_version,
)
from tagstitch.pipeline.rule_publication import publish_rules
from tagstitch.pipeline.sealed_receipt import (
    WITHOUT_VALUES,
    is_replayable,
    open_receipt,
    receipt_profile_id,
)
from tests.pipeline.random_rules import RandomRules
from tests.pipeline.world import KEYRING, START, World

SERVER = Caller("server", frozenset({"decide"}))
SOON = Deadline.after

VISITORS = 40
UNSALTED = 4
"""Of these, the documents were written by hand: no salt, until a commit gives them one."""


def definitions_of(seed: int) -> RuleDefinitions:
    draw = RandomRules(seed)
    return RuleDefinitions(
        draw.event_rules(70),
        draw.personalization_rules(40),
        experiments={
            "banner": {
                "target_event_name": "*",
                "variants": {"A": 0.5, "B": 0.5},
                "match_all": True,
            },
            "price": {
                "target_event_name": "purchase",
                "conditions": {"profile.visits": {"atLeast": 5}},
                "variants": {"A": 0.5, "B": 0.5},
                "sticky": True,
            },
        },
        audiences={"loyal": {"conditions": {"visits": {"atLeast": 10}}}},
    )


def test_the_random_rules_can_be_used_and_cover_the_language() -> None:
    books = [compile_rule_book(definitions_of(seed)) for seed in (1, 2, 3)]

    assert [book.broken for book in books] == [(), (), ()]


class Recording:
    """Visitors who are decided for over several versions of the rules."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.draw = RandomRules(seed)
        self.answers: dict[str, dict[str, Any]] = {}
        self.profile_ids: list[str] = []
        self.versions: list[str] = []

    def client(self, number: int) -> Identifier:
        return Identifier("client_id", f"{number:010}.CANARY")

    async def add_visitors(self) -> None:
        for number in range(VISITORS):
            salt = {} if number < UNSALTED else {"salt": bytes([number]) * 16}
            consent = {"email": {"granted": number % 3 == 0, "at": START, "source": "import"}}
            attributes = self.draw.attributes(f"CANARY-{number}")
            self.profile_ids.append(
                await self.world.put_profile(
                    self.client(number), attributes=attributes, consent=consent, **salt
                )
            )

    async def publish(self, seed: int) -> Decider:
        publication = await publish_rules(
            self.world.store, definitions_of(seed), self.world.now, SOON(30)
        )
        assert publication.broken == ()
        self.versions.append(publication.pointer.version)
        book = compile_rule_book(definitions_of(seed))
        assert book.version == publication.pointer.version
        return self.world.decider(rule_book=self.world.refreshed(book))

    async def decide(self, decider: Decider, number: int) -> None:
        """Decide for one visitor, now and then while something does not answer."""
        random = self.draw.random
        visitor = random.randrange(VISITORS)
        self.world.now += timedelta(minutes=random.randrange(60))
        self.world.down = random.choice([set()] * 18 + [{"documents"}, {"commit"}])
        consent = random.choice([{}] * 8 + [{"ad_personalization": False}, {"own": True}])
        body = {
            "event": self.draw.event(self.client(visitor).value, f"CANARY-{visitor}"),
            "include": random.choice([["event", "personalization"]] * 3 + [["event"], ["personalization"]]),
            "consent": consent,
            "request_id": f"q{number}",
            "deadline_ms": 10_000,
        }  # fmt: skip
        answer = json.loads(await decider.decide(body, SERVER))
        self.world.down = set()
        self.answers[answer["decision_id"]] = answer

    async def decisions(self) -> list[RecordedDecision]:
        await self.world.store_audit()
        rows = await self.world.audit_rows.list_rows(deadline=SOON(30))
        return [_recorded(row) for row in rows if row["receipt"] is not None]


def _recorded(row: Mapping[str, Any]) -> RecordedDecision:
    names = ("decision_id", "occurred_at", "event_name", "rules_version", "receipt")
    return RecordedDecision(**{name: row[name] for name in names})


def replayer_of(world: World) -> DecisionReplayer:
    return DecisionReplayer(world.store, KEYRING, load_rule_book_of_version(world.store))


async def test_ten_thousand_decisions_replay_until_their_visitor_is_erased(world: World) -> None:
    recording = Recording(world, seed=7)
    await recording.add_visitors()
    for version in range(3):
        decider = await recording.publish(version + 1)
        for number in range(3334):
            await recording.decide(decider, version * 3334 + number)
    recorded = await recording.decisions()
    replayer = replayer_of(world)
    replayable = [decision for decision in recorded if is_replayable(decision.receipt)]

    replays = [await replayer.replay(decision, deadline=SOON(30)) for decision in replayable]

    assert len(recording.answers) == len(recorded) == 10_002
    assert len(replayable) > 9_000
    assert Counter(replay.outcome for replay in replays) == {"identical": len(replayable)}
    assert {replay.rules_version for replay in replays} == set(recording.versions)
    for replay in replays:
        answer, again = recording.answers[replay.decision_id], replay.decision
        assert again is not None
        assert {
            part: answer.get(part) for part in ("event", "personalization") if part in answer
        } == json.loads(json.dumps(again))

    erased = recording.profile_ids[9]
    await world.store.commit(
        [Put(f"profiles/{erased}", {"erased_at": world.now})], deadline=SOON(5)
    )
    own = {d.decision_id for d in replayable if _profile_of(d) == erased}
    after = [await replayer.replay(decision, deadline=SOON(30)) for decision in replayable]

    assert len(own) > 100
    assert {replay.decision_id for replay in after if replay.outcome != "identical"} == own
    assert {replay.outcome for replay in after if replay.decision_id in own} == {"unreadable"}
    await _check_nothing_in_clear(world)


def _profile_of(decision: RecordedDecision) -> str:
    return receipt_profile_id(decision.receipt, keyring=KEYRING, decision_id=decision.decision_id)


async def _check_nothing_in_clear(world: World) -> None:
    rows = await world.audit_rows.list_rows(deadline=SOON(30))
    stored = repr(rows)
    assert "CANARY" not in stored
    assert not [row for row in rows if b"CANARY" in (row["receipt"] or b"")]
    assert not [path for path in await world.paths("profiles") if path.partition("/")[2] in stored]


CLIENT = Identifier("client_id", "1294673677.1747154479")
RULES = {
    "r": {
        "target_event_name": "*",
        "conditions": {"note": {"exists": True}},
        "action_type": "modify_parameter",
        "action_details": {"parameter": "note", "operator": "upper"},
    }
}
ONCE = {
    "p": {
        "event_name_trigger": "view_item",
        "updates_user_state": {"seen": True},
        "conditions": {"user_state.seen": {"exists": False}},
    }
}


async def decide_once(world: World, name: str = "purchase", **parameters: Any) -> dict[str, Any]:
    """Decide one event by the published rules, and return its audit row."""
    definitions = RuleDefinitions(RULES, ONCE)
    await publish_rules(world.store, definitions, world.now, SOON(5))
    decider = world.decider(RULES, ONCE)
    event = {"event_name": name, "client_id": CLIENT.value, **parameters}
    await decider.decide({"event": event, "include": ["event", "personalization"]}, SERVER)
    await world.store_audit()
    rows = await world.audit_rows.list_rows(deadline=SOON(5))
    return next(row for row in reversed(rows) if row["receipt"] is not None)


async def test_a_decision_without_a_profile_says_that_it_cannot_be_replayed(world: World) -> None:
    row = await decide_once(world, note="x")

    assert (row["receipt"], row["extra"]) == (WITHOUT_VALUES, {"replayable": False})


async def test_a_receipt_that_is_too_large_has_no_values(world: World) -> None:
    await world.put_profile(CLIENT, salt=b"s" * 16)

    small = await decide_once(world, note="x" * 60_000)
    large = await decide_once(world, note="x" * 70_000)

    assert (is_replayable(small["receipt"]), small["extra"]) == (True, None)
    assert (large["receipt"], large["extra"]) == (WITHOUT_VALUES, {"replayable": False})


async def test_a_profile_without_a_salt_gets_one_with_the_first_commit(world: World) -> None:
    profile_id = await world.put_profile(CLIENT)

    row = await decide_once(world, "view_item")

    replay = await replayer_of(world).replay(_recorded(row), deadline=SOON(5))
    assert len((await world.document(f"profiles/{profile_id}"))["salt"]) == 16
    assert replay.outcome == "identical"


async def test_a_new_visitor_can_be_replayed_from_the_decision_that_creates_the_profile(
    world: World,
) -> None:
    row = await decide_once(world, "view_item")

    assert (
        await replayer_of(world).replay(_recorded(row), deadline=SOON(5))
    ).outcome == "identical"


async def test_a_receipt_opens_for_its_own_decision_key_and_salt_alone(world: World) -> None:
    await world.put_profile(CLIENT, salt=b"s" * 16)
    row = await decide_once(world, note="x")
    sealed, decision_id = row["receipt"], row["decision_id"]
    other_key = replace(KEYRING, receipt_key=b"o" * 32)
    salt = {"salt": b"s" * 16}

    assert open_receipt(sealed, keyring=KEYRING, profile=salt, decision_id=decision_id)
    changes: list[dict[str, Any]] = [
        {"decision_id": "another"},
        {"profile": {"salt": b"o" * 16}},
        {"profile": {}},
        {"profile": salt | {"erased_at": START}},
        {"keyring": other_key},
    ]
    for change in changes:
        arguments: dict[str, Any] = {
            "keyring": KEYRING, "profile": salt, "decision_id": decision_id, **change,
        }  # fmt: skip
        with pytest.raises(InvalidInput):
            open_receipt(sealed, **arguments)
    for altered in (b"", sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"\x80"):
        with pytest.raises(InvalidInput):
            open_receipt(altered, keyring=KEYRING, profile=salt, decision_id=decision_id)


async def test_two_receipts_of_one_decision_share_nothing_but_their_form(world: World) -> None:
    await world.put_profile(CLIENT, salt=b"s" * 16)

    rows = [await decide_once(world, note="x") for _ in range(2)]

    one, other = (row["receipt"] for row in rows)
    assert len(one) == len(other)
    assert sum(a == b for a, b in zip(one, other, strict=True)) < len(one) / 2


async def test_a_record_that_falls_back_to_the_log_keeps_its_receipt(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.put_profile(CLIENT, salt=b"s" * 16)
    world.down = {"publisher"}

    with caplog.at_level(logging.ERROR, logger="tagstitch"):
        await world.decider(RULES).decide(
            {"event": {"event_name": "purchase", "client_id": CLIENT.value, "note": "CANARY"},
             "include": ["event"], "deadline_ms": 500}, SERVER,
        )  # fmt: skip

    (line,) = [r for r in caplog.records if r.message == "AUDIT_FALLBACK"]
    record = json.loads(bytes(line.__dict__["fields"]["record"]))
    receipt = open_receipt(
        base64.b64decode(record["receipt"]),
        keyring=KEYRING,
        profile={"salt": b"s" * 16},
        decision_id=record["decision_id"],
    )
    assert receipt.event == {"note": "CANARY"}
    assert "CANARY" not in json.dumps(record)


async def test_a_version_that_was_never_published_cannot_be_replayed(world: World) -> None:
    await world.put_profile(CLIENT, salt=b"s" * 16)
    await world.decider(RULES).decide(
        {"event": {"event_name": "purchase", "client_id": CLIENT.value}, "include": ["event"]},
        SERVER,
    )
    await world.store_audit()
    (row,) = await world.audit_rows.list_rows(deadline=SOON(5))

    replay = await replayer_of(world).replay(_recorded(row), deadline=SOON(5))

    assert replay.outcome == "unreadable"
    assert replay.problem == "no rule book of this version is kept"


def test_an_export_has_no_salt() -> None:
    document = Document(
        "profiles/p_1", {"identifiers": {}, "attributes": {}, "salt": b"CANARY"}, "1"
    )

    assert "CANARY" not in repr(export_line(document))


async def test_other_rules_give_a_different_decision(world: World) -> None:
    await world.put_profile(CLIENT, salt=b"s" * 16)
    row = await decide_once(world, note="x")

    async def other_rules(_version: str, _deadline: Deadline) -> RuleBook:
        return compile_rule_book(RuleDefinitions())

    replay = await DecisionReplayer(world.store, KEYRING, other_rules).replay(
        _recorded(row), deadline=SOON(5)
    )

    assert replay.outcome == "different"
    assert replay.decision is not None
