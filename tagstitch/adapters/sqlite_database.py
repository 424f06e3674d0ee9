"""One SQLite file for everything that the local backend keeps."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline

FILE_NAME: Final = "tagstitch.sqlite"

_BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BUSY_WAIT_S = (0.001, 0.005)
_STARTUP_BUSY_MS = 10_000
"""How long the first statements wait for another process that sets the same file up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """One write on its way into a transaction."""

    operation: Callable[[sqlite3.Connection], Any]
    deadline: Deadline
    done: asyncio.Future[Any]


class SqliteDatabase:
    """The file `<data_dir>/tagstitch.sqlite`, with one connection in this process.

    Statements run inline, since they take microseconds. What the tasks of one turn of the event
    loop write shares a transaction: its commit costs more than most of them. Another process (the
    CLI) may hold the write lock: then a call waits without blocking the event loop, until its
    deadline.
    """

    def __init__(self, data_dir: Path, *, is_durable: bool = True) -> None:
        """Without `is_durable` the disk is never waited for: for what is thrown away."""
        data_dir.mkdir(parents=True, exist_ok=True)
        self.path = data_dir / FILE_NAME
        self._waiting: list[_Waiting] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection = sqlite3.connect(
            self.path,
            isolation_level=None,  # transactions are begun and ended below, and nowhere else
            check_same_thread=False,  # a later event loop may run in another thread
        )
        self._connection.execute(f"PRAGMA busy_timeout = {_STARTUP_BUSY_MS}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode NORMAL survives the death of the process; only a power failure may cost the
        # last commits (https://www.sqlite.org/pragma.html#pragma_synchronous).
        self._connection.execute(f"PRAGMA synchronous = {'NORMAL' if is_durable else 'OFF'}")

    def create(self, *statements: str) -> None:
        """Run statements that make tables where they are missing; to be used before any call."""
        self._connection.execute(f"PRAGMA busy_timeout = {_STARTUP_BUSY_MS}")
        self._connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self._connection.execute(statement)
        self._connection.execute("COMMIT")
        self._connection.execute("PRAGMA busy_timeout = 0")

    def column_names(self, table: str) -> set[str]:
        """Return the names of a table's columns."""
        rows = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return {name for (name,) in rows}

    async def read(self, operation: Callable[[sqlite3.Connection], T], deadline: Deadline) -> T:
        """Return what `operation` reads; it must not leave a cursor open."""
        while not deadline.is_over:
            try:
                return operation(self._connection)
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise _translated(error) from error
            await asyncio.sleep(random.uniform(*_BUSY_WAIT_S))
        raise Unavailable("sqlite", "deadline")

    async def write(self, operation: Callable[[sqlite3.Connection], T], deadline: Deadline) -> T:
        """Run `operation` in a transaction; an exception in it undoes all that it did.

        It may be run again after a failure of another one in the same transaction.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what waited in a loop that has ended waits for nothing
            self._loop, self._waiting = loop, []
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Waiting(operation, deadline, done))
        if len(self._waiting) == 1:
            loop.call_soon(self._write_waiting, loop)
        return await done

    def close(self) -> None:
        """Close the connection; a later call raises Unavailable."""
        self._connection.close()

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        group = []
        for each in waiting:
            if each.done.done():
                continue  # its caller was cancelled
            if each.deadline.is_over:
                each.done.set_exception(Unavailable("sqlite", "deadline"))
            else:
                group.append(each)
        if group:
            self._write_group(group)
        if self._waiting:  # again: another process has the file
            loop.call_later(random.uniform(*_BUSY_WAIT_S), self._write_waiting, loop)

    def _write_group(self, group: list[_Waiting]) -> None:
        try:
            results = self._transact(group)
        except Exception as error:  # noqa: BLE001 - whoever it belongs to must hear of it
            if _is_busy(error):
                self._waiting += group
            elif len(group) == 1:
                group[0].done.set_exception(_translated(error))
            else:
                for each in group:  # alone, so that one's failure is nobody else's
                    self._write_group([each])
            return
        for each, result in zip(group, results, strict=True):
            each.done.set_result(result)

    def _transact(self, group: list[_Waiting]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            results = [each.operation(self._connection) for each in group]
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return results


def _is_busy(error: Exception) -> bool:
    """Return whether another process holds the lock."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    # The low byte is the primary code (https://www.sqlite.org/rescode.html).
    return (error.sqlite_errorcode & 0xFF) in _BUSY_CODES


def _translated(error: Exception) -> Exception:
    """Return the error that the pipeline knows, or the same for what is no failure of SQLite."""
    if isinstance(error, sqlite3.OperationalError):
        return Unavailable("sqlite", error.sqlite_errorname)
    if isinstance(error, sqlite3.ProgrammingError):
        # Only a closed connection comes here: the statements themselves are constants.
        return Unavailable("sqlite", "closed")
    return error
