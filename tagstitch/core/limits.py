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

ACTION_TIMEOUT_S_MAX: Final = 10.0
"""Seconds that a destination may be given in total: with a token to fetch, an attempt ends within
the deadline of a pushed message."""

ACTION_REPLAY_S: Final = 86_400.0
"""Seconds for which an action is of use again once a person replays its dead letter."""

PUSH_TOKEN_S: Final = 900
"""Seconds for which a browser may listen with one token: as long as it stays on a page; the next
decision gives it another."""

PUSH_MESSAGES_MAX: Final = 50
"""Messages that wait for one visitor."""

PUSH_INBOX_BYTES_MAX: Final = 256 * 1024
"""Bytes of JSON that wait for one visitor, far below a document's limit."""

OUTBOX_EXPIRY_DAYS: Final = 30
DEAD_LETTER_EXPIRY_DAYS: Final = 7
EXPOSURE_EXPIRY_DAYS: Final = 90

TOMBSTONE_DAYS: Final = 400
"""Days for which nobody comes back: as long as the audit, longer than any profile, queue or log."""

ERASURE_PASSES_S: Final = (90.0 * 60, 8.0 * 24 * 60 * 60)
"""Seconds after an erasure when it is repeated: when rows that were on their way are in the table,
and when no topic holds a message of that time any longer (7 days)."""

AUDIT_RECORDS_PER_MESSAGE_MAX: Final = 500
"""Audit records in one message, so that one append stays far below 10 MB."""

AUDIT_MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one audit message: ten times below Pub/Sub's own limit."""

RECEIPT_BYTES_MAX: Final = 64 * 1024
"""Bytes of a decision's receipt before it is sealed: a log line, where a record may have to go, ends
at 256 KiB (https://cloud.google.com/logging/quotas). A larger decision is recorded without one."""

BACKTEST_EXAMPLES_MAX: Final = 20
"""Events that a backtest shows one by one: what a person reads."""

PENDING_SHARDS: Final = 64
"""Values of `pending`: an index on one hot value would limit writes to about 500 a second."""

PENDING_AGE_S: Final = 120.0
"""Seconds after which the sweep takes a committed record for unpublished."""

CLOCK_SKEW_S: Final = 300.0
"""Seconds by which an event's or a signature's time may lie in the future."""

IDENTIFIERS_PER_PROFILE_MAX: Final = 50
"""Identifiers of one profile; more is a shared device, a bot or a bug in the tagging."""

MERGES_PER_PROFILE_MAX: Final = 100
"""Profiles that became one; more is a bot or a bug in the tagging."""

DEMOTED_PER_PROFILE_MAX: Final = 100
"""Identifiers that a profile remembers as kept apart from it; the oldest are forgotten, and asked
about anew."""

MERGED_LIST_MAX: Final = 200
"""Elements of a list that a merge unites."""

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

ACTION_VALUE_BYTES_MAX: Final = 16 * 1024
"""Bytes, as JSON, of one value that a rule writes into events: it is content, not a catalogue."""

ACTION_TABLE_BYTES_MAX: Final = 64 * 1024
"""Bytes, as JSON, of the table of `map`: 1,000 short entries; a rule is one Firestore document."""

ACTION_TABLE_KEY_CHARS_MAX: Final = 256
"""Characters of a key in the table of `map`."""

TEMPLATE_CHARS_MAX: Final = 2 * 1024
"""Characters of a template as written: a URL with its parameters."""

TEMPLATE_PATHS_MAX: Final = 20
"""Values that one template puts together."""

REPLACEMENT_CHARS_MAX: Final = 256
"""Characters of a replacement as written; as many as of the regular expression."""

REPLACEMENTS_MAX: Final = 1_000
"""Places that one regex_replace may change, about 5 ms: the browser chooses the text."""

CHANGED_TEXT_CHARS_MAX: Final = 16 * 1024
"""Characters of a text that a regex_replace reads, and that it or a template gives: twice the
longest URL that browsers and servers agree on."""

WORK_STEPS_MAX: Final = 250_000
"""Steps of one decision, some 0.25 microseconds each: nothing else is answered meanwhile."""

WORK_STEPS_PER_MS: Final = 1_000
"""Steps for each millisecond of a request's deadline: a quarter of it, since a decision may have to
be made three times."""

OUTBOX_ENTRIES_MAX: Final = 100
"""Outbox entries of one decision: all of it is one commit of at most 500 writes and 10 MiB."""

EXPOSURES_MAX: Final = 100
"""First exposures of one decision, for the same reason; what is left waits for the next event."""

