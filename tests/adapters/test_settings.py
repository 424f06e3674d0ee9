"""The setting that is a document: read from the environment or from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tagstitch.adapters.settings import (
    SettingsError,
    read_identity_settings,
    read_settings,
)
from tagstitch.core.identifier import Identifier, IdentitySettings

SAID = {"types": ["loyalty_id"], "blocked_values": ["test"]}


def test_identity_stands_in_the_variable_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "identity.json"
    file.write_text(json.dumps(SAID), encoding="utf-8")

    found = [
        read_identity_settings({"TAGSTITCH_IDENTITY": text})
        for text in (json.dumps(SAID), str(file))
    ]

    assert found[0] == found[1]
    assert found[0].types[0] == "loyalty_id"
    assert found[0].is_blocked(Identifier("user_id", "TEST"))


def test_without_it_the_defaults_hold(tmp_path: Path) -> None:
    environment = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)}

    assert read_settings(environment).identity == IdentitySettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "TAGSTITCH_IDENTITY must be a JSON object"),
        ("{", "TAGSTITCH_IDENTITY must be a JSON object"),
        ("/no/such/file", "TAGSTITCH_IDENTITY names a file that cannot be read"),
        (
            '{"types": ["secret value"], "quarantin": 1}',
            (
                "TAGSTITCH_IDENTITY: types[0]: not an identifier type (lower-case letters, digits"
                " and underscores, such as loyalty_id); quarantin: unknown field (did you mean"
                " quarantine?)"
            ),
        ),
    ],
)
def test_what_is_wrong_stops_the_start_and_names_the_place(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_identity_settings({"TAGSTITCH_IDENTITY": text})

    assert str(raised.value) == message
