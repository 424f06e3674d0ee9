"""`tagstitch rules explain`: what rule files do with one event, and why, rule by rule."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from tagstitch.adapters.settings import read_identity_settings
from tagstitch.cli.explain_output import show_explained
from tagstitch.cli.output import CommandFailed, JsonOption, emit, run
from tagstitch.cli.rule_checks import ViewsOption, broken_problems, read_views, rules_of_files
from tagstitch.cli.rule_files import RuleFilesError, read_document
from tagstitch.core.consent import ANALYTICS_STORAGE, is_purpose, resolve_consent
from tagstitch.core.decision import Decision, decide
from tagstitch.core.definition import Definition
from tagstitch.core.event import Event, identify_event, parse_event
from tagstitch.core.problems import Problems
from tagstitch.core.profile import Profile, typed_profile
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.situation import Situation
from tagstitch.core.targeting import EVERY_EVENT, take_event_names
from tagstitch.core.times import text_seconds
from tagstitch.core.view import declared_protected

_STATES: Final = ("granted", "denied")
_NOBODY: Final = Profile("")
_STAND_IN: Final = (
    "no profile_id was given: shares of visitors (rollout, percent, experiments) are those of the"
    " event's own identifier; the stored profile may have another share"
)


def explain(
    rules: Annotated[
        Path, typer.Argument(exists=True, help="A YAML or JSON file of rules, or a folder of them.")
    ],
    event: Annotated[str, typer.Argument(help="A JSON file with one event, or - for stdin.")],
    *,
    profile: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="The visitor: {profile_id?, attributes, state?, caps?, assignments?, consent?}.",
        ),
    ] = None,
    now: Annotated[
        str | None, typer.Option(help="When it is decided, such as 2026-11-27T18:00+01:00.")
    ] = None,
    consent: Annotated[
        list[str] | None,
        typer.Option(help="What the request says, such as ad_personalization=denied; repeatable."),
    ] = None,
    consent_default: Annotated[
        str, typer.Option(help="granted or denied: what holds where nobody says anything.")
    ] = "granted",
    views: ViewsOption = None,
    json: JsonOption = False,
) -> None:
    """Show every condition with its value and result, and what the decision does."""
    requested, default = _consent(consent or ()), _state(consent_default, "--consent-default")
    at = _now(now)

    async def work() -> dict[str, Any]:
        declared = read_views(views)
        definitions = rules_of_files(rules, protected=declared_protected(declared))
        book = compile_rule_book(definitions)
        arrived = parse_event(_event(event))
        known = _profile(profile)
        situation = _situation(arrived, known, requested, default=default, now=at)
        is_stand_in = situation.subject != (known.profile_id if known else "")
        return {
            **_document(situation, decide(situation, book, explain=True)),
            "problems": broken_problems(book.broken),
            "inactive": _inactive(definitions, arrived.name),
            "notes": [_STAND_IN] if situation.subject is not None and is_stand_in else [],
        }

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: show_explained(out, answer))


def _situation(
    event: Event,
    profile: Profile | None,
    requested: Mapping[str, str],
    *,
    default: bool,
    now: float,
) -> Situation:
    """Return what the function decide would make of it, for a caller with every scope."""
    consent = resolve_consent(
        requested=requested, event=event, profile=profile, default_granted=default
    )
    may_look = consent.allows(ANALYTICS_STORAGE)
    identifiers = identify_event(event, read_identity_settings(), asserted=True)
    seen = profile if profile is not None and may_look else _NOBODY
    subject = seen.profile_id or (identifiers[0].value if identifiers else None)
    return Situation(
        event=event,
        consent=consent,
        now=now,
        attributes=seen.attributes,
        state=seen.state,
        caps=seen.caps,
        assignments=seen.assignments,
        subject=subject if may_look else None,
        has_identifier=bool(identifiers) or profile is not None,
    )


def _document(situation: Situation, decision: Decision) -> dict[str, Any]:
    changes = decision.changes
    return {
        "event_name": situation.event.name,
        "now": datetime.fromtimestamp(situation.now, UTC),
        "decision": decision.to_json(),
        "changes": {
            "state": dict(changes.state),
            "caps": {key: list(times) for key, times in changes.caps.items()},
            "assignments": dict(changes.assignments),
            "outbox": [entry.to_json() for entry in changes.outbox],
        },
        "trace": decision.trace,
    }


def _inactive(definitions: RuleDefinitions, event_name: str) -> list[dict[str, str]]:
    """Return what would be asked for this event if it were not switched off."""
    return [
        {"collection": name, "id": definition_id}
        for name, found in definitions.collections.items()
        for definition_id, raw in found.items()
        if raw.get("is_active") is False
        and not {event_name, EVERY_EVENT}.isdisjoint(
            take_event_names(Definition(raw, "", Problems()))
        )
    ]


def _event(source: str) -> Any:
    if source != "-":
        path = Path(source)
        return _read(path)
    try:
        return msgspec.json.decode(sys.stdin.buffer.read())
    except msgspec.DecodeError as error:
        raise CommandFailed(f"stdin is no JSON: {error}") from None


def _profile(file: Path | None) -> Profile | None:
    if file is None:
        return None
    content = _read(file)
    if not isinstance(content, Mapping):
        raise CommandFailed(f"{file} must be an object")
    fields = dict(content)
    profile_id = fields.pop("profile_id", "")
    if isinstance(fields.get("attributes"), Mapping):
        fields.setdefault("identifiers", {})
    return typed_profile(str(profile_id), fields, now=datetime.now(UTC))


def _read(file: Path) -> Any:
    try:
        return read_document(file)
    except RuleFilesError as error:
        raise CommandFailed(f"{file} {error.problems[0].message}") from None


def _consent(statements: Sequence[str]) -> dict[str, str]:
    said = {}
    for statement in statements:
        purpose, _, state = statement.partition("=")
        if not is_purpose(purpose):
            raise typer.BadParameter(
                "must be purpose=granted or purpose=denied", param_hint="--consent"
            )
        _state(state, "--consent")
        said[purpose] = state
    return said


def _state(text: str, option: str) -> bool:
    if text not in _STATES:
        raise typer.BadParameter("granted or denied", param_hint=option)
    return text == _STATES[0]


def _now(text: str | None) -> float:
    if text is None:
        return datetime.now(UTC).timestamp()
    seconds = text_seconds(text)
    if seconds is None:
        raise typer.BadParameter("an ISO 8601 date or time", param_hint="--now")
    return seconds