INDEXED_ELEMENTS_MAX: Final = 1_000
"""Elements of a list that an index looks at; in a longer one only the conditions look."""

EVENT_WRITES_BYTES_MAX: Final = 1024 * 1024
"""Bytes of JSON that the actions of one decision may write in total: a changed event is at most
twice as large as the largest that may arrive, and so is the list of its modifications."""

SAMPLE_SALT_CHARS_MAX: Final = 64
"""Characters of a salt."""

OUTBOX_FIELDS_MAX: Final = 100
"""Fields of one e-mail, CRM record, webhook or message."""

OUTBOX_BYTES_MAX: Final = 64 * 1024
"""Bytes, as JSON, of the fields of one outbox entry: as much as the body of a callback."""

OUTBOX_NAME_CHARS_MAX: Final = 128
"""Characters of a template's, object's, endpoint's, channel's or field's name."""

UNKNOWN_FIELDS_MAX: Final = 100
"""Fields of one object that mean nothing to us: each is compared with those that do."""

CONDITION_DEPTH_MAX: Final = 8
"""Levels of groups and matches in one rule's conditions."""

CONDITION_PREDICATES_MAX: Final = 64
"""Comparisons in one rule's conditions."""

CONDITION_LIST_MAX: Final = 1_000
"""Values of one list operand; longer lists belong into a profile attribute."""

CONDITION_TEXT_CHARS_MAX: Final = 4_096
"""Characters of a text to look for: longer than any URL that browsers send whole."""

CONDITION_REGEX_CHARS_MAX: Final = 256
"""Characters of a regular expression."""

CONDITION_REGEX_INSTRUCTIONS_MAX: Final = 5_000
"""Instructions of a compiled regular expression: RE2 needs up to so many steps a character."""

CONDITION_REGEX_BYTES_MAX: Final = 1024 * 1024
"""Bytes that RE2 may use for one regular expression; its own default is eight times as much."""

CONDITION_REGEX_VALUE_CHARS_MAX: Final = 8 * 1024
"""Characters of a value that is searched with a regular expression: the longest URLs that servers
take; GA4 cuts a page's location at 1,000. A longer value matches nothing."""

CONDITION_SALT_CHARS_MAX: Final = 128
"""Characters of the salt of a split: the name of a rule or an experiment."""

TIME_TEXT_CHARS_MAX: Final = 64
"""Characters of a text that is still read as a time: twice the longest ISO 8601 time."""

EPOCH_MIN: Final = 10**8
EPOCH_MAX: Final = 10**11
"""Seconds since 1970 that a number may stand for, 1973 to 5138: within them the magnitude tells
seconds from milliseconds and microseconds."""

EPOCH_OPERAND_MIN: Final = 631_152_000
EPOCH_OPERAND_MAX: Final = 7_258_118_400
"""Seconds since 1970 of the years 1990 and 2200: an epoch in a rule that lies elsewhere is rather a
date without dashes, such as 20261121200000."""

VERSION_CHARS_MAX: Final = 128
"""Characters of a text that is still read as a version."""

ADDRESS_CHARS_MAX: Final = 64
"""Characters of an address or a range: the longest IPv6 range has 49, a zone some more."""

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

TRACED_RULES_MAX: Final = 1_000
"""Rules of each kind that a trace tells of, those that were asked before the others: to tell of one
takes a hundred times as long as to decide it."""

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

EXPERIMENT_VARIANTS_MAX: Final = 20
"""Variants of one experiment: more arms than this find no result in a shop's traffic."""

EXPERIMENT_FORCED_MAX: Final = 20
"""Forced variants of one experiment: they are for testing, and each is evaluated per event."""

EXPERIMENT_NAME_CHARS_MAX: Final = 128
"""Characters of the name of a variant, a namespace or a holdout, and of a seed."""

EXPERIMENT_WEIGHTS_SUM_MIN: Final = 0.99
EXPERIMENT_WEIGHTS_SUM_MAX: Final = 1.01
"""Sums of weights outside of which GrowthBook's SDKs silently split equally."""

EXPOSURES_PER_ASSIGNMENT_MAX: Final = 20
"""Pairs of version and variant that a profile remembers for one experiment; the newest stay."""

SAMPLE_RATIO_ALERT_P: Final = 0.001
SAMPLE_RATIO_WARN_P: Final = 0.01
"""Probabilities below which a sample ratio mismatch raises an alert or a warning, as Statsig
has them."""

