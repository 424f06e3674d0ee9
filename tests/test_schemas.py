"""The checked-in schemas are the generated ones, and judge as the parsers do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from schemas.generate import DIRECTORY, generate, render
from tagstitch.cli.rule_files import read_rule_files
from tagstitch.core.audience import parse_audience
from tagstitch.core.audit import AuditRecord
from tagstitch.core.errors import InvalidInput, InvalidRule
from tagstitch.core.event_action_parsing import PARSERS as EVENT_PARSERS
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.identifier import IDENTIFIER_TYPES, Identifier, IdentitySettings
from tagstitch.core.identity_settings import parse_identity_settings
from tagstitch.core.personalization_action_parsing import PARSERS as PERSONALIZATION_PARSERS
from tagstitch.core.problems import Problems
from tagstitch.core.rule import (
    _DESCRIPTIVE,
    parse_event_rule,
    parse_personalization_rule,
)
from tagstitch.core.stitch_request import StitchRequest, parse_stitch_request
from tagstitch.core.text_computation import OPERATORS
from tagstitch.core.trait_parsing import parse_trait
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.profile_line import parse_profile_line
from tagstitch.pipeline.publish_audit import encode_record
from tagstitch.pipeline.record_audit import _read_record, _split_message
from tests.schema_cases import (
    AUDIENCES,
    AUDIT_MESSAGES,
    EVENT_RULES,
    EXPERIMENTS,
    IDENTITY_SETTINGS,
    PERSONALIZATION_RULES,
    PROFILE_LINES,
    RULE_FILES,
    STITCH_REQUESTS,
    TRAITS,
    Case,
)

ROOT = Path(__file__).parent.parent
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEYRING = Keyring(b"i" * 32, (("k1", b"p" * 32),), b"r" * 32)


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DIRECTORY / f"{name}.schema.json").read_text("utf-8"))
    return loaded


def part(definition: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{definition}", "$defs": schema("rule")["$defs"]}


def accepts(judge: dict[str, Any], value: Any) -> bool:
    return bool(Draft202012Validator(judge).is_valid(value))


def parser_accepts(parse: Callable[[], object]) -> bool:
    try:
        parse()
    except (InvalidInput, InvalidRule, msgspec.MsgspecError):
        return False
    return True


def as_params(cases: list[Case]) -> list[Any]:
    return [pytest.param(value, valid, id=name) for name, value, valid in cases]


@pytest.mark.parametrize("name", generate())
def test_the_file_is_what_the_generator_writes(name: str) -> None:
    assert (DIRECTORY / name).read_text(encoding="utf-8") == render(generate()[name]), (
        "run `make schemas`"
    )


@pytest.mark.parametrize("name", generate())
def test_the_schema_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(generate()[name])


@pytest.mark.parametrize(("value", "valid"), as_params(STITCH_REQUESTS))
def test_a_stitch_request_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    def parse() -> object:
        return parse_stitch_request(
            value, IdentitySettings(), default_request_id="m-1", received_at=NOON
        )

    assert (accepts(schema("stitch_request"), value), parser_accepts(parse)) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(AUDIT_MESSAGES))
def test_an_audit_message_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    def parse() -> None:
        records, _ = _split_message(msgspec.json.encode(value))
        for record in records:
            _read_record(record)

    assert (accepts(schema("audit_record"), value), parser_accepts(parse)) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(PROFILE_LINES))
def test_an_import_line_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    def parse() -> object:
        return parse_profile_line(value, IdentitySettings(), KEYRING)

    assert (accepts(schema("profile_import"), value), parser_accepts(parse)) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(EVENT_RULES))
def test_an_event_rule_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    judged = accepts(part("event_rule"), value)

    assert (judged, parser_accepts(lambda: parse_event_rule("r", value))) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(PERSONALIZATION_RULES))
def test_a_personalization_rule_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    judged = accepts(part("personalization_rule"), value)

    assert (judged, parser_accepts(lambda: parse_personalization_rule("r", value))) == (
        valid,
        valid,
    )


@pytest.mark.parametrize(("value", "valid"), as_params(EXPERIMENTS))
def test_an_experiment_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    alone, in_a_file = accepts(schema("experiment"), value), accepts(part("experiment"), value)
    parsed = parser_accepts(lambda: parse_experiment("e", value))

    assert (alone, in_a_file, parsed) == (valid, valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(AUDIENCES))
def test_an_audience_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    judged = accepts(part("audience"), value)

    assert (judged, parser_accepts(lambda: parse_audience("vip", value))) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(TRAITS))
def test_a_trait_is_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    judged = accepts(schema("trait"), value)

    assert (judged, parser_accepts(lambda: parse_trait("t", value))) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(IDENTITY_SETTINGS))
def test_identity_settings_are_judged_alike(value: Any, valid: bool) -> None:  # noqa: FBT001
    problems = Problems()
    parse_identity_settings(value, problems)

    assert (accepts(schema("identity"), value), not problems.found) == (valid, valid)


@pytest.mark.parametrize(("value", "valid"), as_params(RULE_FILES))
def test_a_rule_file_is_judged_alike(value: Any, valid: bool, tmp_path: Path) -> None:  # noqa: FBT001
    from tagstitch.cli.rule_files import RuleFilesError

    file = tmp_path / "event_rules.json"
    file.write_text(json.dumps(value), encoding="utf-8")

    def parse() -> None:
        try:
            definitions = read_rule_files(file)
        except RuleFilesError as error:
            raise InvalidInput("invalid_field", str(error)) from error
        for rule_id, rule in definitions.event_rules.items():
            parse_event_rule(rule_id, rule)
        for rule_id, rule in definitions.personalization_rules.items():
            parse_personalization_rule(rule_id, rule)
        for experiment_id, experiment in definitions.experiments.items():
            parse_experiment(experiment_id, experiment)
        for audience_id, audience in definitions.audiences.items():
            parse_audience(audience_id, audience)
        for trait_id, trait in definitions.traits.items():
            parse_trait(trait_id, trait)

    assert (accepts(schema("rule"), value), parser_accepts(parse)) == (valid, valid)


def rules_of_the_decision_cases() -> Iterator[Any]:
    for file in sorted((ROOT / "tests" / "cases").glob("*/*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for kind in ("event", "personalization"):
            for rule_id, rule in content.get(f"{kind}_rules", {}).items():
                yield pytest.param(kind, rule, id=f"{file.stem} {kind} {rule_id}")


@pytest.mark.parametrize(("kind", "rule"), list(rules_of_the_decision_cases()))
def test_the_rules_of_the_decision_cases_are_valid(kind: str, rule: Any) -> None:
    Draft202012Validator(part(f"{kind}_rule")).validate(rule)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples" / "rules").iterdir()), ids=lambda p: p.name
)
def test_the_sample_rules_are_valid(file: Path) -> None:
    content = {name: found for name, found in read_rule_files(file).edited.items() if found}

    Draft202012Validator(schema("rule")).validate(content)


def test_the_sample_profiles_and_their_export_are_valid() -> None:
    validator = Draft202012Validator(schema("profile_import"))
    key = KEYRING.identifier_key(Identifier("user_id", "u-1"))

    for line in (ROOT / "examples" / "profiles.jsonl").read_text(encoding="utf-8").splitlines():
        validator.validate(json.loads(line))
    validator.validate(
        {
            "profile_id": "p_1",
            "identifier_keys": [key],
            "attributes": {"tier": "Gold"},
            "consent": {"analytics_storage": {"granted": True, "at": NOON.isoformat()}},
        }
    )


def test_a_request_that_we_publish_is_valid() -> None:
    event = {"event_name": "login", "client_id": "1.2"}
    request = parse_stitch_request(
        {"identifiers": {"client_id": "1.2"}, "event": event, "callback": "main", "preview": "x"},
        IdentitySettings(),
        default_request_id="m-1",
        received_at=NOON,
    )
    message = json.loads(msgspec.json.encode(request.to_message()))

    assert isinstance(request, StitchRequest)
    Draft202012Validator(schema("stitch_request")).validate(message)


def test_a_record_that_we_publish_is_valid() -> None:
    full = AuditRecord(
        record_id="r-1",
        record_type="event_decision",
        occurred_at=NOON,
        event_at=NOON,
        outcome="modified",
        rule_ids=("a",),
        modifications=({"rule_id": "a", "type": "drop_event"},),
        consent={"analytics_storage": {"granted": True, "source": "event"}},
        latency_ms=1.5,
        receipt=b"sealed",
        extra={"x": [1]},
    )
    bare = AuditRecord("r-2", "dead_letter", NOON, "rejected")
    validator = Draft202012Validator(schema("audit_record"))
    records = [json.loads(encode_record(record)) for record in (full, bare)]

    for record in records:
        validator.validate(record)
    validator.validate({"v": 1, "records": records, "pending": ["processed/x"]})


def test_the_generator_knows_every_word_of_the_parsers() -> None:
    from schemas.action_schema import _COMPUTATIONS, EVENT_ACTIONS, PERSONALIZATION_ACTIONS

    rule = schema("rule")["$defs"]["event_rule"]["properties"]

    assert EVENT_ACTIONS.keys() == EVENT_PARSERS.keys()
    assert PERSONALIZATION_ACTIONS.keys() == PERSONALIZATION_PARSERS.keys()
    assert _COMPUTATIONS.keys() == OPERATORS.keys()
    assert {*_DESCRIPTIVE, "schedule", "rollout", "frequency_cap", "shadow", "chain"} <= rule.keys()
    assert (
        set(IDENTIFIER_TYPES)
        == schema("stitch_request")["$defs"]["identifiers"]["properties"].keys()
    )
