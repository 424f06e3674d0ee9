"""The static checks: what a set of rules says that its authors can hardly mean.

They go beyond the grammar, which the parsers check. Only active rules are looked at. An error is
certain; a warning may be intended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tagstitch.core.checked_rule import IN_AUDIENCE, CheckedConditions, CheckedRule, read_rules
from tagstitch.core.condition_checks import check_conditions, check_drops
from tagstitch.core.declared import declarations_of
from tagstitch.core.effect_checks import check_overlaps, check_rename_cycles
from tagstitch.core.experiment_checks import check_experiments, declared_conditions
from tagstitch.core.field_catalogue import FieldCatalogue
from tagstitch.core.field_checks import FieldChecks
from tagstitch.core.finding import CheckReport, Finding
from tagstitch.core.reachability_checks import check_reachability
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.rule_pairs import Budget
from tagstitch.core.trust_checks import AttributePurposes, check_forgeable, check_purposes


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What is known besides the rules."""

    attribute_purposes: AttributePurposes = field(default_factory=dict)
    attributes: frozenset[str] = frozenset()
    """Names of profile attributes that are declared somewhere."""
    traits: frozenset[str] = frozenset()
    """Names of computed traits: no sample has them, be it of events or profiles."""
    catalogue: FieldCatalogue | None = None
    """What was seen in sample events and profiles."""


NOTHING_KNOWN = CheckContext()


def check_rules(
    definitions: RuleDefinitions,
    context: CheckContext = NOTHING_KNOWN,
    *,
    book: RuleBook | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> CheckReport:
    """Return all findings; never raises. What cannot be read is left out.

    `book` is what these definitions were compiled to, if that is at hand. `advance` is told how
    many more rules were looked at.
    """
    declared = declarations_of(definitions)
    own_checks = _OwnChecks(context)
    rules: list[CheckedRule] = []
    possible: list[CheckedRule] = []
    findings: list[Finding] = []
    for rule in read_rules(definitions, book or compile_rule_book(definitions)):
        advance(1)
        rules.append(rule)
        own = list(own_checks.check_rule(rule))
        findings += own
        if all(finding.code != "never_holds" for finding in own):
            possible.append(rule)
    for conditions in declared_conditions(declared):
        findings += own_checks.check(conditions)
    notes: list[str] = []
    findings += _compared(possible, notes)
    findings += check_experiments(declared.experiments, rules)
    findings.sort(key=lambda f: (f.severity, f.kind, f.rule_id, f.code, f.path))
    return CheckReport(tuple(findings), tuple(notes))


class _OwnChecks:
    """The checks that look at one definition at a time."""

    __slots__ = ("_attributes", "_fields", "_purposes")

    def __init__(self, context: CheckContext) -> None:
        self._purposes = context.attribute_purposes
        self._attributes = context.attributes.union(context.attribute_purposes)
        self._fields: FieldChecks | None = None
        if context.catalogue is not None:
            self._fields = FieldChecks(context.catalogue, context.traits)
            self._attributes |= context.catalogue.attribute_names

    def check_rule(self, rule: CheckedRule) -> Iterator[Finding]:
        yield from self.check(rule)
        yield from check_purposes(rule, self._purposes)
        yield from check_forgeable(rule, self._attributes)

    def check(self, conditions: CheckedConditions) -> Iterator[Finding]:
        """Yield what is wrong with conditions; what an audience says is its own fault."""
        yield from _outside_of_audiences(check_conditions(conditions))
        if self._fields is not None:
            yield from _outside_of_audiences(self._fields.check(conditions))


def _outside_of_audiences(findings: Iterable[Finding]) -> Iterator[Finding]:
    return (finding for finding in findings if not finding.path.startswith(IN_AUDIENCE))


def _compared(rules: Sequence[CheckedRule], notes: list[str]) -> Iterator[Finding]:
    """Yield the findings about rules that meet others; note what was left out."""
    for_events = [rule for rule in rules if rule.kind == "event"]
    for_visitors = [rule for rule in rules if rule.kind == "personalization"]
    acting = [rule for rule in for_events if not rule.is_shadow]
    reached, overlapped = Budget(), Budget()
    yield from check_drops(acting)
    yield from check_rename_cycles(acting)
    yield from check_overlaps(acting, overlapped)
    yield from check_reachability(for_events, reached)
    yield from check_reachability(for_visitors, reached)
    for what, budget in (("unreachable", reached), ("overlapping", overlapped)):
        if budget.left < 0:
            notes.append(f"too many pairs of rules to compare: not all {what} rules are listed")
