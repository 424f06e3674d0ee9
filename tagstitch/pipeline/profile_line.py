"""One line of a profile import: read strictly, so that a store never refuses what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tagstitch.core.attribute_times import AttributeStatement
from tagstitch.core.consent import is_purpose
from tagstitch.core.errors import InvalidInput, json_path
from tagstitch.core.fields import object_of, optional_text, optional_time
from tagstitch.core.identifier import Identifier, IdentitySettings, make_identifier
from tagstitch.core.limits import FIELD_NAME_BYTES_MAX, INTEGER_ABS_MAX, JSON_DEPTH_MAX
from tagstitch.core.profile import is_grant
from tagstitch.pipeline.keyring import Keyring, own_profile_id

_PROFILE_ID: Final = re.compile(r"(?!__)[A-Za-z0-9_.:@=+~-]{1,256}")
_IDENTIFIER_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,31}:[A-Z2-7]{26}")
_LINE_FIELDS: Final = frozenset(
    {
        "profile_id",
        "identifiers",
        "identifier_keys",
        "attributes",
        "attributes_at",
        "attribute_times",
        "consent",
        "created_at",
    }
)


@dataclass(frozen=True, slots=True)
class ConsentStatement:
    """What one line says about one purpose."""

    granted: bool
    at: datetime | None
    """When the person said so; None when the line does not tell."""


@dataclass(frozen=True, slots=True)
class ProfileLine:
    """One line of an import, checked."""

    profile_id: str
    identifier_keys: tuple[str, ...]
    """Every identifier's key, the strongest type first."""
    attributes: Mapping[str, Any]
    consent: Mapping[str, ConsentStatement]
    attributes_at: datetime | None = None
    """When the attributes were set; None says that they hold now."""
    attribute_times: Mapping[str, datetime] = field(default_factory=dict)
    """Attribute -> when it was set, where that differs from `attributes_at`."""
    created_at: datetime | None = None
    """Since when a profile that the line makes is known; None when the line does not tell."""
    tombstone_id: str = ""
    """Where the tombstone of a profile with this id would lie, if not in its own document."""

    @property
    def statement(self) -> AttributeStatement:
        """What the line says about attributes, and of which time that is."""
        return AttributeStatement(self.attributes, self.attributes_at, self.attribute_times)


def parse_profile_line(raw: object, settings: IdentitySettings, keyring: Keyring) -> ProfileLine:
    """Return the checked line; raises InvalidInput.

    Without a `profile_id` the profile is the one that an event with the strongest identifier
    would create.
    """
    line = object_of(raw, "")
    if unknown := line.keys() - _LINE_FIELDS:
        raise InvalidInput(
            "invalid_field", f"{len(unknown)} field(s) that a line does not have", None,
            "a line has " + ", ".join(sorted(_LINE_FIELDS)),
        )  # fmt: skip
    keys = _identifier_keys(line, settings, keyring)
    profile_id = optional_text(line, "profile_id")
    if profile_id is not None and not _PROFILE_ID.fullmatch(profile_id):
        raise InvalidInput("invalid_field", "cannot be a document id", "profile_id")
    if profile_id is None:
        if not keys:
            raise InvalidInput("missing_field", "needs a profile_id or identifiers", "identifiers")
        profile_id = own_profile_id(keys[0])
    attributes = object_of(_given(line, "attributes"), "attributes")
    _check_attributes(attributes)
    return ProfileLine(
        profile_id,
        keys,
        attributes,
        _consent(line),
        attributes_at=optional_time(line, "attributes_at"),
        attribute_times=_attribute_times(line, attributes),
        created_at=optional_time(line, "created_at"),
        tombstone_id=keyring.own_place_of(profile_id),
    )


def _given(line: Mapping[str, Any], name: str) -> object:
    """Return the line's field; an absent one and null stand for nothing."""
    value = line.get(name)
    return {} if value is None else value


