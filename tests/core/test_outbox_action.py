from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tagstitch.core.arithmetic import ResultOutOfRange
from tagstitch.core.declarations import Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.outbox_action import OutboxAction
from tagstitch.core.outbox_entry import OncePer, OutboxEntry
from tagstitch.core.paths import Facts
from tagstitch.core.personalization_action import SetCookie
from tagstitch.core.personalization_action_parsing import parse_personalization_action
from tagstitch.core.problems import Problems
from tagstitch.core.written_action import WrittenAction, take_actions

EMAIL = {"type": "send_email", "template_id": "t", "recipient": "profile.email"}
CRM = {"type": "update_crm", "object": "Contact", "external_id": "profile.crm_id"}
FACTS = Facts(
    {"value": 7.5, "email": "ada@example.net", "items": [{"item_id": "1"}]},
    {"tier": "Gold", "email": "ada@example.net", "crm_id": "003", "since": datetime(2026, 1, 2)},  # noqa: DTZ001
    {"seen": 3},
)


def parse(written: dict[str, Any], problems: Problems | None = None) -> Any:
    problems = problems or Problems()
    details = Definition(written, "a", problems)
    action = WrittenAction(details.take("type"), "a.type", details, 2)
    declared = Declarations(protected=frozenset({"tier"}))
    return parse_personalization_action(action, declared=declared)


def action(**written: Any) -> OutboxAction:
    problems = Problems()
    parsed = parse(written, problems)
    assert problems.found == []
    assert isinstance(parsed, OutboxAction)
    return parsed


def entry(**written: Any) -> OutboxEntry:
    return action(**written).to_entry(FACTS, rule_id="r")


def test_an_email_takes_its_data_from_this_moment_and_its_recipient_later() -> None:
    data = {"text": "${tier}: ${value} $$", "n": 1, "flag": False, "items": {"from": "items"},
            "since": {"from": "profile.since"}, "gone": {"from": "gone"}, "no": "${gone}"}  # fmt: skip

    sent = entry(**EMAIL, data=data).to_json()

    assert sent == {
        "rule_id": "r", "type": "send_email", "action_key": "r:2", "once_per": "decision",
        "purposes": ["email"], "needs_recorded_grant": True,
        "fields": {
            "template_id": "t", "recipient": "profile.email",
            "data": {"text": "Gold: 7.5 $", "n": 1, "flag": False, "items": [{"item_id": "1"}],
                     "since": "2026-01-02T00:00:00", "no": ""},
        },
    }  # fmt: skip
    assert "ada@example.net" not in json.dumps(sent)


@pytest.mark.parametrize(
    ("written", "type_", "purposes", "needs_grant", "fields"),
    [
        ({**EMAIL, "type": "send_marketing_email"}, "send_email", ("email",), True,
         {"template_id": "t", "recipient": "profile.email", "data": {}}),
        ({**EMAIL, "purposes": ["news"]}, "send_email", ("news",), True,
         {"template_id": "t", "recipient": "profile.email", "data": {}}),
        ({**CRM, "fields": {"Tier__c": {"from": "tier"}}}, "update_crm", ("crm",), True,
         {"object": "Contact", "external_id": "profile.crm_id", "fields": {"Tier__c": "Gold"}}),
        ({"type": "webhook", "endpoint": "main", "body": {"a": "b"}}, "webhook", (), False,
         {"endpoint": "main", "body": {"a": "b"}}),
        ({"type": "push_message", "channel": "c", "payload": {"a": 1},
          "consent": {"purpose": "ads"}}, "push_message", ("ads",), False,
         {"channel": "c", "payload": {"a": 1}}),
    ],
)  # fmt: skip
def test_each_type_has_its_fields_and_purposes(
    written: dict[str, Any],
    type_: str,
    purposes: tuple[str, ...],
    needs_grant: bool,  # noqa: FBT001
    fields: dict[str, Any],
) -> None:
    sent = entry(**written)

    assert (sent.type, sent.purposes, sent.needs_recorded_grant) == (type_, purposes, needs_grant)
    assert sent.fields == fields