SCHEDULE_HOURS_MAX: Final = 24
"""Ranges of hours in one schedule: one for each hour of the day."""

CAPS_PER_RULE_MAX: Final = 5
"""Frequency caps of one rule: hour, day, week, month and lifetime."""

CAP_MAX_MAX: Final = 100
"""Uses that a frequency cap may allow in one window: each is a stored time."""

CAP_TIMES_MAX: Final = 2 * CAP_MAX_MAX
"""Times stored for one cap, 1,600 bytes: a full window on either side of a clock that is behind."""

CAP_WINDOW_S_MIN: Final = CLOCK_SKEW_S
"""Seconds of the shortest rolling window: clocks that differ by more than it could not count."""

CAP_WINDOW_S_MAX: Final = 366 * 24 * 60 * 60
"""Seconds of the longest rolling window: a leap year."""

SALT_CHARS_MAX: Final = 128
"""Characters of a salt: as long as a rule id, which is one by default."""

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

TRAIT_NAME_CHARS_MAX: Final = 64
"""Characters of a trait's name: it becomes an attribute and a field of every profile."""

TRAIT_VALUE_BYTES_MAX: Final = 1_000
"""Bytes, as JSON, of a value that `first`, `last`, `set` or `set_once` keeps: GA4 cuts a page's
location at 1,000 characters. A longer one counts as absent: half a value would be a wrong one."""

TRAIT_ELEMENT_BYTES_MAX: Final = 200
"""Bytes, as JSON, of one value of a `unique_list`: 100 of them stay below 24 KiB."""

TRAIT_KEY_BYTES_MAX: Final = 66
"""Bytes, as JSON, of a key of a `tally` or `most_frequent`: 64 and the quotes; categories, sources
and item ids are shorter."""

TRAIT_VALUES_PER_EVENT_MAX: Final = 200
"""Elements of a list that one event counts: as many items as GA4 takes."""

TRAIT_LIST_DEFAULT: Final = 10
TRAIT_LIST_MAX: Final = 100
"""Values that a `unique_list` may keep."""

TRAIT_TALLY_DEFAULT: Final = 10
TRAIT_TALLY_MAX: Final = 50
"""Keys that a `tally` may show."""

TRAIT_TALLY_KEYS_MAX: Final = 100
"""Different keys up to which a lifetime tally is exact."""

TRAIT_TALLY_SAMPLE: Final = 128
"""Occurrences of which the shares of a larger lifetime tally are taken: a standard error of at most
4.4 % of all occurrences (half of one through the root of 128)."""

TRAIT_TALLY_BUCKET_MAX: Final = 12
"""The same two numbers for one bucket of a window, of which there are up to 14: a standard error of
about 5 % where a window's buckets are filled alike."""

TRAIT_DISTINCT_MAX: Final = 1_024
"""Different values up to which a lifetime `count_distinct` is exact; above it a standard error of
3.1 % (one through the root of 1,023)."""

TRAIT_DISTINCT_BUCKET_MAX: Final = 128
"""The same number for one bucket of a window: a standard error of at most 8.9 %."""

TRAIT_PERIOD_S_MIN: Final = 60
TRAIT_PERIOD_S_MAX: Final = 366 * 24 * 60 * 60
"""Seconds of a rolling window and of `expires`: a minute to a leap year."""

TRAIT_SILENCE_S: Final = 30 * 60
"""Seconds of silence that end a session, as in GA4."""

TRAIT_SESSION_S_MAX: Final = 6 * 60 * 60
"""Seconds that the window of a session reaches back: a longer session is a kiosk or a bot."""

TRAIT_SESSION_DAYS_MAX: Final = 366
"""Days for which `sessions` remembers when somebody was there, where events have no session id."""

TRAIT_STATE_BYTES_MAX: Final = 24 * 1024
"""Bytes of one trait's state in a profile, by Firestore's count, whatever is folded; most take less
than one kilobyte."""

TRAITS_BYTES_MAX: Final = 160 * 1024
"""Bytes of all traits' states of a profile together, at worst: its document must stay below
`PROFILE_BYTES_MAX` with everything else in it."""

EVENT_IDS_MAX: Final = 1_000
"""Events that a contribution remembers, in 12 bytes each, so that none counts twice: more than
anybody causes while a message may be delivered again."""

MERGED_BYTES_MAX: Final = 3 * PROFILE_BYTES_MAX
"""Bytes of the profiles that one event merges: the entry of the link log holds all of them, and a
document has room for 1 MiB (https://cloud.google.com/firestore/quotas)."""
