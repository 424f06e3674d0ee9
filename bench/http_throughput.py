"""stitch_sync and decide over HTTP beside the published design, in one run.

    .venv/bin/python -m bench.http_throughput [--seconds 10]

Each server has one process on one core; wrk and the emulators share the other. 10,000 profiles,
100 rules over 10 event names, an event of 60 parameters and 5 items. The rounds of both sides
alternate, and the medians' ratios count: machines drift.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from bench.server_process import LOAD_CORE, Load, pin_tree, run_wrk, running_server
from tagstitch.adapters.settings import Settings, environment_with, read_settings
from tagstitch.adapters.topology import read_topology
from tagstitch.adapters.wiring import make_keyring
from tagstitch.core.identifier import Identifier
from tagstitch.core.identity_graph import new_profile_fields
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.local_stack.emulators import Emulators, run_emulators
from tagstitch.pipeline.backend import Backend, Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import publish_rules

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

PROFILES = 10_000
RULES = 100
EVENT_NAMES = 10
PROJECT = "bench"


@dataclass(frozen=True)
class Candidate:
    """One server that is measured."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    health: str
    script: Path


def client_id(number: int) -> str:
    return f"{1_000_000_000 + number}.1747154479"


def sample_event() -> dict[str, Any]:
    """Return a GA4 event of 60 parameters and 5 items, without its client id."""
    item = {
        "item_id": "SKU_1",
        "item_name": "Tee",
        "item_brand": "Acme",
        "price": 10.01,
        "quantity": 3,
    }
    parameters = {f"parameter_{n}": f"value {n}" for n in range(57)}
    return {"event_name": "purchase_0", "value": 123.45, "items": [item] * 5, **parameters}


def sample_rules() -> dict[str, dict[str, Any]]:
    """Return rules of which none applies to the sample event, ten on its name."""
    return {
        f"rule_{n:03}": {
            "target_event_name": f"purchase_{n % EVENT_NAMES}",
            "conditions": {
                "value": {"greaterThan": 1_000 + n},
                "user_loyalty_tier": "Gold",
            },
            "action_type": "rename_event",
            "action_details": {"new_event_name": "large_purchase"},
            "priority": n,
            "is_active": True,
        }
        for n in range(RULES)
    }


