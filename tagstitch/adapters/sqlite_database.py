"""One SQLite file for everything that the local backend keeps."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.deadline import Deadline

FILE_NAME: Final = "tagstitch.sqlite"

_BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BUSY_WAIT_S = (0.001, 0.005)
_STARTUP_BUSY_MS = 10_000
"""How long the first statements wait for another process that sets the same file up."""

T = TypeVar("T")


class SqliteDatabase:
    """The file `<data_dir>/tagstitch.sqlite`, with one connection in this process.

    Calls run inline, since a statement takes microseconds. Another process (the CLI) may hold the
    write lock: then a call waits without blocking the event loop, until its deadline.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.path = data_dir / FILE_NAME
        self._connection = sqlite3.connect(
            self.path,
            isolation_level=None,  # transactions are begun and ended below, and nowhere else
            check_same_thread=False,  # a later event loop may run in another thread
        )
        self._connection.execute(f"PRAGMA busy_timeout = {_STARTUP_BUSY_MS}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode NORMAL survives the death of the process; only a power failure may cost the
        # last commits (https://www.sqlite.org/pragma.html#pragma_synchronous).
        self._connection.execute("PRAGMA synchronous = NORMAL")

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
        return await self._when_free(lambda: operation(self._connection), deadline)

    async def write(self, operation: Callable[[sqlite3.Connection], T], deadline: Deadline) -> T:
        """Run `operation` in one transaction; an exception in it undoes everything."""
        return await self._when_free(lambda: self._transact(operation), deadline)

    def close(self) -> None:
        """Close the connection; a later call raises Unavailable."""
        self._connection.close()

    def _transact(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = operation(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result

    async def _when_free(self, call: Callable[[], T], deadline: Deadline) -> T:
        while not deadline.is_over:
            try:
                return call()
            except sqlite3.OperationalError as error:
                # The low byte is the primary code (https://www.sqlite.org/rescode.html).
                if (error.sqlite_errorcode & 0xFF) not in _BUSY_CODES:
                    raise Unavailable("sqlite", error.sqlite_errorname) from error
            except sqlite3.ProgrammingError as error:
                # Only a closed connection comes here: the statements themselves are constants.
                raise Unavailable("sqlite", "closed") from error
            await asyncio.sleep(random.uniform(*_BUSY_WAIT_S))
        raise Unavailable("sqlite", "deadline")
