"""Our decision, as `pipeline/decide.py` makes it, without stores and audit."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bench.rule_engines.candidate import Answer
from bench.rule_engines.rule_set import Definition
from tagstitch.core.consent import resolve_consent
from tagstitch.core.decide_answer import DecideAnswer
from tagstitch.core.decide_request import DecideRequest, parse_decide_request, published_request
from tagstitch.core.decision import decide
from tagstitch.core.json_input import decode_json
from tagstitch.core.rule_book import EMPTY_RULE_BOOK, RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.situation import Situation

_DECISION_ID = "0190163d8694739b9ea2f1d6b0f5c6a1"

_CONSENT = resolve_consent(requested=None, event=None, profile=None, default_granted=True)
_NOW = 1_795_348_800.0
_EVENT = frozenset({"event"})


class RuleBooks:
    """Compiles a set of rules once for both shapes of the answer: that takes seconds."""

    def __init__(self) -> None:
        self._rules: Mapping[str, Definition] | None = None
        self._book = EMPTY_RULE_BOOK

    def load_decide(self, rules: Mapping[str, Definition]) -> Answer:
        """Answer as `POST /decide` does: with what changes."""
        book = self._compiled(rules)
        return lambda body: msgspec.json.encode(
            _decide(parse_decide_request(decode_json(body)), book).to_json()
        )

    def load_published_shape(self, rules: Mapping[str, Definition]) -> Answer:
        """Answer as `POST /make-event-decision` does: with the whole event."""
        book = self._compiled(rules)
        return lambda body: msgspec.json.encode(
            _decide(published_request(decode_json(body), "event"), book).to_event_json()
        )

    def _compiled(self, rules: Mapping[str, Definition]) -> RuleBook:
        if self._rules is not rules:
            self._rules, self._book = rules, compile_rule_book(RuleDefinitions(rules))
            if self._book.broken:
                raise ValueError(self._book.broken[0])
        return self._book


def _decide(request: DecideRequest, book: RuleBook) -> DecideAnswer:
    """Ask the core: the only place here that knows how."""
    situation = Situation(event=request.event, consent=_CONSENT, now=_NOW, subject="p_visitor")
    return DecideAnswer(
        decision_id=_DECISION_ID,
        rules_version=book.version,
        degraded=(),
        event=request.event,
        event_decision=decide(situation, book, include=_EVENT).event,
        personalization=None,
        profile=None,
    )
