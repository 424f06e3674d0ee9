"""Keyed hashes and sealing: everything that needs one of the operator's secret keys."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field
from typing import Final

from tagstitch.core.identifier import Identifier

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
"""Base32 (RFC 4648)."""

_OWN_PLACE: Final = re.compile(r"p_[A-Z2-7]{26}")

_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS: Final = tuple(range(120, -1, -10))
"""Two characters, ten bits, at a time: `base64.b32encode` takes ten times as long, and every
request hashes several identifiers."""


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
        return own_profile_id(self.identifier_key(primary))

    def derived_id(self, *parts: str) -> str:
        """Return an id that the same parts give again, and that tells nothing about them."""
        return _keyed_hash(self.identity_key, "\x1f".join(parts))

    def pseudonym(self, profile_id: str) -> str:
        """Return the audit's subject for a visitor: `kid:` and a keyed hash."""
        kid, key = self.pseudonym_keys[0]
        return f"{kid}:{_keyed_hash(key, profile_id)}"

    def pseudonyms(self, profile_id: str) -> tuple[str, ...]:
        """Return the subjects under which the audit may know a visitor, older keys' too."""
        return tuple(f"{kid}:{_keyed_hash(key, profile_id)}" for kid, key in self.pseudonym_keys)

    def own_place_of(self, profile_id: str) -> str:
        """Return the id of the document where the tombstone of a profile lies.

        The profile's own, unless people chose it: such an id may tell who it was, so its tombstone
        lies under a keyed hash.
        """
        if _OWN_PLACE.fullmatch(profile_id):
            return profile_id
        return own_profile_id(":" + self.derived_id("document", profile_id))

    def seal(
        self, plaintext: bytes, *, purpose: str, salt: bytes = b"", context: bytes = b""
    ) -> bytes:
        """Return nonce and AES-256-GCM ciphertext.

        `purpose` separates uses of the one key. A `salt` makes a key of its own: without it
        nobody can unseal. `context` must be the same again and is not part of the result.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 40 ms to import

        nonce = os.urandom(12)
        return nonce + AESGCM(self._sealing_key(purpose, salt)).encrypt(nonce, plaintext, context)

    def unseal(
        self, sealed: bytes, *, purpose: str, salt: bytes = b"", context: bytes = b""
    ) -> bytes:
        """Return what was sealed; raises `cryptography.exceptions.InvalidTag` when altered."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._sealing_key(purpose, salt)).decrypt(sealed[:12], sealed[12:], context)

    def _identity_hash(self, identifier: Identifier) -> str:
        return _keyed_hash(self.identity_key, f"{identifier.type}\x1f{identifier.value}")

    def _sealing_key(self, purpose: str, salt: bytes) -> bytes:
        message = purpose.encode() + b"\0" + salt if salt else purpose.encode()
        return hmac.digest(self.receipt_key, message, hashlib.sha256)


def own_profile_id(key: str) -> str:
    """Return the id of the profile that the identifier of this key creates."""
    return "p_" + key.rpartition(":")[2]


@functools.lru_cache(maxsize=1024)  # one request needs an identifier's hash several times
def _keyed_hash(key: bytes, text: str) -> str:
    """Return the first 26 characters of the base32 of HMAC-SHA-256, 130 of its 256 bits."""
    digest = hmac.digest(key, text.encode(), "sha256")
    bits = int.from_bytes(digest[:17], "big") >> 6
    return "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])
