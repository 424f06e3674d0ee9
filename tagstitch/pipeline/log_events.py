"""Every line that the log may have: its name, its severity, its fields, and what it says.

To add one: a class here, `log(TheClass(...))` where it happens, and its row in
docs/observability.md, which tests/test_observability.py spells out when it is missing. A field is
a name of our own, a number or an id; never what a visitor or a caller sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec

Severity = Literal["INFO", "WARNING", "ERROR"]

logger = logging.getLogger("tagstitch")

_LEVELS: Final[dict[Severity, int]] = {
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}


class LogEvent(msgspec.Struct, frozen=True):
    """One line of the log; the docstring of each says what has happened."""

    message: ClassVar[str]
    """The fixed name by which people and metrics find the line."""
    severity: ClassVar[Severity] = "WARNING"


def log(event: LogEvent) -> None:
    """Write the line."""
    fields = msgspec.structs.asdict(event)
    logger.log(_LEVELS[event.severity], event.message, extra={"fields": fields})


def log_crash(event: LogEvent, error: BaseException | None) -> None:
    """Write the line as an ERROR with the exception's name and where it passed, not its text."""
    fields = msgspec.structs.asdict(event)
    logger.error(event.message, exc_info=error, extra={"fields": fields})


# Requests and messages


class RequestAnswered(LogEvent, frozen=True):
    """A request was answered; a path that nobody registered is `(unknown)`."""

    message = "request"
    severity = "INFO"
    method: str
    path: str
    status: int
    latency_ms: float


class RequestFailed(LogEvent, frozen=True):
    """The answer is 503, or 500 for a bug: then ERROR, with `exception` and `frames`."""

    message = "request_failed"
    error_id: str


class OpeningFailed(LogEvent, frozen=True):
    """A process could not open what it needs; the next request tries again."""

    message = "opening_failed"
    severity = "ERROR"


class SpansNotRecorded(LogEvent, frozen=True):
    """OTEL_EXPORTER_OTLP_ENDPOINT is set, and the extra `otel` is not installed."""

    message = "spans_not_recorded"


class MessageDeferred(LogEvent, frozen=True):
    """A message was refused, so that Pub/Sub delivers it again."""

    message = "message_deferred"
    why: str


class DeadLetter(LogEvent, frozen=True):
    """A message can never be processed; it leaves as a dead letter."""

    message = "dead_letter"
    code: str


class DeadLetterLeftToSubscription(LogEvent, frozen=True):
    """A message is too large for a dead letter; the subscription forwards it after its refusals."""

    message = "dead_letter_left_to_subscription"
    severity = "ERROR"
    bytes: int


class DeadLetterKnown(LogEvent, frozen=True):
    """The dead letter is stored already: its message came again."""

    message = "dead_letter_known"
    severity = "INFO"
    dead_letter_id: str


class DeadLetterRecordRefused(LogEvent, frozen=True):
    """The dead letter is stored, and the audit table refuses its record for good."""

    message = "dead_letter_record_refused"
    severity = "ERROR"
    dead_letter_id: str
    why: str


# Audit records


class AuditFallback(LogEvent, frozen=True):
    """A record that nothing else holds; `tagstitch audit load` reads the line."""

    message = "AUDIT_FALLBACK"
    severity = "ERROR"
    record: msgspec.Raw


class AuditLeftToSweep(LogEvent, frozen=True):
    """A committed record could not be published in time; the sweep does it."""

    message = "audit_left_to_sweep"
    why: str | None = None


class PendingDocumentGone(LogEvent, frozen=True):
    """A stored record's document is no longer there to be marked."""

    message = "pending_document_gone"
    severity = "INFO"


# Decisions, rules and traits


class RulesCutOff(LogEvent, frozen=True):
    """An event was too much work for the rules behind the one that is named."""

    message = "rules_cut_off"
    at: Sequence[str]


class RulesSkipped(LogEvent, frozen=True):
    """Rules raised while they were applied, and were left out."""

    message = "rules_skipped"
    skipped: Sequence[Mapping[str, Any]]
    skipped_count: int


class StateTooLarge(LogEvent, frozen=True):
    """A visitor's state does not fit into a document; the event was decided without it."""

    message = "state_too_large"
    code: str


class EventNotPublished(LogEvent, frozen=True):
    """An event that a trait counts did not get to stitching; the answer says so."""

    message = "event_not_published"
    why: str


class RefreshFailed(LogEvent, frozen=True):
    """Rules, traits or views could not be loaded anew; the present ones stay."""

    message = "refresh_failed"
    of: str
    why: str


class RefreshCrashed(LogEvent, frozen=True):
    """Loading rules, traits or views met a bug; the present ones stay."""

    message = "refresh_crashed"
    severity = "ERROR"
    of: str
    why: str


class TraitsBroken(LogEvent, frozen=True):
    """Definitions of traits cannot be understood and are left out."""

    message = "traits_broken"
    left_out: Sequence[str]


class TraitFoldFailed(LogEvent, frozen=True):
    """An event could not be counted; links and consent of its request went on."""

    message = "trait_fold_failed"
    severity = "ERROR"
    why: str


