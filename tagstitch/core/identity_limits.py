"""Limits of what a project declares about identifiers, and of the quarantine; as `limits.py`."""

from __future__ import annotations

from typing import Final

IDENTIFIER_TYPES_MAX: Final = 30
"""Identifier types that a project declares: a bare id is looked for under each of them."""

IDENTIFIER_LIMIT_DAYS_MAX: Final = 3_650
"""Days of the window of a limit: ten years; whoever wants more wants no window."""

BLOCKED_VALUES_MAX: Final = 10_000
"""Values that a project names as blocked."""

BLOCKED_PATTERNS_MAX: Final = 100
"""Expressions of blocked values."""

PATTERN_SET_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes that RE2 may use for all of them together: every identifier is searched once for all."""

QUARANTINE_PROFILES_MIN: Final = 2
QUARANTINE_PROFILES_MAX: Final = 20
"""Profiles one identifier may lead to before it is held. Each is remembered in the link, 40 bytes:
50 identifiers that are all about to be held take 40 KB of a profile."""

QUARANTINE_HOURS_MAX: Final = 31 * 24
"""Hours within which the profiles count: a month."""

QUARANTINE_DAYS: Final = 30
"""Days for which an identifier is held while nobody looks at it."""

LINKS_MARGIN_DAYS: Final = 31
"""Days by which what leads to a profile outlives it at most: it is renewed about as often."""

LINK_LOG_DAYS: Final = 400
"""Days for which the log of links is kept, unless told otherwise: as long as the audit, whose rows
name the merges that it can undo."""

LINK_LOG_DAYS_MIN: Final = 8
"""Longer than a message or the answer to a request is kept: a merge can be undone that long."""

LINK_LOG_DAYS_MAX: Final = 3_650
"""Ten years."""

RELEASED_PROFILES_MAX: Final = 100
"""Profiles for which an identifier that was released is not held again; the newest stay."""
