"""docs/rules.md says what is so: its examples run, its tables name every word, its limits hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from tagstitch.cli import app
from tagstitch.cli.rule_files import read_rule_files
from tagstitch.core import limits
from tagstitch.core.event import parse_event
from tagstitch.core.event_action_parsing import PARSERS as EVENT_ACTIONS
from tagstitch.core.experiment_parsing import DESCRIPTIVE
from tagstitch.core.operators import OPERATORS, PLACED_WORDS
from tagstitch.core.personalization_action_parsing import PARSERS as PERSONALIZATION_ACTIONS
from tagstitch.core.profile import Profile
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.text_computation import OPERATORS as COMPUTATIONS
from tests.core.deciding import decide_both

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "rules.md"
TEXT: Final = DOCUMENT.read_text(encoding="utf-8")

_BLOCK: Final = re.compile(r"^```yaml (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_JUDGED: Final = re.compile(
    r"^# (\{.*?\})(?: with profile (\{.*\}))? (holds|does not hold)$", re.MULTILINE
)
_DECIDED: Final = re.compile(
    r"^# event: (\{.*\})\n(?:# profile: (\{.*\})\n)?# → (\{.*\})$", re.MULTILINE
)
_LIMITS: Final = {
    "levels of groups": limits.CONDITION_DEPTH_MAX,
    "comparisons in one rule": limits.CONDITION_PREDICATES_MAX,
    "values of a list": limits.CONDITION_LIST_MAX,
    "characters of a regular expression": limits.CONDITION_REGEX_CHARS_MAX,
    "segments of a path": limits.PATH_SEGMENTS_MAX,
    "actions of one rule": limits.RULE_ACTIONS_MAX,
    "event names of one rule": limits.RULE_EVENT_NAMES_MAX,
    "characters of a rule's id": limits.RULE_ID_CHARS_MAX,
    "caps of one rule": limits.CAPS_PER_RULE_MAX,
    "uses that a cap may allow": limits.CAP_MAX_MAX,
    "variants of an experiment": limits.EXPERIMENT_VARIANTS_MAX,
    "keys that a rule may remember": limits.STATE_KEYS_MAX,
    "fields of an e-mail, a CRM record, a webhook or a message": limits.OUTBOX_FIELDS_MAX,
    "minutes that a cookie may live": limits.COOKIE_EXPIRY_MINUTES_MAX,
}
"""What the document calls it -> what holds."""


def blocks(kind: str) -> Iterator[Any]:
    for number, (found, text) in enumerate(_BLOCK.findall(TEXT), 1):
        if found == kind:
            yield pytest.param(text, id=f"{number}: {text.splitlines()[0]}")


def read_yaml(text: str, folder: Path) -> Any:
    """Return the content of a YAML text, read as rule files are."""
    file = folder / "read.yaml"
    file.write_text("audiences:\n  a:\n    x: " + text, encoding="utf-8")
    return read_rule_files(file).audiences["a"]["x"]


def book_of(definitions: RuleDefinitions) -> RuleBook:
    book = compile_rule_book(definitions)
    assert book.broken == ()
    return book


def book_with(fields: Mapping[str, Any]) -> RuleBook:
    rule = {"target_event_name": "*", "match_all": True, "action_type": "drop_event", **fields}
    return book_of(RuleDefinitions(event_rules={"r": rule}))


def indented(text: str) -> str:
    return "\n" + "".join(f"      {line}\n" for line in text.splitlines())


def test_every_example_has_a_kind_that_is_run() -> None:
    assert TEXT.count("```yaml") == len(_BLOCK.findall(TEXT))
    assert {kind for kind, _ in _BLOCK.findall(TEXT)} == {"file", "conditions", "gates"}


@pytest.mark.parametrize("text", [*blocks("conditions")])
def test_conditions_hold_as_their_example_says(text: str, tmp_path: Path) -> None:
    book = book_with({"conditions": read_yaml(indented(text), tmp_path)})
    judged = _JUDGED.findall(text)

    assert len(judged) == text.count("\n# ") > 0
    for event, profile, verdict in judged:
        arrived = parse_event({"event_name": "purchase", **read_yaml(event, tmp_path)})
        known = Profile("p_1", read_yaml(profile, tmp_path) if profile else {})
        decision = decide_both(arrived, book, known).event
        assert decision is not None
        assert (event, decision.drop) == (event, verdict == "holds")


@pytest.mark.parametrize("text", [*blocks("file")])
def test_a_rule_file_decides_as_its_example_says(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text, encoding="utf-8")
    book = book_of(read_rule_files(file))
    decided = _DECIDED.findall(text)

    assert len(decided) == text.count("\n# →") > 0
    for event, profile, wanted in decided:
        known = Profile("p_1", read_yaml(profile, tmp_path) if profile else {})
        decision = decide_both(parse_event(read_yaml(event, tmp_path)), book, known)
        body = decision.to_json()
        told = {**body["event"], **body["personalization"], "state": dict(decision.changes.state)}
        told = {key: value for key, value in told.items() if value not in (None, False, {}, [])}
        ignored = ("modifications", "reason")
        assert read_yaml(wanted, tmp_path) == {k: v for k, v in told.items() if k not in ignored}


@pytest.mark.parametrize("text", [*blocks("gates")])
def test_gates_are_written_so(text: str, tmp_path: Path) -> None:
    book_with(read_yaml(indented(text), tmp_path))


def test_every_word_of_the_language_is_explained() -> None:
    placed = {name for name, _ in PLACED_WORDS.values()}
    experiments = {"variants", "coverage", "namespace", "holdout", "forced", "sticky", "version", "seed", "hash_version"}  # fmt: skip
    words = {*OPERATORS, *placed, *EVENT_ACTIONS, *PERSONALIZATION_ACTIONS, *COMPUTATIONS}

    assert {w for w in {*words, *experiments, *DESCRIPTIVE} if f"`{w}`" not in TEXT} == set()


def test_the_limits_in_the_table_are_those_that_hold() -> None:
    table = TEXT.partition("## Limits")[2].partition("## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+) \|$", table, re.MULTILINE)

    assert {name: int(number.replace(",", "")) for name, number in rows} == _LIMITS


def test_explain_prints_what_the_document_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCUMENT.parents[1])
    shown = re.findall(
        r"^```bash\ntagstitch (.*?)\n```\n```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    )

    assert len(shown) == 1
    for command, output in shown:
        ran = CliRunner().invoke(app, command.split())
        assert (ran.exit_code, ran.stdout) == (0, output)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`tagstitch ([^`]+)`", TEXT))))
def test_every_command_that_is_named_exists(command: str) -> None:
    words = [word for word in command.split() if word.islower() and word.isalpha()]
    options = [word for word in command.split() if word.startswith("--")]

    ran = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})

    assert ran.exit_code == 0
    assert [option for option in options if option not in ran.stdout] == []
