"""The rule book: all rules, compiled, in order, under one version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, TypeVar

from tagstitch.core.broken_rule import COLLECTION_OF, BrokenRule, RuleKind
from tagstitch.core.declarations import NOTHING_DECLARED
from tagstitch.core.declared import declarations_of
from tagstitch.core.errors import InvalidRule
from tagstitch.core.experiment import Experiment
from tagstitch.core.read_set import ReadSet, read_set_of
from tagstitch.core.rule import (
    EventRule,
    PersonalizationRule,
    Rule,
    parse_event_rule,
    parse_personalization_rule,
)
from tagstitch.core.rule_bucket import RuleBucket, buckets_in_steps
from tagstitch.core.rule_definitions import COLLECTIONS, RuleDefinitions
from tagstitch.core.rule_lines import (
    PROTECTED,
    VERSION_PREFIX,
    decode_line,
    encode_line,
    prefix_of,
)
from tagstitch.core.steps import Steps, finished
from tagstitch.core.targeting import EVERY_EVENT

R = TypeVar("R", bound=Rule)

_DECLARING: Final = ("audiences", "experiments", PROTECTED)
"""What rules refer to."""

_DIGEST_BYTES: Final = 16
"""What tells lines apart, instead of a few hundred bytes a rule."""

_LINES_PER_STEP: Final = 100


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a later version of the book can take over, by the digest of its line."""

    event_rules: Mapping[bytes, EventRule | BrokenRule] = field(default_factory=dict)
    personalization_rules: Mapping[bytes, PersonalizationRule | BrokenRule] = field(
        default_factory=dict
    )
    declaring: bytes = b""
    """Digest of the lines that rules refer to: when one changes, every rule is read anew."""


NOTHING_COMPILED: Final = Compiled()


@dataclass(frozen=True, slots=True, repr=False)
class RuleBook:
    """Compiled rules; the same content gives the same version, in whatever order it came."""

    version: str
    count: int
    """Rules that can be used, the inactive ones included."""
    broken: tuple[BrokenRule, ...]
    event_buckets: Mapping[str, RuleBucket[EventRule]]
    personalization_buckets: Mapping[str, RuleBucket[PersonalizationRule]]
    experiment_buckets: Mapping[str, tuple[Experiment, ...]]
    read_sets: Mapping[str, ReadSet]
    compiled: Compiled = field(default=NOTHING_COMPILED, repr=False, compare=False)
    withheld: int = 0
    """Definitions that were broken when the book was published: they are not in it, or only as an
    earlier version."""

    def __repr__(self) -> str:
        """Return a line: whoever logs a task that made the book would write all of its rules."""
        return f"RuleBook(version={self.version!r}, count={self.count})"

    # The methods below are the only way to the rules of an event.

    def read_set_for(self, event_name: str) -> ReadSet:
        """Return what rules and experiments look at for an event."""
        sets = self.read_sets
        return sets[event_name] if event_name in sets else sets[EVERY_EVENT]

    def experiments_for(self, event_name: str) -> Sequence[Experiment]:
        """Return the active experiments for an event, by id."""
        buckets = self.experiment_buckets
        return buckets[event_name] if event_name in buckets else buckets[EVERY_EVENT]

    def event_bucket(self, event_name: str) -> RuleBucket[EventRule]:
        """Return the active rules for an event."""
        buckets = self.event_buckets
        return buckets[event_name] if event_name in buckets else buckets[EVERY_EVENT]

    def personalization_bucket(self, event_name: str) -> RuleBucket[PersonalizationRule]:
        """Return the active rules for an event."""
        buckets = self.personalization_buckets
        return buckets[event_name] if event_name in buckets else buckets[EVERY_EVENT]


def compile_rule_book(definitions: RuleDefinitions) -> RuleBook:
    """Return the book of these definitions; a broken one is left out and listed."""
    raw: dict[bytes, tuple[str, Any]] = {
        encode_line(collection, definition_id, definition): (definition_id, definition)
        for collection, found in definitions.collections.items()
        for definition_id, definition in found.items()
    }
    for name in definitions.protected_names:
        raw[encode_line(PROTECTED, name, definition=True)] = (name, True)
    return finished(_Compilation(raw.__getitem__, None).run(sorted(raw)))


def compile_in_steps(lines: Iterable[bytes], present: RuleBook | None) -> Steps[RuleBook]:
    """Return the book of these lines, which are in order; pauses between small pieces of work.

    What has not changed since the present book is taken over from it.
    """
    return _Compilation(lambda line: decode_line(line)[1:], present).run(lines)


