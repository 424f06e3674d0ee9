"""Profiles in CSV (RFC 4180, UTF-8): a header that names the columns, a profile in each row.

The header has `profile_id`, `identifiers.<type>`, `consent.<purpose>`, `attributes_at`, and
`attributes.<name>` or the bare name. An empty cell says nothing. Identifiers and `profile_id` are
text; several identifiers of a type stand in repeated columns, in one cell with `;` between them,
or as a JSON list. Other cells are true or false, a number where a rule would read one, JSON where
they begin with { or [, else text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from tagstitch.cli.csv_rows import Row, is_utf8, read_rows
from tagstitch.cli.json_lines import BadLine
from tagstitch.cli.output import CommandFailed
from tagstitch.core.consent import is_purpose
from tagstitch.core.errors import InvalidInput, json_path
from tagstitch.core.identifier import IDENTIFIER_TYPES
from tagstitch.core.limits import INTEGER_ABS_MAX
from tagstitch.core.values import is_numeric_text

_LINE_COLUMNS: Final = frozenset({"profile_id", "attributes_at"})
_GROUPS: Final = frozenset({"identifiers", "attributes", "consent"})
_FLAGS: Final = {
    **dict.fromkeys(("true", "TRUE", "True"), True),
    **dict.fromkeys(("false", "FALSE", "False"), False),
}
"""As JSON, spreadsheets and Python write them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the place in an import's line that its cells go to."""

    number: int
    """From 1."""
    group: str
    """`identifiers`, `attributes` or `consent`; empty for a field of the line itself."""
    name: str
    is_text: bool = False

    @property
    def path(self) -> str:
        """The place in the line, with no word that may be a value."""
        return json_path(self.group, self.name) if self.group else self.name


def read_header(file: Path, *, text_columns: Collection[str] = ()) -> tuple[Column, ...]:
    """Return the columns that the first row names; raises CommandFailed with all that is wrong.

    The cells of `text_columns` stay text, whatever they look like.
    """
    row = next(read_rows(file), None)
    if row is None or row.cells is None or not is_utf8(row.text) or "\0" in row.text:
        raise CommandFailed(
            "the first line must name the columns: CSV in UTF-8, with commas between them"
        )
    columns = [_column(*cell, text_columns) for cell in enumerate(row.cells, 1)]
    problems = [
        f"column {column.number} {problem}"
        for column, header in zip(columns, row.cells, strict=True)
        if (problem := _problem(column, header))
    ]
    problems += _problems_together(columns)
    if unknown := len(set(text_columns) - set(row.cells)):
        problems.append(f"{unknown} of the columns that stay text are not there")
    if problems:
        raise CommandFailed("the header cannot be used: " + "; ".join(problems))
    return tuple(columns)


def read_profile_rows(
    file: Path, columns: Sequence[Column]
) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """Yield (number of its first line, line of an import) of every row but the header."""
    rows = read_rows(file)
    next(rows, None)
    for row in rows:
        try:
            yield row.line, _line(row, columns)
        except InvalidInput as error:
            yield row.line, BadLine(error.code, error.message, row.readable_text, error.path)


def _column(number: int, header: str, text_columns: Collection[str]) -> Column:
    is_text = header in text_columns
    if header in _LINE_COLUMNS:
        return Column(number, "", header, is_text)
    group, dot, name = header.partition(".")
    if dot and group in _GROUPS:
        return Column(number, group, name, is_text)
    return Column(number, "attributes", header, is_text)


def _problem(column: Column, header: str) -> str | None:
    """Return what is wrong with a column's name, unquoted: without a header a value stands there."""
    if not column.name:
        return "has no name"
    if header in IDENTIFIER_TYPES:
        return f"must be identifiers.{header}, or attributes.{header}"
    if column.group == "identifiers" and column.name not in IDENTIFIER_TYPES:
        return "is no declared type of identifier: " + ", ".join(IDENTIFIER_TYPES)
    if column.group == "consent" and not is_purpose(column.name):
        return "does not name a purpose"
    if column.group == "attributes" and {";", "\t"} & set(column.name):
        return "has a semicolon or a tab: commas must separate the columns"
    return None


def _problems_together(columns: Sequence[Column]) -> Iterator[str]:
    places = Counter((c.group, c.name) for c in columns if c.group != "identifiers")
    for column in columns:
        if places[column.group, column.name] > 1:
            yield f"column {column.number} is there twice"
    if not any(c.group == "identifiers" or c.path == "profile_id" for c in columns):
        yield "it needs profile_id or an identifiers.<type> such as identifiers.user_id"


def _line(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """Return the row as a line of an import; raises InvalidInput that names the column."""
    if row.cells is None:
        raise InvalidInput("invalid_field", "not CSV: a quote is not closed, or not doubled")
    if len(row.cells) != len(columns):
        raise InvalidInput(
            "invalid_field", f"{len(row.cells)} cells where the header has {len(columns)}"
        )
    line: dict[str, Any] = {}
    for column, cell in zip(columns, row.cells, strict=True):
        if not cell:
            continue
        if not is_utf8(cell):
            raise _refused("invalid_unicode", column, "is not UTF-8")
        if not column.group:
            line[column.name] = cell
        elif column.group == "identifiers":
            group = line.setdefault("identifiers", {})
            group.setdefault(column.name, []).extend(_identifiers(cell, column))
        else:
            value = cell if column.is_text else _value(cell, column)
            line.setdefault(column.group, {})[column.name] = value
    return line


def _identifiers(cell: str, column: Column) -> list[Any]:
    if cell[0] == "[":
        return list(_decoded(cell, column))
    return [value for part in cell.split(";") if (value := part.strip())]


def _value(cell: str, column: Column) -> Any:
    if cell in _FLAGS:
        return _FLAGS[cell]
    if cell[0] in "{[":
        return _decoded(cell, column)
    if not is_numeric_text(cell):
        return cell
    if "." in cell:
        return float(cell)
    # More than 64 bits is the number of a card or an order: nobody counts with it.
    return int(cell) if abs(int(cell)) <= INTEGER_ABS_MAX else cell


def _decoded(cell: str, column: Column) -> Any:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, RecursionError):
        raise _refused("invalid_json", column, "begins like JSON and is none") from None


def _refused(code: Any, column: Column, message: str) -> InvalidInput:
    return InvalidInput(code, f"column {column.number} {message}", column.path)
