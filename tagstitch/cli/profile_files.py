"""Files of profiles: JSON Lines or CSV, told apart by name or on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tagstitch.cli.json_lines import BadLine, read_lines
from tagstitch.cli.output import CommandFailed
from tagstitch.cli.profile_csv import Column, read_header, read_profile_rows


class ProfileFormat(StrEnum):
    """How a file of profiles is written."""

    jsonl = "jsonl"
    csv = "csv"


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A file of profiles and how it is read."""

    path: Path
    columns: tuple[Column, ...] | None
    """Of CSV; None for JSON Lines."""

    @property
    def reading(self) -> str:
        """A text that differs when the same bytes would be read as other lines."""
        return "jsonl" if self.columns is None else repr(self.columns)

    def lines(self) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
        """Yield (number from 1, line of an import) of all that is not blank."""
        if self.columns is None:
            return read_lines(self.path)
        return read_profile_rows(self.path, self.columns)


def open_profile_file(
    path: Path, *, format_: ProfileFormat | None = None, text_columns: Sequence[str] = ()
) -> ProfileFile:
    """Return how to read the file; raises CommandFailed when its header cannot be used."""
    if (format_ or _format_of(path)) is ProfileFormat.csv:
        return ProfileFile(path, read_header(path, text_columns=text_columns))
    if text_columns:
        raise CommandFailed("only CSV has columns that stay text; JSON says what is text itself")
    return ProfileFile(path, None)


def _format_of(path: Path) -> ProfileFormat:
    name = path.name.lower().removesuffix(".gz")
    return ProfileFormat.csv if name.endswith(".csv") else ProfileFormat.jsonl
