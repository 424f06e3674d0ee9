"""How far one call has come, for whoever stops waiting for it."""

from __future__ import annotations

import threading


class CallProgress:
    """Whether a request has begun to leave, and whether its caller still waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_abandoned = False
        self.has_sent = False
        """Whether a byte of the request may have left: then nobody knows what became of it."""

    def begin_to_send(self) -> None:
        """Note that bytes leave now; raises OSError when the caller has given up."""
        with self._lock:
            if self._is_abandoned:
                raise OSError("given up before anything was sent")
            self.has_sent = True

    def abandon(self) -> bool:
        """Give up; return whether anything may have left. From now on nothing does."""
        with self._lock:
            self._is_abandoned = True
            return self.has_sent
