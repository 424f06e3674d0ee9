"""What an event rule can do to an event.

Each action tells what it `reads` besides what it changes, what it `touches` (event parameters that
it may change, whose old value it therefore looks at too) and for which `purposes` it needs consent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from tagstitch.core.action_path import NO_ITEM
from tagstitch.core.arithmetic import Operation
from tagstitch.core.bucketing import bucket_of
from tagstitch.core.computation import UNCHANGED, Compute, compute
from tagstitch.core.consent import Purpose
from tagstitch.core.event_draft import (
    IMPOSSIBLE,
    ITEMS,
    NUMBER_BYTES_MAX,
    REMOVED,
    EventDraft,
    edited,
    keys_of,
)
from tagstitch.core.limits import IDENTIFIER_VALUE_CHARS_MAX
from tagstitch.core.paths import Facts, Lookup, Path, finder
from tagstitch.core.scalar_text import scalar_text
from tagstitch.core.value_tests import Test
from tagstitch.core.values import same

Modification = dict[str, Any]
"""One effective change, as the answer lists it."""

_STEPS_PER_ITEM: Final = 4
"""About a microsecond for each item that an action asks about."""

_STEPS_PER_CHANGE: Final = 12
"""And three more for each that it changes."""

VALUE_FIELDS: Final = frozenset({"old_value", "new_value", "removed_items", "changed_items"})
"""The fields of a modification that hold values of the event."""


_RENAME: Final = "rename_event"
_MODIFY: Final = "modify_parameter"
"""Looked up for each change, and quicker so than as an attribute of a class."""


class RenameEvent(msgspec.Struct, frozen=True, gc=False):
    """Give the event another name."""

    type: ClassVar[str] = _RENAME
    new_event_name: str
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()
    touches: ClassVar[tuple[Path, ...]] = (Path("event_name", "event", ("event_name",)),)

    def apply(self, rule_id: str, draft: EventDraft, _: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed."""
        old_name, new_name = draft.name, self.new_event_name
        if new_name == old_name:
            return ()
        draft.name = new_name
        change = {
            "rule_id": rule_id,
            "type": _RENAME,
            "old_name": old_name,
            "new_name": new_name,
        }
        return (change,)


