"""Experiments: visitors are split between variants by a hash, so that a split needs no storage.

Hash, bucket ranges and namespaces are those that GrowthBook publishes
(https://docs.growthbook.io/lib/build-your-own), so that its warehouse side finds the same split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tagstitch.core.assignment import Assignment, NotAssigned, NotAssignedReason
from tagstitch.core.bucketing import HashVersion, bucket_of
from tagstitch.core.compiled_condition import CompiledCondition
from tagstitch.core.consent import Purpose
from tagstitch.core.errors import Problem
from tagstitch.core.paths import Facts, Path, Source
from tagstitch.core.schedule import Schedule

_NOTHING: Final[frozenset[Source]] = frozenset()


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of an experiment."""

    name: str
    weight: float
    """Its share of the visitors who take part."""
    value: Any = None
    """What the page is to use; None when the name says all."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A part of the visitors; experiments with parts that do not overlap exclude each other."""

    namespace_id: str
    low: float
    high: float

    def has(self, subject: str) -> bool:
        """Return whether the visitor is in this part: the lower bound is, the upper is not."""
        return self.low <= bucket_of(subject, seed="__" + self.namespace_id, version=1) < self.high


@dataclass(frozen=True, slots=True)
class Holdout:
    """A share of visitors kept out of every experiment that names it, to measure them together."""

    holdout_id: str
    percent: float

    def has(self, subject: str) -> bool:
        """Return whether the visitor is kept out; the same in every experiment."""
        return bucket_of(subject, seed="holdout:" + self.holdout_id) < self.percent / 100


@dataclass(frozen=True, slots=True)
class ForcedVariant:
    """A variant that testers get, whatever the split says."""

    variant: str
    condition: CompiledCondition


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment, ready to assign."""

    experiment_id: str
    version: int
    event_names: tuple[str, ...]
    """`*` alone stands for every event."""
    condition: CompiledCondition
    """Who may enter."""
    variants: tuple[Variant, ...]
    ranges: tuple[tuple[float, float], ...]
    """For each variant, the buckets that have it."""
    hash_version: HashVersion
    seed: str
    namespace: Namespace | None
    holdout: Holdout | None
    forced: tuple[ForcedVariant, ...]
    is_sticky: bool
    is_active: bool
    schedule: Schedule | None
    purposes: tuple[Purpose, ...]
    """The purposes that the visitor must allow, all of them."""

    @property
    def reads(self) -> frozenset[Source]:
        """The data that an assignment may look at."""
        own = self.condition.reads.union(*(forced.condition.reads for forced in self.forced))
        return own | {"profile"} if self.is_sticky else own

    @property
    def read_paths(self) -> tuple[Path, ...]:
        """Every path that decides who takes part."""
        forced = (path for test in self.forced for path in test.condition.read_paths)
        return (*self.condition.read_paths, *forced)

    def variant(self, name: str) -> Variant | None:
        """Return the variant of this name."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def variant_at(self, bucket: float) -> Variant | None:
        """Return the variant of a bucket, or None when it is not covered."""
        for variant, (start, end) in zip(self.variants, self.ranges, strict=True):
            if start <= bucket < end:
                return variant
        return None


def bucket_ranges(weights: Sequence[float], coverage: float) -> tuple[tuple[float, float], ...]:
    """Return, for each weight, the buckets from and up to (not including) which it reaches.

    A range starts where all ranges before it would end at full coverage: more coverage takes in
    more visitors and moves nobody from one variant to another.
    """
    ranges = []
    start = 0.0
    for weight in weights:
        ranges.append((start, start + coverage * weight))
        start += weight
    return tuple(ranges)


def assign(
    experiment: Experiment,
    subject: str,
    facts: Facts,
    stored: Assignment | None,
    *,
    unavailable: frozenset[Source] = _NOTHING,
) -> Assignment | NotAssigned:
    """Return the visitor's variant, or why there is none; never raises.

    `subject` is the visitor's ASCII id, `stored` what the profile keeps of this experiment,
    `unavailable` the data that could not be loaded: an assignment that hangs on it is not made.
    The first that applies decides: not active, forced, kept, not eligible, held out, another
    namespace, the split. What is kept skips everything behind it: who is in stays in.
    """
    try:
        if not experiment.is_active:
            return NotAssigned("NOT_ACTIVE")
        return (
            _forced(experiment, subject, facts, unavailable)
            or _kept(experiment, subject, stored, unavailable)
            or _refused(experiment, subject, facts, unavailable)
            or _split(experiment, subject, facts, stored)
        )
    except Exception:  # noqa: BLE001 - a broken experiment harms only itself
        return NotAssigned("ERROR")


