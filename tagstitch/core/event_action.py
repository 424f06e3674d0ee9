"""What an event rule can do to an event, and how that is written in a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.compiled_condition import compile_item_test
from tagstitch.core.computation import (
    UNCHANGED,
    ComputationDetails,
    Compute,
    parse_computation,
)
from tagstitch.core.condition import ALWAYS, Condition, Predicate, parse_item_conditions
from tagstitch.core.declarations import Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.event_draft import ORIGINAL_NAME, EventDraft
from tagstitch.core.limits import CONDITION_LIST_MAX
from tagstitch.core.operators import parse_comparison
from tagstitch.core.paths import Facts, Path, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.value_tests import Test
from tagstitch.core.values import same
from tagstitch.core.written_action import WrittenAction

Modification = dict[str, Any]
"""One effective change, as the answer lists it, without the rule's id."""

_INTERNAL_PREFIXES: Final = ("x-ga-", "x-sst-")
_ITEMS: Final = Path("items", "event", ("items",))


@dataclass(frozen=True, slots=True)
class RenameEvent:
    """Give the event another name."""

    new_event_name: str
    reads: tuple[Path, ...] = ()

    def apply(self, draft: EventDraft, _: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed."""
        old_name, draft.name = draft.name, self.new_event_name
        if draft.name == old_name:
            return ()
        return ({"type": "rename_event", "old_name": old_name, "new_name": draft.name},)


@dataclass(frozen=True, slots=True)
class ModifyParameter:
    """Compute a new value for one parameter."""

    parameter: Path
    compute: Compute
    reads: tuple[Path, ...] = ()
    """What it looks at besides the parameter."""

    def apply(self, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed. Raises ResultOutOfRange."""
        old = draft.find(self.parameter)
        current = facts.with_event(draft.parameters)
        new = self.compute(old, current)
        facts.coercions += current.coercions
        if new is UNCHANGED or same(old, new):
            return ()
        is_done = draft.remove(self.parameter) if new is None else draft.write(self.parameter, new)
        if not is_done:
            return ()
        change = {"parameter": self.parameter.text, "old_value": old, "new_value": new}
        return ({"type": "modify_parameter", **change},)


@dataclass(frozen=True, slots=True)
class FilterItems:
    """Keep the items that satisfy a condition."""

    keeps: Test
    reads: tuple[Path, ...] = ()

    def apply(self, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed, with the ids (or places) of removed items."""
        items = draft.find(_ITEMS)
        if not isinstance(items, list):
            return ()
        kept, removed = [], []
        for index, item in enumerate(items):
            if self.keeps(item, facts):
                kept.append(item)
            else:
                removed.append(_item_id(item, index))
        if not removed:
            return ()
        draft.write(_ITEMS, kept)
        return ({"type": "filter_items", "parameter": "items", "removed_items": removed},)


@dataclass(frozen=True, slots=True)
class Redact:
    """Remove parameters because of privacy; what was there is recorded nowhere."""

    parameters: tuple[Path, ...]
    reads: tuple[Path, ...] = ()

    def apply(self, draft: EventDraft, _: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed, without values."""
        return [
            {"type": "redact", "parameter": path.text}
            for path in self.parameters
            if _remove_every_form(draft, path)
        ]


@dataclass(frozen=True, slots=True)
class DropEvent:
    """Let the event go no further; ends the evaluation."""

    reads: tuple[Path, ...] = ()

    def apply(self, draft: EventDraft, _: Facts) -> Sequence[Modification]:
        """Mark the draft."""
        draft.is_dropped = True
        return ({"type": "drop_event"},)


EventAction = RenameEvent | ModifyParameter | FilterItems | Redact | DropEvent


def _item_id(item: Any, index: int) -> str | int:
    item_id = item.get("item_id") if isinstance(item, Mapping) else None
    return item_id if isinstance(item_id, str) and item_id else index


def _remove_every_form(draft: EventDraft, path: Path) -> bool:
    """Remove the whole key and the dotted path: both may hold the same personal value."""
    removed = False
    while draft.remove(path):
        removed = True
    return removed


# --- how actions are written


def parse_event_action(written: WrittenAction, *, declared: Declarations) -> EventAction | None:
    """Return the action, or None after noting what is wrong with it."""
    parse = written.find(_PARSERS)
    if parse is None:
        return None
    action = parse(written.details, declared)
    written.details.refuse_rest()
    return action


def _rename_event(details: Definition, _: Declarations) -> EventAction | None:
    name = details.require("new_event_name")
    where = details.place("new_event_name")
    is_name = isinstance(name, str) and 0 < len(name) <= EVENT_NAME_CHARS_MAX and name.isprintable()
    if name is not None and (not is_name or name == "*"):
        details.problems.add(where, f"must be a name of 1 to {EVENT_NAME_CHARS_MAX} characters")
    return RenameEvent(name) if is_name else None


def _drop_event(_: Definition, __: Declarations) -> EventAction:
    return DropEvent()


def _redact(details: Definition, _: Declarations) -> EventAction | None:
    raw = details.require("parameters", "parameter")
    where = details.place("parameters")
    texts = [raw] if isinstance(raw, str) else raw
    if raw is None:
        return None
    if not isinstance(texts, list) or not texts or len(texts) > CONDITION_LIST_MAX:
        details.problems.add(where, "needs a list of parameters")
        return None
    paths = [_target(t, f"{where}[{i}]", details.problems) for i, t in enumerate(texts)]
    return Redact(tuple(path for path in paths if path is not None))


def _filter_items(details: Definition, _: Declarations) -> EventAction | None:
    match = details.take("match")
    if match is not None:
        where = details.place("match")
        if match == {}:
            details.problems.add(where, "needs at least one condition")
        return FilterItems(compile_item_test(parse_item_conditions(match, where, details.problems)))
    item_property, word = details.require("item_property"), details.require("operator")
    operand = details.take("operand")
    if item_property is None or word is None:
        return None
    condition = _item_condition(item_property, word, operand, details)
    return FilterItems(compile_item_test(condition))


def _item_condition(
    item_property: object, word: object, operand: object, details: Definition
) -> Condition:
    where = details.place("item_property")
    path = parse_path(item_property, where, details.problems, in_item=True)
    found = parse_comparison(word, operand, details.place("operator"), details.problems)
    return Predicate(path, found[0], where) if path is not None and found else ALWAYS


def _target(text: object, where: str, problems: Problems) -> Path | None:
    """Return the path of a parameter that actions may change."""
    path = parse_path(text, where, problems)
    if path is None:
        return None
    if path.quantifier is not None:
        problems.add(where, "one parameter, not every element of a list")
    elif path.root not in ("bare", "event"):
        problems.add(where, "an event rule changes parameters of the event only")
    elif path.base[0].lower().startswith(_INTERNAL_PREFIXES):
        problems.add(where, "x-ga-* and x-sst-* belong to Google's tags: no action may touch them")
    elif path.base[0] in ("event_name", ORIGINAL_NAME):
        problems.add(where, "the name changes by rename_event only")
    else:
        return path
    return None


def _modify_parameter(details: Definition, declared: Declarations) -> EventAction | None:
    parameter, word = details.require("parameter"), details.require("operator")
    target = None
    if parameter is not None:
        target = _target(parameter, details.place("parameter"), details.problems)
    if word is None:
        return None
    name = target.base[-1] if target is not None else ""
    computation = parse_computation(word, ComputationDetails(details, name, declared))
    if target is None or computation is None:
        return None
    return ModifyParameter(target, computation.compute, computation.reads)


_PARSERS: Final[Mapping[str, Callable[[Definition, Declarations], EventAction | None]]] = {
    "rename_event": _rename_event,
    "modify_parameter": _modify_parameter,
    "filter_items": _filter_items,
    "redact": _redact,
    "drop_event": _drop_event,
}
