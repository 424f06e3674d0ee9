"""`tagstitch rules validate`, `fields` and `push` with the static checks."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"
NEVER = {"conditions": {"value": {"lessThan": 1, "greaterThan": 2}}}
LOOSE = {"conditions": {"coupon": {"notEquals": "SECRET-COUPON"}}}
TYPO = {"conditions": {"valeu": {"lessThan": 1}}}


def write_rules(folder: Path, **definitions: dict[str, Any]) -> Path:
    common = {
        "target_event_name": "purchase",
        "action_type": "redact",
        "action_details": {"parameters": ["coupon"]},
    }
    file = folder / "rules.json"
    rules = {rule_id: {**common, **fields} for rule_id, fields in definitions.items()}
    file.write_text(json.dumps({"event_rules": rules}))
    return file


def codes_of(document: Any) -> list[tuple[str, str, str]]:
    return [(p["severity"], p["code"], p["rule_id"]) for p in document["problems"]]


def test_an_error_fails_and_a_warning_does_not(cli: Cli, tmp_path: Path) -> None:
    with_error = cli("rules", "validate", write_rules(tmp_path, a=NEVER, b=LOOSE), "--json")
    with_warning = cli("rules", "validate", write_rules(tmp_path, b=LOOSE), "--json")

    assert (with_error.exit_code, with_error.document["ok"]) == (1, False)
    assert codes_of(with_error.document) == [
        ("error", "never_holds", "a"),
        ("warning", "true_when_absent", "b"),
    ]
    assert (with_warning.exit_code, with_warning.document["ok"]) == (0, True)


def test_findings_stand_beside_mistakes_of_grammar(cli: Cli, tmp_path: Path) -> None:
    broken = {"conditions": {"value": {"lessThen": 1}}}

    ran = cli("rules", "validate", write_rules(tmp_path, a=broken, b=LOOSE), "--json")

    assert ran.exit_code == 1
    assert codes_of(ran.document) == [
        ("error", "invalid", "a"),
        ("warning", "true_when_absent", "b"),
    ]
    assert ran.document["problems"][0]["hint"] == "did you mean lessThan?"


def test_findings_are_readable_and_hold_no_value_of_a_rule(cli: Cli, tmp_path: Path) -> None:
    ran = cli("rules", "validate", write_rules(tmp_path, a=NEVER, b=LOOSE))

    assert ran.exit_code == 1
    assert ran.out.index("1 error") < ran.out.index("never_holds") < ran.out.index("1 warning")
    assert "b  conditions.coupon  true_when_absent" in ran.out
    assert "SECRET" not in ran.out + ran.err


@pytest.mark.parametrize("compressed", [False, True])
def test_samples_tell_which_fields_there_are(cli: Cli, tmp_path: Path, compressed: bool) -> None:  # noqa: FBT001 - a column of the table
    samples = EXAMPLES / "events.jsonl"
    if compressed:
        (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(samples.read_bytes()))
        samples = tmp_path / "events.jsonl.gz"

    ran = cli("rules", "validate", write_rules(tmp_path, a=TYPO), "--samples", samples, "--json")

    [problem] = ran.document["problems"]
    assert (problem["code"], problem["hint"]) == ("unknown_field", "did you mean value?")
    assert ran.exit_code == 0


def test_a_saved_catalogue_says_the_same_as_the_samples(cli: Cli, tmp_path: Path) -> None:
    events, profiles = EXAMPLES / "events.jsonl", EXAMPLES / "profiles.jsonl"
    rules = EXAMPLES / "rules"
    saved = tmp_path / "fields.json"
    learnt = cli("rules", "fields", events, "--profiles", profiles, "--output", saved, "--json")

    by_samples = cli("rules", "validate", rules, "--samples", events, "--profiles", profiles, "--json")  # fmt: skip
    by_catalogue = cli("rules", "validate", rules, "--catalogue", saved, "--json")

    assert learnt.exit_code == by_samples.exit_code == by_catalogue.exit_code == 0
    assert by_catalogue.document["problems"] == by_samples.document["problems"] != []
    assert learnt.document["events"]["purchase"]["fields"]["value"]["types"].keys() == {"number"}


def test_a_catalogue_holds_names_and_no_values(cli: Cli, tmp_path: Path) -> None:
    event = {"event_name": "e", "coupon": "SECRET", "by_mail": {"a@example.com": 1}, "x" * 101: 1}
    row = {
        "event_name": "e", "event_timestamp": 1, "user_pseudo_id": "SECRET",
        "event_params": [{"key": "page", "value": {"string_value": "SECRET"}}],
    }  # fmt: skip
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join([json.dumps(event), json.dumps(row), "no JSON", "{}"]))

    ran = cli("rules", "fields", file, "--json")
    shown = cli("rules", "fields", file)

    fields = ran.document["events"]["e"]["fields"]
    assert fields.keys() >= {"coupon", "by_mail", "page", "client_id"}
    assert fields["coupon"] == {"count": 1, "share": 0.5, "types": {"text": 1}}
    assert "coupon" in shown.out
    for text in (ran.out, shown.out):
        assert "SECRET" not in text
        assert "@" not in text
        assert "xxx" not in text
    assert "2 line(s) left out" in ran.err


def test_a_file_that_is_no_catalogue_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for content in ("{}", "[", '{"version": 2, "events": {}, "profiles": {"count": 0, "fields": {}}}'):  # fmt: skip
        file.write_text(content)
        assert cli("rules", "validate", EXAMPLES / "rules", "--catalogue", file).exit_code == 1


def test_views_tell_for_what_an_attribute_may_be_used(cli: Cli, tmp_path: Path) -> None:
    views = tmp_path / "views.yaml"
    views.write_text("default: {purposes: {user_loyalty_tier: [loyalty]}}\n")

    ran = cli("rules", "validate", EXAMPLES / "rules", "--views", views, "--json")

    assert ran.exit_code == 1
    assert {code for _, code, _ in codes_of(ran.document)} == {
        "purpose_missing",
        "forgeable_condition",
    }


def test_the_sample_views_protect_what_the_sample_rules_read(cli: Cli) -> None:
    views = EXAMPLES / "views.yaml"

    ran = cli("rules", "validate", EXAMPLES / "rules", "--views", views, "--json")

    assert (ran.exit_code, ran.document["problems"]) == (0, [])


def test_push_refuses_errors_and_prints_warnings(cli: Cli, tmp_path: Path) -> None:
    refused = cli("rules", "push", write_rules(tmp_path, a=NEVER, b=LOOSE), "--json")
    nothing = cli("rules", "status", "--json").document["published"]
    pushed = cli("rules", "push", write_rules(tmp_path, b=LOOSE), "--json")

    assert refused.exit_code == 1
    assert ("error", "never_holds", "a") in codes_of(refused.document)
    assert nothing is None
    assert pushed.exit_code == 0
    assert [w["code"] for w in pushed.document["warnings"]] == ["true_when_absent"]
    assert "true_when_absent" in pushed.err


def test_push_compares_with_the_rules_of_the_store(cli: Cli, tmp_path: Path) -> None:
    first = {"conditions": {"value": {"exists": True}}, "stop_on_match": True}
    second = {"conditions": {"value": 5}, "priority": 200}
    cli("rules", "push", write_rules(tmp_path, first=first, loose=LOOSE))

    pushed = cli("rules", "push", write_rules(tmp_path, second=second), "--json")

    [warning] = pushed.document["warnings"]
    assert (warning["code"], warning["rule_id"]) == ("unreachable", "second")
    assert warning["related"] == ["first"]


def test_no_rules_are_no_valid_set(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "empty.json"
    file.write_text('{"event_rules": {}}')

    assert cli("rules", "validate", file).exit_code == 1


def test_a_broken_experiment_or_audience_is_invalid(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    broken = {"experiments": {"e": {"variants": 1}}, "audiences": {"v": {}}}
    file.write_text(json.dumps(broken))

    ran = cli("rules", "validate", file, "--json")

    assert ran.exit_code == 1
    assert {(p["code"], p["kind"], p["rule_id"]) for p in ran.document["problems"]} == {
        ("invalid", "experiment", "e"),
        ("invalid", "audience", "v"),
    }


def test_push_may_refer_to_what_the_store_declares(cli: Cli, tmp_path: Path) -> None:
    audience = tmp_path / "audience.json"
    audience.write_text(json.dumps({"audiences": {"vip": {"conditions": {"tier": "Gold"}}}}))
    rule = {"conditions": {"profile": {"inAudience": "vip"}}}

    alone = cli("rules", "push", write_rules(tmp_path, a=rule), "--json")
    cli("rules", "push", audience)
    pushed = cli("rules", "push", write_rules(tmp_path, a=rule), "--json")

    assert (alone.exit_code, pushed.exit_code) == (1, 0)
    assert codes_of(alone.document) == [("error", "invalid", "a")]
    assert pushed.document["broken"] == []


def test_push_reports_experiments_that_disturb_each_other(cli: Cli, tmp_path: Path) -> None:
    def written(experiment_id: str, **fields: Any) -> Path:
        common = {"target_event_name": "e", "variants": [{"name": "a"}, {"name": "b", "value": 1}]}
        file = tmp_path / f"{experiment_id}.json"
        file.write_text(json.dumps({"experiments": {experiment_id: {**common, **fields}}}))
        return file

    everybody = {"namespace": {"id": "n", "range": [0, 1]}}
    cli("rules", "push", written("z", **everybody, holdout={"id": "h", "percent": 5}))
    warned = cli("rules", "push", written("a", **everybody), "--json")
    refused = cli("rules", "push", written("b", holdout={"id": "h", "percent": 6}), "--json")

    assert [w["code"] for w in warned.document["warnings"]] == ["namespace_overlap"]
    assert refused.exit_code == 1
    assert codes_of(refused.document) == [("error", "holdout_mismatch", "b")]
