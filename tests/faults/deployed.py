"""What a function needs to run against the stub: settings, samples, and a rule with state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tagstitch.adapters.backend_factory import close_backend, open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.cli.opened_backend import Opened
from tagstitch.cli.rules import push_rules
from tagstitch.cli.samples import load_samples
from tagstitch.core.rule_definitions import RuleDefinitions
from tests.end_to_end.deployment import CAPPED_OFFER, ONCE_ONLY_OFFER


def environment_of(firestore: str, pubsub: str, folder: Path) -> dict[str, str]:
    """The environment of a function whose services are at these addresses."""
    return {
        "TAGSTITCH_BACKEND": "cloud",
        "TAGSTITCH_PROJECT": "faults",
        "TAGSTITCH_DATASET": "tagstitch",
        "TAGSTITCH_DATA_DIR": str(folder),
        "FIRESTORE_EMULATOR_HOST": firestore,
        "PUBSUB_EMULATOR_HOST": pubsub,
    }


async def load_definitions(environment: Mapping[str, str]) -> None:
    """Store the samples, and rules that read and write a visitor's state."""
    settings = read_settings(environment)
    opened = Opened(open_backend(settings), make_keyring(settings), settings)
    try:
        await load_samples(opened)
        await push_rules(opened.backend, RuleDefinitions({}, ONCE_ONLY_OFFER | CAPPED_OFFER))
    finally:
        await close_backend(settings)
