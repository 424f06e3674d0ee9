"""CSV files in UTF-8, compressed or not, one row at a time; a broken row spoils no other."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tagstitch.cli.json_lines import LINE_BYTES_MAX, opened_input

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a line of the file, or several where a cell holds ends of lines."""

    line: int
    """The number of its first line, from 1."""
    text: str
    """As it stands in the file; what is not UTF-8 as lone surrogates."""
    cells: tuple[str, ...] | None
    """Without blanks around them; None when the row is not CSV."""

    @property
    def readable_text(self) -> str:
        """The text as JSON can hold it."""
        return self.text.encode(errors="surrogateescape").decode(errors="replace").strip()


def read_rows(file: Path) -> Iterator[Row]:
    """Yield every row that is not blank; raises CommandFailed when the file is damaged."""
    # The limit is one for the process; a quote that is never closed must not read to the end.
    csv.field_size_limit(LINE_BYTES_MAX)
    with opened_input(file) as stream:
        lines = _Lines(stream)
        reader = csv.reader(lines, strict=True)
        while True:
            lines.begin_row()
            try:
                cells: tuple[str, ...] | None = tuple(cell.strip() for cell in next(reader))
            except StopIteration:
                return
            except csv.Error:  # the reader goes on with the next line
                cells = None
            if cells is None or any(cells):
                yield Row(lines.row_begins, "".join(lines.of_row), cells)


def is_utf8(text: str) -> bool:
    """Return whether the text was UTF-8 in the file."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Lines:
    """The lines of a file, numbered, with those of the present row."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._number = 0
        self.row_begins = 1
        self.of_row: list[str] = []

    def begin_row(self) -> None:
        self.row_begins = self._number + 1
        self.of_row = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(LINE_BYTES_MAX)
        if not line:
            raise StopIteration
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(_BOM)
        self.of_row.append(line.decode(errors="surrogateescape"))
        return self.of_row[-1]
