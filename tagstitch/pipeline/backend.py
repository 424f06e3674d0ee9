"""The ports: what the pipeline needs from the outside, and Backend, the object that lists them.

Every port has one contract test class (`tests/contract/`), run by each backend. Every method is
bounded by the deadline it is given and raises `Unavailable` when that passes or when the service
behind it fails; with one that is over already it raises `Unavailable` and does nothing. Nothing
retries inside an adapter beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from tagstitch.pipeline.deadline import Deadline

Clock = Callable[[], datetime]
"""Returns the present time, aware, in UTC."""


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document.

    `path` is `collection/id`. Field values are None, bool, int (64 bit), float, str, bytes, aware
    datetime (microseconds, read back in UTC), list and dict with text keys; a list never directly
    holds a list (Firestore has no such value). Anything else is a bug of the caller.
    """

    path: str
    fields: Mapping[str, Any]
    version: str
    """Opaque, for `if_version`; changes whenever the content does.

    Writing the same content again may or may not change it
    (https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#writeresult).
    """


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole document.

    `if_version` None writes whatever is there; "" writes only when the document does not exist;
    anything else writes only when the document still has that version.
    """

    path: str
    fields: Mapping[str, Any]
    if_version: str | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """Set some top-level fields of an existing document and remove others.

    A commit with a patch of a document that does not exist fails as a Conflict.
    """

    path: str
    fields: Mapping[str, Any]
    remove: Sequence[str] = ()
    if_version: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a document; one that does not exist is no error."""

    path: str


Write = Put | Patch | Delete


class DocumentReader(Protocol):
    """What reads documents by their paths."""

    async def get(self, path: str, *, deadline: Deadline) -> Document | None:
        """Return the document, or None; one read RPC."""
        ...

    async def get_many(self, paths: Sequence[str], *, deadline: Deadline) -> Mapping[str, Document]:
        """Return the documents that exist, by path; one read RPC however many there are."""
        ...


class DocumentStore(DocumentReader, Protocol):
    """Documents with versions: Firestore in the cloud, SQLite locally."""

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline) -> None:
        """Apply all writes or none; one write RPC.

        Raises Conflict when a precondition does not hold and InvalidInput when a document is
        above `DOCUMENT_BYTES_MAX`. When it raises Unavailable the commit may or may not have
        happened: callers must be idempotent. No path stands in one commit twice.
        """
        ...

    async def list_documents(
        self,
        collection: str,
        *,
        pending: int | Literal["any"] | None = None,
        subject: str | None = None,
        after: str | None = None,
        limit: int = 100,
        deadline: Deadline,
    ) -> Sequence[Document]:
        """Return documents of a collection in order of their path (UTF-8 bytes).

        `after` is a path, the last one of the page before, whether or not it still exists.
        `pending` keeps only those whose field `pending` equals it, `subject` those of one
        pseudonym: the two named queries that need an index, each alone. With `pending="any"` those
        come that have any integer from 0 on there, the smaller ones first and those of one number in
        order of their path; that takes no `after`.
        """
        ...


class Publisher(Protocol):
    """Messages out: Pub/Sub in the cloud, a queue in SQLite locally."""

    async def publish(
        self,
        topic: str,
        data: bytes,
        *,
        attributes: Mapping[str, str] | None = None,
        deadline: Deadline,
    ) -> str:
        """Return the message id once the message is stored, never before.

        Raises InvalidInput for a message that Pub/Sub refuses whatever happens (`message_limits.py`
        checks it), Unavailable otherwise, also for a topic that does not exist.
        """
        ...


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that the table refused for good; `reason` holds no values of the row."""

    index: int
    reason: str


class AuditTable(Protocol):
    """The table `audit`: BigQuery in the cloud, SQLite locally."""

    async def append(
        self, rows: Sequence[Mapping[str, Any]], *, deadline: Deadline
    ) -> Sequence[RejectedRow]:
        """Append rows (columns of `schemas/audit_table.json`), good ones even beside bad ones.

        At most once per `record_id` as far as the store allows; the view `audit_deduplicated`
        does the rest. Returns the rows that would be refused again; raises Unavailable when
        appending the same rows later may work.
        """
        ...

    async def erase(self, subjects: Sequence[str], *, deadline: Deadline) -> int:
        """Make the rows of these pseudonyms nobody's, as `core/erasure.py` says; return how many.

        Rows that are not stored yet are not touched: whoever erases comes again.
        """
        ...


class AuditQueries(Protocol):
    """SQL over the table and its views, in BigQuery's dialect everywhere."""

    async def run(self, sql: str, *, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        """Return the rows of one query; raises InvalidInput (`invalid_field`) for SQL errors."""
        ...


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """What an endpoint said."""

    status: int
    retry_after_s: float | None = None
    body: bytes = field(default=b"", compare=False, repr=False)
    """The beginning of the answer's body, as it came."""


class CallbackSender(Protocol):
    """Sends to registered endpoints: no redirects, no proxies, bounded answer."""

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        allow_private: bool,
        deadline: Deadline,
        method: Literal["POST", "PUT", "PATCH"] = "POST",
    ) -> CallbackAnswer:
        """Return the answer's status.

        Raises Unavailable when there was none within the deadline (connection failure, time-out),
        as NotSent when the request did not even begin to leave, and InvalidInput
        (`unknown_callback`) when the address may not be called at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything outside the process that the pipeline uses."""

    documents: DocumentStore
    publisher: Publisher
    audit_table: AuditTable
    audit_queries: AuditQueries
    callbacks: CallbackSender
    clock: Clock
