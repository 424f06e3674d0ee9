"""One visitor whose events all change state: optimistic commits that meet each other.

decide reads the visitor's document, and commits with its version as a precondition; after a conflict
it decides once more, and then gives up the state and the actions that need it (`decide.py`).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from random import Random

from bench.scale.instances import Draw, arrivals

ATTEMPTS = 2


@dataclass(slots=True)
class Commits:
    """How the events of one visitor ended."""

    at_once: int = 0
    second: int = 0
    given_up: int = 0

    @property
    def events(self) -> int:
        """All of them."""
        return self.at_once + self.second + self.given_up


def hot_visitor(
    rate: float, *, read_s: Draw, commit_s: Draw, seconds: float, random: Random
) -> Commits:
    """Return how the events ended that a visitor sends at this rate.

    A commit takes effect in the middle of its time; Firestore's own slowing down of a document that
    is written often is left out.
    """
    found = Commits()
    version = 0
    steps: list[tuple[float, int, int, int | None]] = []
    for number, at in enumerate(arrivals([(seconds, rate)], random)):
        heapq.heappush(steps, (at + read_s(random) / 2, number, 1, None))
    while steps:
        at, number, attempt, seen = heapq.heappop(steps)
        if seen is None:  # the document is read as it is now
            until = at + read_s(random) / 2 + commit_s(random) / 2
            heapq.heappush(steps, (until, number, attempt, version))
        elif seen == version:
            version += 1
            if attempt == 1:
                found.at_once += 1
            else:
                found.second += 1
        elif attempt < ATTEMPTS:
            again = at + commit_s(random) / 2 + read_s(random) / 2
            heapq.heappush(steps, (again, number, attempt + 1, None))
        else:
            found.given_up += 1
    return found
