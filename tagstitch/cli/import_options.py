"""What the commands that write many profiles have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from tagstitch.adapters.settings import Settings

RestartOption = Annotated[
    bool, typer.Option("--restart", help="Begin at the first line after an interruption.")
]
NoRampOption = Annotated[
    bool,
    typer.Option("--no-ramp", help="Firestore: full speed at once; its collections are warm."),
]


def needs_ramp(settings: Settings) -> bool:
    """Return whether writes go to Firestore itself, which wants traffic to grow slowly."""
    return settings.backend == "cloud" and settings.firestore_emulator is None
