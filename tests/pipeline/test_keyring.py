"""Keyed hashes are the documented ones, and sealing keeps and separates."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.keyring import Keyring

KEYRING = Keyring(b"identity key", (("k2", b"new"), ("k1", b"old")), b"receipt key")


@given(st.text(max_size=50), st.text(max_size=50))
def test_an_identifiers_key_is_the_base32_of_an_hmac(type_: str, value: str) -> None:
    identifier = Identifier(
        type_.encode(errors="replace").decode(), value.encode(errors="replace").decode()
    )
    content = f"{identifier.type}\x1f{identifier.value}".encode()
    digest = hmac.new(b"identity key", content, hashlib.sha256).digest()

    expected = base64.b32encode(digest).decode()[:26]

    assert KEYRING.identifier_key(identifier) == f"{identifier.type}:{expected}"
    assert KEYRING.profile_id(identifier) == f"p_{expected}"


def test_a_pseudonym_names_the_key_that_made_it() -> None:
    assert KEYRING.pseudonym("p_1").startswith("k2:")


def test_what_is_sealed_opens_for_its_own_purpose_only() -> None:
    sealed = KEYRING.seal(b"payload", purpose="a")

    assert KEYRING.unseal(sealed, purpose="a") == b"payload"
    assert b"payload" not in sealed
    with pytest.raises(InvalidTag):
        KEYRING.unseal(sealed, purpose="b")


def test_a_changed_seal_does_not_open() -> None:
    sealed = bytearray(KEYRING.seal(b"payload", purpose="a"))
    sealed[-1] ^= 1

    with pytest.raises(InvalidTag):
        KEYRING.unseal(bytes(sealed), purpose="a")


def test_the_keys_are_not_printed() -> None:
    assert "identity key" not in repr(KEYRING)
