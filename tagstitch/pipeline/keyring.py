"""Keyed hashes and sealing: everything that needs one of the operator's secret keys."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
from dataclasses import dataclass, field

from tagstitch.core.identifier import Identifier

_HASH_CHARS = 26
"""Base32 characters, 130 bits: no two of 10^12 identifiers meet."""

_HASH_BYTES = 20
"""Bytes that those characters come from, up to a whole group of eight."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The operator's keys."""

    identity_key: bytes = field(repr=False)
    pseudonym_keys: tuple[tuple[str, bytes], ...] = field(repr=False)
    receipt_key: bytes = field(repr=False)

    def identifier_key(self, identifier: Identifier) -> str:
        """Return the identifier's document id: its type, a colon and a keyed hash."""
        return f"{identifier.type}:{self._identity_hash(identifier)}"

    def profile_id(self, primary: Identifier) -> str:
        """Return the id of the profile that is created for this identifier.

        Derived, so that concurrent creators meet in one document.
        """
        return "p_" + self._identity_hash(primary)

    def derived_id(self, *parts: str) -> str:
        """Return an id that the same parts give again, and that tells nothing about them."""
        return _keyed_hash(self.identity_key, "\x1f".join(parts))

    def pseudonym(self, profile_id: str) -> str:
        """Return the audit's subject for a visitor: `kid:` and a keyed hash."""
        kid, key = self.pseudonym_keys[0]
        return f"{kid}:{_keyed_hash(key, profile_id)}"

    def seal(self, plaintext: bytes, *, purpose: str) -> bytes:
        """Return nonce and AES-256-GCM ciphertext; `purpose` separates uses of the one key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 40 ms to import

        nonce = os.urandom(12)
        return nonce + AESGCM(self._sealing_key(purpose)).encrypt(nonce, plaintext, None)

    def unseal(self, sealed: bytes, *, purpose: str) -> bytes:
        """Return what was sealed; raises `cryptography.exceptions.InvalidTag` when altered."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._sealing_key(purpose)).decrypt(sealed[:12], sealed[12:], None)

    def _identity_hash(self, identifier: Identifier) -> str:
        return _keyed_hash(self.identity_key, f"{identifier.type}\x1f{identifier.value}")

    def _sealing_key(self, purpose: str) -> bytes:
        return hmac.digest(self.receipt_key, purpose.encode(), hashlib.sha256)


@functools.lru_cache(maxsize=1024)  # one request needs the hash of an identifier several times
def _keyed_hash(key: bytes, text: str) -> str:
    digest = hmac.digest(key, text.encode(), "sha256")
    return base64.b32encode(digest[:_HASH_BYTES]).decode().lower()[:_HASH_CHARS]
