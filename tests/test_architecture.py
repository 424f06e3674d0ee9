"""The house rules that a program can check: layers, the pure core, sizes, what a start imports."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FUNCTIONS = ("stitch_sync", "stitch_async", "decide", "audit_sink")

MODULES = sorted((ROOT / "tagstitch").rglob("*.py"))
MAINS = [ROOT / "functions" / function / "main.py" for function in FUNCTIONS]

MAIN_LINES_MAX = 40
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 70

CORE_MAY_IMPORT = {"msgspec", "re2", "numpy", "tagstitch"}
CORE_MUST_NOT_IMPORT = {
    "asyncio", "getpass", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time",
    "uuid",
}  # fmt: skip
CORE_MUST_NOT_CALL = {"open", "print", "input", "eval", "exec", "now", "utcnow", "today"}

HEAVY = (
    "google.cloud.firestore", "google.cloud.firestore_v1", "google.cloud.pubsub",
    "google.cloud.pubsub_v1", "google.cloud.bigquery", "google.cloud.bigquery_storage",
    "google.cloud.bigquery_storage_v1", "google.pubsub_v1", "google.api_core", "google.auth",
    "grpc", "requests", "cryptography", "duckdb", "sqlglot", "pyarrow", "numpy", "typer", "rich",
    "yaml", "httpx", "opentelemetry",
)  # fmt: skip
"""What costs a start time and memory: each is imported by the first call that needs it."""

SECRET = "a secret of an architecture test"

MINIMAL_ENVIRONMENT = {
    "TAGSTITCH_PROJECT": "p",
    "TAGSTITCH_AUTH": "iam",
    "TAGSTITCH_CONSENT_DEFAULT": "denied",
    "TAGSTITCH_IDENTITY_KEY": SECRET,
    "TAGSTITCH_PSEUDONYM_KEYS": "k1:" + SECRET.replace(" ", "-"),
    "TAGSTITCH_RECEIPT_KEY": SECRET,
    "TAGSTITCH_PUSH_AUDIENCE": "https://stitch-async.example.com",
    "TAGSTITCH_PUSH_ACCOUNTS": "push@example.iam.gserviceaccount.com",
}

LIST_MODULES = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("main", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(sorted(sys.modules)))
"""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[str]:
    """Yield the names of all modules that a file imports, wherever in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield node.module or ""


def test_the_arrows_point_one_way() -> None:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "tagstitch" / "core").glob("*.py")), ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    packages = {module.partition(".")[0] for module in imports_of(path)}
    calls = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }
    ours = {module for module in imports_of(path) if module.startswith("tagstitch")}

    assert packages - set(sys.stdlib_module_names) <= CORE_MAY_IMPORT
    assert packages & CORE_MUST_NOT_IMPORT == set()
    assert all(module.startswith("tagstitch.core") for module in ours)
    assert calls & CORE_MUST_NOT_CALL == set()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tagstitch" / "pipeline").glob("*.py")), ids=name_of
)
def test_the_pipeline_knows_no_vendor_and_no_clock_of_its_own(path: Path) -> None:
    vendors = {module.partition(".")[0] for module in imports_of(path)}
    calls = {
        node.func.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }

    assert vendors & {"google", "grpc", "requests", "sqlite3", "duckdb", "starlette"} == set()
    assert calls & {"now", "utcnow", "today"} == set()


@pytest.mark.parametrize("path", MAINS, ids=name_of)
def test_a_main_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAIN_LINES_MAX


@pytest.mark.parametrize("path", [*MODULES, *MAINS], ids=name_of)
def test_a_module_has_its_docstring_and_a_bounded_size(path: Path) -> None:
    tree = tree_of(path)
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    }

    assert ast.get_docstring(tree)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX
    assert long == {}


@pytest.mark.parametrize("path", [*MODULES, *MAINS], ids=name_of)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    readers = {"environ", "environb", "getenv", "putenv"}
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.alias)
    }

    if path != ROOT / "tagstitch" / "adapters" / "settings.py":
        assert used & readers == set()


@pytest.mark.parametrize("path", [*MODULES, *MAINS], ids=name_of)
def test_a_file_is_named_after_what_it_holds(path: Path) -> None:
    assert {"utils", "helpers", "manager", "service", "common", "misc"}.isdisjoint(
        path.stem.split("_")
    )


def test_the_topology_and_the_folder_list_the_same_functions() -> None:
    topology: dict[str, Any] = json.loads((ROOT / "infra" / "topology.json").read_text("utf-8"))
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}

    assert topology["functions"].keys() == folders == set(FUNCTIONS)


@pytest.mark.parametrize("path", MAINS, ids=name_of)
def test_a_start_imports_neither_vendors_nor_tools(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, str(path)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **MINIMAL_ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout))

    assert loaded & set(HEAVY) == set()
    assert "tagstitch.adapters.http_function" in loaded
