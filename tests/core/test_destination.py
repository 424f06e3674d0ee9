"""Destinations: what their settings say, what is refused, and which one an action goes to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tagstitch.core.destination import (
    FIELDS,
    Destination,
    choose_destination,
    complete_destination,
    conflicts,
)
from tagstitch.core.destination_presets import PRESETS
from tagstitch.core.destination_request import judge_answer, look_up, make_request
from tagstitch.core.destination_template import UnusableValue, fill, fill_url
from tagstitch.core.problems import Problems

STRONG = "whsec_" + "c2Vj" * 10
BEARER = {"kind": "bearer", "token": "t"}
PLAIN: dict[str, Any] = {
    "id": "d", "type": "email", "url": "https://mail.example.com/send", "auth": BEARER,
}  # fmt: skip


def completed(problems: Problems | None = None, /, **written: Any) -> Destination:
    found = Problems() if problems is None else problems
    decoded = msgspec.convert({**PLAIN, **written}, Destination)
    destination = complete_destination(decoded, found)
    assert problems is not None or found.found == []
    return destination


def refused(**written: Any) -> list[str]:
    """Return the places of what is wrong."""
    problems = Problems()
    completed(problems, **written)
    return sorted({problem.path for problem in problems.found})


@pytest.mark.parametrize(
    ("written", "places"),
    [
        ({"url": None}, ["url"]),
        ({"url": "http://mail.example.com/"}, ["url"]),
        ({"url": "ftp://mail.example.com/", "allow_private": True}, ["url"]),
        ({"url": "https:///path"}, ["url"]),
        ({"url": "https://user:word@mail.example.com/"}, ["url"]),
        ({"url": "https://mail.example.com:99999/"}, ["url"]),
        ({"url": "https://${recipient}/"}, ["url"]),
        ({"url": "https://${data.host}.example.com/"}, ["url"]),
        ({"url": "${template_id}://example.com/"}, ["url"]),
        ({"url": "https://mail.example.com/${channel}"}, ["url"]),
        ({"body": {"a": ["${unknown}"]}}, ["body"]),
        ({"auth": None}, ["auth"]),
        ({"auth": {"kind": "bearer", "token": ""}}, ["auth.token"]),
        ({"auth": {"kind": "bearer", "token": "a\nb"}}, ["auth.token"]),
        ({"auth": {"kind": "basic", "username": "ü", "password": "p"}}, ["auth.username"]),
        ({"auth": {"kind": "header", "name": "Host", "value": "v"}}, ["auth"]),
        ({"auth": {"kind": "signature", "secret": "weak"}}, ["auth.secret"]),
        ({"auth": {"kind": "signature", "secret": " "}}, ["auth.secret"]),
        (
            {
                "auth": {
                    "kind": "oauth2", "token_url": "http://login.example.com/",
                    "client_id": "c", "client_secret": "s",
                }
            },
            ["auth.token_url"],
        ),
        (
            {
                "auth": {
                    "kind": "oauth2", "token_url": "https://login.example.com/${recipient}",
                    "client_id": "c", "client_secret": "s",
                }
            },
            ["auth.token_url"],
        ),
        ({"headers": {"Metadata-Flavor": "Google"}}, ["headers"]),
        ({"headers": {"authorization": "x"}}, ["headers"]),
        ({"headers": {"x-a": "b\r\nx-c: d"}}, ["headers"]),
        ({"headers": {"x a": "b"}}, ["headers"]),
        ({"idempotency_header": "Content-Length"}, ["idempotency_header"]),
        ({"timeout_s": 0}, ["timeout_s"]),
        ({"timeout_s": 11}, ["timeout_s"]),
        ({"preset": "nobody"}, ["preset"]),
        ({"preset": "salesforce"}, ["body", "preset"]),
        ({"preset": "sendgrid", "url": None}, ["body"]),
        ({"type": "webhook", "serves": ["a"]}, ["serves"]),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_with_its_place(
    written: dict[str, Any], places: list[str]
) -> None:
    assert refused(**written) == places


def test_no_message_holds_a_secret() -> None:
    problems = Problems()
    completed(problems, auth={"kind": "bearer", "token": "hush\n"}, headers={"x-a": "hush\n"})

    assert problems.found
    assert "hush" not in str(problems.found)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_needs_only_ids_and_secrets(preset: str) -> None:
    values = {
        "sendgrid": {"from": "shop@example.com"},
        "salesforce": {"domain": "shop.my.salesforce.com", "external_id_field": "Id__c"},
    }[preset]

    destination = completed(url=None, type=PRESETS[preset].type, preset=preset, values=values)

    assert destination.method == PRESETS[preset].method
    assert (destination.success, destination.repeatable) == (
        PRESETS[preset].success,
        PRESETS[preset].repeatable,
    )


def test_a_preset_gives_way_to_what_is_written() -> None:
    destination = completed(
        url=None, preset="sendgrid", success=[200], repeatable=True,
        values={"from": "a@example.com", "host": "api.eu.sendgrid.com"},
    )  # fmt: skip

    assert destination.url == "https://api.eu.sendgrid.com/v3/mail/send"
    assert (destination.success, destination.repeatable) == (frozenset({200}), True)


@pytest.mark.parametrize(
    ("written", "repeatable"),
    [
        ({}, False),
        ({"idempotency_header": "Idempotency-Key"}, True),
        ({"method": "PUT"}, True),
        ({"auth": {"kind": "signature", "secret": STRONG}}, True),
        ({"method": "PUT", "repeatable": False}, False),
        ({"repeatable": True}, True),
    ],
)
def test_what_may_be_repeated(written: dict[str, Any], *, repeatable: bool) -> None:
    assert completed(**written).repeatable is repeatable


@pytest.mark.parametrize("type_", FIELDS)
def test_without_a_body_everything_of_the_action_is_sent(type_: Any) -> None:
    destination = completed(type=type_)
    values = {name: f"<{name}>" for name in FIELDS[type_]}

    request = make_request(destination, values, idempotency_key="k")

    body = msgspec.json.decode(request.body)
    assert body["type"] == f"action.{type_}"
    assert "${" not in request.body.decode()
    own = set(FIELDS[type_]) - set(FIELDS["email"]) - {"endpoint"}
    assert own <= body["data"].keys()


class TestTemplates:
    VALUES: dict[str, Any] = {"a": 1, "b": "x y", "d": {"n": None, "t": "u", "l": [1]}, "n": None}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("template", "filled"),
        [
            ("${a}", 1),
            ("${d}", {"n": None, "t": "u", "l": [1]}),
            ("${d.l}", [1]),
            ("${d.gone}", None),
            ("${a.x}", None),
            ("${n}", None),
            ("-${a}-${b}-${d.t}-${n}-${d.l}", "-1-x y-u--[1]"),
            ({"k": ["${a}", 2, True, None]}, {"k": [1, 2, True, None]}),
            ("$a {a} ${A}", "$a {a} ${A}"),
        ],
    )
    def test_a_field_alone_keeps_its_type(self, template: Any, filled: Any) -> None:
        assert fill(template, self.VALUES) == filled

    def test_what_is_filled_in_is_no_template_again(self) -> None:
        assert fill("${b} ${a}", {"b": "${a}", "a": "secret"}) == "${a} secret"

    @pytest.mark.parametrize(
        ("value", "segment"),
        [("a/b", "a%2Fb"), ("ü?#&", "%C3%BC%3F%23%26"), ("a b", "a%20b"), (5, "5"), ("..a", "..a")],
    )
    def test_a_value_stays_one_segment_of_the_url(self, value: Any, segment: str) -> None:
        assert fill_url("https://h/${a}/x", {"a": value}) == f"https://h/{segment}/x"

    @pytest.mark.parametrize("value", ["", ".", "..", None])
    def test_a_value_that_leads_elsewhere_is_refused(self, value: Any) -> None:
        with pytest.raises(UnusableValue):
            fill_url("https://h/${a}", {"a": value})


class TestChoice:
    def test_a_webhook_is_named_by_its_id(self) -> None:
        both = [completed(id=name, type="webhook") for name in ("a", "b")]

        assert choose_destination(both, "webhook", {"endpoint": "b"}) == both[1]
        assert choose_destination(both, "webhook", {"endpoint": "c"}) is None

    @pytest.mark.parametrize(
        ("type_", "action", "field"),
        [
            ("email", "send_email", "template_id"),
            ("crm", "update_crm", "object"),
            ("push", "push_message", "channel"),
        ],
    )
    def test_others_serve_what_they_list_or_everything_else(
        self, type_: str, action: Any, field: str
    ) -> None:
        rest = completed(id="rest", type=type_)
        own = completed(id="own", type=type_, serves=["a", "b"])

        assert choose_destination([rest, own], action, {field: "b"}) == own
        assert choose_destination([rest, own], action, {field: "c"}) == rest
        assert choose_destination([own], action, {field: "c"}) is None
        assert choose_destination([completed(type="webhook")], action, {field: "c"}) is None

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {"type": "crm"}),
            ({}, {"id": "e"}),
            ({"serves": ["a"]}, {"id": "e", "serves": ["a", "b"]}),
        ],
    )
    def test_two_may_not_be_or_serve_the_same(
        self, one: dict[str, Any], other: dict[str, Any]
    ) -> None:
        problems = Problems()
        conflicts([completed(**one), completed(**other)], problems)

        assert len(problems.found) == 1

    def test_different_ones_stand_side_by_side(self) -> None:
        problems = Problems()
        conflicts(
            [
                completed(),
                completed(id="e", serves=["a"]),
                completed(id="f", type="webhook"),
                completed(id="g", type="webhook"),
                completed(id="h", type="crm"),
            ],
            problems,
        )

        assert problems.found == []


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, "delivered"), (202, "delivered"), (204, "delivered"), (302, "rejected"),
        (400, "rejected"), (401, "rejected"), (404, "rejected"), (410, "rejected"),
        (408, "retry"), (425, "retry"), (429, "retry"), (503, "retry"),
        (500, "unknown"), (502, "unknown"), (504, "unknown"), (599, "unknown"),
    ],
)  # fmt: skip
def test_what_an_answer_means(status: int, verdict: str) -> None:
    assert judge_answer(completed(), status) == verdict


def test_only_the_listed_statuses_mean_that_it_arrived() -> None:
    destination = completed(success=[202])

    assert judge_answer(destination, 202) == "delivered"
    assert judge_answer(destination, 200) == "rejected"


@pytest.mark.parametrize(
    ("path", "attributes", "found"),
    [
        ("profile.email", {"email": "a@b.example"}, "a@b.example"),
        ("profile.contact.email", {"contact": {"email": "a@b.example"}}, "a@b.example"),
        ('profile["contact.email"]', {"contact.email": "a@b.example"}, "a@b.example"),
        ("profile.emails[1]", {"emails": ["x@b.example", "a@b.example"]}, "a@b.example"),
        ("profile.email", {}, None),
        ("event.email", {"email": "a@b.example"}, None),
    ],
)
def test_a_recipient_is_looked_up_in_the_profile_alone(
    path: str, attributes: dict[str, Any], found: str | None
) -> None:
    values, missing = look_up({"recipient": path, "template_id": "t"}, attributes)

    assert missing == (None if found else "recipient")
    assert found is None or values == {"recipient": found, "template_id": "t"}
