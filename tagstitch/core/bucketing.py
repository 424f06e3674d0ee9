"""Bucketing: a stable number for a visitor, so that shares of visitors need no storage.

The hash is the one that GrowthBook publishes (https://docs.growthbook.io/lib/build-your-own),
so that a warehouse or another SDK finds the same buckets. Texts are hashed as UTF-16 code units,
as JavaScript does; bytes or code points would put ids outside ASCII into other buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

HashVersion = Literal[1, 2]

_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


def bucket_of(value: str, *, seed: str, version: HashVersion = 2) -> float:
    """Return a number from 0 up to, but not including, 1.

    Version 1 knows 1,000 buckets, version 2 knows 10,000 and is free of the bias that version 1
    shows between experiments with similar seeds.
    """
    if version == 1:
        return _fnv1a32(value + seed) % 1_000 / 1_000
    return _fnv1a32(str(_fnv1a32(seed + value))) % 10_000 / 10_000


def _fnv1a32(text: str) -> int:
    """Return the 32-bit FNV-1a hash of the text's UTF-16 code units."""
    hash_ = _FNV_OFFSET
    for unit in text.encode() if text.isascii() else _utf16_units(text):
        hash_ = (hash_ ^ unit) * _FNV_PRIME & 0xFFFFFFFF
    return hash_


def _utf16_units(text: str) -> Iterator[int]:
    pairs = text.encode("utf-16-le", "surrogatepass")
    return (low | high << 8 for low, high in zip(pairs[::2], pairs[1::2], strict=True))
