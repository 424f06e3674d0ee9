"""The version of messages: what a release reads, and that it never half understands another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tagstitch.core.errors import InvalidInput

MESSAGE_VERSION: Final = 1
"""Of the messages of every topic; also what a message without `v` is of."""


def is_known_version(message: Mapping[str, Any]) -> bool:
    """Return whether the message is of a version that this release reads."""
    version = message.get("v", MESSAGE_VERSION)
    return version == MESSAGE_VERSION and not isinstance(version, bool)


def check_version(message: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a message of a version that this release does not read."""
    if not is_known_version(message):
        raise InvalidInput(
            "unsupported_version",
            f"this release reads version {MESSAGE_VERSION}",
            "v",
            "replay the dead letter once a release that reads it is deployed",
        )
