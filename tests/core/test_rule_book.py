from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tagstitch.core.rule_book import EMPTY_RULE_BOOK, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions


def rule(**fields: Any) -> dict[str, Any]:
    return {
        "target_event_name": "purchase",
        "match_all": True,
        "action_type": "drop_event",
        **fields,
    }


def test_the_empty_book_has_a_version_and_no_rules() -> None:
    assert EMPTY_RULE_BOOK.version.startswith("sha256:")
    assert (EMPTY_RULE_BOOK.count, EMPTY_RULE_BOOK.broken) == (0, ())
    assert EMPTY_RULE_BOOK.event_bucket("purchase").rules == ()
    assert EMPTY_RULE_BOOK.personalization_bucket("*").rules == ()


def test_rules_come_by_priority_and_then_by_id() -> None:
    definitions = {
        "b": rule(priority=1), "a": rule(priority=1), "c": rule(priority=0),
        "d": rule(target_event_name="*", priority=1), "e": rule(is_active=False),
    }  # fmt: skip

    book = compile_rule_book(RuleDefinitions(definitions, {}))

    assert [r.rule_id for r in book.event_bucket("purchase").rules] == ["c", "a", "b", "d"]
    assert [r.rule_id for r in book.event_bucket("other").rules] == ["d"]
    assert book.count == 5


def test_the_version_depends_on_content_and_not_on_order() -> None:
    one, two = rule(priority=1), rule(priority=2)

    forwards = compile_rule_book(RuleDefinitions({"a": one, "b": two}, {}))
    backwards = compile_rule_book(RuleDefinitions({"b": two, "a": dict(reversed(one.items()))}))
    changed = compile_rule_book(RuleDefinitions({"a": one, "b": rule(priority=3)}, {}))
    moved = compile_rule_book(RuleDefinitions({"a": one}, {"b": two}))

    assert forwards.version == backwards.version
    assert len({forwards.version, changed.version, moved.version}) == 3


def test_a_broken_rule_harms_only_itself() -> None:
    book = compile_rule_book(
        RuleDefinitions({"good": rule(), "bad": rule(action_type="explode")}, {"worse": {}})
    )

    assert [r.rule_id for r in book.event_bucket("purchase").rules] == ["good"]
    assert [(broken.kind, broken.rule_id) for broken in book.broken] == [
        ("event", "bad"),
        ("personalization", "worse"),
    ]
    assert book.broken[0].problems[0].path == "action_type"
    assert book.count == 1


def test_stored_values_that_json_lacks_still_have_a_version() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    dated = compile_rule_book(RuleDefinitions({"a": rule(created_at=moment)}, {}))
    opaque = compile_rule_book(RuleDefinitions({"a": rule(created_at=object(), blob=b"x")}, {}))

    assert dated.count == opaque.count == 1
    assert dated.version != opaque.version
