"""The error tree: three kinds of failure that are never mixed.

    TagstitchError
    ├── InvalidInput   the caller must change something: 4xx, or a dead letter and acknowledge
    │   └── RateLimited   or ask less often: 429
    ├── InvalidRule    a rule cannot be used: it is left out, the others work
    ├── Unavailable    the same request may succeed later: 503, or negative acknowledge
    │   └── NotSent    and it never left this process
    └── Conflict       a precondition no longer held: reload and try again, then as Unavailable

Everything else that is raised is a bug: it crashes the request and raises an alarm.
One table maps them to HTTP (`adapters/http_request.py`), one to acknowledgements
(`adapters/pubsub_message.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

InvalidCode = Literal[
    "invalid_json",
    "json_too_deep",
    "invalid_unicode",
    "non_finite_number",
    "missing_field",
    "invalid_field",
    "unknown_callback",
    "idempotency_conflict",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "body_too_large",
    "unsupported_media_type",
    "rate_limited",
    "unsupported_version",
]


_FIELD_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


_PATH_CHARS_MAX: Final = 100
"""Characters of a path in an error: what leads deeper is the caller's to find."""


def json_path(*steps: str | int) -> str:
    """Return a path such as `items[3].price`; a name that may be a value in disguise is `*`.

    Names are the caller's own words too, and an address as a name must not come out in a log.
    """
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _FIELD_NAME.fullmatch(step) else "*")
    return text if len(text) <= _PATH_CHARS_MAX else text[: _PATH_CHARS_MAX - 1] + "…"


class TagstitchError(Exception):
    """Base of every failure that this project raises on purpose."""


@dataclass(eq=False)
class InvalidInput(TagstitchError):
    """The input cannot be accepted as it is; retrying it unchanged will fail again.

    `message` and `hint` are our own words and never contain a value that the caller sent:
    both reach answers and logs. `path` names the place, as in `items[3].price`.
    """

    code: InvalidCode
    message: str
    path: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" (at {self.path})" if self.path else "")


@dataclass(eq=False)
class RateLimited(InvalidInput):
    """The caller asks more often than it may; the same request may be accepted later."""

    retry_after_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a definition such as a rule.

    `path` names the place in the definition (`conditions.value.lessThn`); `message` and `hint`
    are our own words.
    """

    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


@dataclass(eq=False)
class InvalidRule(TagstitchError):
    """A rule cannot be used as it is; `problems` lists all that was found, never empty."""

    rule_id: str
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        return f"rule {self.rule_id}: " + "; ".join(map(str, self.problems))


@dataclass(eq=False)
class Unavailable(TagstitchError):
    """Something behind us did not answer in time; `what` names it (`firestore`, `pubsub`, …)."""

    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} is unavailable" + (f": {self.detail}" if self.detail else "")


class NotSent(Unavailable):
    """Nothing of the request left this process: sending it again can double nothing."""


class Conflict(TagstitchError):
    """A commit's precondition failed: somebody else wrote first; load again and decide again."""
