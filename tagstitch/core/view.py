"""Views: named lists of attributes, and who may ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.profile import Profile

DEFAULT_VIEW: Final = "default"


@dataclass(frozen=True, slots=True)
class View:
    """One declared view."""

    attributes: tuple[str, ...] | None = None
    """The attributes it shows; None means every one."""
    identifier_types: frozenset[str] | None = None
    """The identifier types that may ask for it; None means every one."""
    is_public: bool = False
    """Whether visitors may know all of it of themselves, so that it may go to their browsers."""


@dataclass(frozen=True, slots=True)
class Views:
    """All declared views, and the attributes that are concealed in each of them."""

    by_name: Mapping[str, View] = field(default_factory=lambda: MappingProxyType({}))
    concealed: frozenset[str] = frozenset()
    conceals_all: bool = False

    def conceals(self, attribute: str) -> bool:
        """Return whether only callers with the scope `concealed` may see the attribute."""
        return self.conceals_all or attribute in self.concealed

    def get(self, name: str) -> View:
        """Return the view; raises InvalidInput for a name that nobody declared."""
        view = self.by_name.get(name)
        if view is None and name == DEFAULT_VIEW:
            return View()
        if view is None:
            raise InvalidInput(
                "invalid_field", "not a declared view", "view",
                "declare it as a document of the collection views",
            )  # fmt: skip
        return view


ALL_CONCEALED: Final = Views(conceals_all=True)
"""Stands for views that could not be loaded: what may be concealed is."""


def parse_views(definitions: Mapping[str, Mapping[str, Any]]) -> Views:
    """Return the views of the documents `views/{name}`.

    A document holds `attributes` (names; absent means all), `concealed` (names that only callers
    with the scope `concealed` see, in every view), `identifier_types` and `public`. What is
    malformed hides more, never less: a view with unreadable attributes shows none, and one whose
    `public` is anything but true is not.
    """
    by_name = {
        name: View(
            _names(raw["attributes"]) if "attributes" in raw else None,
            frozenset(_names(raw["identifier_types"])) if "identifier_types" in raw else None,
            is_public=raw.get("public") is True,
        )
        for name, raw in definitions.items()
    }
    concealed = {name for raw in definitions.values() for name in _names(raw.get("concealed"))}
    return Views(MappingProxyType(by_name), frozenset(concealed))


def declared_purposes(definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return attribute -> the purposes for which it may be used, by the documents `views/{name}`.

    A document may hold `purposes: {attribute: [purpose]}`; what several say counts together.
    """
    found: dict[str, set[str]] = {}
    for raw in definitions.values():
        purposes = raw.get("purposes")
        for attribute, names in purposes.items() if isinstance(purposes, Mapping) else ():
            found.setdefault(attribute, set()).update(_names(names))
    return found


def declared_attributes(definitions: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the attributes that the documents `views/{name}` name."""
    words = ("attributes", "concealed")
    return frozenset(n for raw in definitions.values() for w in words for n in _names(raw.get(w)))


def feature_names(views: Views, name: str, *, sees_concealed: bool) -> tuple[str, ...]:
    """Return the attributes that a view answers an activation with, whoever is asked about.

    Raises InvalidInput for a view that nobody declared, and for one that lists no attributes:
    what it shows would depend on the visitor.
    """
    declared = views.get(name).attributes
    if not declared:
        raise InvalidInput(
            "invalid_field", "a view that lists no attributes", "view",
            "list them as attributes in the view's document",
        )  # fmt: skip
    return tuple(n for n in declared if sees_concealed or not views.conceals(n))


def visible_attributes(
    profile: Profile,
    views: Views,
    *,
    view: str,
    fields: tuple[str, ...] | None,
    sees_concealed: bool,
) -> dict[str, Any]:
    """Return the attributes that a caller sees: those of the view, narrowed by `fields`."""
    shown = views.get(view).attributes
    wanted = tuple(profile.attributes) if shown is None else shown
    if fields is not None:
        wanted = tuple(name for name in fields if name in set(wanted))
    return {
        name: profile.attributes[name]
        for name in wanted
        if name in profile.attributes and (sees_concealed or not views.conceals(name))
    }


def may_ask(view: View, matched: Identifier | None) -> bool:
    """Return whether the identifier that led to the profile is of a type that may ask for it.

    Another identifier beside it proves nothing: anybody can make one up.
    """
    allowed = view.identifier_types
    return allowed is None or (matched is not None and matched.type in allowed)


def _names(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple):
        return ()
    return tuple(name for name in raw if isinstance(name, str))


def declared_protected(views: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the attributes that a view declares `protected`; what is malformed protects nothing."""
    lists = (view.get("protected") for view in views.values())
    names = (name for declared in lists if isinstance(declared, list) for name in declared)
    return tuple(sorted({name for name in names if isinstance(name, str) and name}))
