"""Rollouts: the stable share of visitors for whom a rule is in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core import operands
from tagstitch.core.bucketing import bucket_of
from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.limits import IDENTIFIER_VALUE_CHARS_MAX, SALT_CHARS_MAX
from tagstitch.core.paths import Facts, Lookup, Path, Source, compile_base, is_lacking, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.values import is_number

BY_VISITOR: Final = "visitor"

_BUCKETS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rollout:
    """Includes a subject whose bucket lies below the share, so a growing share moves nobody out.

    It is `<` where GrowthBook's own rollouts have `<=`: 0 percent includes nobody.
    """

    share: float
    """From 0 to 1, in steps of one bucket."""
    salt: str
    by: tuple[Path, Lookup] | None = None
    """Where the subject stands; None for the visitor."""

    @property
    def reads(self) -> frozenset[Source]:
        """The data that the rollout may look at."""
        return frozenset() if self.by is None else self.by[0].sources

    def is_lacking(self, facts: Facts, unavailable: frozenset[Source]) -> bool:
        """Return whether it needs data that could not be loaded."""
        return self.by is not None and is_lacking(*self.by, facts, unavailable)

    def includes(self, visitor: str | None, facts: Facts) -> bool:
        """Return whether the visitor has the share; nobody is nobody, even of 100 percent."""
        subject = visitor if self.by is None else _subject(self.by[1](facts))
        if not subject:
            return False
        facts.work.spend_bucketing(len(subject) + len(self.salt))
        return bucket_of(subject, seed=self.salt) < self.share


def _subject(value: Any) -> str | None:
    """Return an id as text: 5, 5.0 and "5" are one subject; lists, flags, long texts are none."""
    if isinstance(value, str):
        return value if len(value) <= IDENTIFIER_VALUE_CHARS_MAX else None
    if isinstance(value, bool) or not is_number(value):
        return None
    return str(int(value)) if value == int(value) else repr(value)


def parse_rollout(
    raw: object,
    where: str,
    problems: Problems,
    *,
    rule_id: str,
    declared: Declarations = NOTHING_DECLARED,
) -> Rollout:
    """Return the rollout; after noting a problem, one that may include nobody.

    The rule's id is the salt where none is given: what has the same salt includes the same visitors
    first.
    """
    if not isinstance(raw, Mapping):
        return Rollout(_share(raw, where, problems), rule_id)
    fields = Definition(raw, where, problems)
    share = fields.require_with(_share, "percent", 0.0)
    salt = fields.take_with(_salt, "salt", rule_id)
    written_by = fields.take("by")
    fields.refuse_rest()
    if written_by in (None, BY_VISITOR):
        return Rollout(share, salt)
    return Rollout(share, salt, _by(written_by, fields, declared))


def _share(raw: Any, where: str, problems: Problems) -> float:
    percent = operands.number(raw, where, problems)
    buckets = round(percent * _BUCKETS / 100)
    if not 0 <= percent <= 100 or abs(percent * _BUCKETS / 100 - buckets) > 1e-6:
        hint = f"there are {_BUCKETS:,} buckets; 0 includes nobody, 100 everybody"
        problems.add(where, "must be 0 to 100 percent, in steps of 0.01", hint)
    return buckets / _BUCKETS


def _salt(raw: Any, where: str, problems: Problems) -> str:
    if not isinstance(raw, str) or not 0 < len(raw) <= SALT_CHARS_MAX:
        hint = "rules with the same salt include the same visitors"
        problems.add(where, f"must be text of 1 to {SALT_CHARS_MAX} characters", hint)
        return ""
    return raw


def _by(raw: Any, fields: Definition, declared: Declarations) -> tuple[Path, Lookup] | None:
    place = fields.place("by")
    path = parse_path(raw, place, fields.problems, declared=declared)
    if path is None:
        return None
    if path.quantifier is not None:
        fields.problems.add(place, "one value, not every element of a list", "visitor, or a path")
    return path, compile_base(path)
