"""Paths such as `items.$.price` or `profile.tier`: where a condition or an action looks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, cast

import msgspec
from msgspec import structs

from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.limits import PATH_CHARS_MAX, PATH_SEGMENTS_MAX
from tagstitch.core.problems import Problems, suggestion
from tagstitch.core.work import Work

Source = Literal["event", "profile", "user_state", "experiment"]
Root = Literal["bare", "event", "profile", "user_state", "experiment", "item"]
"""Where a path starts; `bare` is the event and, if absent there, the profile's attributes."""

Quantifier = Literal["$", "$any", "$all", "$none", "$count"]

QUANTIFIERS: Final[tuple[Quantifier, ...]] = ("$", "$any", "$all", "$none", "$count")

_PREFIXES: Final[tuple[Source, ...]] = ("event", "profile", "user_state", "experiment")
_SEGMENT: Final = re.compile(
    r"""(?:^|\.)(?P<name>[^.\[\]]+)      # a name, after a dot unless it is the first
      | \.?\["(?P<double>[^"]+)"\]       # ["a.b"]
      | \.?\['(?P<single>[^']+)'\]       # ['a.b']
      | \.?\[(?P<index>[0-9]{1,6})\]     # [0]
    """,
    re.VERBOSE,
)

_FOLDED_CHARS_MIN = 256
"""Characters of a text from which remembering its case-folded form is cheaper than a new one."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_SHARED_PATHS_MAX: Final = 4_096
"""Paths that rules share: a rule book knows a few hundred."""


class Facts(msgspec.Struct, gc=False):  # a class with __slots__ takes three times as long to make
    """What conditions look at: an event's parameters, a profile's attributes and state, the time.

    An evaluation changes two things: `coercions` and `work`, which is the same for all facts of
    one decision.
    """

    event: Mapping[str, Any]
    profile: Mapping[str, Any] = _NOTHING
    state: Mapping[str, Any] = _NOTHING
    now: float = 0.0
    """In seconds since 1970 (UTC)."""
    experiments: Mapping[str, str] = _NOTHING
    """The visitor's variants by experiment."""
    work: Work = msgspec.field(default_factory=Work)
    coercions: int = 0
    """How often a text was taken for a number."""
    _folded: dict[str, str] | None = None

    def casefold(self, text: str) -> str:
        """Return a text without the difference of cases; many rules may ask about the same one."""
        if len(text) < _FOLDED_CHARS_MIN:
            return text.casefold()
        if self._folded is None:
            self._folded = {}
        folded = self._folded.get(text)
        if folded is None:
            folded = self._folded[text] = text.casefold()
        return folded

    def with_event(self, event: Mapping[str, Any]) -> Facts:
        """Return the same about another event, or about one element of a list."""
        return Facts(
            event,
            self.profile,
            self.state,
            now=self.now,
            experiments=self.experiments,
            work=self.work,
        )

    def with_state(self, state: Mapping[str, Any]) -> Facts:
        """Return the same with another state; the coercions counted so far stay behind."""
        return Facts(
            self.event,
            self.profile,
            state,
            now=self.now,
            experiments=self.experiments,
            work=self.work,
        )


Lookup = Callable[[Facts], Any]
"""Returns the value, or None when it is missing or null: both count as absent."""


