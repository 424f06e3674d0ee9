"""Ids of documents: what may stand in a path, also where somebody edited what a document says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_RESERVED: Final = re.compile(r"__.*__")
_BYTES_MAX: Final = 1_500
_IDENTIFIER_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,31}:[^/]{1,256}")


def is_document_id(text: str) -> bool:
    """Return whether Firestore accepts the text as a document id.

    https://cloud.google.com/firestore/quotas#collections_documents_and_fields
    """
    return (
        bool(text)
        and "/" not in text
        and text not in (".", "..")
        and not _RESERVED.fullmatch(text)
        and len(text.encode()) <= _BYTES_MAX
    )


def is_identifier_key(text: str) -> bool:
    """Return whether the text can be the key of an identifier, which is a document id too."""
    return _IDENTIFIER_KEY.fullmatch(text) is not None


def are_identifier_keys(texts: Iterable[str]) -> bool:
    """Return whether all of them are; every lookup asks it of a whole profile."""
    return all(map(_IDENTIFIER_KEY.fullmatch, texts))
