"""How often each key came: exact while there are few different keys, then by a sample.

A part counts every key and keeps the occurrences with the smallest hashes, each hash being that of
a key and a time. With too many different keys the counts are dropped and the sample stays: it is a
uniform one of all occurrences, so a key's share in it is its share in all. Unlike the counters of
Space-Saving, it does not depend on the order of events or on how they were divided and merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from typing import Any, Final

import msgspec

from tagstitch.core.limits import (
    TRAIT_KEY_BYTES_MAX,
    TRAIT_TALLY_BUCKET_MAX,
    TRAIT_TALLY_KEYS_MAX,
    TRAIT_TALLY_SAMPLE,
)
from tagstitch.core.scalar_text import scalar_text
from tagstitch.core.trait_hash import HASH_BYTES, hash_of, unpacked
from tagstitch.core.trait_numbers import add_counts
from tagstitch.core.trait_scalars import json_key
from tagstitch.core.trait_terms import Reading, Terms

Part = Mapping[str, Any]
"""`n` occurrences, and `keys` (key -> [how often, its packed hashes in the sample]), or only `sample`
(key -> packed hashes) where there are too many keys."""

DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def count_key(value: Any, at: int, ordinal: int) -> Part:
    """Return the part of one occurrence; `ordinal` tells those of one event apart."""
    key = json_key(value)
    return {"n": 1, "keys": {key: [1, hash_of(f"{at}/{ordinal}/{key}")]}}


def count_text(value: Any, at: int, ordinal: int) -> Part:
    """Return the part of one occurrence of a key that is shown as text: 5 and "5" are one."""
    text = scalar_text(value) or ""
    is_long = not isinstance(value, str) and len(text) > TRAIT_KEY_BYTES_MAX - 2
    return count_key(json_key(value) if is_long else text, at, ordinal)  # 1e300 has 301 digits


def add_tallies(one: Part, other: Part, terms: Terms) -> Part:
    """Return both together."""
    keys_max, sample_size = _sizes(terms)
    count = add_counts(one["n"], other["n"], terms)
    sample = _sampled(_sample_of(one), _sample_of(other), sample_size)
    if "keys" in one and "keys" in other:
        counts = {key: entry[0] for key, entry in one["keys"].items()}
        for key, entry in other["keys"].items():
            counts[key] = add_counts(counts.get(key, 0), entry[0], terms)
        if len(counts) <= keys_max:
            return {"n": count, "keys": {k: [n, sample.get(k, b"")] for k, n in counts.items()}}
    return {"n": count, "sample": sample}


def read_tally(parts: Sequence[Part], reading: Reading) -> dict[str, int]:
    """Return the most frequent keys as text, each with how often it came."""
    first = nsmallest(reading.terms.limit, _totals(parts).items(), key=_by_count)
    return {msgspec.json.decode(key): count for key, count in first}


def read_most_frequent(parts: Sequence[Part], reading: Reading) -> Any:
    """Return the key that came most often; of several the first by its JSON."""
    del reading
    key, _ = min(_totals(parts).items(), key=_by_count)
    return msgspec.json.decode(key)


def _by_count(entry: tuple[str, int]) -> tuple[int, str]:
    return (-entry[1], entry[0])


def tally_bytes(terms: Terms) -> int:
    """Return the most bytes of a part."""
    keys_max, sample_size = _sizes(terms)
    names = TRAIT_KEY_BYTES_MAX + 1
    exact = keys_max * (names + 8) + sample_size * HASH_BYTES
    return 32 + max(exact, sample_size * (names + HASH_BYTES))


def _sizes(terms: Terms) -> tuple[int, int]:
    """Return the keys up to which a part is exact, and the size of its sample."""
    if terms.window.kind == "lifetime":
        return TRAIT_TALLY_KEYS_MAX, TRAIT_TALLY_SAMPLE
    return TRAIT_TALLY_BUCKET_MAX, TRAIT_TALLY_BUCKET_MAX


def _sample_of(part: Part) -> Mapping[str, bytes]:
    if "keys" in part:
        return {key: packed for key, (_, packed) in part["keys"].items()}
    sample: Mapping[str, bytes] = part["sample"]
    return sample


def _sampled(one: Mapping[str, bytes], other: Mapping[str, bytes], size: int) -> dict[str, bytes]:
    united = {key: set(unpacked(packed)) for key, packed in one.items()}
    for key, packed in other.items():
        united.setdefault(key, set()).update(unpacked(packed))
    hashes = sorted(hash_ for found in united.values() for hash_ in found)
    bound = hashes[size - 1] if len(hashes) > size else hashes[-1]
    kept = {
        key: b"".join(sorted(hash_ for hash_ in found if hash_ <= bound))
        for key, found in united.items()
    }
    return {key: packed for key, packed in kept.items() if packed}


def _totals(parts: Sequence[Part]) -> dict[str, int]:
    totals: dict[str, float] = {}
    for part in parts:
        for key, count in _counts(part).items():
            totals[key] = totals.get(key, 0) + count
    return {key: round(count) for key, count in totals.items()}


def _counts(part: Part) -> Mapping[str, float]:
    """Return key -> how often, of a sample by its share in it."""
    if "keys" in part:
        return {key: entry[0] for key, entry in part["keys"].items()}
    sampled = {key: len(packed) // HASH_BYTES for key, packed in part["sample"].items()}
    weight = part["n"] / sum(sampled.values())
    return {key: count * weight for key, count in sampled.items()}


# --- hours and days: few keys, always exact


def count_slot(value: int, at: int, ordinal: int) -> dict[str, int]:
    """Return the part of one event in an hour of the day or a day of the week."""
    del at, ordinal
    return {str(value): 1}


def add_slots(one: dict[str, int], other: dict[str, int], terms: Terms) -> dict[str, int]:
    """Return both together."""
    added = dict(one)
    for slot, count in other.items():
        added[slot] = add_counts(added.get(slot, 0), count, terms)
    return added


def read_slot(parts: Sequence[dict[str, int]], reading: Reading) -> int | str:
    """Return the hour, or the day's name, with most events; of several the first."""
    totals: Counter[int] = Counter()
    for part in parts:
        totals.update({int(slot): count for slot, count in part.items()})
    slot, _ = min(totals.items(), key=lambda entry: (-entry[1], entry[0]))
    return DAYS[slot] if reading.terms.operation == "day_of_week" else slot
