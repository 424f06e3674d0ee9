"""What a command shows: one JSON document or readable text on stdout, all else on stderr."""

from __future__ import annotations

import asyncio
import re
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from tagstitch.adapters.settings import SettingsError
from tagstitch.core.errors import InvalidInput, TagstitchError

T = TypeVar("T")

JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout; all else on stderr.")
]

EXIT_FAILED = 1
EXIT_USAGE = 2

_C1: Final = re.compile(rb"\xc2[\x80-\x9f]|\x7f")
"""Control characters above ASCII's first 32, in UTF-8."""

_OBEYED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control and format characters, halves of pairs, separators of lines."""


class CommandFailed(Exception):
    """A command did not do what it was asked to; `document` is its whole answer with --json."""

    def __init__(self, message: str, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.document = document


def out() -> Console:
    """Return the console of results."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def err() -> Console:
    """Return the console of progress and errors."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def run(work: Coroutine[Any, Any, T], *, as_json: bool) -> T:
    """Return what the command's work gives; a failure ends the process with its exit code."""
    try:
        return asyncio.run(work)
    except SettingsError as error:
        _end(str(error), None, as_json=as_json, exit_code=EXIT_USAGE)
    except CommandFailed as error:
        fail(error, as_json=as_json)
    except InvalidInput as error:
        hint = f" ({error.hint})" if error.hint else ""
        _end(f"{error}{hint}", None, as_json=as_json, exit_code=EXIT_FAILED)
    except (TagstitchError, OSError) as error:
        message = str(error) or type(error).__name__
        _end(message, None, as_json=as_json, exit_code=EXIT_FAILED)


def fail(error: CommandFailed, *, as_json: bool) -> NoReturn:
    """End the process because a command failed."""
    _end(str(error), error.document, as_json=as_json, exit_code=EXIT_FAILED)


def emit(document: Any, *, as_json: bool, show: Callable[[Console], None]) -> None:
    """Print the result: the document with --json, else what `show` prints."""
    if as_json:
        write_json(document)
    else:
        show(out())


def write_json(document: Any) -> None:
    """Print one JSON document and flush it."""
    sys.stdout.buffer.write(_json(document) + b"\n")
    sys.stdout.buffer.flush()


async def write_json_parts(parts: AsyncIterator[bytes]) -> None:
    """Print one JSON document that comes in parts, each escaped as `write_json` does."""
    async for part in parts:
        sys.stdout.buffer.write(_escaped(part))
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def json_text(document: Any) -> str:
    """Return a document as indented JSON to read."""
    return printable(msgspec.json.format(_json(document), indent=2).decode())


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Table:
    """Return rows as a table; `columns` defaults to the first row's."""
    columns = columns or (list(rows[0]) if rows else [])
    table = Table(*(Column(Text(printable(column))) for column in columns))
    for row in rows:
        table.add_row(*(Text(printable(_cell(row.get(column)))) for column in columns))
    return table


def printable(text: str) -> str:
    """Return the text with nothing in it that a terminal would obey.

    Texts of messages and attributes are a stranger's: an escape sequence among them could change
    what is on the screen, and a mark of direction what it seems to say.
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in _OBEYED else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


class ProgressBar:
    """A bar on stderr."""

    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total, detail="")

    def __call__(self, steps: int) -> None:
        """Move the bar by a number of steps."""
        self._progress.advance(self._task, steps)

    def say(self, detail: str) -> None:
        """Show a few words behind the bar."""
        self._progress.update(self._task, detail=detail)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[ProgressBar]:
    """Yield a bar that is there until the work ends."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )  # fmt: skip
    with Progress(*columns, console=err(), transient=True) as progress:
        yield ProgressBar(progress, label, total)


def _json(document: Any) -> bytes:
    """Return JSON that also escapes the control characters that JSON itself lets pass."""
    return _escaped(msgspec.json.encode(document, enc_hook=str))


def _escaped(encoded: bytes) -> bytes:
    return _C1.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), encoded)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple | bool):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _end(
    message: str, document: Mapping[str, Any] | None, *, as_json: bool, exit_code: int
) -> NoReturn:
    err().print(printable(message), style="red", markup=False)
    if as_json:
        write_json(document if document is not None else {"error": {"message": message}})
    raise typer.Exit(exit_code)
