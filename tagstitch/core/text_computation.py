"""Computations of texts: letter case, tables, hashes, regular expressions, templates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import re2

from tagstitch.core import operands
from tagstitch.core.action_path import Item
from tagstitch.core.arithmetic import ResultOutOfRange
from tagstitch.core.computation import (
    COMPUTATIONS,
    NOTHING,
    UNCHANGED,
    BuildComputation,
    Computation,
    ComputationDetails,
)
from tagstitch.core.limits import (
    ACTION_TABLE_BYTES_MAX,
    ACTION_TABLE_KEY_CHARS_MAX,
    ACTION_VALUE_BYTES_MAX,
    CHANGED_TEXT_CHARS_MAX,
    CONDITION_LIST_MAX,
    REPLACEMENT_CHARS_MAX,
    REPLACEMENTS_MAX,
)
from tagstitch.core.paths import Facts
from tagstitch.core.problems import Problems
from tagstitch.core.scalar_text import scalar_text
from tagstitch.core.template import parse_template
from tagstitch.core.work import Work
from tagstitch.core.written_value import check_json

_STEPS_PER_MATCH: Final = 20
"""About 5 microseconds for each place that a regular expression replaces."""

_SHA256_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)


def parse_computation(word: object, details: ComputationDetails) -> Computation | None:
    """Return the computation of an operator, or None when there is none of this name."""
    build = OPERATORS.get(word) if isinstance(word, str) else None
    if build is None:
        place = details.fields.place("operator")
        details.fields.problems.add_unknown(place, "operator", word, OPERATORS)
        return None
    return build(details)


def _text(change: Callable[[str], str]) -> BuildComputation:
    def compute(old: Any, facts: Facts, _: Item) -> Any:
        if not isinstance(old, str):
            return UNCHANGED
        facts.work.spend_bytes(len(old))
        return change(old)

    computation = Computation(compute)
    return lambda _: computation


def _map(details: ComputationDetails) -> Computation:
    """Look the scalar's text up; what has none (absent, a list, an object) is left alone."""
    fields = details.fields
    raw = fields.require("table", "operand")
    default = fields.take("default")
    place = fields.place("default")
    check_json(default, place, fields.problems, bytes_max=ACTION_VALUE_BYTES_MAX)
    table = {} if raw is None else _table(raw, fields.place("table"), fields.problems)
    otherwise = UNCHANGED if default is None else default

    def compute(old: Any, _: Facts, __: Item) -> Any:
        key = scalar_text(old)
        return UNCHANGED if key is None else table.get(key, otherwise)

    return Computation(compute)


def _table(raw: Any, where: str, problems: Problems) -> dict[str, Any]:
    """Return text -> new value; keys that YAML takes for numbers or flags become their text."""
    if not isinstance(raw, Mapping) or not 0 < len(raw) <= CONDITION_LIST_MAX:
        problems.add(where, f"needs an object with 1 to {CONDITION_LIST_MAX} entries")
        return {}
    table: dict[str, Any] = {}
    for index, (key, value) in enumerate(raw.items()):
        text, place = scalar_text(key), f"{where}[{index}]"
        if text is None or len(text) > ACTION_TABLE_KEY_CHARS_MAX:
            message = f"a key is text of at most {ACTION_TABLE_KEY_CHARS_MAX} characters"
            problems.add(place, message)
        elif text in table:
            problems.add(place, "stands there twice", "5 and 5.0 are the same key")
        elif value is None:
            problems.add(place, "must not be null", "leave the entry out: the value stays")
        else:
            table[text] = value
    check_json(table, where, problems, bytes_max=ACTION_TABLE_BYTES_MAX)
    return table


