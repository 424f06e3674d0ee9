"""Stable hashes of what traits have seen, packed so that the smallest of them can be kept.

The smallest k of all hashes do not depend on the order in which they came, and those of two halves
give those of the whole: that is what makes sketches of them mergeable.
"""

from __future__ import annotations

import hashlib
from typing import Final

HASH_BYTES: Final = 6
"""48 bits: a million values share two of them with a chance of a fifth of a per cent."""

HASHES: Final = 1 << (8 * HASH_BYTES)
"""How many different ones there are."""


def hash_of(text: str) -> bytes:
    """Return the hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest()


def unpacked(packed: bytes) -> list[bytes]:
    """Return the single hashes."""
    return [packed[i : i + HASH_BYTES] for i in range(0, len(packed), HASH_BYTES)]


def smallest(one: bytes, other: bytes, count: int) -> bytes:
    """Return the smallest different hashes of both, in order."""
    if not one or not other:
        return one or other
    for full, more in ((one, other), (other, one)):
        if len(full) == count * HASH_BYTES and more[:HASH_BYTES] > full[-HASH_BYTES:]:
            return full
    return b"".join(sorted({*unpacked(one), *unpacked(other)})[:count])


def share_below(hash_: bytes) -> float:
    """Return the share of all hashes that are smaller."""
    return int.from_bytes(hash_) / HASHES
