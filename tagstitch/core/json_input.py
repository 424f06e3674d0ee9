"""JSON from outside: strict decoding into what Firestore and BigQuery can store."""

from __future__ import annotations

import json
from functools import reduce
from typing import Annotated, Any, Final

import msgspec

from tagstitch.core.errors import InvalidInput, json_path
from tagstitch.core.limits import INTEGER_ABS_MAX, JSON_DEPTH_MAX

_BOMS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


_FAST_LEVELS: Final = 6
"""Levels that one decoder checks on its way; a deeper body is checked in Python. Each level
multiplies what the decoder is built from: 20 would take a minute."""

_Scalar = (
    None
    | bool
    | str
    | float
    | Annotated[int, msgspec.Meta(ge=-INTEGER_ABS_MAX, le=INTEGER_ABS_MAX)]
)
_FAST: Final = msgspec.json.Decoder(
    reduce(
        lambda below, _: _Scalar | list[below] | dict[str, below],  # type: ignore[valid-type]
        range(_FAST_LEVELS),
        _Scalar,
    )
)


def decode_json(body: bytes) -> Any:
    """Return the JSON value: UTF-8, finite numbers of 64 bits, at most 20 levels deep.

    Of duplicate keys the last one counts.
    """
    if body.startswith(_BOMS):
        raise InvalidInput("invalid_unicode", "the body must be UTF-8 without a byte order mark")
    try:
        return _FAST.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_checked(body)


def _decode_checked(body: bytes) -> Any:
    """Return the value of a body with something unusual in it, or say what is wrong."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _undecodable(body) from None
    if not isinstance(value, dict | list) or not _is_storable(value, 1):
        fault = _fault(value, (), 1)
        if fault is not None:
            raise fault
    return value


def _undecodable(body: bytes) -> InvalidInput:
    """Return the error that tells the sender what to mend.

    The standard library's laxer parser tells what the strict one refused: what only it accepts is
    a number that is not finite, or text that is no Unicode. JSON begins with two characters of
    ASCII, so that zeros among them are of another encoding (RFC 4627, section 3).
    """
    if b"\0" in body[:4]:
        return InvalidInput("invalid_unicode", "the body must be UTF-8")
    try:
        value = json.loads(body.decode())
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        return InvalidInput("invalid_unicode", "text that is not valid Unicode")
    except json.JSONDecodeError:
        return InvalidInput("invalid_json", "the body is not valid JSON")
    except RecursionError:
        return _too_deep()
    except ValueError:  # an integer of more digits than Python converts
        return InvalidInput("non_finite_number", "a number of too many digits")
    return InvalidInput("non_finite_number", "a number is not finite or out of range")


def _is_storable(value: Any, depth: int) -> bool:
    """Return whether Firestore and BigQuery could store the value; the fast answer."""
    if depth > JSON_DEPTH_MAX:
        return False
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind is int:
            if not -INTEGER_ABS_MAX <= item <= INTEGER_ABS_MAX:
                return False
        elif (kind is dict or kind is list) and not _is_storable(item, depth + 1):
            return False
    return True


def _fault(value: Any, path: tuple[str | int, ...], depth: int) -> InvalidInput | None:
    """Return what is wrong with a value that cannot be stored, with its place."""
    if isinstance(value, int) and not -INTEGER_ABS_MAX <= value <= INTEGER_ABS_MAX:
        where = json_path(*path) or None
        return InvalidInput("non_finite_number", "an integer of more than 64 bits", where)
    if not isinstance(value, dict | list):
        return None
    if depth > JSON_DEPTH_MAX:
        return _too_deep()
    places = value.items() if isinstance(value, dict) else enumerate(value)
    faults = (_fault(item, (*path, step), depth + 1) for step, item in places)
    return next((fault for fault in faults if fault), None)


def _too_deep() -> InvalidInput:
    return InvalidInput("json_too_deep", f"nested deeper than {JSON_DEPTH_MAX} levels")
