"""An identifier as it is named on the command line."""

from __future__ import annotations

from tagstitch.core.identifier import Identifier, IdentitySettings, parse_identifiers


def named_identifier(type_: str, value: str, settings: IdentitySettings) -> Identifier:
    """Return the identifier in its normal form; raises InvalidInput.

    A type that is not declared is refused: under a misspelt one nobody is ever known, and an
    erasure would end well without having erased anything.
    """
    [identifier] = parse_identifiers({type_: value}, settings)
    return identifier