def lua_script(path: str, body: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Write a wrk script that posts the body with another client id each time."""
    text = json.dumps(body).replace("@CLIENT_ID@", '" .. client_id .. "')
    parts = text.split('" .. client_id .. "')
    quoted = " .. client_id .. ".join(f"[==[{part}]==]" for part in parts)
    script = folder / f"{name}.lua"
    script.write_text(
        "math.randomseed(7)\n"
        'local headers = {["Content-Type"] = "application/json"}\n'
        "request = function()\n"
        f'  local client_id = string.format("%d.1747154479", 1000000000 + math.random(0, {PROFILES - 1}))\n'
        f'  return wrk.format("POST", "{path}", headers, {quoted})\n'
        "end\n"
    )
    return script


async def fill(backend: Backend, settings: Settings, *, published: bool) -> None:
    """Store the profiles, ours and the published design's, and publish the rules."""
    keyring = make_keyring(settings)
    now = backend.clock()
    attributes = {"user_loyalty_tier": "Silver", "lifetime_value": 12.5, "city": "Bonn"}
    for start in range(0, PROFILES, 250):
        writes = []
        for number in range(start, start + 250):
            primary = Identifier("client_id", client_id(number))
            fields = new_profile_fields(now=now, salt=b"0" * 16)
            fields["attributes"] = attributes | {f"attribute_{n}": n for n in range(9)}
            fields["identifiers"] = {
                keyring.identifier_key(primary): {"first_seen": now, "last_seen": now}
            }
            writes.append(Put(f"profiles/{keyring.profile_id(primary)}", fields))
            if published:
                writes.append(Put(f"bench_profiles/{client_id(number)}", fields["attributes"]))
        await backend.documents.commit(writes, deadline=Deadline.after(60))
    await publish_rules(backend.documents, RuleDefinitions(sample_rules()), now, Deadline.after(60))


def our_function(name: str, environment: Mapping[str, str], script: Path, label: str) -> Candidate:
    return Candidate(
        label,
        (
            str(BIN / "functions-framework"), "--target", name,
            "--source", str(ROOT / "functions" / name / "main.py"),
            "--host", "127.0.0.1", "--port", "{port}",
        ),
        {**environment, "PYTHONPATH": str(ROOT), "WORKERS": "1"},
        ROOT,
        "/health",
        script,
    )  # fmt: skip


def published_design(environment: Mapping[str, str], script: Path, label: str) -> Candidate:
    return Candidate(
        label,
        (
            str(BIN / "gunicorn"), "--workers", "1", "--threads", "8",
            "--bind", "127.0.0.1:{port}", "bench.published_design.main:app",
        ),
        {**environment, "PYTHONPATH": str(ROOT)},
        ROOT,
        "/",
        script,
    )  # fmt: skip


def measure_side_by_side(
    candidates: list[Candidate], *, connections: int, seconds: int, rounds: int
) -> dict[str, list[Load]]:
    """Return the loads of each candidate; in every round each is measured once, in turn."""
    loads: dict[str, list[Load]] = {candidate.name: [] for candidate in candidates}
    for number in range(rounds + 1):  # the first warms the emulators up and does not count
        for candidate in candidates:
            with running_server(
                candidate.command, candidate.environment, cwd=candidate.cwd, path=candidate.health
            ) as server:
                load = run_wrk(
                    server,
                    candidate.script,
                    connections=connections,
                    seconds=seconds if number else 2,
                )
            if number:
                loads[candidate.name].append(load)
            print(
                f"  round {number}/{rounds} {candidate.name}: {load.rate:,.0f}/s, "
                f"p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms, "
                f"{load.cpu_us:,.0f} us CPU, {load.errors} errors",
                file=sys.stderr,
                flush=True,
            )
    return loads


def median(loads: list[Load], field: str) -> float:
    return float(statistics.median(getattr(load, field) for load in loads))


@dataclass(frozen=True)
class Group:
    """Servers that were measured in turn."""

    title: str
    loads: Mapping[str, list[Load]]
    baseline: str | None = None
    goal: float | None = None
    """How many times the baseline's rate is wanted."""


@dataclass(frozen=True)
class Measurement:
    """Everything of one run."""

    connections: int
    seconds: int
    rounds: int
    groups: tuple[Group, ...]


def report(measurement: Measurement) -> list[str]:
    """Return the section of RESULTS.md."""
    lines = [
        (
            f"{measurement.connections} connections, {measurement.rounds} rounds of "
            f"{measurement.seconds} s in turn, medians."
        ),
        "One server process on one core; wrk and the emulators share the other.",
        (
            f"{PROFILES:,} profiles, {RULES} rules over {EVENT_NAMES} event names, "
            "events of 60 parameters and 5 items."
        ),
        (
            "decide publishes its audit record and answers after Pub/Sub has it; "
            "the published design records nothing."
        ),
        "",
    ]
    for group in measurement.groups:
        lines += [f"### {group.title}", "", *_table(group), ""]
    return lines


def _table(group: Group) -> list[str]:
    lines = [
        "| server | requests/s | to baseline | p50 ms | p99 ms | CPU µs a request | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    base = median(group.loads[group.baseline], "rate") if group.baseline else 0.0
    for name, measured in group.loads.items():
        rate = median(measured, "rate")
        ratio = f"{rate / base:.2f}" if base else ""
        if group.goal and name != group.baseline:
            ratio += f" (wanted: {group.goal})"
        lines.append(
            f"| {name} | {rate:,.0f} | {ratio} | {median(measured, 'p50_ms'):.1f} "
            f"| {median(measured, 'p99_ms'):.1f} | {median(measured, 'cpu_us'):,.0f} "
            f"| {sum(load.errors for load in measured)} |"
        )
    return lines


def run(*, seconds: int = 10, rounds: int = 3, connections: int = 64) -> Measurement:
    """Measure everything."""
    groups: list[Group] = []
    measure = partial(measure_side_by_side, connections=connections, seconds=seconds, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="tagstitch-bench-") as name:
        folder = Path(name)
        lookup = {"identifiers": {"client_id": "@CLIENT_ID@"}}
        decision = {"event": {"client_id": "@CLIENT_ID@", **sample_event()}, "include": ["event"]}
        scripts = {
            (path, kind): lua_script(path, body, folder, f"{kind}{path.strip('/') or 'root'}")
            for path, kind, body in (
                ("/", "sync", lookup),
                ("/", "decide", decision),
                ("/stitch", "sync", lookup),
                ("/decide", "decide", decision),
            )
        }
        with run_emulators(ROOT, project=PROJECT) as emulators:
            groups += _on_emulators(emulators, folder, scripts, measure)
        groups.append(_on_local(folder, scripts, measure))
    return Measurement(connections, seconds, rounds, tuple(groups))


Measure = Callable[[list[Candidate]], dict[str, list[Load]]]


def _on_emulators(
    emulators: Emulators,
    folder: Path,
    scripts: Mapping[tuple[str, str], Path],
    measure: Measure,
) -> list[Group]:
    from tagstitch.adapters.cloud import close_cloud_backend, open_cloud_backend

    rules_file = folder / "rules.json"
    rules_file.write_text(
        json.dumps([{"rule_id": rule_id, **rule} for rule_id, rule in sample_rules().items()])
    )
    environment = {
        "TAGSTITCH_BACKEND": "cloud",
        "TAGSTITCH_PROJECT": PROJECT,
        "TAGSTITCH_DATA_DIR": str(folder / "cloud"),
        "BENCH_PROJECT": PROJECT,
        "BENCH_RULES": str(rules_file),
        **emulators.environment(),
    }
    settings = read_settings(environment_with(overrides=environment))

    async def prepare() -> None:
        backend = open_cloud_backend(settings)
        await fill(backend, settings, published=True)
        await close_cloud_backend(backend)

    create_topics(emulators.pubsub, PROJECT)
    asyncio.run(prepare())
    pin_tree(os.getpid(), LOAD_CORE)  # the emulators are this process's children
    groups = []
    for function, path, kind, goal in (
        ("stitch_sync", "/stitch", "sync", 2.5),
        ("decide", "/decide", "decide", 3.0),
    ):
        baseline = f"published design, {path}"
        loads = measure(
            [
                published_design(environment, scripts[path, kind], baseline),
                our_function(function, environment, scripts["/", kind], function),
            ]
        )
        groups.append(Group(f"{function} on the Firestore emulator", loads, baseline, goal))
    return groups


def create_topics(emulator: str, project: str) -> None:
    """Create the topics without subscriptions: nothing consumes while we measure."""
    channel = grpc.insecure_channel(emulator)
    publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
    for topic in read_topology().topics:
        publisher.create_topic(name=f"projects/{project}/topics/{topic}", timeout=10)
    channel.close()


def _on_local(folder: Path, scripts: Mapping[tuple[str, str], Path], measure: Measure) -> Group:
    from tagstitch.adapters.local import close_local_backend, open_local_backend

    environment = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(folder / "local")}
    settings = read_settings(environment_with(overrides=environment))

    async def prepare() -> None:
        backend = open_local_backend(settings)
        await fill(backend, settings, published=False)
        close_local_backend(backend)

    asyncio.run(prepare())
    candidates = [
        our_function("stitch_sync", environment, scripts["/", "sync"], "stitch_sync"),
        our_function("decide", environment, scripts["/", "decide"], "decide"),
    ]
    return Group("On the local backend (SQLite)", measure(candidates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    print("\n".join(report(run(**vars(options)))))


if __name__ == "__main__":
    main()