class Path(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """A parsed path: `base` leads to a value or, with a quantifier, to a list of elements."""

    text: str
    root: Root
    base: tuple[str, ...]
    quantifier: Quantifier | None = None
    rest: tuple[str, ...] = ()
    """What to look at inside each element; empty for the element itself."""
    literal: bool = False
    """Written with brackets, so that its dots never mean one whole key."""

    @property
    def sources(self) -> frozenset[Source]:
        """The data that a look-up may need."""
        if self.root == "bare":
            return frozenset(("event", "profile"))
        return frozenset(("event",)) if self.root == "item" else frozenset((self.root,))


def parse_path(
    text: object,
    where: str,
    problems: Problems,
    *,
    in_item: bool = False,
    declared: Declarations = NOTHING_DECLARED,
) -> Path | None:
    """Return the path, or None after noting what is wrong with it.

    `in_item` paths start at one element of a list. A bare name that is declared `protected` is
    read from the profile alone.
    """
    path = _known_path(text, in_item=in_item) if isinstance(text, str) else None
    if path is None:
        return _parse_path(text, where, problems, in_item=in_item)
    if path.root == "bare" and declared.protected and _is_protected(path, declared.protected):
        return _from_profile(path)
    return path


def _is_protected(path: Path, protected: frozenset[str]) -> bool:
    """Return whether the path leads to a protected attribute or into one."""
    base = path.base
    if len(base) == 1:
        return base[0] in protected
    return any(".".join(base[:length]) in protected for length in range(1, len(base) + 1))


@lru_cache(maxsize=_SHARED_PATHS_MAX)
def _known_path(text: str, *, in_item: bool) -> Path | None:
    """Return the path that all rules share which write it, or None when it is none."""
    return _parse_path(text, "", Problems(), in_item=in_item)


@lru_cache(maxsize=_SHARED_PATHS_MAX)
def _from_profile(path: Path) -> Path:
    return structs.replace(path, root="profile")


def _parse_path(text: object, where: str, problems: Problems, *, in_item: bool) -> Path | None:
    if not isinstance(text, str) or not text or len(text) > PATH_CHARS_MAX:
        problems.add(where, f"a path must be text of 1 to {PATH_CHARS_MAX} characters")
        return None
    root: Root = "item" if in_item else "bare"
    remaining = text
    if not in_item:
        for prefix in _PREFIXES:
            if text.startswith((prefix + ".", prefix + "[")):
                root, remaining = prefix, text[len(prefix) :].removeprefix(".")
    segments = _split(remaining)
    if segments is None:
        problems.add(where, "not a path", 'write a.b, or a["b.c"] for a key with a dot in it')
        return None
    if len(segments) > PATH_SEGMENTS_MAX:
        problems.add(where, f"more than {PATH_SEGMENTS_MAX} segments")
        return None
    return _quantified(text, root, segments, where, problems)


def _split(text: str) -> list[tuple[str, bool]] | None:
    """Return (segment, whether it was written in brackets), or None when it is not a path."""
    segments: list[tuple[str, bool]] = []
    position = 0
    while position < len(text):
        match = _SEGMENT.match(text, position)
        if match is None or (match["name"] and match[0][0] == "." and not position):
            return None
        segments.append((cast(str, match[match.lastgroup or 0]), match["name"] is None))
        position = match.end()
    return segments or None


def _quantified(
    text: str, root: Root, segments: Sequence[tuple[str, bool]], where: str, problems: Problems
) -> Path | None:
    names = tuple(name for name, _ in segments)
    literal = any(bracketed for _, bracketed in segments)
    marks = [i for i, (name, bracketed) in enumerate(segments) if name[0] == "$" and not bracketed]
    if not marks:
        return Path(text, root, names, literal=literal)
    at = marks[0]
    if names[at] not in QUANTIFIERS:
        problems.add(where, "unknown quantifier", suggestion(names[at], QUANTIFIERS))
        return None
    if at == 0 or len(marks) > 1:
        problems.add(where, "one $ is allowed, behind the name of a list", "for example items.$.x")
        return None
    quantifier = cast(Quantifier, names[at])
    if quantifier == "$count" and names[at + 1 :]:
        problems.add(where, "nothing may follow $count", "it is the number of elements")
        return None
    return Path(text, root, names[:at], quantifier, names[at + 1 :], literal)


@lru_cache(maxsize=_SHARED_PATHS_MAX)
def compile_base(path: Path) -> Lookup:
    """Return a function that gives the value at the path's base."""
    segments = path.base
    if path.root == "bare":
        return _bare_lookup(segments, literal=path.literal)
    find = finder(segments, literal=path.literal)
    if path.root == "profile":
        return lambda facts: find(facts.profile)
    if path.root == "user_state":
        return lambda facts: find(facts.state)
    if path.root == "experiment":
        return lambda facts: find(facts.experiments)
    if len(segments) == 1:
        key = segments[0]
        return lambda facts: facts.event.get(key)
    return lambda facts: find(facts.event)


def _bare_lookup(segments: tuple[str, ...], *, literal: bool) -> Lookup:
    if len(segments) == 1:
        key = segments[0]

        def find_key(facts: Facts) -> Any:
            value = facts.event.get(key)
            return facts.profile.get(key) if value is None else value

        return find_key
    find = finder(segments, literal=literal)

    def find_path(facts: Facts) -> Any:
        value = find(facts.event)
        return find(facts.profile) if value is None else value

    return find_path


def finder(
    segments: tuple[str, ...], *, literal: bool = False
) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that finds the value below a mapping: the whole key first, then dotted."""
    if len(segments) == 1:
        key = segments[0]
        return lambda container: container.get(key)
    if literal:
        return lambda container: _walk(container, segments)
    whole = ".".join(segments)

    def find(container: Mapping[str, Any]) -> Any:
        value = container.get(whole)
        return _walk(container, segments) if value is None else value

    return find


def _walk(container: Mapping[str, Any], segments: Iterable[str]) -> Any:
    value: Any = container
    for segment in segments:
        if isinstance(value, Mapping):
            value = value.get(segment)
        elif isinstance(value, list) and segment.isdecimal() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return None
    return value


def element_finder(path: Path) -> Callable[[Any], Any]:
    """Return a function that gives, for one element of the list, the value to compare."""
    if not path.rest:
        return lambda element: element
    find = finder(path.rest, literal=path.literal)
    return lambda element: find(element) if isinstance(element, Mapping) else None


def overlap(one: Path, other: Path) -> bool:
    """Return whether one path leads to the other's value or to a part of it."""
    left, right = ".".join(one.base) + ".", ".".join(other.base) + "."
    return left.startswith(right) or right.startswith(left)


def is_lacking(path: Path, base: Lookup, facts: Facts, unavailable: frozenset[Source]) -> bool:
    """Return whether a look-up needs data that could not be loaded.

    A bare name needs the profile only when the event does not have it.
    """
    if path.root != "bare":
        return path.root in unavailable
    if "profile" not in unavailable:
        return False
    return base(Facts(facts.event)) is None
