"""How the actions of a personalization rule are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from tagstitch.core.declarations import NOTHING_DECLARED, Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.limits import (
    COOKIE_BYTES_MAX,
    COOKIE_EXPIRY_MINUTES_DEFAULT,
    COOKIE_EXPIRY_MINUTES_MAX,
    RETURN_VALUE_BYTES_MAX,
    STATE_KEYS_MAX,
    STATE_VALUE_BYTES_MAX,
)
from tagstitch.core.outbox_action_parsing import OUTBOX_FORMS
from tagstitch.core.personalization_action import (
    AnswerAction,
    PersonalizationAction,
    ReturnValue,
    SetCookie,
    SetState,
)
from tagstitch.core.problems import Problems
from tagstitch.core.targeting import take_purposes
from tagstitch.core.values import json_problem
from tagstitch.core.written_action import WrittenAction
from tagstitch.core.written_value import check_json

_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token (RFC 6265, section 4.1.1; RFC 9110, section 5.6.2)."""

_STATE_KEY: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}")
"""Names that Firestore does not keep for itself and that need no quoting in a path."""

ParseAction = Callable[[WrittenAction, Declarations], PersonalizationAction]


def parse_personalization_action(
    written: WrittenAction, *, declared: Declarations = NOTHING_DECLARED
) -> PersonalizationAction | None:
    """Return the action, or None after noting what is wrong with it."""
    parse = written.find(PARSERS)
    if parse is None:
        return None
    action = parse(written, declared)
    written.details.refuse_rest()
    return action


def parse_state_changes(raw: object, where: str, problems: Problems) -> dict[str, Any]:
    """Return what to write to a profile's state."""
    if not isinstance(raw, Mapping) or not raw or len(raw) > STATE_KEYS_MAX:
        problems.add(where, f"needs an object with 1 to {STATE_KEYS_MAX} keys")
        return {}
    for key, value in raw.items():
        place = f"{where}.{key}"
        if not isinstance(key, str) or not _STATE_KEY.fullmatch(key):
            problems.add(place, "a key is up to 64 letters, digits and underscores")
        check_json(value, place, problems, bytes_max=STATE_VALUE_BYTES_MAX)
    return dict(raw)


def _set_client_cookie(details: Definition) -> SetCookie:
    name = details.require_with(_cookie_name, "cookie_name", "")
    value = details.require_with(_cookie_value, "cookie_value", "")
    expiry = details.take_with(_expiry_minutes, "expiry_minutes", COOKIE_EXPIRY_MINUTES_DEFAULT)
    if len(name) + len(value) > COOKIE_BYTES_MAX:
        place = details.place("cookie_value")
        details.problems.add(place, f"name and value have more than {COOKIE_BYTES_MAX} bytes")
    return SetCookie(name, value, expiry)


def _cookie_name(raw: Any, where: str, problems: Problems) -> str:
    if not isinstance(raw, str) or not _COOKIE_NAME.fullmatch(raw):
        problems.add(where, "must be a token: no blanks, quotes, brackets, commas, ; = @ : or /")
        return ""
    return raw


def _cookie_value(raw: Any, where: str, problems: Problems) -> str:
    problem = json_problem(raw, depth=0)
    if problem is not None or not isinstance(raw, str | int | float):
        problems.add(where, "must be text, a number, true or false")
        return ""
    text = str(raw).lower() if isinstance(raw, bool) else str(raw)
    return quote(text, safe="")


def _expiry_minutes(raw: Any, where: str, problems: Problems) -> int:
    is_whole = isinstance(raw, int) and not isinstance(raw, bool)
    if not is_whole or not 1 <= raw <= COOKIE_EXPIRY_MINUTES_MAX:
        problems.add(where, f"must be a whole number of 1 to {COOKIE_EXPIRY_MINUTES_MAX}")
        return COOKIE_EXPIRY_MINUTES_DEFAULT
    return int(raw)


def _return_value(details: Definition) -> ReturnValue:
    key, value = details.require("key"), details.require("value")
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= 64):
        details.problems.add(details.place("key"), "must be text of 1 to 64 characters")
    place = details.place("value")
    check_json(value, place, details.problems, bytes_max=RETURN_VALUE_BYTES_MAX)
    return ReturnValue(str(key), value)


def _set_state(details: Definition) -> SetState:
    return SetState(details.require_with(parse_state_changes, "updates_user_state", {}))


def _at_once(parse: Callable[[Definition], AnswerAction | SetState]) -> ParseAction:
    def parse_with_purposes(written: WrittenAction, _: Declarations) -> PersonalizationAction:
        purposes = take_purposes(written.details)
        return replace(parse(written.details), purposes=purposes)

    return parse_with_purposes


PARSERS: Final[Mapping[str, ParseAction]] = {
    "set_client_cookie": _at_once(_set_client_cookie),
    "set_cookie": _at_once(_set_client_cookie),
    "return_value": _at_once(_return_value),
    "set_state": _at_once(_set_state),
    **{type_: form.parse for type_, form in OUTBOX_FORMS.items()},
    "send_marketing_email": OUTBOX_FORMS["send_email"].parse,
}
"""Action type -> how it is read."""
