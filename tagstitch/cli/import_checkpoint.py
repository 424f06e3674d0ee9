"""How far an interrupted import has come: a small file beside the imported one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from tagstitch.adapters.settings import Settings


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What is done of a file."""

    lines_done: int = 0
    """Every line up to this one is in the store or in the rejects."""
    batch_from: int = 0
    """The first line of the last batch: what the store must hold, or it is another store."""
    rejected: int = 0
    rejects_bytes: int = 0
    """Length of the rejects file; what lies behind it belongs to lines that are not done."""


class _Saved(msgspec.Struct, frozen=True):
    of: str
    progress: Progress


class ImportCheckpoint:
    """The progress of importing one file, read in one way, into one store.

    It counts only for the very same bytes: their hash is part of its name for what it is of.
    """

    def __init__(self, file: Path, settings: Settings, *, reading: str) -> None:
        self._path = file.with_name(file.name + ".import")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        identity_key = hashlib.sha256(settings.identity_key).hexdigest()
        store = f"{settings.backend} {settings.project} {settings.firestore_emulator}"
        if settings.backend == "local":
            store += f" {settings.data_dir.resolve()}"
        self._of = hashlib.sha256(f"{digest} {reading} {store} {identity_key}".encode()).hexdigest()

    def read(self) -> Progress:
        """Return what is done; nothing when the checkpoint is of something else or unreadable."""
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=_Saved)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Progress()
        return saved.progress if saved.of == self._of else Progress()

    def save(self, progress: Progress) -> None:
        """Write it whole or not at all: after a batch's commit and its rejects, never before."""
        draft = self._path.with_name(self._path.name + ".draft")
        draft.write_bytes(msgspec.json.encode(_Saved(self._of, progress)))
        draft.replace(self._path)

    def clear(self) -> None:
        """Remove it: the import is complete."""
        self._path.unlink(missing_ok=True)
