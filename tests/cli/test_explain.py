"""`tagstitch rules explain`: the decision of rule files on one event, told to people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tagstitch.cli import app
from tests.cli.conftest import Cli

EXAMPLES = Path(__file__).parents[2] / "examples" / "rules"
FRIDAY = "2026-11-27T12:00:00Z"
PURCHASE = {"event_name": "purchase", "client_id": "12.34", "value": 7.5}
CHURNER = {"profile_id": "p_1", "attributes": {"user_loyalty_tier": "Churn Risk"}}


def written(folder: Path, name: str, content: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def rule(**fields: Any) -> dict[str, Any]:
    common = {"event_name_trigger": "purchase", "match_all": True, "action_type": "return_value"}
    return {**common, "action_details": {"key": "k", "value": 1}, **fields}


@pytest.fixture
def explain(cli: Cli, tmp_path: Path) -> Any:
    def run(
        rules: dict[str, Any] | Path,
        *options: str,
        event: dict[str, Any] = PURCHASE,
        profile: dict[str, Any] | None = None,
    ) -> Any:
        path = rules if isinstance(rules, Path) else written(tmp_path, "rules.json", rules)
        known = ["--profile", written(tmp_path, "profile.json", profile)] if profile else []
        at = [] if "--now" in options else ["--now", FRIDAY]
        event_file = written(tmp_path, "event.json", event)
        return cli("rules", "explain", path, event_file, *known, *at, *options)

    return run


def test_each_condition_is_told_with_its_value_and_the_decision_with_its_changes(
    explain: Any,
) -> None:
    ran = explain(EXAMPLES, profile=CHURNER)

    assert ran.exit_code == 0
    assert "✔ rename_micro_purchase: MATCHED" in ran.out
    assert "    value is 7.5, wanted lessThan 10: true" in ran.out
    assert '    user_loyalty_tier is "Churn Risk", wanted equals "Churn Risk": true' in ran.out
    assert "    rename to micro_purchase" in ran.out
    assert "    set value = 3.75" in ran.out
    assert "note:" not in ran.out


def test_the_first_condition_that_failed_is_marked(explain: Any) -> None:
    rules = {
        "personalization_rules": {
            "r": rule(conditions={"value": {"atLeast": 5}, "none": [{"a": 1}, {"value": 7.5}], "b": 2})
        }
    }  # fmt: skip

    marked = [line for line in explain(rules).out.splitlines() if line.startswith("  ➤ ")]

    assert marked == ["  ➤ value is 7.5, wanted equals 7.5: true (conditions.none[1].value)"]


@pytest.mark.parametrize(
    ("fields", "options", "reason", "told"),
    [
        ({}, ["--consent", "ad_personalization=denied"], "CONSENT_DENIED",
         "consent ad_personalization: denied (by the request)"),
        ({}, ["--consent-default", "denied"], "CONSENT_DENIED",
         "consent ad_personalization: denied (by the default)"),
        ({"frequency_cap": {"max": 1}}, ["--consent", "analytics_storage=denied"], "CONSENT_DENIED",
         "consent analytics_storage: denied (by the request)"),
        ({"schedule": {"days": "mon", "hours": "09:00-17:30"}}, [], "OUT_OF_SCHEDULE",
         "schedule: closed (monday 09:00-17:30, UTC)"),
        ({"schedule": {"until": "2026-11-26", "time_zone": "Europe/Berlin"}}, [], "OUT_OF_SCHEDULE",
         "schedule: closed (until 2026-11-27T00:00:00+01:00, Europe/Berlin)"),
        ({"schedule": {"hours": "22:00-06:00"}}, ["--now", "2026-11-27T23:00Z"], "MATCHED",
         "friday 22:00-saturday 06:00"),
        ({"rollout": 0}, [], "NOT_IN_ROLLOUT", "rollout: 0 % by visitor, not included"),
        ({"rollout": {"percent": 100, "by": "order_id"}}, [], "NOT_IN_ROLLOUT",
         "rollout: 100 % by order_id, not included"),
        ({"frequency_cap": {"max": 2, "per": "day", "group": "offers"}}, [], "CAPPED",
         "frequency cap: 2 of 2 used per day (UTC) in group offers"),
        ({"frequency_cap": {"max": 3, "within": "48h", "group": "offers"}}, [], "MATCHED",
         "frequency cap: 2 of 3 used within 2d in group offers"),
        ({"frequency_cap": {"max": 1}}, [], "MATCHED", "frequency cap: 0 of 1 used in all"),
        ({"shadow": True}, [], "SHADOW", "consent ad_personalization: granted (by the default)"),
        ({"actions": [{"type": "send_email", "template_id": "t", "recipient": "profile.mail"}],
          "action_type": None, "action_details": None}, [], "CONSENT_DENIED",
         "withheld: send_email, CONSENT_DENIED (email)"),
        ({"actions": [{"type": "return_value", "key": "k", "value": 1},
                      {"type": "send_email", "template_id": "t", "recipient": "profile.mail"}],
          "action_type": None, "action_details": None}, [], "MATCHED",
         "withheld: send_email, CONSENT_DENIED (email)"),
        ({"actions": [{"type": "webhook", "endpoint": "e", "body": {"a": "b"}, "once_per": "visitor"}],
          "action_type": None, "action_details": None}, [], "MATCHED", "later {"),
    ],
)  # fmt: skip
def test_every_gate_tells_why_it_is_closed(
    explain: Any, fields: dict[str, Any], options: list[str], reason: str, told: str
) -> None:
    uses = {"g_offers": [1_795_771_000.0, 1_795_772_000.0]}  # the same day, before noon
    profile = {"profile_id": "p_1", "attributes": {}, "caps": uses}

    ran = explain({"personalization_rules": {"r": rule(**fields)}}, *options, profile=profile)

    assert f"r: {reason}\n" in ran.out
    assert told in ran.out


def test_an_experiment_tells_its_variant_or_why_there_is_none(explain: Any) -> None:
    test = {"target_event_name": "purchase", "variants": {"a": 0.0, "b": 1.0}}
    experiments = {
        "running": test,
        "over": {**test, "schedule": {"until": "2026-01-01"}},
        "others": {**test, "conditions": {"value": {"atLeast": 100}}},
    }

    ran = explain({"experiments": experiments})

    assert "✔ running: variant b (SPLIT)" in ran.out
    assert "✘ over: OUT_OF_SCHEDULE" in ran.out
    assert "✘ others: NOT_ELIGIBLE" in ran.out
    assert "  ➤ value is 7.5, wanted atLeast 100: false" in ran.out
    assert "note: no profile_id was given" in ran.out


def test_the_document_has_the_trace_the_decision_and_what_would_be_stored(explain: Any) -> None:
    rules = {"personalization_rules": {"r": rule(updates_user_state={"seen": True})}}

    document = explain(rules, "--json").document

    assert document["now"] == FRIDAY
    assert document["trace"]["personalization"][0]["reason"] == "MATCHED"
    assert document["decision"]["personalization"]["actions"][0]["key"] == "k"
    assert document["changes"]["state"] == {"seen": True}


def test_an_event_comes_from_standard_input(cli: Cli, tmp_path: Path) -> None:
    file = written(tmp_path, "rules.json", {"personalization_rules": {"r": rule()}})

    ran = CliRunner().invoke(app, ["rules", "explain", str(file), "-"], input=json.dumps(PURCHASE))
    nonsense = CliRunner().invoke(app, ["rules", "explain", str(file), "-"], input="{")

    assert "✔ r: MATCHED" in ran.stdout
    assert nonsense.exit_code == 1
    assert cli("rules", "explain", file, tmp_path / "none.json").exit_code == 1


def test_a_protected_name_is_read_from_the_profile_alone(explain: Any, tmp_path: Path) -> None:
    rules = {"personalization_rules": {"r": rule(conditions={"tier": "Gold"})}}
    views = written(tmp_path, "views.json", {"default": {"protected": ["tier"]}})
    forged = {**PURCHASE, "tier": "Gold"}

    assert "r: MATCHED" in explain(rules, event=forged).out
    assert "r: CONDITIONS_NOT_MET" in explain(rules, "--views", str(views), event=forged).out


def test_broken_rules_are_left_out_and_named(explain: Any) -> None:
    ran = explain({"personalization_rules": {"r": rule(priority="soon"), "good": rule()}})

    assert ran.exit_code == 0
    assert "left out: personalization r: priority must be a whole number" in ran.out
    assert "good: MATCHED" in ran.out


def test_a_rule_that_is_switched_off_is_named(explain: Any) -> None:
    rules = {
        "off": rule(is_active=False),
        "elsewhere": rule(is_active=False, event_name_trigger="x"),
    }

    ran = explain({"personalization_rules": rules})

    assert "switched off: off of personalization_rules" in ran.out
    assert "elsewhere" not in ran.out


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        (["--now", "soon"], 2),
        (["--consent", "ad_storage=maybe"], 2),
        (["--consent", "=granted"], 2),
        (["--consent-default", "yes"], 2),
    ],
)
def test_wrong_usage_is_told(explain: Any, options: list[str], exit_code: int) -> None:
    assert explain(EXAMPLES, *options).exit_code == exit_code


@pytest.mark.parametrize("event", [[], {}, {"event_name": 5}])
def test_what_is_no_event_fails(explain: Any, event: Any) -> None:
    assert explain(EXAMPLES, event=event).exit_code == 1
