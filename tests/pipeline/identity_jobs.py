"""What can happen to identity in the state machine: requests, decisions, splits and the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from tagstitch.core.caller import Caller
from tagstitch.core.identifier import Identifier, IdentifierLimit, IdentitySettings
from tagstitch.core.stitch_request import StitchRequest, parse_stitch_request
from tagstitch.pipeline.claims import STITCH_TOPIC
from tagstitch.pipeline.dead_letter import Message
from tests.pipeline.identity_checks import Keys
from tests.pipeline.identity_people import Decide, Import, Limits
from tests.pipeline.stepped_ports import Fault
from tests.pipeline.world import KEYRING


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


POOL: Final = (
    Identifier("user_id", "u1"),
    Identifier("user_id", "u2"),
    Identifier("email_sha256", _sha256("a@example.com")),
    Identifier("email_sha256", _sha256("b@example.com")),
    Identifier("client_id", "c1"),
    Identifier("client_id", "c2"),
    Identifier("client_id", "c3"),
    Identifier("device_id", "d1"),
    Identifier("device_id", "d2"),
)
JUNK: Final = Identifier("client_id", "undefined")
KEYS: Final = Keys({KEYRING.identifier_key(identifier): identifier for identifier in POOL})

WEEKLY_TWO: Final = IdentifierLimit(2, timedelta(days=7))
SETTINGS: Final = {
    "without limits": Limits(IdentitySettings(limits={"user_id": IdentifierLimit(1)}, quarantine=None,
                                              default_limit=None), 50, 100),
    "narrow": Limits(IdentitySettings(limits={"user_id": IdentifierLimit(1),
                                              "email_sha256": IdentifierLimit(1)}, quarantine=None,
                                      default_limit=WEEKLY_TWO), 5, 2),
}  # fmt: skip

VISITOR_RULES: Final[Mapping[str, Any]] = {
    "once": {
        "event_name_trigger": "view_item",
        "match_all": True,
        "action_type": "return_value",
        "action_details": {"key": "offer", "value": True},
        "frequency_cap": {"max": 1},
    },
    "cart": {
        "event_name_trigger": "add_to_cart",
        "conditions": {"user_state.cart": {"notEquals": True}},
        "action_type": "return_value",
        "action_details": {"key": "thanks", "value": True},
        "updates_user_state": {"cart": True},
    },
}
SERVER: Final = Caller("server", frozenset({"decide", "lookup", "stitch", "assert"}))


@dataclass(frozen=True, slots=True)
class Queued:
    """One message of topic `stitch-requests`."""

    body: Mapping[str, Any]
    message_id: str
    published_at: datetime

    def message(self) -> Message:
        return Message(
            json.dumps(self.body).encode(), self.message_id, STITCH_TOPIC, self.published_at
        )

    def request(self, identity: IdentitySettings) -> StitchRequest:
        return parse_stitch_request(
            self.body, identity, default_request_id=self.message_id, received_at=self.published_at
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before it has an id and a time."""

    named: list[Identifier]
    asserted: bool = True
    age: timedelta = timedelta(0)
    consent: Mapping[str, bool] = field(default_factory=dict)
    event: str | None = None
    signals: Mapping[str, bool] = field(default_factory=dict)
    number: int = 0
    callback: str | None = None
    is_repeated_id: bool = False
    with_junk: bool = False


@dataclass(frozen=True, slots=True)
class TakeOut:
    identifier: Identifier


@dataclass(frozen=True, slots=True)
class Erase:
    identifier: Identifier


@dataclass(frozen=True, slots=True)
class Undo:
    """One merge, by its number among all, and which of the merged profiles leaves."""

    number: int
    gone_id: str


Job = Queued | Decide | TakeOut | Undo | Import | Erase


def first_of_pair(pair: tuple[Identifier, int]) -> Identifier:
    return pair[0]


numbers = st.integers(0, 999)
some_identifiers = st.lists(st.sampled_from((*POOL, JUNK)), min_size=1, max_size=4, unique=True)
purposes = st.sampled_from(("analytics_storage", "ad_personalization", "email"))
statements = st.dictionaries(purposes, st.booleans(), max_size=2)
seldom_statements: st.SearchStrategy[dict[str, bool]] = st.one_of(
    st.just({}), st.just({}), st.just({}), statements
)
ages = st.sampled_from([timedelta(0), timedelta(0), timedelta(hours=1), timedelta(days=3),
                        timedelta(days=8), timedelta(days=40)])  # fmt: skip
turns = st.lists(st.integers(0, 2), max_size=16)
perhaps_a_fault = st.one_of(
    st.none(),
    st.none(),
    st.builds(Fault, st.integers(0, 9), st.sampled_from(["unavailable", "crash"]), st.booleans()),
)
drafts = st.builds(
    Draft,
    st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique=True),
    asserted=st.sampled_from([True, True, True, True, False]),
    age=ages,
    consent=seldom_statements,
    event=st.sampled_from([None, "view_item", "add_to_cart"]),
    signals=seldom_statements,
    number=st.integers(0, 19),
    callback=st.sampled_from([None, None, None, "main"]),
    is_repeated_id=st.sampled_from([False] * 20 + [True]),
    with_junk=st.sampled_from([False] * 9 + [True]),
)


def mark_of(request_id: str) -> str:
    """Return the key of a stitch request's mark."""
    return KEYRING.derived_id("stitch_async", STITCH_TOPIC, request_id)


def decided_mark_of(request_id: str) -> str:
    return KEYRING.derived_id("decide", SERVER.id, request_id)
