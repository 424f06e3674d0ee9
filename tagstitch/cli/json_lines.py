"""JSON Lines files, compressed or not, one line at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from tagstitch.cli.output import CommandFailed

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of one line: four times what decide takes."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no JSON object."""

    code: str
    message: str
    text: str
    path: str | None = None
    """The place in the line, where one is to blame."""


def read_lines(file: Path) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """Yield (number from 1, object) of every line that is not blank."""
    with opened_input(file) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LINE_BYTES_MAX), b""), 1):
            content = line.removeprefix(_BOM) if number == 1 else line
            if content.strip():
                yield number, _decoded(content)


def count_lines(file: Path) -> int:
    """Return the number of the last line."""
    with opened_input(file) as stream:
        return sum(1 for _ in iter(lambda: stream.readline(LINE_BYTES_MAX), b""))


@contextmanager
def opened_input(file: Path) -> Iterator[IO[bytes]]:
    """Yield the file's bytes, decompressed; raises CommandFailed when they are damaged."""
    with file.open("rb") as stream:
        is_compressed = stream.read(2) == _GZIP_MAGIC
    try:
        with cast(IO[bytes], gzip.open(file)) if is_compressed else file.open("rb") as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CommandFailed(f"{file} is damaged: it does not decompress to its end") from error


def _decoded(line: bytes) -> dict[str, Any] | BadLine:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.ValidationError:
        message = "a line must be one JSON object"
        return BadLine("invalid_field", message, line.decode(errors="replace").strip())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        message = "not JSON"
        return BadLine("invalid_json", message, line.decode(errors="replace").strip())
