"""Audiences: named conditions on a profile, so that many rules can share one definition."""

from __future__ import annotations

from collections.abc import Mapping

from tagstitch.core.condition import ALWAYS, Condition, parse_profile_conditions
from tagstitch.core.definition import Definition
from tagstitch.core.errors import InvalidRule, Problem
from tagstitch.core.limits import RULE_DEPTH_MAX, RULE_ID_CHARS_MAX
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_deeper


def parse_audience(audience_id: object, raw: object) -> Condition:
    """Return who belongs to the audience; raises InvalidRule with everything that is wrong."""
    if not isinstance(audience_id, str) or not 0 < len(audience_id) <= RULE_ID_CHARS_MAX:
        message = f"an audience's id is text of 1 to {RULE_ID_CHARS_MAX} characters"
        raise InvalidRule(str(audience_id)[:RULE_ID_CHARS_MAX], (Problem("", message),))
    if not isinstance(raw, Mapping) or is_deeper(raw, RULE_DEPTH_MAX):
        message = f"an audience must be an object of at most {RULE_DEPTH_MAX} levels"
        raise InvalidRule(audience_id, (Problem("", message),))
    fields = Definition(raw, "", Problems())
    for word in ("description", "owner", "tags"):
        fields.take(word)
    condition = _conditions(fields, f"audiences.{audience_id}.")
    fields.refuse_misspelt()
    if fields.problems.found:
        raise InvalidRule(audience_id, tuple(fields.problems.found))
    return condition


def _conditions(fields: Definition, prefix: str) -> Condition:
    """Return the tree; its places tell a rule's trace which audience they are in."""
    raw = fields.require("conditions")
    if raw is None:
        return ALWAYS
    if raw == {}:
        fields.problems.add("conditions", "must not be empty", "an audience of everybody is none")
    problems = Problems()
    condition = parse_profile_conditions(raw, f"{prefix}conditions", problems)
    for problem in problems.found:
        fields.problems.add(problem.path.removeprefix(prefix), problem.message, problem.hint)
    return condition