def _identifier_keys(
    line: Mapping[str, Any], settings: IdentitySettings, keyring: Keyring
) -> tuple[str, ...]:
    identifiers: set[Identifier] = set()
    for type_, values in object_of(_given(line, "identifiers"), "identifiers").items():
        if type_ not in settings.types:
            raise InvalidInput(
                "invalid_field", "an identifier type that is not declared", "identifiers",
                "declared types: " + ", ".join(settings.types),
            )  # fmt: skip
        for value in values if isinstance(values, list) else [values]:
            identifier = make_identifier(type_, value, path=f"identifiers.{type_}")
            if settings.is_blocked(identifier):
                raise InvalidInput(
                    "invalid_field", "a value that many visitors share", f"identifiers.{type_}"
                )
            identifiers.add(identifier)
    keys = [keyring.identifier_key(i) for i in sorted(identifiers, key=settings.priority)]
    given = line.get("identifier_keys") or []
    if not isinstance(given, list) or not all(
        isinstance(key, str) and _IDENTIFIER_KEY.fullmatch(key) for key in given
    ):
        raise InvalidInput("invalid_field", "must be keys from an export", "identifier_keys")
    return tuple(dict.fromkeys([*keys, *given]))


def _consent(line: Mapping[str, Any]) -> dict[str, ConsentStatement]:
    """Return purpose -> statement; whatever is not clearly a grant is a denial."""
    statements = {}
    for purpose, said in object_of(_given(line, "consent"), "consent").items():
        if not is_purpose(purpose):
            raise InvalidInput(
                "invalid_field", "not the name of a purpose", "consent",
                "letters, digits, dots, hyphens and underscores, a letter first",
            )  # fmt: skip
        if isinstance(said, Mapping):
            at = _time(said.get("at"), json_path("consent", purpose, "at"))
            statements[purpose] = ConsentStatement(is_grant(said.get("granted")), at)
        else:
            statements[purpose] = ConsentStatement(is_grant(said), None)
    return statements


def _attribute_times(line: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, datetime]:
    times = {}
    for name, said in object_of(_given(line, "attribute_times"), "attribute_times").items():
        if name not in attributes:
            raise InvalidInput(
                "invalid_field", "the time of an attribute that the line does not have",
                "attribute_times", "give its value in attributes, too",
            )  # fmt: skip
        if (at := _time(said, json_path("attribute_times", name))) is not None:
            times[name] = at
    return times


def _time(said: object, path: str) -> datetime | None:
    """Return a time of a line; `path` names its place, with no word that may be a value."""
    return optional_time({path: said}, path)


def _check_attributes(attributes: Mapping[str, Any]) -> None:
    """Raise InvalidInput for what a document cannot hold; the path names the attribute."""
    for name, value in attributes.items():
        _check_name(name, "attributes")
        _check_storable(value, json_path("attributes", name), depth=2)


def _check_storable(value: Any, path: str, *, depth: int) -> None:
    if depth > JSON_DEPTH_MAX - 2:  # below `attributes`, which is below the document
        raise InvalidInput("json_too_deep", "too many levels", path)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > INTEGER_ABS_MAX:
        raise InvalidInput("invalid_field", "an integer of more than 64 bits", path)
    if isinstance(value, Mapping):
        for name, entry in value.items():
            _check_name(name, path)
            _check_storable(entry, path, depth=depth + 1)
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, list):
                raise InvalidInput("invalid_field", "a list directly within a list", path)
            _check_storable(entry, path, depth=depth + 1)


def _check_name(name: str, path: str) -> None:
    """Raise InvalidInput for what a document's field cannot be called.

    https://cloud.google.com/firestore/quotas#collections_documents_and_fields
    """
    is_reserved = name.startswith("__") and name.endswith("__")
    if not name or is_reserved or len(name.encode()) > FIELD_NAME_BYTES_MAX:
        raise InvalidInput(
            "invalid_field", "a name that a document's field cannot have", path,
            f"1 to {FIELD_NAME_BYTES_MAX} bytes, and not like __this__",
        )  # fmt: skip