def _forced(
    experiment: Experiment, subject: str, facts: Facts, unavailable: frozenset[Source]
) -> Assignment | NotAssigned | None:
    for forced in experiment.forced:
        if unavailable and forced.condition.is_lacking(facts, unavailable):
            return NotAssigned("UNAVAILABLE")
        if forced.condition.holds(facts):
            return Assignment(
                experiment_id=experiment.experiment_id,
                version=experiment.version,
                variant=forced.variant,
                reason="FORCED",
                hash_version=experiment.hash_version,
                bucket=_bucket(experiment, subject),
                first_at=facts.now,
            )
    return None


def _kept(
    experiment: Experiment, subject: str, stored: Assignment | None, unavailable: frozenset[Source]
) -> Assignment | NotAssigned | None:
    if not subject:
        return NotAssigned("NO_SUBJECT")
    if not experiment.is_sticky:
        return None
    if "profile" in unavailable:
        return NotAssigned("UNAVAILABLE")
    if stored is None or stored.version > experiment.version:  # a newer one's, after a rollback
        return None
    is_there = experiment.variant(stored.variant) is not None
    return replace(stored, reason="STICKY") if is_there else None


def _refused(
    experiment: Experiment, subject: str, facts: Facts, unavailable: frozenset[Source]
) -> NotAssigned | None:
    """Tell why the visitor may not enter; the conditions come first, they cost less than hashes."""
    reason: NotAssignedReason | None = None
    if unavailable and experiment.condition.is_lacking(facts, unavailable):
        reason = "UNAVAILABLE"
    elif not experiment.condition.holds(facts):
        reason = "NOT_ELIGIBLE"
    elif experiment.holdout is not None and experiment.holdout.has(subject):
        reason = "HOLDOUT"
    elif experiment.namespace is not None and not experiment.namespace.has(subject):
        reason = "NOT_IN_NAMESPACE"
    return None if reason is None else NotAssigned(reason)


def _split(
    experiment: Experiment, subject: str, facts: Facts, stored: Assignment | None
) -> Assignment | NotAssigned:
    bucket = _bucket(experiment, subject)
    variant = experiment.variant_at(bucket)
    if variant is None:
        return NotAssigned("NOT_COVERED")
    version = experiment.version
    is_known = stored is not None and (stored.version, stored.variant) == (version, variant.name)
    return Assignment(
        experiment_id=experiment.experiment_id,
        version=version,
        variant=variant.name,
        reason="SPLIT",
        hash_version=experiment.hash_version,
        bucket=bucket,
        first_at=stored.first_at if stored is not None and is_known else facts.now,
        exposed=stored.exposed if stored is not None else frozenset(),
    )


def _bucket(experiment: Experiment, subject: str) -> float:
    return bucket_of(subject, seed=experiment.seed, version=experiment.hash_version)


def holdout_problems(experiments: Iterable[Experiment]) -> Mapping[str, Problem]:
    """Return experiment id -> problem where two experiments disagree about one holdout's share.

    A holdout that is 5 % here and 10 % there would keep nobody in particular out of all.
    """
    by_id: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        if experiment.holdout is not None:
            by_id.setdefault(experiment.holdout.holdout_id, []).append(experiment)
    problem = Problem(
        "holdout.percent",
        "another experiment gives this holdout another percent",
        "a holdout is one share of visitors: write the same percent wherever it is named",
    )
    return {found.experiment_id: problem for named in by_id.values() for found in _differing(named)}


def _differing(named: Sequence[Experiment]) -> Iterator[Experiment]:
    """Yield all of these when they do not have one holdout."""
    if len({experiment.holdout for experiment in named}) > 1:
        yield from named
