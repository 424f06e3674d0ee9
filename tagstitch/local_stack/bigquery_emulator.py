"""Starts bqemulator so that it survives an append beside a query; runs in its own environment.

bqemulator 1.4.0 uses one DuckDB connection from two threads, the REST server's and that of the
Storage Write API: an append beside a query loses rows, fails the query, or stops both for good.
DuckDB's own remedy is a cursor, which is a second connection to the same database, for each thread
(https://duckdb.org/docs/stable/guides/python/multiple_threads).
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from bqemulator.cli import main
from bqemulator.storage.engine import DuckDBEngine

_first = DuckDBEngine.connection.fget


def _connection_of_this_thread(engine: Any) -> Any:
    """Return the engine's connection to the thread that first asks, a cursor to any other."""
    connections = vars(engine).setdefault("_connections", threading.local())
    if not hasattr(connections, "own"):
        connections.own = _first(engine)
        if vars(engine).setdefault("_owner", threading.get_ident()) != threading.get_ident():
            connections.own = connections.own.cursor()
            connections.own.execute("SET TimeZone = 'UTC'")  # as the engine sets it for its own
    return connections.own


if __name__ == "__main__":
    DuckDBEngine.connection = property(_connection_of_this_thread)
    sys.exit(main())
