"""FILE.rejects.jsonl: the lines that were not taken, each with its reason, to mend and repeat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tagstitch.cli.json_lines import BadLine
from tagstitch.core.errors import InvalidInput

_SHOWN_MAX: Final = 100
"""Rejections that a command's answer repeats; the file has them all."""


class RejectsFile:
    """Collects rejections in order of line; the file appears with the first one."""

    def __init__(self, of: Path | None, *, keep_bytes: int = 0, written: int = 0) -> None:
        """Without `of` nothing is written.

        An interrupted run's file goes on behind its first `keep_bytes`, with `written` rejections
        in them: what lies behind belongs to lines that come again.
        """
        self.path = of.with_name(of.name + ".rejects.jsonl") if of is not None else None
        if self.path is not None:
            _shorten(self.path, keep_bytes)
        self._contents: dict[int, Any] = {}
        self._waiting: dict[int, Mapping[str, Any]] = {}
        self._shown: list[Mapping[str, Any]] = []
        self.count = self.written = written

    def hold(self, line: int, content: Mapping[str, Any] | BadLine) -> None:
        """Remember a line's content until `write` has passed it."""
        self._contents[line] = content.text if isinstance(content, BadLine) else content

    def add(self, line: int, rejection: Mapping[str, Any]) -> None:
        """Reject a line that is held; a line's first reason stays."""
        if line in self._waiting:
            return
        self._waiting[line] = rejection
        self.count += 1
        if len(self._shown) < _SHOWN_MAX:
            self._shown.append(rejection)

    def release(self, line: int) -> None:
        """Forget a line that was taken."""
        if line not in self._waiting:
            self._contents.pop(line, None)

    @property
    def bytes_written(self) -> int:
        """The file's length; 0 without a file."""
        return self.path.stat().st_size if self.path is not None and self.path.exists() else 0

    def write(self, *, up_to_line: int) -> None:
        """Append what was rejected up to this line and forget those lines."""
        due = sorted(line for line in self._waiting if line <= up_to_line)
        if due and self.path is not None:
            with self.path.open("ab") as file:
                for line in due:
                    entry = {**self._waiting[line], "content": self._contents.get(line)}
                    file.write(msgspec.json.encode(entry) + b"\n")
        self.written += len(due)
        for line in due:
            del self._waiting[line]
        self._contents = {n: c for n, c in self._contents.items() if n > up_to_line}

    def summary(self) -> dict[str, Any]:
        """Return what a command's answer says about its rejects."""
        return {
            "rejected": self.count,
            "rejections": self._shown,
            "rejects_file": str(self.path) if self.path is not None and self.count else None,
        }


def _shorten(path: Path, keep_bytes: int) -> None:
    """Cut the file behind so many bytes; an empty one goes, a shorter one stays as it is."""
    if keep_bytes == 0:
        path.unlink(missing_ok=True)
    elif path.exists() and path.stat().st_size > keep_bytes:
        with path.open("r+b") as file:
            file.truncate(keep_bytes)


def rejection_of(line: int, error: InvalidInput) -> dict[str, Any]:
    """Return an error as a rejection."""
    return {"line": line, "code": error.code, "message": error.message, "path": error.path}
