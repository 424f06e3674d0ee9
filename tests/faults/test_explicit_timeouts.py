"""No call leaves this process without a time-out, nor with a library's own retries.

The libraries' defaults outlive every deadline: with the service down, Firestore's `get(timeout=2)`
blocks for 261 s, and a BigQuery insert goes on past 390 s. `timeout=` is for each attempt, so
`retry=` must be said, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "tagstitch").rglob("*.py"))

CLIENTS = {"BigQuery": "Client", "Publisher": "PublisherClient", "Subscriber": "SubscriberClient"}
"""Google's clients retry by themselves: each of their calls must say `retry=` and `timeout=`."""
MAKES_CLIENTS = {*CLIENTS.values(), "open_client"}
CALLS_NOTHING = {"close"}
"""Methods of these clients that ask no server."""

RETRYING_METHODS = {
    "acknowledge", "batch_get_documents", "create_dataset", "create_subscription", "create_table",
    "create_topic", "delete_subscription", "delete_table", "delete_topic", "get_all", "get_table",
    "insert_rows", "insert_rows_json", "load_table_from_json", "modify_ack_deadline",
    "pull", "query", "query_and_wait", "result", "run_aggregation_query", "update_table",
}  # fmt: skip
"""The same by name, for a client that came from elsewhere."""

BOUNDED_ONCE = {
    "httpx.AsyncClient", "httpx.Client", "httpx.get", "httpx.post", "httpx.request", "httpx.stream",
    "requests.get", "requests.post", "requests.put", "requests.patch", "requests.request",
    "http.client.HTTPConnection", "http.client.HTTPSConnection", "urllib.request.urlopen",
    "socket.create_connection", "adapter.send", "session.get", "session.post", "session.request",
}  # fmt: skip
"""What has no retries of its own: `timeout=` is enough."""

STUBS = {"rpc", "stub", "publish"}
"""Names of gRPC's callables, besides those that `with channel.calling() as …` gives."""

WITHOUT_TIMEOUT = {
    ("tagstitch/adapters/bigquery_audit.py", "stub"): "one stream stays open; each append on it "
    "ends at its deadline (asyncio.timeout), shown in test_bigquery.py",
}
NO_HIGH_LEVEL_CLIENT = ("google.cloud.firestore", "google.cloud.pubsub_v1", "google.cloud.pubsub")
"""Clients that retry where no argument reaches: only the types and transports below them are used."""


@dataclass(frozen=True)
class Fault:
    """A call that could outlive its deadline."""

    line: int
    call: str
    missing: str


@dataclass
class Module:
    """The calls of one module that leave this process."""

    tree: ast.AST

    def __post_init__(self) -> None:
        self._nodes = list(ast.walk(self.tree))
        self._clients = self._names_of_clients()
        self._stubs = STUBS & self._names_of_parameters() | self._names_given_by_channels()

    def outgoing(self) -> Iterator[tuple[ast.Call, str, Sequence[str]]]:
        """Give each call with its name and the arguments that it must have."""
        for call in (node for node in self._nodes if isinstance(node, ast.Call)):
            name = _dotted(call.func)
            owner, _, method = name.rpartition(".")
            if method not in CALLS_NOTHING and (
                owner in self._clients or (owner and method in RETRYING_METHODS)
            ):
                yield call, name, ("timeout", "retry")
            elif name in BOUNDED_ONCE or self._is_stub(call.func):
                yield call, name, ("timeout",)

    def faults(self) -> list[Fault]:
        return [
            Fault(call.lineno, name, argument)
            for call, name, arguments in self.outgoing()
            for argument in arguments
            if not _says(call, argument)
        ]

    def imports(self) -> Iterator[str]:
        """Give the name of each module and object that is imported."""
        for node in self._nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def _is_stub(self, function: ast.expr) -> bool:
        """Whether a gRPC callable is called: `rpc.get(…)`, `publish(…)` or `method(rpc)(…)`."""
        if isinstance(function, ast.Call):
            return any(_dotted(argument) in self._stubs for argument in function.args)
        return _dotted(function).partition(".")[0] in self._stubs

    def _names_of_clients(self) -> set[str]:
        """Names that hold a client, or what a client's call gave, such as a job."""
        clients: set[str] = set()
        while True:
            found = {
                _dotted(target)
                for node in self._nodes
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
                for target in node.targets
                if _makes_client(node.value.func, clients)
            }
            if found <= clients:
                return clients
            clients |= found

    def _names_given_by_channels(self) -> set[str]:
        return {
            _dotted(item.optional_vars)
            for node in self._nodes
            if isinstance(node, (ast.With, ast.AsyncWith))
            for item in node.items
            if isinstance(item.context_expr, ast.Call)
            and _dotted(item.context_expr.func).endswith(".calling")
            and item.optional_vars is not None
        }

    def _names_of_parameters(self) -> set[str]:
        return {node.arg for node in self._nodes if isinstance(node, ast.arg)}


