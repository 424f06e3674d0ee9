"""docs/failures.md has every failure once, and every test that it names is there and runs."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
TEXT: Final = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")

FAILURES: Final = 98
"""Rows of the catalogue; a new failure gets the next number."""

HEADINGS: Final = [
    "Ingress and parsing",
    "Auth and abuse",
    "Callback egress",
    "Pub/Sub and functions",
    "Rules and decisions",
    "State, identity, data",
    "Audit, privacy, operations",
]

_ROW: Final = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TEST: Final = re.compile(r"`([^`]+)`")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def rows() -> list[tuple[int, str, list[str]]]:
    """Return number, behaviour and named tests of each row."""
    return [
        (int(number), behaviour, _TEST.findall(tests))
        for number, _, behaviour, tests in _ROW.findall(TEXT)
    ]


@cache
def top_level(path: str) -> dict[str, ast.stmt]:
    """Return what a module defines: functions, classes, and names that it assigns."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, Function | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
    return found


def methods(path: str, class_name: str) -> set[str]:
    """Return the methods of a class, with those of its bases from the tests' other modules."""
    node = top_level(path).get(class_name)
    if isinstance(node, ast.ImportFrom):
        module = (node.module or "").replace(".", "/") + ".py"
        return methods(module, class_name) if module.startswith("tests/") else set()
    if not isinstance(node, ast.ClassDef):
        return set()
    own = {inner.name for inner in node.body if isinstance(inner, Function)}
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return own.union(*(methods(path, base) for base in bases))


def is_collected(path: str, names: list[str]) -> bool:
    """Return whether pytest finds the test: a function, a method, or a state machine's case."""
    if not Path(path).name.startswith("test_") or not (ROOT / path).is_file():
        return False
    first = top_level(path).get(names[0])
    if len(names) == 2:
        is_class = isinstance(first, ast.ClassDef) and names[0].startswith("Test")
        return is_class and names[1].startswith("test_") and names[1] in methods(path, names[0])
    if isinstance(first, ast.Assign):
        return names[0].startswith("Test") and ast.unparse(first.value).endswith(".TestCase")
    return isinstance(first, Function) and names[0].startswith("test_")


def is_there(name: str) -> bool:
    path, *names = name.split("::")
    if path.endswith(".py"):
        return is_collected(path, names)
    if len(names) != 1 or not (ROOT / path).is_file():
        return False
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    if path.endswith(".tpl"):
        return f"- name: {names[0]}" in lines
    return path.endswith(".test.mjs") and any(f'test("{names[0]}"' in line for line in lines)


def test_failures_are_numbered_without_a_gap() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, FAILURES + 1))
    assert len(re.findall(r"^\| \d", TEXT, re.MULTILINE)) == FAILURES


def test_failures_stand_under_their_headings() -> None:
    assert re.findall(r"^## (.+)$", TEXT, re.MULTILINE) == HEADINGS


def test_every_named_test_is_there() -> None:
    named = {name for _, _, tests in rows() for name in tests}

    assert sorted(name for name in named if not is_there(name)) == []


def test_a_failure_without_a_test_says_why() -> None:
    silent = [
        number
        for number, behaviour, tests in rows()
        if not tests and not re.search(r"\*\*(?:Not yet|Does not apply):\*\* \w", behaviour)
    ]

    assert silent == []


NEAR_MISSES: Final = [
    "tests/test_failure_documentation.py::test_nobody_wrote_this",
    "tests/test_failure_documentation.py::is_there",
    "tests/test_failure_documentation.py::TEXT",
    "tests/test_nobody_wrote_this.py::test_x",
    "tests/contract/test_local.py::TestSqliteDocuments::test_nobody_wrote_this",
    "tests/contract/test_local.py::test_a_missing_document_is_none",
    "tests/contract/document_store_contract.py::DocumentStoreContract::test_a_missing_document_is_none",
    "sgtm/templates/decide-tag/template.tpl::Nobody wrote this",
    "tests/sgtm/container.test.mjs::nobody wrote this",
]
"""Names that look like tests and that nothing runs."""


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_nothing_runs_is_not_taken_for_a_test(name: str) -> None:
    assert not is_there(name)
