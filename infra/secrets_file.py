"""Make the secrets of a new deployment: `python3 infra/secrets_file.py [--callback-url URL]`.

Writes `infra/secrets.auto.tfvars.json`, which Terraform reads by itself, with keys made at random;
what is in the file already stays. Only Secret Manager keeps them after that: put the file into a
safe, the identity key above all, and remove it. Needs nothing installed.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).resolve().parent / "secrets.auto.tfvars.json"

SCOPES: Final = ["lookup", "decide", "stitch"]
"""What sGTM's key may do at first: docs/settings.md says what `assert` and the others would add."""


def new_secrets(callback_url: str | None) -> dict[str, str]:
    """Return a value for every secret."""
    webhook = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    callback: dict[str, Any] = {
        "id": "main",
        "url": callback_url,
        "secret": webhook,
        "attributes": [],
    }
    signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return {
        "identity-key": secrets.token_urlsafe(32),
        "pseudonym-keys": f"k1:{secrets.token_urlsafe(32)}",
        "receipt-key": secrets.token_urlsafe(32),
        "keys": json.dumps([_caller(secrets.token_urlsafe(32))]),
        "signing-secrets": json.dumps([_caller(signing)]),
        "callbacks": json.dumps([callback] if callback_url else []),
        "destinations": "[]",
    }


def _caller(secret: str) -> dict[str, Any]:
    return {"id": "sgtm", "secret": secret, "scopes": SCOPES}


def write(path: Path, callback_url: str | None) -> list[str]:
    """Add what the file lacks; return the names of what was added."""
    written = json.loads(path.read_text("utf-8")) if path.exists() else {}
    kept = written.get("secrets", {})
    added = {n: value for n, value in new_secrets(callback_url).items() if n not in kept}
    private = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(private, "w", encoding="utf-8") as file:
        json.dump({**written, "secrets": {**kept, **added}}, file, indent=2)
        file.write("\n")
    return sorted(added)


def main(arguments: list[str]) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--callback-url", help="the sGTM address that takes stitched profiles")
    parser.add_argument("--file", type=Path, default=FILE)
    given = parser.parse_args(arguments)
    if given.callback_url and not given.callback_url.startswith("https://"):
        parser.error("the callback URL must begin with https://")
    added = write(given.file, given.callback_url)
    print(f"{given.file.name}: " + (f"made {', '.join(added)}" if added else "nothing was missing"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
