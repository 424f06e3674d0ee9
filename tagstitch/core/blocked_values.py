"""Values that many visitors share by accident: unset variables, failed templates, test ids.

Linking on one would join thousands of strangers into one profile.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

_WORDS: Final = frozenset(
    {
        "", "null", "none", "nil", "undefined", "nan", "true", "false", "anonymous", "guest",
        "id", "distinct_id", "not_authenticated", "email", "[object object]", "(not set)",
        "(none)", "-1",
    }
)  # fmt: skip

_SPELLINGS: Final = ("None", "NaN", "NULL", "[object Object]")
"""What languages print; the words themselves are in small letters."""

_SPELLED: Final = (*_WORDS, *_SPELLINGS)

_HASHES: Final = frozenset(
    hashlib.sha256(text.encode()).hexdigest()
    for text in (*_SPELLED, *(f"{name}@{domain}" for name in _SPELLED for domain in _SPELLED))
)
"""Sites hash whatever is in the variable, an empty text too, and what they put together of two."""

_ZEROS_AND_DASHES: Final = re.compile(r"[0.\-]+")
_PLACEHOLDER: Final = re.compile(r"\{\{.*\}\}|\$\{.*\}|<[^>]*>|%[A-Z_]+%")
_WHOLE_PLACEHOLDER: Final = re.compile(r"\{[a-z_. ]+\}|\[[a-z_. ]+\]|%%.*%%|%[a-z_]+%")
"""What stands for a value where it is all there is: `{client_id}`, `[CLIENT_ID]`. Without digits:
`{3F2504E0-…}` is an id."""

_GA_PLACEHOLDER: Final = re.compile(
    r"(ga1\.\d\.)?(0\.0|1\.1|555(\.\d+)?|x{3,}\.[xy]{3,})|35009a79-1a05-49d7-b876-2b884d0f825b"
)
"""What Google's documentation and failing tags send as the id of a browser, such as the
`XXXXXXXXXX.YYYYYYYYYY` of
https://developers.google.com/analytics/devguides/collection/protocol/ga4/sending-events."""

_BLANKS: Final = " \t\r\n\f\v\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
_MORE_BLANKS: Final = "\u2009\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_QUOTES: Final = "\"'`\u00b4\\\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a"
_WRAPPING: Final = _BLANKS + _MORE_BLANKS + _QUOTES

_SHORT: Final = 5
_DISTINCT_MIN: Final = 3


@lru_cache(maxsize=1024)  # one request asks it of each identifier several times
def bare_value(value: str) -> str:
    """Return a value as it is compared: without quotes and blanks around it, in small letters."""
    return value.strip(_WRAPPING).lower()


@lru_cache(maxsize=1024)
def is_shared(value: str) -> bool:
    """Return whether this is what unset variables and failed templates leave, whatever the type."""
    bare = bare_value(value)
    return (
        bare in _WORDS
        or bare in _HASHES
        or bool(_ZEROS_AND_DASHES.fullmatch(bare))
        or (len(bare) > _SHORT and len(set(bare)) < _DISTINCT_MIN)
        or bool(_PLACEHOLDER.search(value))
        or bool(_WHOLE_PLACEHOLDER.fullmatch(bare))
    )


@lru_cache(maxsize=1024)
def is_placeholder_client_id(value: str) -> bool:
    """Return whether Google's tags and documentation give this id to everybody."""
    return bool(_GA_PLACEHOLDER.fullmatch(bare_value(value)))


def is_address(text: str) -> bool:
    """Return whether this can be an e-mail address: a name, and a domain with a dot in it.

    `@`, `x@` and `undefined@undefined` are what templates leave of variables that are not set.
    """
    name, _, domain = bare_value(text).rpartition("@")
    labels = domain.split(".")
    return (
        bool(name.strip("@"))
        and len(labels) > 1
        and all(labels)
        and not all(map(is_shared, labels))
    )
