"""The sample rules, traits, views and profiles of `examples/`, for a store that holds nothing yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tagstitch.cli.json_lines import read_lines
from tagstitch.cli.opened_backend import Opened
from tagstitch.cli.rule_checks import read_views
from tagstitch.cli.rule_files import read_rule_files
from tagstitch.cli.rules import push_rules
from tagstitch.core.rule_definitions import EDITED
from tagstitch.pipeline.backend import DocumentStore, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.profile_import import import_profiles, in_batches
from tagstitch.pipeline.profile_line import parse_profile_line

EXAMPLES: Final = Path(__file__).parents[2] / "examples"

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class LoadedSamples:
    """How much was loaded."""

    rules: int
    profiles: int


async def load_samples(opened: Opened) -> LoadedSamples | None:
    """Load the samples into an empty store; None when it has content, or there are no samples."""
    deadline = Deadline.after(_TIMEOUT_S)
    if not EXAMPLES.is_dir() or not await _is_empty(opened.backend.documents, deadline):
        return None
    await put_sample_views(opened.backend.documents, deadline)
    definitions = read_rule_files(EXAMPLES / "rules")
    await push_rules(opened.backend, definitions)
    lines = (
        (number, parse_profile_line(raw, opened.settings.identity, opened.keyring))
        for number, raw in read_lines(EXAMPLES / "profiles.jsonl")
    )
    profiles = 0
    for batch in in_batches(lines):
        result = await import_profiles(
            opened.backend.documents, batch, now=opened.backend.clock(), deadline=deadline
        )
        profiles += result.created
    return LoadedSamples(
        len(definitions.event_rules) + len(definitions.personalization_rules), profiles
    )


async def put_sample_views(documents: DocumentStore, deadline: Deadline) -> None:
    """Store the sample views; before rules are published, because they say what is protected."""
    views = read_views(EXAMPLES / "views.yaml")
    writes = [Put(f"views/{name}", view) for name, view in views.items()]
    await documents.commit(writes, deadline=deadline)


async def _is_empty(documents: DocumentStore, deadline: Deadline) -> bool:
    for collection in ("rule_book", *EDITED, "views", "profiles"):
        if await documents.list_documents(collection, limit=1, deadline=deadline):
            return False
    return True
