"""Actions of a personalization rule that are done elsewhere, later, by way of the outbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tagstitch.core.action_path import NO_ITEM, Look
from tagstitch.core.arithmetic import ResultOutOfRange
from tagstitch.core.consent import Purpose
from tagstitch.core.limits import JSON_DEPTH_MAX, OUTBOX_BYTES_MAX
from tagstitch.core.outbox_entry import OncePer, OutboxEntry, OutboxType
from tagstitch.core.paths import Facts, Path
from tagstitch.core.template import Template
from tagstitch.core.values import is_deeper, json_bytes

FieldValue = str | int | float | bool | Template | Look


@dataclass(frozen=True, slots=True)
class OutboxAction:
    """Send an e-mail, update the CRM, call a webhook or push a message."""

    type: OutboxType
    constants: Mapping[str, str]
    """What is known when the rule is read, such as the template and the path of the recipient."""
    values_name: str
    """Under which name `values` are sent."""
    values: Mapping[str, FieldValue]
    once_per: OncePer
    needs_recorded_grant: bool
    purposes: tuple[Purpose, ...]
    reads: tuple[Path, ...] = ()
    """What it looks at when it is decided; not the recipient, who is looked up when it is sent."""
    index: int = 0
    """Its place among the rule's actions."""

    touches: ClassVar[tuple[Path, ...]] = ()

    def key_of(self, rule_id: str) -> str:
        """Return what tells the action from all others."""
        return f"{rule_id}:{self.index}"

    def to_entry(
        self, facts: Facts, *, rule_id: str, rule_purposes: tuple[Purpose, ...] = ()
    ) -> OutboxEntry:
        """Return what is to be done, with the values of this moment. Raises ResultOutOfRange."""
        found = {name: _value_of(value, facts) for name, value in self.values.items()}
        values = {name: value for name, value in found.items() if value is not None}
        fields: dict[str, Any] = {**self.constants, self.values_name: values}
        size = 0 if is_deeper(fields, JSON_DEPTH_MAX) else json_bytes(fields)
        facts.work.spend_bytes(size)
        if not 0 < size <= OUTBOX_BYTES_MAX:
            raise ResultOutOfRange
        return OutboxEntry(
            rule_id=rule_id,
            type=self.type,
            action_key=self.key_of(rule_id),
            once_per=self.once_per,
            purposes=self.purposes,
            needs_recorded_grant=self.needs_recorded_grant,
            fields=fields,
            rule_purposes=rule_purposes,
        )


def _value_of(value: FieldValue, facts: Facts) -> Any:
    """Return a JSON value, or None when what it is taken from is absent."""
    if isinstance(value, Template):
        return value.render(facts, NO_ITEM)
    return value(facts, NO_ITEM) if callable(value) else value
