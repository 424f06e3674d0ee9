"""How the actions of an event rule are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import structs

from tagstitch.core.action_path import PathScope, parse_item_target, parse_origin, parse_target
from tagstitch.core.compiled_condition import compile_item_test
from tagstitch.core.computation import Computation, ComputationDetails
from tagstitch.core.condition import ALWAYS, Condition, Predicate, parse_item_conditions
from tagstitch.core.declarations import Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.event import EVENT_NAME_CHARS_MAX
from tagstitch.core.event_action import (
    CalculateParameter,
    DropEvent,
    EventAction,
    FilterItems,
    MapItems,
    ModifyParameter,
    Redact,
    RenameEvent,
    Sample,
    SetParameter,
)
from tagstitch.core.limits import CONDITION_LIST_MAX, SAMPLE_SALT_CHARS_MAX
from tagstitch.core.operands import number
from tagstitch.core.operators import parse_comparison
from tagstitch.core.paths import Path, compile_base, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.targeting import take_purposes
from tagstitch.core.text_computation import parse_computation
from tagstitch.core.value_tests import Test
from tagstitch.core.values import json_bytes
from tagstitch.core.written_action import WrittenAction

_Parse = Callable[[Definition, Declarations], EventAction | None]

_SAMPLED_BY: Final = ("client_id", "user_id")
"""What an event is sampled by unless the rule says so: the first that it has."""

_SALT: Final = "sample"
"""So that a sample without a salt is not the first part of every split without one."""


_SHARED_ACTIONS_MAX: Final = 4_096
_SHARED_ACTION_BYTES_MAX: Final = 1_000
_SHARED_ACTIONS: Final[dict[tuple[str, bytes], EventAction]] = {}
"""Type and details -> the action that all rules share which write it alike."""


def parse_event_action(written: WrittenAction, *, declared: Declarations) -> EventAction | None:
    """Return the action, or None after noting what is wrong with it."""
    parse = written.find(PARSERS)
    if parse is None:
        return None
    content = written.details.flat_content()
    if content is None or len(content) > _SHARED_ACTION_BYTES_MAX:
        return _parse(parse, written.details, declared)
    key = (str(written.type), content)
    known = _SHARED_ACTIONS.get(key)
    if known is None:
        known = _parse(parse, written.details, declared)
        # One that looks at something depends on what is declared.
        if known is not None and not known.reads and not written.details.problems.found:
            if len(_SHARED_ACTIONS) >= _SHARED_ACTIONS_MAX:
                _SHARED_ACTIONS.clear()
            _SHARED_ACTIONS[key] = known
    return known


def _parse(parse: _Parse, details: Definition, declared: Declarations) -> EventAction | None:
    purposes = take_purposes(details)
    action = parse(details, declared)
    details.refuse_rest()
    return structs.replace(action, purposes=purposes) if action is not None and purposes else action


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
    paths = [parse_target(t, f"{where}[{i}]", details.problems) for i, t in enumerate(texts)]
    return Redact(tuple(path for path in paths if path is not None))


def _sample(details: Definition, declared: Declarations) -> EventAction:
    percent = details.require_with(_percent, "percent", 100.0)
    salt = details.take_with(_salt, "salt", _SALT)
    by = details.take("by")
    if by is None:
        paths = tuple(Path(name, "event", (name,)) for name in _SAMPLED_BY)
    else:
        scope = PathScope(declared)
        origin = parse_origin(by, details.place("by"), details.problems, scope)
        paths = origin.reads if origin is not None else ()
    return Sample(percent / 100, tuple(map(compile_base, paths)), paths, salt)


def _percent(raw: Any, where: str, problems: Problems) -> float:
    percent = number(raw, where, problems)
    if not 0 <= percent <= 100:
        problems.add(where, "must be a number of 0 to 100")
    return percent


def _salt(raw: Any, where: str, problems: Problems) -> str:
    if not isinstance(raw, str) or not 0 < len(raw) <= SAMPLE_SALT_CHARS_MAX:
        problems.add(where, f"must be text of 1 to {SAMPLE_SALT_CHARS_MAX} characters")
        return _SALT
    return raw


def _filter_items(details: Definition, _: Declarations) -> EventAction | None:
    match = details.take("match")
    if match is not None:
        return FilterItems(_match(match, details))
    item_property, word = details.require("item_property"), details.require("operator")
    operand = details.take("operand")
    if item_property is None or word is None:
        return None
    condition = _item_condition(item_property, word, operand, details)
    return FilterItems(compile_item_test(condition))


def _match(raw: Any, details: Definition) -> Test:
    where = details.place("match")
    if raw == {}:
        details.problems.add(where, "needs at least one condition")
    return compile_item_test(parse_item_conditions(raw, where, details.problems))


def _item_condition(
    item_property: object, word: object, operand: object, details: Definition
) -> Condition:
    where = details.place("item_property")
    path = parse_path(item_property, where, details.problems, in_item=True)
    found = parse_comparison(word, operand, details.place("operator"), details.problems)
    if path is None or not found:
        return ALWAYS
    if path.quantifier == "$" and found[0].wants_absence:
        hint = "write $none with the positive operator, or $any"
        message = f"{found[0].name} behind a bare $ can be read in two ways"
        details.problems.add(details.place("operator"), message, hint)
    return Predicate(path, found[0], where)


def _modify_parameter(details: Definition, declared: Declarations) -> EventAction | None:
    target, computation = _change(details, "parameter", parse_target, PathScope(declared))
    if target is None or computation is None:
        return None
    if len(target.base) == 1:
        value = computation.constant
        if value.__class__ in (str, int, float, bool):
            return SetParameter(target, value, len(target.text) + json_bytes(value))
        if computation.calculation is not None:
            return CalculateParameter(target, *computation.calculation)
    return ModifyParameter(target, computation.compute, computation.reads, computation.conceals_old)


def _map_items(details: Definition, declared: Declarations) -> EventAction | None:
    scope = PathScope(declared, in_item=True)
    target, computation = _change(details, "item_property", parse_item_target, scope)
    match = details.take("match")
    matches = None if match is None else _match(match, details)
    if target is None or computation is None:
        return None
    return MapItems(
        target, computation.compute, matches, computation.reads, computation.conceals_old
    )


def _change(
    details: Definition,
    key: str,
    parse: Callable[[object, str, Problems], Path | None],
    scope: PathScope,
) -> tuple[Path | None, Computation | None]:
    """Return what changes and how; None for what was refused."""
    text, word = details.require(key), details.require("operator")
    target = None if text is None else parse(text, details.place(key), details.problems)
    if word is None:
        return target, None
    name = target.base[-1] if target is not None else ""
    return target, parse_computation(word, ComputationDetails(details, name, scope))


PARSERS: Final[Mapping[str, _Parse]] = {
    "rename_event": _rename_event,
    "modify_parameter": _modify_parameter,
    "filter_items": _filter_items,
    "map_items": _map_items,
    "redact": _redact,
    "sample": _sample,
    "drop_event": _drop_event,
}
"""Action type -> how its details are read."""
