"""docs/traits.md says what is so: its examples run, its tables name every word, its limits hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from tagstitch.core import limits
from tagstitch.core.consent import Consent
from tagstitch.core.event import Event
from tagstitch.core.profile_traits import compile_traits, fold_event
from tagstitch.core.trait_operations import OPERATIONS
from tagstitch.core.trait_parsing import (
    DESCRIPTIVE,
    FILL,
    LIMITS,
    OTHER_FIELDS,
    TRAIT_EVENT_WORDS,
    UNITS,
)
from tagstitch.core.trait_state import Traits, trait_values

TEXT: Final = (Path(__file__).parent.parent / "docs" / "traits.md").read_text(encoding="utf-8")
GRANTED: Final = Consent({}, {}, default_granted=True)

_BLOCK: Final = re.compile(r"^```yaml (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WANTED: Final = re.compile(r"^# (\S+): (\{.*\})$", re.MULTILINE)


def block(kind: str) -> str:
    blocks: dict[str, str] = dict(_BLOCK.findall(TEXT))
    return blocks[kind]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_worked_example_is_what_comes_out() -> None:
    definitions = compile_traits(yaml.safe_load(block("traits")))
    events: list[dict[str, Any]] = yaml.safe_load(block("events"))
    traits: Traits = {}
    for event in events:
        at = moment(event.pop("at"))
        traits = fold_event(
            definitions, traits, Event(event["event_name"], event), at=at, consent=GRANTED
        ).traits

    wanted = {at: yaml.safe_load(values) for at, values in _WANTED.findall(block("events"))}
    found = {at: trait_values(traits, now=moment(at)) for at in wanted}

    assert definitions.broken == ()
    assert len(wanted) == 3
    assert found == wanted


def test_the_table_names_every_operation_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section("Operations"), re.MULTILINE)

    assert rows == [*OPERATIONS]


def test_the_table_names_every_field_of_a_definition() -> None:
    named = set(re.findall(r"`(\w+)`", section("What a definition says")))
    fields = {
        *TRAIT_EVENT_WORDS, *OTHER_FIELDS, *DESCRIPTIVE, FILL, *UNITS, "when", "conditions",
        "operation", "field", "window", "expires", "purposes", "version", "is_active",
    }  # fmt: skip

    assert fields - named == set()


def test_the_windows_name_the_operations_that_divide_them_otherwise() -> None:
    rows = section("Windows").splitlines()
    coarse = next(row for row in rows if row.startswith("| … for `first`"))
    exact = next(row for row in rows if row.startswith("| … for `last`"))

    for row, buckets in ((coarse, "coarse"), (exact, "none")):
        wanted = {
            name for name, operation in OPERATIONS.items()
            if operation.buckets == buckets and "rolling" in operation.windows
        }  # fmt: skip
        assert set(re.findall(r"`(\w+)`", row)) == wanted


def test_the_limits_are_those_of_the_code() -> None:
    said = {
        "at most 100": LIMITS["unique_list"][1],
        "at most 50": LIMITS["tally"][1],
        "up to 1,024 exact": limits.TRAIT_DISTINCT_MAX,
        "up to 128 exact": limits.TRAIT_DISTINCT_BUCKET_MAX,
        "up to 100 different keys": limits.TRAIT_TALLY_KEYS_MAX,
        "a sample of 128 events": limits.TRAIT_TALLY_SAMPLE,
        "12 keys and 12 events": limits.TRAIT_TALLY_BUCKET_MAX,
        "at most 1,000 bytes": limits.TRAIT_VALUE_BYTES_MAX,
        "above 200 bytes": limits.TRAIT_ELEMENT_BYTES_MAX,
        "a key above 64": limits.TRAIT_KEY_BYTES_MAX - 2,
        "up to 200 of one event": limits.TRAIT_VALUES_PER_EVENT_MAX,
        "at most 24 KiB": limits.TRAIT_STATE_BYTES_MAX // 1024,
        "at most 160 KiB": limits.TRAITS_BYTES_MAX // 1024,
        "at most 6 hours": limits.TRAIT_SESSION_S_MAX // 3_600,
        "366 days are remembered": limits.TRAIT_SESSION_DAYS_MAX,
    }

    for words, number in said.items():
        assert words in TEXT
        assert f"{number:,}" in words
