"""Authentication compares with every secret, in constant time, whoever calls."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import tagstitch
from tagstitch.adapters import authentication
from tagstitch.adapters.authentication import Authenticator
from tagstitch.adapters.settings import read_settings
from tagstitch.core.errors import InvalidInput
from tagstitch.pipeline.webhook_signature import same_text

SECRETS = ["first-" * 5, "second-" * 5, "third-" * 5]


@pytest.mark.parametrize("presented", [*SECRETS, "wrong", ""])
def test_every_key_is_compared_whichever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, presented: str
) -> None:
    keys = [
        {"id": str(number), "secret": secret, "scopes": []} for number, secret in enumerate(SECRETS)
    ]
    environment = {
        "TAGSTITCH_BACKEND": "local",
        "TAGSTITCH_DATA_DIR": str(tmp_path),
        "TAGSTITCH_AUTH": "key",
        "TAGSTITCH_KEYS": json.dumps(keys),
    }
    authenticator = Authenticator(read_settings(environment))
    compared: list[str] = []

    def same_text_seen(left: str, right: str) -> bool:
        compared.append(left)
        return same_text(left, right)

    monkeypatch.setattr(authentication, "same_text", same_text_seen)
    try:
        found = authenticator.authenticate("POST", {"x-tagstitch-key": presented}, b"").id
    except InvalidInput:
        found = "nobody"

    assert compared == SECRETS
    assert found == (str(SECRETS.index(presented)) if presented in SECRETS else "nobody")


def test_texts_of_any_characters_and_lengths_can_be_compared() -> None:
    assert same_text("ümläut", "ümläut")
    assert not same_text("ümläut", "umlaut")
    assert not same_text("a", "a" * 100_000)


def test_no_secret_is_compared_with_an_operator() -> None:
    secrets = {"secret", "presented", "signature", "token", "receipt_key", "identity_key"}
    found = [
        f"{path.name}:{node.lineno}"
        for path in Path(tagstitch.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In) for operator in node.ops)
        for side in (node.left, *node.comparators)
        if (isinstance(side, ast.Attribute) and side.attr in secrets)
        or (isinstance(side, ast.Name) and side.id in secrets)
    ]

    assert found == []
