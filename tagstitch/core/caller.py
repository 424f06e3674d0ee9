"""Callers: who asks, and what that key may do."""

from __future__ import annotations

from dataclasses import dataclass

from tagstitch.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller of an HTTP function."""

    id: str
    """The key's id, never its secret; part of every idempotency key."""
    scopes: frozenset[str]
    views: frozenset[str] | None = None
    """The views this key is limited to; None means every view."""

    def may(self, scope: str) -> bool:
        """Return whether the key has the scope."""
        return scope in self.scopes

    def require(self, scope: str) -> None:
        """Raise `unauthorized`, the same answer as for a wrong key, when the scope is missing."""
        if scope not in self.scopes:
            raise unauthorized()

    def require_view(self, view: str) -> None:
        """Raise `unauthorized` when the key is limited to other views."""
        if self.views is not None and view not in self.views:
            raise unauthorized()


def unauthorized() -> InvalidInput:
    """Return the one error for every failed authentication, so that it tells nothing."""
    return InvalidInput(
        "unauthorized",
        "missing or wrong key or signature, or a scope that the key lacks",
        hint="docs/settings.md, TAGSTITCH_AUTH, says how to authenticate",
    )
