"""The documents say what is so: settings, links, targets, commands, paths, words, answers."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from typer.testing import CliRunner

from tagstitch.adapters.settings import SCOPES
from tagstitch.cli import app
from tagstitch.core.action_delivery import ActionReason
from tagstitch.core.assignment import AssignmentReason, NotAssignedReason
from tagstitch.core.finding import SEVERITIES
from tagstitch.core.identity_graph import DemotionReason
from tagstitch.core.lookup import LookupReason
from tagstitch.core.personalization import PersonalizationReason
from tagstitch.core.rule_trace import RuleReason
from tagstitch.core.stitch_result import _OUTCOMES, StitchReason

ROOT = Path(__file__).parent.parent
STACK = "http://127.0.0.1:8080"

_STACK_START_S = 60
_ANSWER_S = 30
"""Seconds until what a queue delivers must be there; a generous bound for a machine under load."""

_MACHINE_PATH = re.compile(r"(?<![\w./<])/(?:work|root|home|mnt|Users|tmp(?!/x\b))/\w")
"""`/tmp/x` stands in tests of what a query must not reach."""

_WRITTEN_LATER = {"bench/RESULTS.md", "RESULTS.md"}
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_CURL = re.compile(r"```bash\n(curl .*?)```\n```json\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"^tagstitch [a-z].*$", re.MULTILINE)


needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="needs git to know what is tracked"
)


def tracked_files() -> list[Path]:
    run = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in run.stdout.decode().split("\0") if (ROOT / name).is_file()]


def documents() -> list[Path]:
    if not (ROOT / ".git").exists():
        return sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("[a-z]*/**/*.md"))
    return [path for path in tracked_files() if path.suffix == ".md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def settings_that_are_read() -> set[str]:
    """Return the variables that `read_settings` asks for: the first arguments of its reader."""
    tree = ast.parse(text_of("tagstitch/adapters/settings.py"))
    asked = {
        argument.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    return {name for name in asked if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)}


def test_every_setting_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", text_of("docs/settings.md"), re.MULTILINE)

    assert len(rows) == len(set(rows))
    assert set(rows) == settings_that_are_read()


def test_every_setting_of_a_deployed_function_is_explained() -> None:
    text = text_of("docs/settings.md").partition("## What they mean")[2]
    alike = {"TAGSTITCH_PROJECT", "TAGSTITCH_DATASET", "TAGSTITCH_DATA_DIR"}
    ours = {name for name in settings_that_are_read() if name.startswith("TAGSTITCH_")}

    assert {name for name in ours - alike if f"`{name}`" not in text} == set()
    assert {scope for scope in SCOPES if f"| `{scope}` |" not in text} == set()


def test_the_defaults_in_the_table_are_those_of_the_code() -> None:
    from tagstitch.adapters.settings import read_settings

    secret = "x" * 32
    settings = read_settings(
        {
            "TAGSTITCH_PROJECT": "p",
            "TAGSTITCH_AUTH": "iam",
            "TAGSTITCH_CONSENT_DEFAULT": "denied",
            "TAGSTITCH_IDENTITY_KEY": secret,
            "TAGSTITCH_PSEUDONYM_KEYS": f"k1:{secret}",
            "TAGSTITCH_RECEIPT_KEY": secret,
        }
    )
    defaults = {
        "TAGSTITCH_BACKEND": settings.backend,
        "TAGSTITCH_AUDIT_PARAMETERS": ",".join(settings.audit_parameters),
        "TAGSTITCH_RULES_REFRESH_S": f"{settings.rules_refresh_s:g}",
        "TAGSTITCH_TIME_ZONE": settings.time_zone,
        "TAGSTITCH_DATASET": settings.dataset,
        "TAGSTITCH_DATA_DIR": str(settings.data_dir),
        "TAGSTITCH_RETRY_SCALE": f"{settings.retry_scale:g}",
    }
    table = text_of("docs/settings.md")

    for name, default in defaults.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.split(" | ")[2].startswith(f"`{default}`"), row


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = _LINK.findall(document.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link and link[0] != "#"]

    assert [link for link in files if not (document.parent / link).exists()] == []


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "docs/deploy.md", "docs/runbook.md"]
)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(document), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))

    assert named
    assert named - targets == set()


def test_every_make_target_is_in_the_guide_for_contributors() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE)
    named = set(re.findall(r"`make ([a-z-]+)", text_of("CONTRIBUTING.md")))

    assert set(targets) - named == {"help"}


def named_commands() -> list[str]:
    """Return the commands on lines of their own; of those who operate it also those within a line."""
    found = [
        c for name in ("README.md", "examples/README.md") for c in _COMMAND.findall(text_of(name))
    ]
    for name in ("docs/deploy.md", "docs/runbook.md", "infra/monitoring.tf"):
        found += _COMMAND.findall(text_of(name))
        found += re.findall(r"`(tagstitch (?!-)[^`]+)`", text_of(name))
    return sorted(set(found))


@pytest.mark.parametrize("command", named_commands())
def test_every_command_that_is_named_exists(command: str) -> None:
    words = shlex.split(command)[1:]
    options = [word for word in words if word.startswith("--")]
    names = (
        words[:2]
        if words[0]
        in ("rules", "profiles", "traits", "identity", "audit", "decisions", "deadletters")
        else words[:1]
    )

    ran = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})

    assert ran.exit_code == 0, ran.output
    assert [option for option in options if option not in ran.output] == []


def test_the_commands_of_the_readme_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TAGSTITCH_BACKEND", "local")
    monkeypatch.setenv("TAGSTITCH_DATA_DIR", str(tmp_path))
    for command in _COMMAND.findall(text_of("README.md")):
        words = shlex.split(command)[1:]
        if words[0] == "replay":
            continue  # needs the running stack; tests/cli/test_stack_commands.py has it
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, (command, ran.output)


def test_the_reasons_are_documented() -> None:
    text = text_of("docs/reasons.md")
    reasons = (
        LookupReason,
        StitchReason,
        PersonalizationReason,
        RuleReason,
        AssignmentReason,
        NotAssignedReason,
        ActionReason,
        DemotionReason,
    )
    words = {word for reason in reasons for word in get_args(reason)}

    assert {word for word in words if f"| `{word}` |" not in text} == set()
    for word, outcome in _OUTCOMES.items():
        assert re.search(rf"^\| `{word}` \|.*\| `{outcome}` \|$", text, re.MULTILINE), word


def test_the_codes_of_the_rule_checks_are_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", text_of("docs/rule-checks.md"), re.MULTILINE)

    assert dict(rows) == SEVERITIES
    assert len(rows) == len(SEVERITIES)


def test_the_changelog_has_the_reasons_of_a_callback() -> None:
    changelog = text_of("CHANGELOG.md")

    assert {word for word in get_args(StitchReason) if f"`{word}`" not in changelog} == set()


def test_the_decisions_are_numbered_without_a_gap() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    titles = [path.read_text(encoding="utf-8").partition("\n")[0] for path in files]

    assert [int(path.name[:4]) for path in files] == list(range(1, len(files) + 1))
    assert [title[:7] for title in titles] == [f"# {path.name[:4]}:" for path in files]


@needs_git
def test_no_text_leans_on_a_document_that_is_not_here() -> None:
    named = re.compile(r"(?<![\w/.-])[A-Z]{4,}\.md\b|\bCONTRACT\b")
    texts = [path for path in tracked_files() if path.suffix in (".py", ".md", ".toml", ".yaml")]
    missing = {
        (name_of(path), name)
        for path in texts
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists() and name not in _WRITTEN_LATER and path != Path(__file__)
    }

    assert missing == set()


def test_every_file_that_a_document_names_exists() -> None:
    named = re.compile(
        r"`((?:tagstitch|core|pipeline|adapters|local_stack|cli|infra|schemas|tests|bench|docs|"
        r"examples)/[\w./-]+\.(?:py|json|md|sql|yaml|jsonl))`"
    )
    layers = ("core", "pipeline", "adapters", "local_stack", "cli")
    missing = [
        (name_of(document), name)
        for document in documents()
        for name in named.findall(document.read_text(encoding="utf-8"))
        if not (ROOT / ("tagstitch" if name.partition("/")[0] in layers else "") / name).exists()
        and name not in _WRITTEN_LATER
    ]

    assert missing == []


@needs_git
def test_no_tracked_text_names_a_place_on_a_machine() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [(name_of(path), line) for line in text.splitlines() if _MACHINE_PATH.search(line)]

    assert found == []


# --- the README's curls, on a stack of its own


def examples() -> list[tuple[list[str], str]]:
    pairs = _CURL.findall(text_of("README.md"))
    return [(shlex.split(command.replace("\\\n", " ")), answer) for command, answer in pairs]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[httpx.Client]:
    """Give a client of a fresh `tagstitch up`, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tagstitch.cli",
        "up",
        "--port",
        "0",
        "--no-container",
        "--json",
    ]
    taken_out = ("TAGSTITCH_", "FIRESTORE_", "PUBSUB_", "BIGQUERY_", "GOOGLE_")
    environment = {n: value for n, value in os.environ.items() if not n.startswith(taken_out)}
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=_STACK_START_S, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(_STACK_START_S)
        process.stdout.close()


