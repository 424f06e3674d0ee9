"""How many different values: exact up to a number of them, then an estimate.

A part keeps the k + 1 smallest hashes (k minimum values, Bar-Yossef et al. 2002,
https://doi.org/10.1007/3-540-45726-7_1). Up to k values that is all of them. Above, as many
hashes as lie below the greatest kept one tell how densely the values lie; the standard error is
one through the root of k - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from tagstitch.core.limits import TRAIT_DISTINCT_BUCKET_MAX, TRAIT_DISTINCT_MAX
from tagstitch.core.trait_hash import HASH_BYTES, hash_of, share_below, smallest, unpacked
from tagstitch.core.trait_scalars import json_key
from tagstitch.core.trait_terms import Reading, Terms


def keep_hash(value: object, at: int, ordinal: int) -> bytes:
    """Return the part of one value."""
    del at, ordinal
    return hash_of(json_key(value))


def unite_hashes(one: bytes, other: bytes, terms: Terms) -> bytes:
    """Return the smallest hashes of both."""
    return smallest(one, other, exact_max(terms) + 1)


def read_distinct(parts: Sequence[bytes], reading: Reading) -> int:
    """Return how many different values there are in all parts together."""
    full = (exact_max(reading.terms) + 1) * HASH_BYTES
    if len(parts) == 1:  # sorted, so there is nothing to unite
        count, bound = len(parts[0]) // HASH_BYTES, parts[0][-HASH_BYTES:]
        return count if len(parts[0]) < full else round((count - 1) / share_below(bound))
    bounds = [part[-HASH_BYTES:] for part in parts if len(part) >= full]
    hashes = {hash_ for part in parts for hash_ in unpacked(part)}
    if not bounds:
        return len(hashes)
    bound = min(bounds)
    return round(sum(hash_ < bound for hash_ in hashes) / share_below(bound))


def exact_max(terms: Terms) -> int:
    """Return the number of different values up to which a part is exact."""
    is_whole = terms.window.kind == "lifetime"
    return TRAIT_DISTINCT_MAX if is_whole else TRAIT_DISTINCT_BUCKET_MAX


def distinct_bytes(terms: Terms) -> int:
    """Return the most bytes of a part."""
    return (exact_max(terms) + 1) * HASH_BYTES
