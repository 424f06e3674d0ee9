from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tagstitch.core.declarations import Declarations
from tagstitch.core.errors import InvalidRule
from tagstitch.core.experiment import Experiment, Holdout, Namespace, Variant
from tagstitch.core.experiment_parsing import parse_experiment
from tagstitch.core.paths import Facts

MINIMUM = {"event_name_trigger": "view_item", "variants": {"control": 0.5, "treatment": 0.5}}


def experiment(**fields: Any) -> Experiment:
    return parse_experiment("e", {**MINIMUM, **fields})


def problems_of(fields: dict[str, Any], experiment_id: Any = "e") -> list[str]:
    with pytest.raises(InvalidRule) as refused:
        parse_experiment(experiment_id, {**MINIMUM, **fields})
    return [str(problem) for problem in refused.value.problems]


def test_defaults_of_an_experiment() -> None:
    found = experiment()

    assert (found.version, found.hash_version, found.seed) == (1, 2, "e")
    assert (found.is_active, found.is_sticky) == (True, False)
    assert (found.namespace, found.holdout, found.forced) == (None, None, ())
    assert found.purposes == ("ad_personalization",)
    assert found.ranges == ((0.0, 0.5), (0.5, 1.0))
    assert found.condition.holds(Facts({}))


def test_everything_that_an_experiment_can_say() -> None:
    found = experiment(
        description="x", owner="y", tags=["z"], match_all=True, priority_of_others=7,
        created_at=datetime(2026, 1, 1, tzinfo=UTC), schedule={"days": ["mon"]},
        conditions={"country": "AT"}, coverage=0.5, hash_version=1, seed="s", version=4,
        namespace={"id": "n", "range": [0, 0.5]}, holdout={"id": "h", "percent": 5},
        forced=[{"variant": "control", "conditions": {"debug_mode": True}}],
        sticky=True, is_active=False, consent={"purpose": "tests"},
    )  # fmt: skip

    assert (found.event_names, found.seed, found.version) == (("view_item",), "s", 4)
    assert found.namespace == Namespace("n", 0, 0.5)
    assert found.holdout == Holdout("h", 5)
    assert found.ranges == ((0.0, 0.25), (0.5, 0.75))
    assert found.purposes == ("tests",)
    assert found.condition.holds(Facts({"country": "AT"}))
    assert not found.condition.holds(Facts({"country": "DE"}))


def test_a_bare_name_that_is_protected_reads_the_profile() -> None:
    declared = Declarations(protected=frozenset({"tier"}))
    found = parse_experiment("e", {**MINIMUM, "conditions": {"tier": "Gold"}}, declared=declared)

    assert not found.condition.holds(Facts({"tier": "Gold"}))


