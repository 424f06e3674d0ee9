"""The secrets of a local data folder: made once, kept beside the data that they key."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

_FILE_NAME = "secrets.json"


def read_local_secrets(data_dir: Path) -> Mapping[str, str]:
    """Return setting name -> secret, making the file (readable by its owner only) when missing.

    Two processes that start at once agree: the file is linked into place whole, and the one that
    comes second reads the first one's.
    """
    path = data_dir / _FILE_NAME
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        draft = data_dir / f".{_FILE_NAME}.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(_new_secrets()))
        with contextlib.suppress(FileExistsError):  # another process was first: its secrets count
            os.link(draft, path)
        draft.unlink()
    return msgspec.json.decode(path.read_bytes(), type=dict[str, str])


def _new_secrets() -> dict[str, str]:
    return {
        "TAGSTITCH_IDENTITY_KEY": secrets.token_urlsafe(32),
        "TAGSTITCH_PSEUDONYM_KEYS": f"local1:{secrets.token_urlsafe(32)}",
        "TAGSTITCH_RECEIPT_KEY": secrets.token_urlsafe(32),
        "LOCAL_CALLBACK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }
