"""Every limit, with its unit and its reason."""

from __future__ import annotations

from typing import Final

LOOKUP_BODY_BYTES_MAX: Final = 256 * 1024
"""Bytes of a stitch_sync body: identifiers and a context need a few kilobytes."""

DECIDE_BODY_BYTES_MAX: Final = 1024 * 1024
"""Bytes of a decide body: an event with 200 items stays below 300 KiB."""

PUSH_BODY_BYTES_MAX: Final = 14 * 1024 * 1024
"""Bytes of a push request: Pub/Sub's 10 MB message limit, in base64."""

JSON_DEPTH_MAX: Final = 20
"""Levels of nesting: Firestore's own limit for maps
(https://cloud.google.com/firestore/quotas)."""

INTEGER_ABS_MAX: Final = 2**63 - 1
"""Firestore and BigQuery integers are 64 bits, signed."""

IDENTIFIER_VALUE_CHARS_MAX: Final = 512
"""Characters of one identifier: server-managed client ids have 60, device tokens about 200."""

IDENTIFIERS_PER_REQUEST_MAX: Final = 20
"""Identifiers in one request: a visitor shows a handful at once; each costs document reads."""

REQUEST_ID_CHARS_MAX: Final = 128
"""Characters of a request id: room for a UUID, a ULID or a webhook id with a prefix."""

CONTEXT_BYTES_MAX: Final = 4 * 1024
"""Bytes of `context`, which is echoed on the callback and travels through the queue."""

PREVIEW_HEADER_BYTES_MAX: Final = 2 * 1024
"""Bytes of sGTM's preview header, which travels through the queue."""

CALLBACK_BODY_BYTES_MAX: Final = 64 * 1024
"""Bytes of a callback body."""

EVENT_PARAMETERS_MAX: Final = 2_000
"""Top-level parameters of an event; GA4 itself allows 25 to 100 custom ones."""

DEADLINE_MS_DEFAULT: Final = 250
"""Milliseconds a synchronous answer may take when the caller does not say."""

DEADLINE_MS_MIN: Final = 20
DEADLINE_MS_MAX: Final = 5_000
"""An sGTM promise is said to time out after 5 seconds."""

CALLBACK_DEADLINE_S: Final = 5.0
"""Seconds for one callback attempt in total: name look-up, connection, TLS, headers and body."""

CALLBACK_EXPIRY_S: Final = 600.0
"""Seconds after which a stitched result no longer helps: the visitor has left the page."""

IDEMPOTENCY_DAYS: Final = 7
"""Days a request id is remembered: as long as Pub/Sub keeps an unacknowledged message."""

PROFILE_EXPIRY_DAYS: Final = 396
"""Days (13 months) after which an unused profile expires; sliding."""

OUTBOX_EXPIRY_DAYS: Final = 30
DEAD_LETTER_EXPIRY_DAYS: Final = 7

AUDIT_RECORDS_PER_MESSAGE_MAX: Final = 500
"""Audit records in one message, so that one append stays far below 10 MB."""

AUDIT_MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one audit message: ten times below Pub/Sub's own limit."""

PENDING_SHARDS: Final = 64
"""Values of `pending`: an index on one hot value would limit writes to about 500 a second."""

PENDING_AGE_S: Final = 120.0
"""Seconds after which the sweep takes a committed record for unpublished."""

CLOCK_SKEW_S: Final = 300.0
"""Seconds by which an event's or a signature's time may lie in the future."""

IDENTIFIERS_PER_PROFILE_MAX: Final = 50
"""Identifiers of one profile; more is a shared device, a bot or a bug in the tagging."""

PROFILE_HINTS_MAX: Final = 50_000
"""Entries of the process cache identifier -> profile id, about 15 MB."""

COMMIT_WRITES_MAX: Final = 500
"""Writes of one Firestore commit (https://cloud.google.com/firestore/quotas)."""

CONSENT_PURPOSES_MAX: Final = 32
"""Purposes read from one consent object, besides the four of consent mode."""

RULE_ID_CHARS_MAX: Final = 128
"""Characters of a rule id: it is a document id and stands in every audit record."""

