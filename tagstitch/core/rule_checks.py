"""The static checks: what a set of rules says that its authors can hardly mean.

They go beyond the grammar, which the parsers check. Only active rules are looked at. An error is
certain; a warning may be intended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tagstitch.core.checked_rule import CheckedRule, read_rules
from tagstitch.core.condition_checks import check_conditions, check_drops
from tagstitch.core.declarations import Declarations
from tagstitch.core.effect_checks import check_overlaps, check_rename_cycles
from tagstitch.core.errors import InvalidRule
from tagstitch.core.field_catalogue import FieldCatalogue
from tagstitch.core.field_checks import FieldChecks
from tagstitch.core.finding import CheckReport, Finding
from tagstitch.core.reachability_checks import check_reachability
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_pairs import Budget
from tagstitch.core.trust_checks import AttributePurposes, check_forgeable, check_purposes


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What is known besides the rules."""

    declared: Declarations | None = None
    """What rules may refer to by name; None means what the definitions themselves declare."""
    attribute_purposes: AttributePurposes = field(default_factory=dict)
    attributes: frozenset[str] = frozenset()
    """Names of profile attributes that are declared somewhere."""
    catalogue: FieldCatalogue | None = None
    """What was seen in sample events and profiles."""


NOTHING_KNOWN = CheckContext()


def check_rules(
    definitions: RuleDefinitions,
    context: CheckContext = NOTHING_KNOWN,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> CheckReport:
    """Return all findings; never raises. A rule that cannot be read is left out.

    `advance` is told how many more rules were looked at.
    """
    declared = context.declared or Declarations(protected=frozenset(definitions.protected))
    rules: list[CheckedRule] = []
    findings: list[Finding] = []
    attributes = context.attributes.union(context.attribute_purposes)
    fields = None
    if context.catalogue is not None:
        fields = FieldChecks(context.catalogue)
        attributes |= context.catalogue.attribute_names
    for rule in read_rules(definitions, declared):
        advance(1)
        if isinstance(rule, InvalidRule):
            continue
        rules.append(rule)
        findings += check_conditions(rule)
        findings += check_drops(rule)
        findings += check_purposes(rule, context.attribute_purposes)
        findings += check_forgeable(rule, attributes)
        findings += fields.check(rule) if fields is not None else ()
    notes: list[str] = []
    findings += _compared([r for r in rules if r.form.can_hold()], notes)
    findings.sort(key=lambda f: (f.severity, f.kind, f.rule_id, f.code, f.path))
    return CheckReport(tuple(findings), tuple(notes))


def _compared(rules: Sequence[CheckedRule], notes: list[str]) -> Iterator[Finding]:
    """Yield the findings about rules that meet others; note what was left out."""
    for_events = [rule for rule in rules if rule.kind == "event"]
    for_visitors = [rule for rule in rules if rule.kind == "personalization"]
    reached, overlapped = Budget(), Budget()
    yield from check_rename_cycles(for_events)
    yield from check_overlaps(for_events, overlapped)
    yield from check_reachability(for_events, reached)
    yield from check_reachability(for_visitors, reached)
    for what, budget in (("unreachable", reached), ("overlapping", overlapped)):
        if budget.left < 0:
            notes.append(f"too many pairs of rules to compare: not all {what} rules are listed")
