"""Endpoints that said that they are gone: remembered in the store, for every process."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from tagstitch.core.errors import Unavailable
from tagstitch.core.limits import DEAD_LETTER_EXPIRY_DAYS
from tagstitch.pipeline.backend import Clock, Delete, DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all
from tagstitch.pipeline.log_events import (
    EndpointDisabled,
    EndpointEnabled,
    EndpointNotRemembered,
    log,
)
from tagstitch.pipeline.refreshed import Refreshed

_REFRESH_S: Final = 30.0
"""Seconds between two looks at the collection, which is empty as long as nobody is gone."""
_TIMEOUT_S: Final = 2.0


class _Noted(NamedTuple):
    is_gone: bool
    stored_at: datetime | None = None


class DisabledEndpoints:
    """The endpoints to which nothing is sent, by their key and address: another address is another.

    An endpoint is forgotten after a week, like the dead letters of what was meant for it.
    """

    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._stored: Refreshed[frozenset[str]] = Refreshed(
            self._load, name="disabled_endpoints", interval_s=_REFRESH_S, clock=clock
        )
        self._noted: dict[str, _Noted] = {}
        """What this process has seen, until a later look at the store."""

    async def holds(self, key: str, url: str, *, deadline: Deadline) -> bool:
        """Return whether the endpoint is gone, as far as the store can be read."""
        path = _path(key, url)
        if path in self._noted:
            self._stored.start()  # another process may have found that it is back
            return self._noted[path].is_gone
        stored = await self._stored.get(deadline.at_most(_TIMEOUT_S))
        return stored is not None and path in stored

    async def add(self, key: str, url: str) -> None:
        """Remember an endpoint; when the store does not answer, in this process alone."""
        path, now = _path(key, url), self._clock()
        fields = {
            "endpoint": key,
            "disabled_at": now,
            "expires_at": now + timedelta(days=DEAD_LETTER_EXPIRY_DAYS),
        }
        log(EndpointDisabled(endpoint=key))
        await self._write(Put(path, fields), key, is_gone=True)

    async def remove(self, key: str, url: str) -> None:
        """Forget an endpoint that works again."""
        path = _path(key, url)
        if not await self.holds(key, url, deadline=Deadline.after(_TIMEOUT_S)):
            return
        log(EndpointEnabled(endpoint=key))
        await self._write(Delete(path), key, is_gone=False)

    async def _write(self, write: Put | Delete, key: str, *, is_gone: bool) -> None:
        self._noted[write.path] = _Noted(is_gone)
        try:
            await self._documents.commit([write], deadline=Deadline.after(_TIMEOUT_S))
        except Unavailable as error:
            log(EndpointNotRemembered(endpoint=key, why=str(error)))
        else:
            self._noted[write.path] = _Noted(is_gone, self._clock())

    async def _load(self, _present: frozenset[str] | None, deadline: Deadline) -> frozenset[str]:
        began_at = self._clock()
        found = await list_all(self._documents, "disabled_endpoints", deadline=deadline)
        for path, noted in tuple(self._noted.items()):
            if noted.stored_at is not None and noted.stored_at < began_at:
                del self._noted[path]
        return frozenset(each.path for each in found if each.fields["expires_at"] > began_at)


def _path(key: str, url: str) -> str:
    name = hashlib.sha256(f"{key} {url}".encode()).hexdigest()[:32]
    return f"disabled_endpoints/{name}"