RULE_DEPTH_MAX: Final = JSON_DEPTH_MAX
"""Levels of nesting of a rule document."""

RULE_EVENT_NAMES_MAX: Final = 100
"""Event names one rule may be bound to; above that a rule means `*`."""

RULE_ACTIONS_MAX: Final = 20
"""Actions of one rule."""

CONDITION_DEPTH_MAX: Final = 8
"""Levels of groups and matches in one rule's conditions."""

CONDITION_PREDICATES_MAX: Final = 64
"""Comparisons in one rule's conditions."""

CONDITION_LIST_MAX: Final = 1_000
"""Values of one list operand; longer lists belong into a profile attribute."""

CONDITION_REGEX_CHARS_MAX: Final = 256
"""Characters of a regular expression."""

PATH_SEGMENTS_MAX: Final = 10
"""Segments of a path such as `user_data.address.country`."""

PATH_CHARS_MAX: Final = 512
"""Characters of a path."""

NUMBER_ABS_MAX: Final = 1e15
"""Largest result of an arithmetic action: cents up to here are exact in a 64-bit float."""

NUMERIC_TEXT_CHARS_MAX: Final = 32
"""Characters of a text that is still read as a number."""

COOKIE_BYTES_MAX: Final = 4096
"""Bytes of a cookie's name and value together (RFC 6265, section 6.1)."""

COOKIE_EXPIRY_MINUTES_DEFAULT: Final = 60
COOKIE_EXPIRY_MINUTES_MAX: Final = 400 * 24 * 60
"""Minutes a cookie may live: browsers cut at 400 days (RFC 6265bis, section 5.5)."""

RETURN_VALUE_BYTES_MAX: Final = 4 * 1024
"""Bytes, as JSON, of a value that a rule returns to the page."""

STATE_KEYS_MAX: Final = 50
"""Keys that one rule may write to a profile's state."""

STATE_VALUE_BYTES_MAX: Final = 1024
"""Bytes, as JSON, of one value in a profile's state: a profile stays far below 1 MiB."""

TRACE_TEXT_CHARS_MAX: Final = 256
"""Characters of a text value shown in a trace."""

TRACE_LIST_MAX: Final = 20
"""Entries of a list or object shown in a trace."""

DECIMAL_PLACES_MAX: Final = 6
"""Decimal places an action may round to: no currency has more than 4."""

FIELD_NAME_BYTES_MAX: Final = 1500
"""Bytes of the name of a document's field (https://cloud.google.com/firestore/quotas)."""

DOCUMENT_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one document, by Firestore's count (https://cloud.google.com/firestore/quotas)."""

MESSAGE_BYTES_MAX: Final = 10_000_000
"""Bytes of one Pub/Sub message, data and attributes (https://cloud.google.com/pubsub/quotas)."""

MESSAGE_ATTRIBUTES_MAX: Final = 100
MESSAGE_ATTRIBUTE_NAME_BYTES_MAX: Final = 256
MESSAGE_ATTRIBUTE_VALUE_BYTES_MAX: Final = 1024

RULE_FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of one rule file: about 100,000 rules."""

RULE_FILE_ALIASED_NODES_MAX: Final = 100_000
"""Values that YAML aliases add to a rule file: nine lines of them can stand for a billion."""

PROFILE_BYTES_MAX: Final = 256 * 1024
"""Bytes of a profile document: it is read for every event of its visitor."""

CHECK_ALTERNATIVES_MAX: Final = 32
"""Alternatives (any-groups multiplied out) of one rule's conditions that the static checks tell
apart; beyond that they claim less."""

CHECK_PAIRS_MAX: Final = 500_000
"""Pairs of rules that one static check compares: 10 to 40 seconds."""

CHECK_RELATED_MAX: Final = 10
"""Other rules that one finding names."""

CATALOGUE_EVENT_NAMES_MAX: Final = 1_000
"""Event names of a field catalogue; a property of GA4 allows 500."""

CATALOGUE_FIELDS_MAX: Final = 2_000
"""Fields of one event name, or of all profiles, in a field catalogue."""

CATALOGUE_NAME_CHARS_MAX: Final = 100
"""Characters of a key that enters a field catalogue: longer ones are data, not names."""
