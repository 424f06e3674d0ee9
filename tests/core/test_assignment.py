from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.assignment import (
    Assignment,
    merge_assignments,
    stored_assignments,
)
from tagstitch.core.limits import EXPOSURES_PER_ASSIGNMENT_MAX

FIELDS: dict[str, Any] = {
    "variant": "b", "version": 2, "bucket": 0.7, "hash_version": 2, "at": 1000.5,
    "exposed": {"1": ["a"], "2": ["b"]},
}  # fmt: skip


def assignment(**changes: Any) -> Assignment:
    base = Assignment(
        experiment_id="e", version=1, variant="a", reason="SPLIT", hash_version=2, bucket=0.1,
        first_at=1000.0,
    )  # fmt: skip
    return replace(base, **changes)


def read(**changes: Any) -> Assignment | None:
    return stored_assignments({"assignments": {"e": {**FIELDS, **changes}}}).get("e")


EXPOSED = st.frozensets(st.tuples(st.integers(1, 3), st.sampled_from("abc")))
ASSIGNMENTS = st.dictionaries(
    st.sampled_from(["e", "f"]),
    st.builds(
        Assignment,
        experiment_id=st.just("e"),
        version=st.integers(1, 3),
        variant=st.sampled_from("abc"),
        reason=st.just("SPLIT"),
        hash_version=st.sampled_from([1, 2]),
        bucket=st.sampled_from([None, 0.0, 0.5]),
        first_at=st.sampled_from([1.0, 2.0]),
        exposed=EXPOSED,
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)


def test_a_stored_assignment_is_read_as_it_was_written() -> None:
    stored = stored_assignments({"assignments": {"e": FIELDS}})

    assert stored["e"].to_fields() == FIELDS
    assert stored["e"].exposed == {(1, "a"), (2, "b")}


@pytest.mark.parametrize(
    "fields",
    [
        {"variant": None}, {"variant": ""}, {"variant": 7}, {"version": None}, {"version": 0},
        {"version": True}, {"version": 1.5}, {"at": None}, {"at": "today"}, {"at": float("nan")},
        {"at": -1}, {"at": 10**400},
    ],
)  # fmt: skip
def test_an_entry_that_says_too_little_counts_as_absent(fields: dict[str, Any]) -> None:
    assert read(**fields) is None


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"bucket": "half"}, {"bucket": None}),
        ({"bucket": 1}, {"bucket": None}),
        ({"hash_version": 9}, {"hash_version": 2}),
        ({"hash_version": 1}, {"hash_version": 1}),
        ({"exposed": None}, {"exposed": frozenset()}),
        ({"exposed": ["a"]}, {"exposed": frozenset()}),
        ({"exposed": {"x": ["a"], "1": "a", "2": ["b", 7]}}, {"exposed": {(2, "b")}}),
    ],
)
def test_what_else_is_unreadable_is_left_out(fields: dict[str, Any], wanted: Any) -> None:
    found = read(**fields)

    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.parametrize("stored", [None, [], "x", {"e": None}, {"e": []}, {7: FIELDS}])
def test_no_assignments_are_read_from_anything_else(stored: object) -> None:
    assert stored_assignments({"assignments": stored}) == {}


def test_an_exposure_is_needed_once_for_each_version() -> None:
    first = assignment()
    exposed = first.after_exposure()

    assert first.needs_exposure
    assert not exposed.needs_exposure
    assert replace(exposed, version=2).needs_exposure


def test_a_forced_variant_is_never_exposed() -> None:
    assert not assignment(reason="FORCED").needs_exposure


def test_an_exposure_says_how_the_variant_came_about() -> None:
    assert assignment(reason="STICKY", bucket=None).to_exposure().to_json() == {
        "experiment_id": "e",
        "version": 1,
        "variant": "a",
        "assignment_reason": "STICKY",
        "hash_version": 2,
        "bucket": None,
        "multiple": False,
    }


def test_a_second_variant_of_one_version_is_exposed_too_and_marked() -> None:
    other = replace(assignment().after_exposure(), variant="b")

    assert other.needs_exposure
    assert other.to_exposure().multiple
    assert other.after_exposure().multiple


def test_variants_of_different_versions_do_not_mark_a_visitor() -> None:
    assert not assignment(exposed=frozenset({(1, "a"), (2, "b")})).multiple


def test_only_the_newest_exposures_are_remembered() -> None:
    found = assignment()
    for version in range(1, 2 * EXPOSURES_PER_ASSIGNMENT_MAX):
        found = replace(found, version=version).after_exposure()

    assert len(found.exposed) == EXPOSURES_PER_ASSIGNMENT_MAX
    assert not found.needs_exposure


def test_the_older_assignment_wins_a_merge() -> None:
    older, newer = assignment(first_at=1.0), assignment(first_at=2.0, variant="b")

    assert merge_assignments({"e": newer}, {"e": older}) == {"e": older}


def test_a_merge_keeps_the_experiments_of_both() -> None:
    one, other = assignment(experiment_id="e"), assignment(experiment_id="f")

    assert merge_assignments({"e": one}, {"f": other}) == {"e": one, "f": other}


def test_a_visitor_who_saw_both_variants_is_marked_and_keeps_the_older() -> None:
    older = assignment(first_at=1.0).after_exposure()
    newer = assignment(first_at=2.0, variant="b").after_exposure()

    merged = merge_assignments({"e": newer}, {"e": older})["e"]

    assert (merged.variant, merged.multiple, merged.needs_exposure) == ("a", True, False)


def test_a_variant_that_was_never_served_marks_nobody() -> None:
    older = assignment(first_at=1.0)
    newer = assignment(first_at=2.0, variant="b").after_exposure()

    merged = merge_assignments({"e": newer}, {"e": older})["e"]

    assert (merged.variant, merged.multiple) == ("a", False)
    assert merged.after_exposure().multiple


@given(ASSIGNMENTS, ASSIGNMENTS, ASSIGNMENTS)
def test_the_order_and_number_of_merges_do_not_matter(
    a: dict[str, Assignment], b: dict[str, Assignment], c: dict[str, Assignment]
) -> None:
    merge = merge_assignments

    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a


@given(ASSIGNMENTS, ASSIGNMENTS)
def test_a_merge_survives_storage(a: dict[str, Assignment], b: dict[str, Assignment]) -> None:
    def stored(assignments: dict[str, Assignment]) -> Any:
        fields = {name: found.to_fields() for name, found in assignments.items()}
        return stored_assignments({"assignments": fields})

    assert stored(merge_assignments(a, b)) == merge_assignments(stored(a), stored(b))


@given(JSON)
def test_reading_never_raises(stored: Any) -> None:
    found = stored_assignments({"assignments": stored})
    entry = stored_assignments({"assignments": {"e": {**FIELDS, "exposed": stored, "at": stored}}})

    for each in (*found.values(), *entry.values()):
        assert stored_assignments({"assignments": {"e": each.to_fields()}})
