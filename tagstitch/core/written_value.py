"""Values as they stand in a rule: bounded JSON, names that cannot be injected into anything."""

from __future__ import annotations

import re
from typing import Any, Final

from tagstitch.core.limits import OUTBOX_NAME_CHARS_MAX, RULE_DEPTH_MAX
from tagstitch.core.problems import Problems
from tagstitch.core.values import json_bytes, json_problem

NAME_PATTERN: Final = rf"[A-Za-z0-9](?:[A-Za-z0-9_.:-]{{0,{OUTBOX_NAME_CHARS_MAX - 1}}})"
"""Ids of templates, objects, endpoints and channels: they may end up in a URL or a header."""

FIELD_PATTERN: Final = rf"(?!__)[A-Za-z_][A-Za-z0-9_.-]{{0,{OUTBOX_NAME_CHARS_MAX - 1}}}"
"""Names of fields; those with two underscores in front are Firestore's own."""

_NAME: Final = re.compile(NAME_PATTERN)
_FIELD: Final = re.compile(FIELD_PATTERN)


def check_json(value: Any, where: str, problems: Problems, *, bytes_max: int) -> None:
    """Note a problem when the value is no JSON or has too many bytes."""
    problem = json_problem(value, depth=RULE_DEPTH_MAX)
    if problem is None and json_bytes(value) > bytes_max:
        problem = f"more than {bytes_max} bytes"
    if problem is not None:
        problems.add(where, problem)


def name(raw: Any, where: str, problems: Problems) -> str:
    """Accept the id of something in another system."""
    if not isinstance(raw, str) or not _NAME.fullmatch(raw):
        allowed = "letters, digits and any of _ . : -"
        problems.add(where, f"must be 1 to {OUTBOX_NAME_CHARS_MAX} {allowed}")
        return ""
    return raw


def is_field_name(raw: object) -> bool:
    """Return whether this can be the name of a field in another system."""
    return isinstance(raw, str) and _FIELD.fullmatch(raw) is not None
