"""How the actions that leave through the outbox are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from tagstitch.core.action_path import PathScope, parse_origin
from tagstitch.core.consent import Purpose
from tagstitch.core.declarations import Declarations
from tagstitch.core.definition import Definition
from tagstitch.core.limits import OUTBOX_FIELDS_MAX
from tagstitch.core.outbox_action import FieldValue, OutboxAction
from tagstitch.core.outbox_entry import OncePer, OutboxType
from tagstitch.core.paths import Path, parse_path
from tagstitch.core.problems import Problems
from tagstitch.core.targeting import take_purposes
from tagstitch.core.template import parse_template
from tagstitch.core.values import is_number, json_problem
from tagstitch.core.written_action import WrittenAction
from tagstitch.core.written_value import is_field_name, name


@dataclass(frozen=True, slots=True)
class OutboxForm:
    """How one type of action is written."""

    type: OutboxType
    constants: Mapping[str, Callable[[Any, str, Problems], str]]
    """Fields that a rule fixes."""
    values_name: str
    """The field with what is sent."""
    needs_values: bool = True
    purposes: tuple[Purpose, ...] = ()
    """Unless the rule names others; with any, the profile must hold their grants."""

    def parse(self, written: WrittenAction, declared: Declarations) -> OutboxAction:
        """Return the action; problems are noted."""
        details = written.details
        constants = {
            field: details.require_with(check, field, "") for field, check in self.constants.items()
        }
        take = details.require if self.needs_values else details.take
        raw, place = take(self.values_name), details.place(self.values_name)
        values, reads = _values(raw, place, details.problems, PathScope(declared))
        return OutboxAction(
            type=self.type,
            constants=constants,
            values_name=self.values_name,
            values=values,
            once_per=details.take_with(_once_per, "once_per", "decision"),
            needs_recorded_grant=bool(self.purposes),
            purposes=take_purposes(details) or self.purposes,
            reads=reads,
            index=written.index,
        )


def _profile_path(raw: Any, where: str, problems: Problems) -> str:
    """Accept the path of something that only the profile says."""
    if not isinstance(raw, str) or not raw.startswith(("profile.", "profile[")):
        hint = "for example profile.email: anybody can put an address into an event"
        problems.add(where, "must be a path that starts with profile.", hint)
        return ""
    path = parse_path(raw, where, problems)
    if path is not None and path.quantifier is not None:
        problems.add(where, "one value, not every element of a list")
    return raw


def _once_per(raw: Any, where: str, problems: Problems) -> OncePer:
    for known in get_args(OncePer):
        if raw == known:
            return known  # type: ignore[no-any-return]
    problems.add_unknown(where, "window", raw, get_args(OncePer))
    return "decision"


def _values(
    raw: Any, where: str, problems: Problems, scope: PathScope
) -> tuple[dict[str, FieldValue], tuple[Path, ...]]:
    """Return name -> value, and what the values look at."""
    if raw is None:
        return {}, ()
    if not isinstance(raw, Mapping) or not 0 < len(raw) <= OUTBOX_FIELDS_MAX:
        problems.add(where, f"needs an object with 1 to {OUTBOX_FIELDS_MAX} fields")
        return {}, ()
    values: dict[str, FieldValue] = {}
    reads: dict[Path, None] = {}
    for index, (field, written) in enumerate(raw.items()):
        if not is_field_name(field):
            hint = "letters, digits and any of _ . -, with a letter or one _ in front"
            problems.add(f"{where}[{index}]", "not the name of a field", hint)
            continue
        value, looked_at = _value(written, f"{where}.{field}", problems, scope)
        values[field] = value
        reads.update(dict.fromkeys(looked_at))
    return values, tuple(reads)


def _value(
    raw: Any, where: str, problems: Problems, scope: PathScope
) -> tuple[FieldValue, tuple[Path, ...]]:
    """Return a value as written, a template, or where to look."""
    if isinstance(raw, str):
        template = parse_template(raw, where, problems, scope)
        if template is None:
            return "", ()
        return template, template.reads
    if isinstance(raw, Mapping):
        inner = Definition(raw, where, problems)
        text = inner.require("from")
        inner.refuse_rest()
        place = inner.place("from")
        origin = None if text is None else parse_origin(text, place, problems, scope)
        return (origin.look, origin.reads) if origin is not None else ("", ())
    if not (isinstance(raw, bool) or is_number(raw)) or json_problem(raw, depth=0):
        problems.add(where, "must be text, a number, true, false or {from: path}")
        return "", ()
    return raw, ()


OUTBOX_FORMS: Final[Mapping[str, OutboxForm]] = {
    "send_email": OutboxForm(
        "send_email",
        {"template_id": name, "recipient": _profile_path},
        "data",
        needs_values=False,
        purposes=("email",),
    ),
    "update_crm": OutboxForm(
        "update_crm", {"object": name, "external_id": _profile_path}, "fields", purposes=("crm",)
    ),
    "webhook": OutboxForm("webhook", {"endpoint": name}, "body", needs_values=False),
    "push_message": OutboxForm("push_message", {"channel": name}, "payload"),
}
"""Action type -> how it is written."""
