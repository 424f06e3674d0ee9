"""What holds for every event, profile and rule set, found by random search."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tagstitch.core.consent import resolve_consent
from tagstitch.core.event import Event
from tagstitch.core.limits import WORK_STEPS_MAX
from tagstitch.core.operators import OPERATORS
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.core.deciding import NOON, decide_both, decide_event, outcome

NAMES = st.sampled_from(["purchase", "purchase", "view_item"])
KEYS = st.sampled_from(["value", "tier", "items", "a", "b", "a.b", "x-ga-gcs", "price"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.floats(-1e6, 1e6),
    st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5),
    st.sampled_from(["5.00", "A", "1e3", 0, 1, True, "2026-11-21", "1.2.3", "10.0.0.1", 1_764_000_000_000]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TARGETS = st.sampled_from(
    ["value", "price", "tier", "a.b", "b", "items.0.price", "event.a", '["a.b"]']
)
PLAIN_PATHS = TARGETS | st.sampled_from(
    ["profile.tier", "profile.a.b", "user_state.a", "items.1.a"]
)
LIST_PATHS = st.sampled_from(
    ["items.$any.price", "items.$all.a", "items.$none.b", "b.$all", "a.$any"]
)
NUMBERS = st.integers(-10, 10) | st.floats(-10, 10)
LISTS = st.lists(st.booleans() | NUMBERS | st.text(max_size=2), min_size=1, max_size=3)
TEXTS = st.text(min_size=1, max_size=2)
MOMENTS = st.sampled_from(["2026-11-21", "2026-11-21T20:00:00+01:00", "now-5d", 1_764_000_000])
VERSIONS = st.sampled_from(["1", "v2.0.1-rc.1", "120.0.6099.109"])
OPERANDS: dict[str, st.SearchStrategy[Any]] = {
    "equals": VALUES, "in": LISTS, "lessThan": NUMBERS, "atMost": NUMBERS, "greaterThan": NUMBERS,
    "atLeast": NUMBERS, "between": st.just([-5, 5]), "exists": st.booleans(), "isEmpty": st.booleans(),
    "contains": TEXTS, "startsWith": TEXTS, "endsWith": TEXTS, "matches": st.sampled_from(["a", "^.$"]),
    "anyOf": LISTS, "allOf": LISTS, "size": st.integers(0, 3) | st.just({"atLeast": 1}),
    "type": st.sampled_from(["string", "number", "boolean", "list", "object"]),
    "before": MOMENTS, "after": MOMENTS, "versionAtLeast": VERSIONS, "versionBelow": VERSIONS,
    "cidr": st.sampled_from(["10.0.0.0/8", ["::/0", "192.0.2.1"]]), "percent": st.just([10, 60.5]),
}  # fmt: skip
assert set(OPERANDS) == set(OPERATORS)
COMPARISONS = st.sampled_from(sorted(OPERANDS)).flatmap(
    lambda word: st.builds(
        lambda no, operand: {no + word: operand} | ({"salt": "s"} if word == "percent" else {}),
        st.sampled_from(["", "not_"]),
        OPERANDS[word],
    )
)
CHANGES = st.builds(
    lambda path, flag: {path: {"changed": flag}},
    st.sampled_from(["value", "event.b"]),
    st.booleans(),
)
PREDICATES = st.builds(
    lambda path, comparison: {path: comparison}, PLAIN_PATHS | LIST_PATHS, COMPARISONS
) | st.dictionaries(PLAIN_PATHS, LISTS | st.booleans() | NUMBERS | TEXTS, min_size=1, max_size=2)
ITEM_PREDICATES = st.builds(lambda path, comparison: {path: comparison}, TARGETS, COMPARISONS)
CONDITIONS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(PREDICATES, PREDICATES, PREDICATES, CHANGES, ITEM_PREDICATES.map(lambda c: {"items.$": {"match": c}})),
    lambda inner: st.dictionaries(
        st.sampled_from(["any", "all", "none"]), st.lists(inner, min_size=1, max_size=2), min_size=1
    ),
    max_leaves=4,
)  # fmt: skip
ANY_CONDITIONS = st.booleans().flatmap(lambda empty: st.just({}) if empty else CONDITIONS)
COMPUTATIONS = st.one_of(
    st.tuples(st.sampled_from(["set", "set_default"]), VALUES.filter(lambda value: value is not None)),
    st.tuples(st.sampled_from(["multiply", "add"]), NUMBERS | st.just(1e12)),
    st.tuples(st.just("round"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["delete", "lower", "upper", "trim", "hash"]), st.none()),
    st.tuples(st.just("map"), st.dictionaries(TEXTS, VALUES.filter(lambda value: value is not None), min_size=1, max_size=2)),
    st.tuples(st.just("template"), st.sampled_from(["${a}${a}", "$${b}", "${profile.tier}-${items[0].price}"])),
)  # fmt: skip


def modify(parameter: str, computation: tuple[str, Any]) -> dict[str, Any]:
    operator, operand = computation
    details = {"type": "modify_parameter", "parameter": parameter, "operator": operator}
    return details if operand is None else {**details, "operand": operand}


def map_items(
    item_property: str, computation: tuple[str, Any], match: dict[str, Any] | None = None
) -> dict[str, Any]:
    details = {**modify("a", computation), "type": "map_items", "item_property": item_property}
    del details["parameter"]
    return {**details, "match": match}


EVENT_ACTIONS = st.one_of(
    st.fixed_dictionaries({"type": st.just("rename_event"), "new_event_name": st.text("ab", min_size=1)}),
    st.builds(modify, TARGETS, COMPUTATIONS),
    st.builds(modify, TARGETS, COMPUTATIONS),
    st.fixed_dictionaries({"type": st.just("modify_parameter"), "parameter": TARGETS, "operator": st.just("copy"), "from": PLAIN_PATHS}),
    st.fixed_dictionaries({"type": st.just("filter_items"), "match": ITEM_PREDICATES}),
    st.builds(map_items, TARGETS, COMPUTATIONS),
    st.builds(map_items, TARGETS, COMPUTATIONS, ITEM_PREDICATES),
    st.fixed_dictionaries({"type": st.just("modify_parameter"), "parameter": TARGETS, "operator": st.just("regex_replace"), "pattern": st.sampled_from(["a*", "(.)(b)?", "^"]), "replacement": st.sampled_from(["", "\\0\\0"])}),
    st.fixed_dictionaries({"type": st.just("sample"), "percent": st.integers(0, 100), "by": PLAIN_PATHS}),
    st.fixed_dictionaries({"type": st.just("redact"), "parameters": st.lists(TARGETS, min_size=1, max_size=3)}),
    st.just({"type": "drop_event"}),
)  # fmt: skip
STATE_CHANGES = st.dictionaries(st.sampled_from(["a", "b"]), SCALARS, min_size=1, max_size=2)
PERSONAL_ACTIONS = st.one_of(
    st.fixed_dictionaries({"type": st.just("set_client_cookie"), "cookie_name": st.text("ab!_", min_size=1) | st.sampled_from(["a;b", "ok"]), "cookie_value": st.text() | NUMBERS | st.booleans()}),
    st.fixed_dictionaries({"type": st.just("return_value"), "key": st.just("k"), "value": VALUES}),
    st.fixed_dictionaries({"type": st.just("set_state"), "updates_user_state": STATE_CHANGES}),
    st.fixed_dictionaries({"type": st.just("send_email"), "template_id": st.just("t"), "recipient": st.just("profile.a"),
                           "data": st.fixed_dictionaries({"x": st.sampled_from([{"from": "items"}, "${value}", 1])}),
                           "once_per": st.sampled_from(["decision", "day", "visitor"])}),
    st.fixed_dictionaries({"type": st.just("webhook"), "endpoint": st.just("e"), "body": st.just({"v": {"from": "profile.a"}}),
                           "purposes": st.just(["onsite"]), "once_per": st.sampled_from(["decision", "week"])}),
)  # fmt: skip
SCHEDULES = st.sampled_from([
    {"until": "2026-01-01"}, {"from": "2026-01-01", "days": "weekend"}, {"hours": ["22:00-06:00"], "time_zone": "Europe/Berlin"},
])  # fmt: skip
ROLLOUTS = st.sampled_from(
    [0, 50, 100, {"percent": 50, "by": "a"}, {"percent": 100, "by": "profile.a"}]
)
CAPS = st.sampled_from([
    {"max": 1}, {"max": 2, "group": "g", "per": "day"}, [{"max": 1, "group": "g"}, {"max": 3, "within": "1h"}],
])  # fmt: skip
GATES = st.fixed_dictionaries({}, optional={
    "schedule": SCHEDULES, "rollout": ROLLOUTS, "frequency_cap": CAPS, "shadow": st.booleans(),
    "purposes": st.sampled_from(["onsite", ["ad_storage", "onsite"]]),
})  # fmt: skip
EXPERIMENTS = st.dictionaries(
    st.sampled_from(["e", "f"]),
    st.fixed_dictionaries(
        {"target_event_name": st.just("*"), "variants": st.just({"a": 0.5, "b": 0.5})},
        optional={
            "conditions": st.just({"profile.a": {"exists": True}}), "coverage": st.just(0.5), "sticky": st.booleans(),
            "schedule": SCHEDULES, "purposes": st.just("onsite"), "forced": st.just([{"variant": "b", "conditions": {"a": 1}}]),
        },
    ),
)  # fmt: skip
CONSENTS = st.builds(
    lambda said, default: resolve_consent(requested=said, event=None, profile=None, default_granted=default),
    st.dictionaries(st.sampled_from(["analytics_storage", "ad_personalization", "onsite"]), st.booleans()),
    st.booleans(),
)  # fmt: skip
SITUATIONS = st.fixed_dictionaries({
    "consent": CONSENTS, "can_commit": st.booleans(), "has_identifier": st.sampled_from([True, True, False]),
    "caps": st.dictionaries(st.just("g_g"), st.sampled_from([[NOON - 60.0], [NOON - 90_000.0, NOON], None])),
    "unavailable": st.sampled_from([frozenset(), frozenset({"profile", "state"})]),
    "work_steps": st.sampled_from([WORK_STEPS_MAX, WORK_STEPS_MAX, WORK_STEPS_MAX, 5, 50, 150]),
})  # fmt: skip


def rules(
    actions: st.SearchStrategy[dict[str, Any]],
) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    rule = st.fixed_dictionaries({
        "target_event_name": st.sampled_from(["*", "purchase", ["purchase", "view_item"]]),
        "conditions": ANY_CONDITIONS,
        "match_all": st.just(value=True),
        "actions": st.lists(actions, min_size=1, max_size=3),
        "priority": st.integers(0, 3),
        "stop_on_match": st.sampled_from([False, False, True]),
    })  # fmt: skip
    return st.dictionaries(st.text("rst", min_size=1, max_size=2), rule, min_size=1, max_size=5)


def gated_rules(
    actions: st.SearchStrategy[dict[str, Any]], **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    """Rules with gates, of which some ask for experiments and audiences."""
    conditions = st.one_of(
        ANY_CONDITIONS,
        st.sampled_from([{"experiment.e": "a"}, {"profile": {"inAudience": "known"}}]),
    )
    extra = st.fixed_dictionaries({"conditions": conditions}, optional=optional)
    return rules(actions).flatmap(
        lambda found: st.fixed_dictionaries({
            rule_id: st.builds(lambda rule, *more: {**rule, **more[0], **more[1]}, st.just(rule), GATES, extra)
            for rule_id, rule in found.items()
        })
    )  # fmt: skip


EVENTS = st.builds(
    lambda name, parameters: Event(name, {**parameters, "event_name": name}),
    NAMES,
    st.dictionaries(KEYS, VALUES, max_size=6)
    | st.fixed_dictionaries({"items": st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3)}),
)  # fmt: skip
PROFILES = st.none() | st.builds(
    lambda attributes, state: Profile("p_1", attributes, state),
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.dictionaries(KEYS, VALUES, max_size=3),
)
UNAVAILABLE = st.sets(st.sampled_from(["profile", "state"])).map(frozenset)


def relaxed(examples: int) -> settings:
    """No deadline: the machine may be busy."""
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def book_of(definitions: dict[str, Any], personalization: dict[str, Any] | None = None) -> RuleBook:
    return compile_rule_book(RuleDefinitions(definitions, personalization or {}))


def is_finite_json(value: object) -> bool:
    return json.loads(json.dumps(value, allow_nan=False)) is not None or value is None


@given(EVENTS, rules(EVENT_ACTIONS), PROFILES, UNAVAILABLE)
@relaxed(300)
def test_an_event_decision_is_finite_json_and_explaining_changes_nothing(
    event: Event,
    definitions: dict[str, Any],
    profile: Profile | None,
    unavailable: frozenset[str],
) -> None:
    before = json.dumps(event.parameters)
    book = book_of(definitions)

    decision = decide_event(event, book, profile, unavailable=unavailable)
    explained = decide_event(event, book, profile, unavailable=unavailable, explain=True)

    assert decision == replace(explained, trace=())
    assert {s.error for s in decision.skipped} <= {"ResultOutOfRange"}
    assert is_finite_json([dict(decision.set), list(decision.modifications), list(explained.trace)])
    assert is_finite_json(decision.apply_to(event))
    assert before == json.dumps(event.parameters)


@given(EVENTS, rules(EVENT_ACTIONS), PROFILES)
@relaxed(200)
def test_parameters_that_no_rule_names_leave_as_they_came(
    event: Event, definitions: dict[str, Any], profile: Profile | None
) -> None:
    strange = {"strange key": [None, {"": "ü"}], "x-ga-gcs": "G111", "x-sst-x": {"a": 1}}
    arrived = Event(event.name, {**event.parameters, **strange})

    payload = decide_event(arrived, book_of(definitions), profile).apply_to(arrived)

    assert strange == {key: payload[key] for key in strange}


@given(EVENTS, rules(EVENT_ACTIONS), rules(PERSONAL_ACTIONS), PROFILES, st.randoms())
@relaxed(150)
def test_the_order_of_rules_in_the_store_does_not_matter(
    event: Event,
    for_events: dict[str, Any],
    for_visitors: dict[str, Any],
    profile: Profile | None,
    random: Any,
) -> None:
    def shuffled(definitions: dict[str, Any]) -> dict[str, Any]:
        ids = list(definitions)
        random.shuffle(ids)
        return {rule_id: definitions[rule_id] for rule_id in ids}

    one = book_of(for_events, for_visitors)
    other = book_of(shuffled(for_events), shuffled(for_visitors))

    assert (one.version, one.broken) == (other.version, other.broken)
    decisions = [outcome(decide_both(event, book, profile)) for book in (one, other)]
    assert decisions[0] == decisions[1]


@given(EVENTS, rules(EVENT_ACTIONS), PROFILES, VALUES | st.dictionaries(st.text(), VALUES))
@relaxed(150)
def test_a_broken_rule_changes_nothing_for_the_others(
    event: Event, definitions: dict[str, Any], profile: Profile | None, rubbish: Any
) -> None:
    alone = book_of(definitions)
    accompanied = book_of({"0 rubbish": rubbish, **definitions})

    assert alone.count == accompanied.count
    assert len(accompanied.broken) == len(alone.broken) + 1
    decisions = [outcome(decide_both(event, book, profile)) for book in (alone, accompanied)]
    assert decisions[0] == decisions[1]


@given(EVENTS, rules(PERSONAL_ACTIONS), PROFILES, UNAVAILABLE)
@relaxed(300)
def test_a_personalization_is_finite_json_and_explaining_changes_nothing(
    event: Event,
    definitions: dict[str, Any],
    profile: Profile | None,
    unavailable: frozenset[str],
) -> None:
    book = book_of({}, definitions)

    decided = decide_both(event, book, profile, unavailable=unavailable)
    explained = decide_both(event, book, profile, unavailable=unavailable, explain=True)
    uncommitted = decide_both(event, book, profile, unavailable=unavailable, can_commit=False)

    decision, told = decided.personalization, explained.personalization
    assert decision is not None
    assert told is not None
    assert decision == replace(told, trace=())
    assert decided.changes == explained.changes
    assert decision.skipped == ()
    assert is_finite_json([list(decision.actions), dict(decided.changes.state), told.trace])
    assert not uncommitted.changes
    for action in decision.actions:
        if action["type"] == "set_cookie":
            assert not set(f"{action['name']}{action['value']}") & set('\r\n ;,="\\')


DEFINITIONS = st.builds(
    RuleDefinitions,
    event_rules=gated_rules(EVENT_ACTIONS, chain=st.booleans()),
    personalization_rules=gated_rules(PERSONAL_ACTIONS, updates_user_state=STATE_CHANGES),
    experiments=EXPERIMENTS,
    audiences=st.just({"known": {"conditions": {"profile.a": {"exists": True}}}}),
)


@given(EVENTS, DEFINITIONS, PROFILES, SITUATIONS)
@relaxed(250)
def test_explaining_gates_shadows_chains_and_experiments_changes_nothing(
    event: Event, definitions: RuleDefinitions, profile: Profile | None, situation: dict[str, Any]
) -> None:
    book = compile_rule_book(definitions)

    decided = decide_both(event, book, profile, **situation)
    explained = decide_both(event, book, profile, explain=True, **situation)

    assert decided.event is not None
    assert explained.event is not None
    assert decided.personalization is not None
    assert explained.personalization is not None
    assert decided == replace(
        explained,
        event=replace(explained.event, trace=()),
        personalization=replace(explained.personalization, trace=()),
        experiments=(),
    )
    assert is_finite_json(explained.trace)
    applied = [line["rule_id"] for line in explained.event.trace if line["applied"]]
    if decided.event.cut_off_at is None:  # beyond it rules redact without being asked
        assert applied == list(decided.event.rule_ids)
    given = [line["rule_id"] for line in explained.personalization.trace if line["applied"]]
    assert given == list(decided.personalization.rule_ids)
    told = {line["experiment_id"]: line["variant"] for line in explained.experiments}
    assert decided.personalization.variants.items() <= told.items()