def _makes_client(function: ast.expr, clients: set[str]) -> bool:
    name = _dotted(function)
    owner, _, last = name.rpartition(".")
    return last in MAKES_CLIENTS or owner in clients


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _says(call: ast.Call, argument: str) -> bool:
    """Whether the argument is there; a time-out of None is none, retries of None are none, too."""
    found = [keyword.value for keyword in call.keywords if keyword.arg == argument]
    is_none = bool(found) and isinstance(found[0], ast.Constant) and found[0].value is None
    return bool(found) and not (argument == "timeout" and is_none)


@cache
def _module(path: Path) -> Module:
    return Module(ast.parse(path.read_text(encoding="utf-8")))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_call_that_leaves_the_process_is_bounded() -> None:
    faults = [
        f"{_name(path)}:{fault.line}: {fault.call} without {fault.missing}="
        for path in MODULES
        for fault in _module(path).faults()
        if (_name(path), fault.call) not in WITHOUT_TIMEOUT
    ]

    assert faults == []


def test_what_is_excepted_is_there() -> None:
    for file, call in WITHOUT_TIMEOUT:
        assert call in {fault.call for fault in _module(ROOT / file).faults()}


def test_the_calls_are_found() -> None:
    """A check that finds no calls finds no faults either."""
    found = {
        _name(path): sorted({name for _, name, _ in _module(path).outgoing()})
        for path in MODULES
        if any(_module(path).outgoing())
    }

    adapters = {Path(file).stem: calls for file, calls in found.items() if "/adapters/" in file}
    assert adapters == {
        "bigquery_audit": ["stub"],
        "bigquery_audit_queries": ["job.result", "self._client.query"],
        "bigquery_erasure": ["client.query", "job.result"],
        "firestore_documents": ["", "rpc.commit", "rpc.get"],
        "pubsub_publisher": ["publish"],
        "requests_callbacks": ["adapter.send"],
    }
    assert {"tagstitch/cli/replay.py", "tagstitch/local_stack/pubsub_topology.py"} <= set(found)


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("client = bigquery.Client()\nclient.query(sql, timeout=1, retry=None)", []),
        ("client = bigquery.Client()\nclient.query(sql, timeout=1)", ["retry"]),
        ("client = bigquery.Client()\nclient.query(sql, retry=None)", ["timeout"]),
        ("client = bigquery.Client()\nclient.query(sql, timeout=None, retry=None)", ["timeout"]),
        ("client = open_client('p')\nclient.anything_new(sql)", ["timeout", "retry"]),
        ("self._client = open_client('p')\nself._client.copy(a)", ["timeout", "retry"]),
        (
            "client = open_client('p')\njob = client.query(s, timeout=1, retry=None)\njob.cancel()",
            ["timeout", "retry"],
        ),
        ("publisher = PublisherClient()\npublisher.publish(t, b'')", ["timeout", "retry"]),
        ("somebodys.insert_rows_json(t, rows)", ["timeout", "retry"]),
        ("with self._channel.calling() as rpc:\n    rpc.get(request)", ["timeout"]),
        ("with self._channel.calling() as rpc:\n    method(rpc)(request)", ["timeout"]),
        ("with self._channel.calling() as send:\n    send(request, timeout=1)", []),
        ("def append(stub):\n    stub(requests)", ["timeout"]),
        ("requests.post(url, data=body)", ["timeout"]),
        ("httpx.AsyncClient(base_url=url)", ["timeout"]),
        ("adapter.send(request, stream=True)", ["timeout"]),
        ("socket.create_connection(address)", ["timeout"]),
        ("client = bigquery.Client()\nclient.close()", []),
        ("rows.get(name)", []),
    ],
)
def test_a_call_that_could_go_on_for_ever_is_found(code: str, missing: list[str]) -> None:
    faults = Module(ast.parse(code)).faults()

    assert [fault.missing for fault in faults] == missing


def test_no_client_is_used_whose_retries_no_argument_reaches() -> None:
    imported = {name for path in MODULES for name in _module(path).imports()}

    assert "google.cloud.firestore_v1.types" in imported
    assert not imported & set(NO_HIGH_LEVEL_CLIENT)