def test_what_is_read_now_is_known_and_the_recipient_is_not_part_of_it() -> None:
    data = {"a": "${value}${profile.tier}", "b": {"from": "tier"}, "c": {"from": "value"}, "d": 1}

    reads = [(path.root, path.text) for path in action(**EMAIL, data=data).reads]

    assert reads == [("bare", "value"), ("profile", "profile.tier"), ("profile", "tier")]


@pytest.mark.parametrize(
    ("fields", "place", "text"),
    [
        ({"recipient": "event.email"}, "recipient", "profile.email"),
        ({"recipient": "email"}, "recipient", "anybody can put"),
        ({"recipient": "tier"}, "recipient", "starts with profile."),
        ({"recipient": "user_state.email"}, "recipient", "starts with profile."),
        ({"recipient": "profile.emails.$"}, "recipient", "one value"),
        ({"recipient": "profile."}, "recipient", "not a path"),
        ({"recipient": "ada@example.net"}, "recipient", "starts with profile."),
        ({"template_id": "a/b"}, "template_id", "letters, digits"),
        ({"template_id": "a\r\nBcc: b"}, "template_id", "letters, digits"),
        ({"template_id": "x" * 129}, "template_id", "1 to 128"),
        ({"data": {"a\n": 1}}, "data[0]", "name of a field"),
        ({"data": {"a": "${b"}}, "data.a", "begins nothing"),
        ({"data": {"a": {"from": "items.$.x"}}}, "data.a.from", "one value"),
        ({"data": {"a": {"form": "b"}}}, "data.a.form", "did you mean from?"),
        ({"data": {"a": 10**30}}, "data.a", "must be text"),
        ({"data": []}, "data", "1 to 100 fields"),
        ({"once_per": "dya"}, "once_per", "did you mean day?"),
        ({"purposes": []}, "purposes", "name of a purpose"),
        ({"to": "x"}, "to", "unknown field"),
    ],
)
def test_an_email_is_refused_with_the_place(fields: dict[str, Any], place: str, text: str) -> None:
    problems = Problems()

    parse({**EMAIL, **fields}, problems)

    assert any(f"a.{place}" == p.path and text in str(p) for p in problems.found), problems.found
    assert "ada@example.net" not in str(problems.found)


def test_an_entry_that_is_too_large_is_refused() -> None:
    huge = Facts({"items": ["x" * 1_000] * 100, "text": "x" * 9_000})
    deep: Any = []
    for _ in range(19):
        deep = [deep]

    for data in ({"a": {"from": "items"}}, {"a": "${text}${text}"}):
        with pytest.raises(ResultOutOfRange):
            action(**EMAIL, data=data).to_entry(huge, rule_id="r")
    with pytest.raises(ResultOutOfRange):
        action(**EMAIL, data={"a": {"from": "a"}}).to_entry(Facts({"a": deep}), rule_id="r")


@pytest.mark.parametrize(
    ("once_per", "window"),
    [
        ("decision", None),
        ("hour", "2026-12-31T23"),
        ("day", "2026-12-31"),
        ("week", "2026-W53"),
        ("month", "2026-12"),
        ("visitor", "always"),
    ],
)
def test_a_window_is_that_of_the_time_in_utc(once_per: OncePer, window: str | None) -> None:
    sent = replace(entry(**EMAIL), once_per=once_per)
    east = datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))

    assert sent.window(east) == window
    assert sent.window(datetime(2026, 12, 31, 23, 30, tzinfo=UTC)) == window


def test_an_action_knows_its_place_in_the_rule() -> None:
    cookie = {"type": "set_cookie", "cookie_name": "c", "cookie_value": "v", "purposes": "ads"}
    fields = Definition({"actions": [cookie, EMAIL, EMAIL]}, "", Problems())

    first, *emails = (parse_personalization_action(written) for written in take_actions(fields))

    assert isinstance(first, SetCookie)
    assert first.purposes == ("ads",)
    keys = [
        e.to_entry(FACTS, rule_id="r").action_key for e in emails if isinstance(e, OutboxAction)
    ]
    assert keys == ["r:1", "r:2"]