def _hash(details: ComputationDetails) -> Computation:
    """Hash a text or number as SHA-256 in hexadecimal; a hash stays as it is."""
    normalizes = details.fields.take_with(operands.flag, "normalize", default=False)

    def compute(old: Any, facts: Facts, _: Item) -> Any:
        text = None if isinstance(old, bool) else scalar_text(old)
        if text is not None:
            facts.work.spend_bytes(len(text))
        if text is None or _SHA256_HEX.fullmatch(text):
            return UNCHANGED
        if normalizes:
            text = text.strip().lower()
        # The hash of nothing would look like a person that many events share.
        return hashlib.sha256(text.encode()).hexdigest() if text.strip() else UNCHANGED

    return Computation(compute, conceals_old=True)


def _regex_replace(details: ComputationDetails) -> Computation:
    """Replace every match; a longer text, or more matches, than allowed raises."""
    fields = details.fields
    expression = fields.require_with(operands.pattern, "pattern", "")
    raw = fields.require("replacement")
    if not expression or raw is None:
        return NOTHING
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes the expression to standard error
    pattern = re2.compile(expression, options)
    place = fields.place("replacement")
    parts = _replacement(raw, place, fields.problems, groups=pattern.groups)

    def compute(old: Any, facts: Facts, _: Item) -> Any:
        if not isinstance(old, str):
            return UNCHANGED
        if len(old) > CHANGED_TEXT_CHARS_MAX:
            raise ResultOutOfRange
        facts.work.spend_search(len(old), pattern.programsize)
        return _replaced(old, pattern, parts, facts.work)

    return Computation(compute)


def _replacement(
    raw: object, where: str, problems: Problems, *, groups: int
) -> tuple[str | int, ...]:
    r"""Return texts and numbers of groups: `\0` is the match, `\1` to `\9` are its groups."""
    if not isinstance(raw, str) or len(raw) > REPLACEMENT_CHARS_MAX:
        problems.add(where, f"must be text of at most {REPLACEMENT_CHARS_MAX} characters")
        return ()
    parts: list[str | int] = []
    position = 0
    for escape in _ESCAPE.finditer(raw):
        parts.append(raw[position : escape.start()])
        position = escape.end()
        character = escape[1]
        if character == "\\":
            parts.append("\\")
        elif character not in tuple("0123456789"):
            hint = r"\1 is a group, \\ a backslash"
            problems.add(where, "a backslash that begins nothing", hint)
        elif int(character) > groups:
            problems.add(where, f"the pattern has {groups} groups", r"\0 is the whole match")
        else:
            parts.append(int(character))
    parts.append(raw[position:])
    return tuple(part for part in parts if part != "")


def _replaced(text: str, pattern: Any, parts: Sequence[str | int], work: Work) -> str:
    pieces: list[str] = []
    position = length = 0
    for count, match in enumerate(pattern.finditer(text)):
        work.spend(_STEPS_PER_MATCH)
        pieces.append(text[position : match.start()])
        found = (part if isinstance(part, str) else match[part] or "" for part in parts)
        pieces.append("".join(found))
        length += len(pieces[-1])
        position = match.end()
        if count >= REPLACEMENTS_MAX or length > CHANGED_TEXT_CHARS_MAX:
            raise ResultOutOfRange
    pieces.append(text[position:])
    replaced = "".join(pieces)
    if len(replaced) > CHANGED_TEXT_CHARS_MAX:
        raise ResultOutOfRange
    return replaced


def _template(details: ComputationDetails) -> Computation:
    fields = details.fields
    raw = fields.require("template", "operand")
    if raw is None:
        return NOTHING
    template = parse_template(raw, fields.place("template"), fields.problems, details.scope)
    if template is None:
        return NOTHING
    render = template.render
    return Computation(lambda _old, facts, item: render(facts, item), template.reads)


OPERATORS: Final[Mapping[str, BuildComputation]] = {
    **COMPUTATIONS,
    "lower": _text(str.lower),
    "upper": _text(str.upper),
    "trim": _text(str.strip),
    "map": _map,
    "hash": _hash,
    "regex_replace": _regex_replace,
    "template": _template,
}
"""Every operator of `modify_parameter` and `map_items`."""