class ModifyParameter(msgspec.Struct, frozen=True, gc=False):
    """Compute a new value for one parameter."""

    type: ClassVar[str] = _MODIFY
    parameter: Path
    compute: Compute
    reads: tuple[Path, ...] = ()
    conceals_old: bool = False
    purposes: tuple[Purpose, ...] = ()

    @property
    def touches(self) -> tuple[Path, ...]:
        """The parameter."""
        return (self.parameter,)

    def apply(self, rule_id: str, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed. Raises ResultOutOfRange."""
        parameter = self.parameter
        old = draft.find(parameter)
        if self.reads:
            current = facts.with_event(draft.current)
            new = self.compute(old, current, NO_ITEM)
            facts.coercions += current.coercions
        else:
            new = self.compute(old, facts, NO_ITEM)
        if new is UNCHANGED:
            return ()
        kind = old.__class__
        if kind is list or kind is dict:
            facts.work.spend_nodes(old)
        if old == new and same(old, new):
            return ()
        if not (draft.remove(parameter) if new is None else draft.write(parameter, new)):
            return ()
        change: Modification = {
            "rule_id": rule_id,
            "type": _MODIFY,
            "parameter": parameter.text,
        }
        if not self.conceals_old:
            change["old_value"] = old
        change["new_value"] = new
        return (change,)


class SetParameter(msgspec.Struct, frozen=True, gc=False):
    """Give one top-level parameter a plain value: what `modify_parameter` does most often."""

    type: ClassVar[str] = _MODIFY
    parameter: Path
    value: str | float
    size: int
    """Of the name and the value, in bytes."""
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()

    @property
    def touches(self) -> tuple[Path, ...]:
        """The parameter."""
        return (self.parameter,)

    def apply(self, rule_id: str, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed. Raises ResultOutOfRange."""
        parameter, new = self.parameter, self.value
        key = parameter.base[0]
        old = draft.parameters.get(key)
        if old == new and same(old, new):
            return ()
        kind = old.__class__
        if kind is list or kind is dict:
            facts.work.spend_nodes(old)
        draft.put(key, new, self.size)
        change = {
            "rule_id": rule_id,
            "type": _MODIFY,
            "parameter": parameter.text,
            "old_value": old,
            "new_value": new,
        }
        return (change,)


class CalculateParameter(msgspec.Struct, frozen=True, gc=False):
    """Add to one top-level parameter or multiply it, as `modify_parameter` does next to often."""

    type: ClassVar[str] = _MODIFY
    parameter: Path
    operation: Operation
    operand: float
    places: int | None
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()

    @property
    def touches(self) -> tuple[Path, ...]:
        """The parameter."""
        return (self.parameter,)

    def apply(self, rule_id: str, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed. Raises ResultOutOfRange."""
        parameter = self.parameter
        key = parameter.base[0]
        old = draft.parameters.get(key)
        new = compute(self.operation, old, self.operand, facts, places=self.places)
        if new is UNCHANGED or (old == new and same(old, new)):
            return ()
        draft.put(key, new, NUMBER_BYTES_MAX + len(parameter.text))
        change = {
            "rule_id": rule_id,
            "type": _MODIFY,
            "parameter": parameter.text,
            "old_value": old,
            "new_value": new,
        }
        return (change,)


class MapItems(msgspec.Struct, frozen=True, gc=False):
    """Compute a new value for one property of every item that matches."""

    type: ClassVar[str] = "map_items"
    item_property: Path
    compute: Compute
    matches: Test | None = None
    """None for every item."""
    reads: tuple[Path, ...] = ()
    """What it looks at besides the items."""
    conceals_old: bool = False
    purposes: tuple[Purpose, ...] = ()

    touches: ClassVar[tuple[Path, ...]] = (ITEMS,)

    def apply(self, rule_id: str, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed, all items or none. Raises ResultOutOfRange."""
        items = draft.find(ITEMS)
        if not isinstance(items, list):
            return ()
        current = facts.with_event(draft.current)
        facts.work.spend(_STEPS_PER_ITEM * len(items))
        mapped, changes = list(items), []
        for index, item in enumerate(items):
            if isinstance(item, Mapping) and (self.matches is None or self.matches(item, current)):
                change = self._change(mapped, index, draft, current)
                changes += [{"item": _item_id(item, index), **change}] if change else []
        facts.coercions += current.coercions
        if not changes:
            return ()
        draft.put_items(mapped)
        change = {"item_property": self.item_property.text, "changed_items": changes}
        return ({"rule_id": rule_id, "type": self.type, "parameter": "items", **change},)

    def _change(
        self, items: list[Any], index: int, draft: EventDraft, facts: Facts
    ) -> Modification | None:
        """Replace one item by its changed copy; return the values, or None when it stays."""
        item, path = items[index], self.item_property
        old = finder(path.base, literal=path.literal)(item)
        new = self.compute(old, facts, item)
        if new is UNCHANGED or same(old, new):
            return None
        if new is not None:
            draft.charge(new, path, levels=2)
        copy = edited(item, keys_of(item, path), REMOVED if new is None else new)
        if copy is IMPOSSIBLE:
            return None
        facts.work.spend(_STEPS_PER_CHANGE)
        items[index] = copy
        return _values(old, new, conceals_old=self.conceals_old)


class FilterItems(msgspec.Struct, frozen=True, gc=False):
    """Keep the items that satisfy a condition."""

    type: ClassVar[str] = "filter_items"
    keeps: Test
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()
    touches: ClassVar[tuple[Path, ...]] = (ITEMS,)

    def apply(self, rule_id: str, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed, with the ids (or places) of removed items."""
        items = draft.find(ITEMS)
        if not isinstance(items, list):
            return ()
        facts.work.spend(_STEPS_PER_ITEM * len(items))
        kept, removed = [], []
        for index, item in enumerate(items):
            if self.keeps(item, facts):
                kept.append(item)
            else:
                removed.append(_item_id(item, index))
        if not removed:
            return ()
        draft.put_items(kept)
        change = {"parameter": "items", "removed_items": removed}
        return ({"rule_id": rule_id, "type": self.type, **change},)


class Redact(msgspec.Struct, frozen=True, gc=False):
    """Remove parameters because of privacy; what was there is recorded nowhere."""

    type: ClassVar[str] = "redact"
    parameters: tuple[Path, ...]
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()

    @property
    def touches(self) -> tuple[Path, ...]:
        """The parameters."""
        return self.parameters

    def apply(self, rule_id: str, draft: EventDraft, _: Facts) -> Sequence[Modification]:
        """Change the draft; return what changed, without values."""
        return [
            {"rule_id": rule_id, "type": self.type, "parameter": path.text}
            for path in self.parameters
            if draft.remove_every_form(path)
        ]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """Keep a share of the events, by a stable choice of visitors; drop the others.

    An event without the identifier is kept: nothing says which share it belongs to.
    """

    type: ClassVar[str] = "sample"
    share: float
    """From 0 to 1; 10,000 buckets."""
    identifiers: tuple[Lookup, ...]
    """The first that finds a text or a number counts."""
    reads: tuple[Path, ...]
    salt: str
    purposes: tuple[Purpose, ...] = ()

    touches: ClassVar[tuple[Path, ...]] = ()

    def apply(self, rule_id: str, draft: EventDraft, facts: Facts) -> Sequence[Modification]:
        """Mark the draft, unless the event is kept; looks at the event as it arrived."""
        found = (_identifier(look(facts)) for look in self.identifiers)
        identifier = next(filter(None, found), "")
        if not identifier:
            return ()
        facts.work.spend_bucketing(len(identifier) + len(self.salt))
        if bucket_of(identifier, seed=self.salt) < self.share:
            return ()
        draft.is_dropped = True
        return ({"rule_id": rule_id, "type": self.type},)


class DropEvent(msgspec.Struct, frozen=True, gc=False):
    """Let the event go no further; ends the evaluation."""

    type: ClassVar[str] = "drop_event"
    purposes: tuple[Purpose, ...] = ()

    reads: ClassVar[tuple[Path, ...]] = ()
    touches: ClassVar[tuple[Path, ...]] = ()

    def apply(self, rule_id: str, draft: EventDraft, _: Facts) -> Sequence[Modification]:
        """Mark the draft."""
        draft.is_dropped = True
        return ({"rule_id": rule_id, "type": self.type},)


EventAction = (
    RenameEvent
    | SetParameter
    | ModifyParameter
    | CalculateParameter
    | MapItems
    | FilterItems
    | Redact
    | Sample
    | DropEvent
)


def _values(old: Any, new: Any, *, conceals_old: bool) -> dict[str, Any]:
    return {"new_value": new} if conceals_old else {"old_value": old, "new_value": new}


def _identifier(value: Any) -> str | None:
    """Return the value as text; what is longer than any identifier is none."""
    text = None if isinstance(value, bool) else scalar_text(value)
    return text if text is None or len(text) <= IDENTIFIER_VALUE_CHARS_MAX else None


def _item_id(item: Any, index: int) -> str | int:
    item_id = item.get("item_id") if isinstance(item, Mapping) else None
    return item_id if isinstance(item_id, str) and item_id else index