class VisitorWritesTooOften(LogEvent, frozen=True):
    """A visitor, perhaps a bot, made decide write too often: decided without the state."""

    message = "visitor_writes_too_often"


class StoreBreakerOpened(LogEvent, frozen=True):
    """The store failed time and again: answers do not wait for it until it is back."""

    message = "store_breaker_opened"
    why: str


# Callbacks and actions


class EndpointDisabled(LogEvent, frozen=True):
    """An endpoint answered 410: no process asks it for a week, unless a replay arrives there."""

    message = "endpoint_disabled"
    severity = "ERROR"
    endpoint: str


class EndpointEnabled(LogEvent, frozen=True):
    """An endpoint that was disabled works again."""

    message = "endpoint_enabled"
    endpoint: str


class EndpointNotRemembered(LogEvent, frozen=True):
    """That an endpoint is disabled, or enabled, is known to this process alone: no store."""

    message = "endpoint_not_remembered"
    endpoint: str
    why: str


class CallbackNotAcknowledged(LogEvent, frozen=True):
    """An endpoint that acknowledges answered 2xx without naming the callback."""

    message = "callback_not_acknowledged"
    endpoint: str


class EndpointBreakerOpened(LogEvent, frozen=True):
    """An endpoint fails time and again and is left alone for a while."""

    message = "endpoint_breaker_opened"
    endpoint: str
    status: int | None


class DestinationTokenRefused(LogEvent, frozen=True):
    """A destination's token endpoint refuses our credentials."""

    message = "destination_token_refused"
    severity = "ERROR"
    destination: str
    status: int


class DestinationTokenUnreadable(LogEvent, frozen=True):
    """A destination's token endpoint answered what is no token."""

    message = "destination_token_unreadable"
    destination: str
    status: int


class LeaseWasTakenOver(LogEvent, frozen=True):
    """Another process goes on with the entry, or has erased it: this one took too long."""

    message = "lease_was_taken_over"
    severity = "INFO"
    outbox_id: str


class ActionLeftToSweep(LogEvent, frozen=True):
    """An entry is committed, and topic `actions` did not hear of it; the sweep tells it."""

    message = "action_left_to_sweep"
    outbox_id: str


class PushStreamBroken(LogEvent, frozen=True):
    """A browser's stream ended, because the store did not answer; the browser comes again."""

    message = "push_stream_broken"
    why: str


class PushStreamCrashed(LogEvent, frozen=True):
    """A browser's stream met a bug and ended; the browser comes again."""

    message = "push_stream_crashed"
    severity = "ERROR"


class ReplayedLetterGone(LogEvent, frozen=True):
    """A dead letter was sent again and expired meanwhile, or its person was erased."""

    message = "replayed_letter_gone"
    severity = "INFO"


# The sweep


class Swept(LogEvent, frozen=True):
    """The sweep found something that was forgotten, or brought an erasure to its end."""

    message = "swept"
    records: int
    actions: int
    rules: str
    erasures: int


class SweptNotNoted(LogEvent, frozen=True):
    """Documents could not be told what the sweep has published: the next one does so again."""

    message = "swept_not_noted"
    why: str


class ErasuresNotLookedFor(LogEvent, frozen=True):
    """The sweep could not ask which erasures are due."""

    message = "erasures_not_looked_for"
    why: str


class ErasureByAnotherProcess(LogEvent, frozen=True):
    """Another process works on the same erasure."""

    message = "erasure_by_another_process"
    severity = "INFO"


class ErasureLeftToNextSweep(LogEvent, frozen=True):
    """An erasure did not come to its end; the next sweep goes on."""

    message = "erasure_left_to_next_sweep"
    why: str


class ErasureCrashed(LogEvent, frozen=True):
    """An erasure met a bug; the next sweep tries again."""

    message = "erasure_crashed"
    severity = "ERROR"
    why: str


class RulesPublished(LogEvent, frozen=True):
    """The sweep published rules that were edited in the store."""

    message = "rules_published"
    severity = "INFO"
    version: str
    counts: Mapping[str, int]
    broken: Sequence[str]


class RulesRefused(LogEvent, frozen=True):
    """The store has so few rules that the sweep does not take them for all."""

    message = "rules_refused"
    why: str


class RulesNotPublished(LogEvent, frozen=True):
    """The sweep could not publish edited rules; the next one tries again."""

    message = "rules_not_published"
    why: str


class RulesCrashed(LogEvent, frozen=True):
    """Publishing edited rules met a bug; the present ones stay."""

    message = "rules_crashed"
    severity = "ERROR"
    why: str


# The local stack


class QueueUnavailable(LogEvent, frozen=True):
    """The local queue's file did not answer."""

    message = "queue_unavailable"
    why: str


class PushFailed(LogEvent, frozen=True):
    """A local push raised; it is delivered again."""

    message = "push_failed"
    subscription: str
    error: str


class ScheduleFailed(LogEvent, frozen=True):
    """A local schedule's call failed; the next one comes."""

    message = "schedule_failed"
    schedule: str


class ExpiryFailed(LogEvent, frozen=True):
    """What has expired could not be deleted from the local file; the next hour it is tried again."""

    message = "expiry_failed"
