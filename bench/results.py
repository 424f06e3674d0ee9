"""bench/RESULTS.md: its sections, each under a heading of the second level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parent / "RESULTS.md"


def replace_section(title: str, lines: Sequence[str]) -> None:
    """Write one section anew, at its place or at the end."""
    heading = f"## {title}"
    before, found, rest = RESULTS.read_text().partition(f"{heading}\n")
    if not found:
        before = before.rstrip("\n") + "\n\n"
    _, next_heading, after = rest.partition("\n## ")
    section = "\n".join([heading, "", *lines]).rstrip("\n") + "\n"
    RESULTS.write_text(before + section + next_heading + after)
