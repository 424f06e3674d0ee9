"""Logs: one JSON object a line on stdout, as Cloud Logging reads it; no personal data.

pipeline/log_events.py lists the lines; everything but a line's name is in `record.fields`.
Texts of foreign exceptions are left out, since they may quote what a visitor sent.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tagstitch.pipeline.log_events import RequestAnswered

request_fields: ContextVar[dict[str, Any] | None] = ContextVar("request_fields", default=None)
"""What every line of the present request carries: function, request id, trace."""

_SEVERITIES: Final = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "CRITICAL",
}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end."""
        line: dict[str, Any] = {
            "severity": _SEVERITIES.get(record.levelno, "DEFAULT"),
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC),
            **(request_fields.get() or {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["frames"] = _frames(record.exc_info[2])
        return msgspec.json.encode(line).decode()


def configure_logging(name: str = "tagstitch", level: int = logging.INFO) -> None:
    """Send a logger's lines, by default the project's, to stdout; repeated calls change nothing."""
    # Our lines name neither (https://docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logger = logging.getLogger(name)
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def log_request(answered: RequestAnswered) -> None:
    """Write the line of one request.

    Made without the caller's place in the code, which costs more to find than all the rest.
    """
    logger = logging.getLogger("tagstitch")
    record = logging.LogRecord("tagstitch", logging.INFO, "", 0, answered.message, None, None)
    record.fields = msgspec.structs.asdict(answered)
    logger.handle(record)


def _frames(trace: Any) -> list[str]:
    """Return where an exception passed, as file:line function, without the values."""
    return [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace)
    ]