class _Compilation:
    """One compilation in progress."""

    __slots__ = ("_broken", "_declared", "_earlier", "_present", "_read")

    def __init__(self, read: Callable[[bytes], tuple[str, Any]], present: RuleBook | None) -> None:
        self._read = read
        """Gives the id and the definition of a line."""
        self._present = present
        self._earlier = present.compiled if present is not None else NOTHING_COMPILED
        self._declared = NOTHING_DECLARED
        self._broken: list[BrokenRule] = []

    def run(self, lines: Iterable[bytes]) -> Steps[RuleBook]:
        """Compile; what rules refer to comes before the rules."""
        by_collection, version = yield from _sort_in_steps(lines)
        experiments = self._declare(by_collection)
        declaring = _digest(line for name in _DECLARING for line in by_collection.get(name, ()))
        if declaring != self._earlier.declaring:
            self._earlier, self._present = NOTHING_COMPILED, None
        for_events = yield from self._parse_in_steps(
            "event", by_collection, parse_event_rule, self._earlier.event_rules
        )
        for_visitors = yield from self._parse_in_steps(
            "personalization",
            by_collection,
            parse_personalization_rule,
            self._earlier.personalization_rules,
        )
        compiled = Compiled(for_events, for_visitors, declaring)
        return (yield from self._assemble_in_steps(version, compiled, experiments))

    def _declare(self, by_collection: Mapping[str, Sequence[bytes]]) -> Sequence[Experiment]:
        """Read what rules refer to."""
        audiences, experiments, protected = (
            dict(map(self._read, by_collection.get(name, ()))) for name in _DECLARING
        )
        declared = declarations_of(
            RuleDefinitions(
                audiences=audiences, experiments=experiments, protected=tuple(protected)
            )
        )
        self._declared = declared.declarations
        self._broken += declared.broken
        return declared.experiments

    def _parse_in_steps(
        self,
        kind: RuleKind,
        by_collection: Mapping[str, list[bytes]],
        parse: Callable[..., R],
        earlier: Mapping[bytes, R | BrokenRule],
    ) -> Steps[dict[bytes, R | BrokenRule]]:
        rules: dict[bytes, R | BrokenRule] = {}
        lines = by_collection.get(COLLECTION_OF[kind], [])
        while lines:  # each line goes when it is read: 100,000 at once take ten milliseconds
            line = lines.pop()
            digest = blake2b(line, digest_size=_DIGEST_BYTES).digest()
            rule = earlier.get(digest)
            if rule is None:
                rule = self._parse(kind, *self._read(line), parse)
                yield
            elif isinstance(rule, BrokenRule):
                self._broken.append(rule)
            rules[digest] = rule
            if len(lines) % _LINES_PER_STEP == 0:
                yield
        return rules

    def _parse(
        self, kind: RuleKind, rule_id: str, raw: object, parse: Callable[..., R]
    ) -> R | BrokenRule:
        try:
            return parse(rule_id, raw, declared=self._declared)
        except InvalidRule as invalid:
            broken = BrokenRule(invalid.rule_id, kind, invalid.problems)
            self._broken.append(broken)
            return broken

    def _assemble_in_steps(
        self, version: str, compiled: Compiled, experiments: Sequence[Experiment]
    ) -> Steps[RuleBook]:
        present = self._present
        events = yield from buckets_in_steps(
            _usable(compiled.event_rules), present.event_buckets if present else {}
        )
        personal = yield from buckets_in_steps(
            _usable(compiled.personalization_rules),
            present.personalization_buckets if present else {},
        )
        by_event = _by_event(experiments)
        usable = len(compiled.event_rules) + len(compiled.personalization_rules)
        return RuleBook(
            version=version,
            count=usable - sum(rule.kind in ("event", "personalization") for rule in self._broken),
            broken=tuple(sorted(self._broken, key=lambda rule: (rule.kind, rule.rule_id))),
            event_buckets=events,
            personalization_buckets=personal,
            experiment_buckets=by_event,
            read_sets=(yield from _read_sets_in_steps(events, personal, by_event)),
            compiled=compiled,
        )


def _sort_in_steps(lines: Iterable[bytes]) -> Steps[tuple[dict[str, list[bytes]], str]]:
    """Return collection -> its lines, and the version of all of them."""
    prefixes = {prefix_of(name): name for name in (*COLLECTIONS, PROTECTED)}
    found: dict[str, list[bytes]] = {}
    digest = hashlib.sha256()
    for count, line in enumerate(lines):
        digest.update(line)
        digest.update(b"\n")
        name = prefixes.get(line[: line.find(b",") + 1])
        if name is not None:
            found.setdefault(name, []).append(line)
        if count % _LINES_PER_STEP == 0:
            yield
    return found, VERSION_PREFIX + digest.hexdigest()


def _digest(lines: Iterable[bytes]) -> bytes:
    """Return what tells lines apart: 16 bytes instead of a few hundred per rule."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for line in lines:
        digest.update(line)
    return digest.digest()


def _usable(rules: Mapping[bytes, R | BrokenRule]) -> Iterator[R]:
    return (rule for rule in rules.values() if not isinstance(rule, BrokenRule))


def _by_event(experiments: Iterable[Experiment]) -> dict[str, tuple[Experiment, ...]]:
    """Return event name -> its active experiments; those of `*` are under every name."""
    found: dict[str, list[Experiment]] = {EVERY_EVENT: []}
    for experiment in experiments:
        if experiment.is_active:
            for name in experiment.event_names:
                found.setdefault(name, []).append(experiment)
    for_all = found[EVERY_EVENT]
    return {
        name: tuple(named if name == EVERY_EVENT else named + for_all)
        for name, named in found.items()
    }


def _read_sets_in_steps(
    events: Mapping[str, RuleBucket[EventRule]],
    personal: Mapping[str, RuleBucket[PersonalizationRule]],
    experiments: Mapping[str, tuple[Experiment, ...]],
) -> Steps[dict[str, ReadSet]]:
    """Return event name -> everything that rules and experiments of this event look at."""
    found: dict[str, ReadSet] = {}
    for name in {*events, *personal, *experiments}:
        paths = set(events.get(name, events[EVERY_EVENT]).read_paths)
        paths |= personal.get(name, personal[EVERY_EVENT]).read_paths
        for experiment in experiments.get(name, experiments[EVERY_EVENT]):
            paths.update(experiment.read_paths)
        found[name] = read_set_of(paths)
        yield
    return found


EMPTY_RULE_BOOK: Final = compile_rule_book(RuleDefinitions())
