"""Work: how much one decision may do, counted and not timed, so that a replay ends where it ended.

A step is what a plain comparison takes, some 0.25 microseconds. What may take much longer for one
rule (a long list, a long text, a large copy) counts its own steps before it starts; what is
bounded to a few microseconds counts nothing. The decision ends where its steps are used up.
"""

from __future__ import annotations

from typing import Final

import msgspec

UNLIMITED: Final = 2**62
"""Steps for what is no decision, such as the explanation of a single condition."""

ACTION_STEPS: Final = 25
"""Of any action: an event of 2,000 parameters is copied in 6 microseconds."""

LACKING_STEPS: Final = 8
"""Of each comparison of a rule of which not everything could be loaded: whether it may hold all the
same is found out piece by piece."""

BYTES_PER_STEP: Final = 256
"""Of JSON that is written, or text that is read: about 1 gigabyte a second."""

_PLAIN_REGEX_CHARS: Final = 1024
_PLAIN_REGEX_PRODUCT: Final = 2**17
"""Characters of a text, and characters times instructions, up to which RE2 can keep the whole
automaton in its memory (`CONDITION_REGEX_BYTES_MAX`) instead of building it anew in every search."""

_PAIRED_CHARS: Final = 30_000
"""Characters of a text from which CPython's search takes linear time, whatever is looked for."""


class WorkExceeded(Exception):
    """The steps of a decision are used up."""


class Work(msgspec.Struct, gc=False):
    """The steps that are left."""

    left: int = UNLIMITED

    @property
    def is_exceeded(self) -> bool:
        """Whether more was asked for than there was; that never changes back."""
        return self.left < 0

    def spend(self, steps: int) -> None:
        """Count steps before they are taken; raises WorkExceeded when there are too few."""
        self.left -= steps
        if self.left < 0:
            self.left = -1  # an exception that somebody swallowed must come again
            raise WorkExceeded

    def spend_bytes(self, size: int) -> None:
        """Count the steps of reading or writing so many bytes or characters."""
        self.spend(size // BYTES_PER_STEP)

    def spend_nodes(self, value: object) -> None:
        """Count the steps of walking through a JSON value, long before the end of a large one."""
        if isinstance(value, str):
            self.spend_bytes(len(value))
        elif isinstance(value, list | dict):
            self.spend(len(value))
            for child in value.values() if isinstance(value, dict) else value:
                if isinstance(child, str | list | dict):
                    self.spend_nodes(child)

    def spend_bucketing(self, chars: int) -> None:
        """Count the steps of `bucket_of`: 90 nanoseconds a character."""
        self.spend(1 + (chars * 3 >> 3))

    def spend_containment(self, chars: int, wanted: int) -> None:
        """Count the steps of looking for a part of a text.

        CPython compares up to all pairs of characters of a short text, and takes 3 nanoseconds a
        character of a long one.
        """
        pairs = chars * wanted if chars < _PAIRED_CHARS else 0
        self.spend((chars >> 6) + (pairs >> 11))

    def spend_search(self, chars: int, instructions: int) -> None:
        """Count the steps of a regular expression on a text.

        RE2 takes 1.5 nanoseconds a character where its automaton is known, and up to 3 a character
        and instruction where it is not (measured: 140 for 20 instructions, 6,000 for 2,000).
        """
        product = chars * instructions
        if chars > _PLAIN_REGEX_CHARS or product > _PLAIN_REGEX_PRODUCT:
            self.spend(1 + (chars * (instructions + 64) >> 7))
        else:
            self.spend(1 + (product >> 13))
