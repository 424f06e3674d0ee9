"""Activations: the attributes of a view for one identifier, with the same keys for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tagstitch.core.consent import parse_consent
from tagstitch.core.errors import InvalidInput
from tagstitch.core.fields import (
    deadline_ms,
    object_of,
    optional_flag,
    optional_request_id,
    optional_text,
)
from tagstitch.core.identifier import Identifier, IdentitySettings, make_identifier
from tagstitch.core.lookup import Lookup, LookupAnswer, LookupReason
from tagstitch.core.view import View, may_ask

_ENTITIES: Final = ("user",)
"""What can be asked about; a profile is a user's."""


@dataclass(frozen=True, slots=True)
class ActivationAnswer:
    """The attributes of one view, None where nothing is known."""

    view: str
    features: Mapping[str, Any]
    found: bool
    reason: LookupReason
    request_id: str
    degraded: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "data": {self.view: dict(self.features)},
            "found": self.found,
            "reason": self.reason,
            "request_id": self.request_id,
            "degraded": list(self.degraded),
        }


def parse_activation(raw: object, settings: IdentitySettings) -> Lookup:
    """Return the lookup that the body of an activation stands for, with one identifier."""
    body = object_of(raw, "")
    _check_entity(body)
    return Lookup(
        identifiers=(_identifier(body, settings),),
        bare_id=None,
        view=_view_name(body),
        fields=None,
        mode="sync",
        request_id=optional_request_id(body),
        consent=parse_consent(body),
        deadline_ms=deadline_ms(body),
    )


def is_for_browser(raw: object) -> bool:
    """Return whether the answer to the body of an activation is to reach a browser: `public`."""
    return optional_flag(object_of(raw, ""), "public", default=False)


def check_public(view: View) -> None:
    """Raise InvalidInput when the view may not go to browsers."""
    if not view.is_public:
        raise InvalidInput(
            "invalid_field", "not a public view", "view",
            "what visitors may know of themselves is declared in the view's document: public: true",
        )  # fmt: skip


def check_may_ask(view: View, identifier: Identifier) -> None:
    """Raise InvalidInput when identifiers of this type may not ask for the view."""
    if not may_ask(view, identifier):
        raise InvalidInput(
            "invalid_field", "identifiers of this type may not ask for this view", "id.type",
            "the view's document lists those that may, as identifier_types",
        )  # fmt: skip


def activation_answer(
    answer: LookupAnswer, names: Sequence[str], *, request_id: str
) -> ActivationAnswer:
    """Return the answer to an activation: every name, with None for what is not known."""
    known = answer.attributes or {}
    return ActivationAnswer(
        view=answer.view,
        features={name: known.get(name) for name in names},
        found=answer.found,
        reason=answer.reason,
        request_id=request_id,
        degraded=answer.degraded,
    )


def _check_entity(body: Mapping[str, Any]) -> None:
    hint = "one of: " + ", ".join(_ENTITIES)
    entity = body.get("entity")
    if entity is None:
        raise InvalidInput("missing_field", "entity is required", "entity", hint)
    if entity not in _ENTITIES:
        raise InvalidInput("invalid_field", "not a known entity", "entity", hint)


def _identifier(body: Mapping[str, Any], settings: IdentitySettings) -> Identifier:
    if body.get("id") is None:
        raise InvalidInput(
            "missing_field", "id is required", "id",
            'for example {"type": "anonymous_id", "value": "…"}',
        )  # fmt: skip
    raw = object_of(body["id"], "id")
    for name in ("type", "value"):
        if raw.get(name) is None:
            raise InvalidInput("missing_field", f"{name} is required", f"id.{name}")
    if raw["type"] not in settings.types:
        raise InvalidInput(
            "invalid_field", "an identifier type that is not declared", "id.type",
            "declared types: " + ", ".join(settings.types),
        )  # fmt: skip
    return make_identifier(raw["type"], raw["value"], path="id.value")


def _view_name(body: Mapping[str, Any]) -> str:
    view = optional_text(body, "view")
    if view is None:
        raise InvalidInput(
            "missing_field", "view is required", "view",
            "the name of a document of the collection views",
        )  # fmt: skip
    return view
