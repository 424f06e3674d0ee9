"""Assignments: which variant of an experiment a visitor has, and what was recorded of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

from tagstitch.core.bucketing import HashVersion
from tagstitch.core.limits import EXPOSURES_PER_ASSIGNMENT_MAX, INTEGER_ABS_MAX
from tagstitch.core.values import is_number

AssignmentReason = Literal["SPLIT", "STICKY", "FORCED"]

NotAssignedReason = Literal[
    "NOT_ACTIVE", "NO_SUBJECT", "NOT_ELIGIBLE", "HOLDOUT", "NOT_IN_NAMESPACE", "NOT_COVERED",
    "UNAVAILABLE", "ERROR", "NO_IDENTIFIER", "CONSENT_DENIED", "OUT_OF_SCHEDULE", "NOT_COMMITTED",
]  # fmt: skip

HASH_VERSIONS: Final[tuple[HashVersion, ...]] = (1, 2)

_VERSION: Final = re.compile(r"[1-9][0-9]{0,18}")

_FIELD: Final = "assignments"
"""Where a profile's document keeps them: experiment id -> what `to_fields` gives."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The variant of one visitor in one experiment."""

    experiment_id: str
    version: int
    """The version that made the split: one that was kept stays with its own version's visitors."""
    variant: str
    reason: AssignmentReason
    hash_version: HashVersion
    bucket: float | None
    """The visitor's number when the split was made; None when the stored one is unreadable."""
    first_at: float
    """When the visitor got the variant, in seconds since 1970 (UTC)."""
    exposed: frozenset[tuple[int, str]] = frozenset()
    """The (version, variant) pairs of which an exposure was recorded, also by merged profiles."""

    @property
    def multiple(self) -> bool:
        """Whether the visitor saw several variants of this version: to be left out of analyses."""
        return sum(version == self.version for version, _ in self.exposed) > 1

    @property
    def needs_exposure(self) -> bool:
        """Whether serving it is to be recorded: once per visitor, version and variant.

        A forced variant is a test and never recorded. Whoever records the exposure stores
        `after_exposure()`.
        """
        return self.reason != "FORCED" and (self.version, self.variant) not in self.exposed

    def after_exposure(self) -> Assignment:
        """Return the assignment once its exposure is recorded."""
        return replace(self, exposed=_newest({*self.exposed, (self.version, self.variant)}))

    def to_exposure(self) -> Exposure:
        """Return what is to be recorded when the variant is served."""
        return Exposure(
            experiment_id=self.experiment_id,
            version=self.version,
            variant=self.variant,
            assignment_reason=self.reason,
            hash_version=self.hash_version,
            bucket=self.bucket,
            multiple=self.after_exposure().multiple,
        )

    def to_fields(self) -> dict[str, Any]:
        """Return what the profile's document keeps; a forced one is never kept."""
        exposed: dict[str, list[str]] = {}
        for version, variant in sorted(self.exposed):
            exposed.setdefault(str(version), []).append(variant)
        return {
            "variant": self.variant,
            "version": self.version,
            "bucket": self.bucket,
            "hash_version": self.hash_version,
            "at": self.first_at,
            "exposed": exposed,
        }


@dataclass(frozen=True, slots=True)
class NotAssigned:
    """Why a visitor has no variant."""

    reason: NotAssignedReason


@dataclass(frozen=True, slots=True)
class Exposure:
    """A visitor was served a variant, control or not; analyses count from here on."""

    experiment_id: str
    version: int
    variant: str
    assignment_reason: AssignmentReason
    hash_version: HashVersion
    bucket: float | None
    multiple: bool
    """The visitor saw another variant of the same version before."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the audit and the documents `exposures/{id}` carry it."""
        return {
            "experiment_id": self.experiment_id,
            "version": self.version,
            "variant": self.variant,
            "assignment_reason": self.assignment_reason,
            "hash_version": self.hash_version,
            "bucket": self.bucket,
            "multiple": self.multiple,
        }


def stored_assignments(fields: Mapping[str, Any]) -> Mapping[str, Assignment]:
    """Return experiment id -> assignment of a profile's document.

    An entry without a readable variant, version or time counts as absent: the visitor is split
    again. What else is unreadable in it is left out.
    """
    stored = fields.get(_FIELD)
    if not isinstance(stored, Mapping):
        return {}
    read = ((experiment_id, _read(experiment_id, raw)) for experiment_id, raw in stored.items())
    return {experiment_id: found for experiment_id, found in read if found is not None}


def merge_assignments(
    one: Mapping[str, Assignment], other: Mapping[str, Assignment]
) -> dict[str, Assignment]:
    """Return the assignments of a profile that two were merged into.

    Of one experiment the older assignment wins, and what both were exposed to adds up, so that a
    visitor who saw several variants of a version is known as `multiple`. The order and number of
    merges do not matter.
    """
    merged = dict(one)
    for experiment_id, found in other.items():
        present = merged.get(experiment_id)
        merged[experiment_id] = found if present is None else _merge(present, found)
    return merged


def _merge(one: Assignment, other: Assignment) -> Assignment:
    older = min(one, other, key=_age)
    return replace(older, exposed=_newest(one.exposed | other.exposed))


def _age(assignment: Assignment) -> tuple[Any, ...]:
    """Return a key that sorts the older first; behind the time stands whatever tells two apart."""
    bucket = -1.0 if assignment.bucket is None else assignment.bucket
    return (
        assignment.first_at,
        assignment.version,
        assignment.variant,
        assignment.hash_version,
        bucket,
        assignment.reason,
    )


def _newest(exposed: Iterable[tuple[int, str]]) -> frozenset[tuple[int, str]]:
    return frozenset(sorted(exposed)[-EXPOSURES_PER_ASSIGNMENT_MAX:])


def _read(experiment_id: object, raw: object) -> Assignment | None:
    if not isinstance(experiment_id, str) or not isinstance(raw, Mapping):
        return None
    variant, version, at = raw.get("variant"), raw.get("version"), raw.get("at")
    if not isinstance(variant, str) or not variant or not _is_version(version) or not _is_time(at):
        return None
    bucket: Any = raw.get("bucket")
    return Assignment(
        experiment_id=experiment_id,
        version=cast(int, version),
        variant=variant,
        reason="SPLIT",
        hash_version=1 if raw.get("hash_version") == 1 else 2,
        bucket=float(bucket) if is_number(bucket) and 0 <= bucket < 1 else None,
        first_at=float(cast(float, at)),
        exposed=_read_exposed(raw.get("exposed")),
    )


def _is_version(raw: object) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and 1 <= raw <= INTEGER_ABS_MAX


def _is_time(raw: object) -> bool:
    return is_number(raw) and 0 <= cast(float, raw) <= INTEGER_ABS_MAX


def _read_exposed(raw: object) -> frozenset[tuple[int, str]]:
    if not isinstance(raw, Mapping):
        return frozenset()
    return _newest(
        (int(version), variant)
        for version, variants in raw.items()
        if isinstance(version, str) and _VERSION.fullmatch(version) and isinstance(variants, list)
        for variant in variants
        if isinstance(variant, str) and variant
    )
