"""Garbage collection as the functions set it."""

from __future__ import annotations

import gc
from typing import Final

COLLECTION_THRESHOLD: Final = 20_000
"""New objects between two collections of the youngest: about 100 requests' worth."""


def spare_garbage_collection() -> None:
    """Leave out what was imported from every collection, and collect less often.

    Requests make few cycles; at Python's own threshold of 700 objects each one pays for several
    collections (bench/RESULTS.md has the figures with this setting).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTION_THRESHOLD)