def run_curl(words: list[str], client: httpx.Client) -> str:
    """Do what the curl of an example does; fails for an option that this does not know."""
    method, body, url, headers, tail = None, None, "", {}, ""
    left = iter(words[1:])
    for word in left:
        if word == "-s":
            continue
        if word == "-X":
            method = next(left)
        elif word == "-H":
            name, _, value = next(left).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(left)
        elif word == "-w":
            tail = next(left)
        else:
            assert word.startswith(STACK), word
            url = word.removeprefix(STACK)
    method = method or ("GET" if body is None else "POST")
    answer = client.request(method, url, headers=headers, content=body)
    return answer.text + tail.replace("%{http_code}", str(answer.status_code))


def difference(wanted: Any, got: Any, place: str = "") -> str | None:
    """Return the first place where an answer is not as the README has it; … stands for any text."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        if wanted.keys() != got.keys():
            return f"{place}: {sorted(wanted)} became {sorted(got)}"
        pairs = [(wanted[key], got[key], f"{place}.{key}") for key in wanted]
    elif isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            return f"{place}: {len(wanted)} entries became {len(got)}"
        pairs = [(w, g, f"{place}[{i}]") for i, (w, g) in enumerate(zip(wanted, got, strict=True))]
    elif isinstance(wanted, str) and wanted.endswith("…"):
        is_like = isinstance(got, str) and got.startswith(wanted[:-1]) and len(got) >= len(wanted)
        return None if is_like else f"{place}: {wanted!r} became {got!r}"
    else:
        return None if wanted == got else f"{place}: {wanted!r} became {got!r}"
    found = (difference(*pair) for pair in pairs)
    return next((each for each in found if each is not None), None)


def test_the_readme_shows_real_answers(stack: httpx.Client) -> None:
    own_url = str(stack.base_url).removesuffix("/")

    for words, wanted in examples():
        end = time.monotonic() + _ANSWER_S
        expected = json.loads(wanted.replace(STACK.removeprefix("http://"), own_url[7:]))
        while (found := difference(expected, json.loads(run_curl(words, stack)))) is not None:
            assert words[-1].startswith((STACK + "/_local/", STACK + "/decide/health")), (
                words[-1],
                found,
            )
            assert time.monotonic() < end, (words[-1], found)
            time.sleep(0.1)


def test_the_readme_asks_every_route() -> None:
    from tests.test_architecture import FUNCTIONS

    asked = {
        next(w for w in words if w.startswith(STACK)).removeprefix(STACK).partition("?")[0]
        for words, _ in examples()
    }
    routes = {
        f"/{function}{path}".rstrip("/")
        for function in FUNCTIONS
        for path in re.findall(
            r"^@function\.\w+\((.*)\)$", text_of(f"functions/{function}/main.py"), re.MULTILINE
        )
        for path in re.findall(r'"(/[\w-]*)"', path)
    }

    assert routes - {"/decide/decide"} <= asked
