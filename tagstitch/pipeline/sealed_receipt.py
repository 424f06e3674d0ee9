"""Sealed receipts: only who holds the visitor's salt and the operator's key can read one.

The salt lies in the visitor's profile and nowhere else. Erasing the profile destroys it, and with
it every value of this visitor in the audit; the rows and their counts stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tagstitch.core.errors import InvalidInput
from tagstitch.core.limits import RECEIPT_BYTES_MAX
from tagstitch.core.profile import is_erased
from tagstitch.core.receipt import Receipt, decode_receipt, encode_receipt
from tagstitch.pipeline.keyring import Keyring

_POINTER: Final = "receipt pointer"
_CONTENT: Final = "receipt"


class _Envelope(msgspec.Struct, omit_defaults=True):
    replayable: bool
    pointer: bytes = b""
    """The profile's id, sealed with the operator's key: it leads to the salt."""
    content: bytes = b""
    """The receipt, sealed with the visitor's key."""
    v: int = 1


WITHOUT_VALUES: Final = msgspec.msgpack.encode(_Envelope(replayable=False))
"""The receipt of a visitor without a salt."""


def seal_receipt(
    make: Callable[[], Receipt],
    *,
    subject: str | None,
    keyring: Keyring,
    profile: Mapping[str, Any],
    decision_id: str,
) -> bytes:
    """Return the sealed receipt; without values when the profile's document has no salt.

    Also when the receipt is larger than `RECEIPT_BYTES_MAX`, or holds what MessagePack does not
    give back. `profile` is the visitor's document as stored. The seal holds for this decision's id
    only.
    """
    salt = _salt_of(profile)
    if salt is None or subject is None:
        return WITHOUT_VALUES
    try:
        content = encode_receipt(make())
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError):
        return WITHOUT_VALUES  # a value that somebody stored by hand
    if len(content) > RECEIPT_BYTES_MAX:
        return WITHOUT_VALUES
    context = decision_id.encode()
    return msgspec.msgpack.encode(
        _Envelope(
            replayable=True,
            pointer=keyring.seal(subject.encode(), purpose=_POINTER, context=context),
            content=keyring.seal(content, purpose=_CONTENT, salt=salt, context=context),
        )
    )


def is_replayable(sealed: bytes) -> bool:
    """Return whether the receipt was given values."""
    return _open(sealed).replayable


def receipt_profile_id(sealed: bytes, *, keyring: Keyring, decision_id: str) -> str:
    """Return the id of the profile whose salt opens the receipt; raises InvalidInput."""
    envelope = _open(sealed)
    if not envelope.replayable:
        raise InvalidInput(
            "invalid_field",
            "the receipt has no values: the visitor had no profile then, or it was too large",
        )
    pointer = _unsealed(
        keyring, envelope.pointer, purpose=_POINTER, salt=b"", decision_id=decision_id
    )
    return pointer.decode()


def open_receipt(
    sealed: bytes, *, keyring: Keyring, profile: Mapping[str, Any], decision_id: str
) -> Receipt:
    """Return the receipt; raises InvalidInput when the salt is gone or anything was altered."""
    salt = _salt_of(profile)
    if salt is None:
        raise InvalidInput("invalid_field", "the visitor's salt is gone: nobody can read this")
    envelope = _open(sealed)
    content = _unsealed(
        keyring, envelope.content, purpose=_CONTENT, salt=salt, decision_id=decision_id
    )
    try:
        return decode_receipt(content)
    except msgspec.MsgspecError:
        raise InvalidInput("invalid_field", "the receipt is of a form not known here") from None


def _salt_of(profile: Mapping[str, Any]) -> bytes | None:
    """Return what the visitor's key is made from; None when there is none, or no visitor."""
    salt = profile.get("salt")
    return salt if isinstance(salt, bytes) and salt and not is_erased(profile) else None


def _open(sealed: bytes) -> _Envelope:
    try:
        return msgspec.msgpack.decode(sealed, type=_Envelope)
    except msgspec.MsgspecError:
        raise InvalidInput("invalid_field", "this is no receipt") from None


def _unsealed(
    keyring: Keyring, sealed: bytes, *, purpose: str, salt: bytes, decision_id: str
) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return keyring.unseal(sealed, purpose=purpose, salt=salt, context=decision_id.encode())
    except (InvalidTag, ValueError):
        raise InvalidInput(
            "invalid_field", "the receipt does not open: another key, salt or decision"
        ) from None