@pytest.mark.parametrize(
    ("variants", "wanted"),
    [
        ([{"name": "a"}, {"name": "b"}], (Variant("a", 0.5), Variant("b", 0.5))),
        (
            [{"name": "a", "weight": 0.2, "value": {"colour": 1}}, {"name": "b", "weight": 0.8}],
            (Variant("a", 0.2, {"colour": 1}), Variant("b", 0.8)),
        ),
        ({"a": 0, "b": 1}, (Variant("a", 0), Variant("b", 1))),
        ({"a": None, "b": None}, (Variant("a", 0.5), Variant("b", 0.5))),
        ({"a": 0.33, "b": 0.33, "c": 0.33},
         (Variant("a", 0.33), Variant("b", 0.33), Variant("c", 0.33))),
    ],
)  # fmt: skip
def test_variants_are_a_list_or_names_with_weights(
    variants: Any, wanted: tuple[Variant, ...]
) -> None:
    assert experiment(variants=variants).variants == wanted


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"event_name_trigger": None}, "target_event_name: is missing"),
        ({"target_event_name": "a"}, "target_event_name: stands there twice"),
        ({"variants": None}, "variants: is missing"),
        ({"variants": "a"}, "variants: needs 2 to 20 variants"),
        ({"variants": {"a": 1}}, "variants: needs 2 to 20 variants"),
        ({"variants": {str(n): None for n in range(21)}}, "variants: needs 2 to 20 variants"),
        ({"variants": ["a", "b"]}, "variants[0]: must be an object"),
        ({"variants": [{"name": "a"}, {"weight": 1}]}, "variants[1].name: is missing"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants: two variants have the same"),
        ({"variants": [{"name": "a"}, {"name": "b" * 129}]}, "variants[1].name: must be text"),
        ({"variants": [{"name": "a"}, {"name": "b", "wieght": 1}]}, "did you mean weight?"),
        ({"variants": [{"name": "a"}, {"name": "b", "weight": 1}]}, "either every variant has a"),
        ({"variants": {"a": 0.5, "b": 0.4}}, "variants: the weights do not add up to 1"),
        ({"variants": {"a": 0.7, "b": 0.6}}, "coverage takes in fewer visitors"),
        ({"variants": {"a": 50, "b": 50}}, "variants.a: must be a share from 0 to 1 (0.5 is half"),
        ({"variants": {"a": -1, "b": 1}}, "variants.a: must be a share from 0 to 1"),
        ({"variants": {"a": "0.5", "b": 0.5}}, "without quotes"),
        (
            {"variants": [{"name": "a"}, {"name": "b", "value": "x" * 5000}]},
            "variants[1].value: more than 4096 bytes",
        ),
        ({"weights": [0.5, 0.5]}, "weights: a weight stands at its variant"),
        ({"conditions": [1]}, "conditions: conditions must be an object"),
        ({"conditions": {"a": {"lessThn": 1}}}, "conditions.a.lessThn: unknown operator"),
        ({"coverage": 50}, "coverage: must be a share from 0 to 1"),
        ({"coverage": True}, "coverage: must be a number"),
        ({"hash_version": 99}, "hash_version: must be 1 or 2"),
        ({"hash_version": True}, "hash_version: must be 1 or 2"),
        ({"hash_version": [1]}, "hash_version: must be 1 or 2"),
        ({"seed": ""}, "seed: must be text of 1 to 128 characters"),
        ({"seed": "\ud800"}, "seed: must be text"),
        ({"version": 0}, "version: must be a whole number from 1"),
        ({"version": 1.5}, "version: must be a whole number from 1"),
        ({"namespace": "n"}, "namespace: must be an object (namespace: {id: checkout"),
        ({"namespace": {"id": "n"}}, "namespace.range: is missing"),
        ({"namespace": {"range": [0, 1]}}, "namespace.id: is missing"),
        ({"namespace": {"id": "n", "range": [0.5, 0.5]}}, "namespace.range: not a range"),
        ({"namespace": {"id": "n", "range": [0, 50]}}, "a part of 0 to 1"),
        ({"namespace": {"id": "n", "range": [0, 1], "rnge": 1}}, "namespace.rnge: unknown field"),
        ({"holdout": 5}, "holdout: must be an object (holdout: {id: spring"),
        ({"holdout": {"id": "h"}}, "holdout.percent: is missing"),
        ({"holdout": {"id": "h", "percent": 101}}, "holdout.percent: must be 0 to 100"),
        ({"forced": {"control": {}}}, "forced: needs a list of 1 to 20 entries"),
        ({"forced": []}, "forced: needs a list of 1 to 20 entries"),
        ({"forced": ["control"]}, "forced[0]: must be an object"),
        ({"forced": [{"variant": "control"}]}, "forced[0].conditions: is missing"),
        ({"forced": [{"variant": "control", "conditions": {}}]}, "conditions: must not be empty"),
        (
            {"forced": [{"variant": "contrl", "conditions": {"a": 1}}]},
            "forced[0].variant: unknown variant (did you mean control?)",
        ),
        ({"forced": [{"variant": ["a"], "conditions": {"a": 1}}]}, "unknown variant"),
        ({"sticky": "yes"}, "sticky: must be true or false"),
        ({"is_active": 1}, "is_active: must be true or false"),
        ({"match_all": 1}, "match_all: must be true or false"),
        ({"purposes": []}, "purposes: needs the name of a purpose"),
        ({"purposes": "a", "consent": {"purpose": "a"}}, "either purposes or consent"),
        ({"schedule": {"from": "x"}}, "schedule.from"),
        ({"action_type": "drop_event"}, "action_type: an experiment only assigns"),
        ({"converage": 0.5}, "converage: unknown field (did you mean coverage?)"),
        ({"stiky": True}, "stiky: unknown field (did you mean sticky?)"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(fields: dict[str, Any], text: str) -> None:
    found = problems_of(fields)

    assert any(text in problem for problem in found), found


@pytest.mark.parametrize(
    "fields",
    [
        {"conditions": {"experiment.other": "control"}},
        {"conditions": {"any": [{"a": 1}, {"experiment.other": {"exists": True}}]}},
        {"forced": [{"variant": "control", "conditions": {"experiment.other": "control"}}]},
    ],
)
def test_an_experiment_does_not_hang_on_another(fields: dict[str, Any]) -> None:
    known = Declarations(experiments={"other": frozenset({"control"})})

    with pytest.raises(InvalidRule) as refused:
        parse_experiment("e", {**MINIMUM, **fields}, declared=known)

    assert "a namespace keeps experiments apart" in str(refused.value)


@pytest.mark.parametrize("experiment_id", ["", "x" * 129, 7, None, "__name__"])
def test_an_id_is_text_that_can_name_a_field(experiment_id: Any) -> None:
    assert "an experiment's id is text" in problems_of({}, experiment_id)[0]


@pytest.mark.parametrize("experiment_id", ["a", "__a", "a.b", "größe"])
def test_any_other_text_is_an_id(experiment_id: str) -> None:
    assert parse_experiment(experiment_id, MINIMUM).seed == experiment_id


def test_an_experiment_is_an_object() -> None:
    with pytest.raises(InvalidRule, match="must be an object"):
        parse_experiment("e", [MINIMUM])


def test_an_experiment_has_a_bounded_depth() -> None:
    deep: Any = 1
    for _ in range(30):
        deep = [deep]

    assert problems_of({"owner": deep}) == [": nested in more than 20 levels"]


def test_every_problem_is_reported_at_once() -> None:
    fields = {"variants": {"a": 0.5, "b": 0.4}, "coverage": 2, "version": 0, "sticky": 1}

    assert len(problems_of(fields)) == 4


def test_no_message_holds_a_value() -> None:
    secret = "sesame"
    fields = dict.fromkeys(
        ("coverage", "hash_version", "version", "namespace", "holdout", "forced", "sticky"), secret
    )

    assert secret not in " ".join(problems_of(fields))
