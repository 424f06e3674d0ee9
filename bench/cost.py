"""What a month costs at Google Cloud, from counted work and a table of prices.

    .venv/bin/python -m bench.cost --events 10000000 --state-share 0.05 --rules 200

`bench/prices.json` has the prices: change them to those of your region. The free tiers are left
out, and so are queries, the log and what leaves Google's network. Every volume has an option.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import msgspec

from bench.cost_counts import RULES, Usage, count_usage
from tagstitch.pipeline.rule_publication import SCANNED_PER_MINUTE

PRICES_FILE: Final = Path(__file__).parent / "prices.json"

MONTH_S: Final = 30 * 86400
SWEEPS: Final = MONTH_S / 60
ASKED_ALWAYS: Final = 4
"""Reads of a sweep that looks through no rules: what is pending, twice; erasures; the pointer."""
GIB: Final = 2**30
BILLED_MS: Final = 100.0
"""Cloud Run rounds the time of an instance up to this (https://cloud.google.com/run/pricing)."""


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prices in one currency, by the unit in the name."""

    firestore_reads_100k: float
    firestore_writes_100k: float
    firestore_deletes_100k: float
    pubsub_tib: float
    bigquery_append_gib: float
    bigquery_storage_gib_month: float
    run_requests_million: float
    run_vcpu_s: float
    run_gib_s: float
    run_idle_vcpu_s: float
    run_idle_gib_s: float


@dataclass(frozen=True, slots=True)
class Volumes:
    """A month."""

    events: float = 1_000_000
    """Events that decide sees."""
    state_share: float = 0.05
    """The share of events that change a visitor's state."""
    new_share: float = 0.02
    """Stitch requests that make a profile, by event."""
    link_share: float = 0.01
    """Stitch requests that link another identifier, by event."""
    lookup_share: float = 0.1
    """Lookups, by event."""
    rules: float = 200
    """Rules, experiments and audiences in the store."""
    instances: float = 2
    """Instances of decide and stitch_sync that are awake all the time."""
    refresh_s: float = 10
    """`TAGSTITCH_RULES_REFRESH_S`."""
    at_once: float = 4
    """Requests that an instance works on at once, on average."""
    request_ms: float = 20
    """Milliseconds of a request, on average."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a month costs, by what is paid for."""

    reads: float
    writes: float
    messages: float
    audit: float
    requests: float
    idle: float

    @property
    def total(self) -> float:
        """The sum."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def usage_of(volumes: Volumes, counted: Mapping[str, Usage]) -> Usage:
    """Return what a month uses."""
    events = volumes.events
    work = {
        "event: nothing is written": events * (1 - volumes.state_share),
        "event: state changes": events * volumes.state_share,
        "stitch: a new visitor": events * volumes.new_share,
        "stitch: a link": events * volumes.link_share,
        "lookup": events * volumes.lookup_share,
        "look for new definitions": volumes.instances * MONTH_S / volumes.refresh_s,
    }
    total = Usage()
    for kind, times in work.items():
        total += counted[kind] * times
    total += sweeps_of(volumes.rules, counted["sweep"])
    # Each stitch request is a message besides the record of what it did.
    stitches = events * (volumes.new_share + volumes.link_share)
    return total + Usage(messages=stitches, message_bytes=stitches * 1000)


def sweeps_of(rules: float, counted: Usage) -> Usage:
    """Return what the sweeps of a month use: they look through large sets less often."""
    scans = SWEEPS / max(math.ceil(rules / SCANNED_PER_MINUTE), 1)
    always = counted * SWEEPS
    always.reads = SWEEPS * ASKED_ALWAYS + scans * (counted.reads - ASKED_ALWAYS + rules - RULES)
    return always


def published_usage(volumes: Volumes, ours: Usage, *, writes: int) -> Usage:
    """Return what the published design uses for the same audit.

    One read and one or two writes an event, and every instance reads every rule each minute.
    """
    every_rule = volumes.instances * SWEEPS * volumes.rules
    lookups = volumes.events * volumes.lookup_share
    return Usage(
        reads=volumes.events + lookups + every_rule,
        writes=volumes.events * writes,
        messages=ours.messages,
        message_bytes=ours.message_bytes,
        rows=ours.rows,
        row_bytes=ours.row_bytes,
    )


def requests_of(usage: Usage, volumes: Volumes) -> float:
    """Return the invocations of all functions: a message is pushed to one of them."""
    return volumes.events * (1 + volumes.lookup_share) + usage.messages + SWEEPS


def bill_of(usage: Usage, volumes: Volumes, prices: Prices) -> Bill:
    """Return what that costs."""
    requests = requests_of(usage, volumes)
    # A busy stretch of an instance is rounded up and holds the requests that it serves at once.
    busy_s = requests * max(volumes.request_ms, BILLED_MS) / 1000 / volumes.at_once
    idle_s = max(volumes.instances * MONTH_S - busy_s, 0)
    return Bill(
        reads=usage.reads / 1e5 * prices.firestore_reads_100k,
        writes=usage.writes / 1e5 * prices.firestore_writes_100k
        + usage.deletes / 1e5 * prices.firestore_deletes_100k,
        messages=2 * usage.message_bytes / 2**40 * prices.pubsub_tib,
        audit=usage.row_bytes
        / GIB
        * (prices.bigquery_append_gib + prices.bigquery_storage_gib_month),
        requests=requests / 1e6 * prices.run_requests_million
        + busy_s * (prices.run_vcpu_s + prices.run_gib_s),
        idle=idle_s * (prices.run_idle_vcpu_s + prices.run_idle_gib_s),
    )


def report(volumes: Volumes, counted: Mapping[str, Usage], prices: Prices) -> list[str]:
    """Return the tables, in Markdown."""
    ours = usage_of(volumes, counted)
    others = {
        f"published design, {writes} write{'s' * (writes > 1)} an event": published_usage(
            volumes, ours, writes=writes
        )
        for writes in (1, 2)
    }
    sides = {"Tagstitch": ours, **others}
    bills = {name: bill_of(usage, volumes, prices) for name, usage in sides.items()}
    names = [field.name for field in fields(Bill)]
    told = f"{volumes.events:,.0f} events a month, {volumes.rules:,.0f} rules"
    return [
        f"{told}, {volumes.instances:g} instances awake.",
        "",
        "| a month | reads | writes | messages | message MB | requests | audit rows | audit MB |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {u.reads:,.0f} | {u.writes:,.0f} | {u.messages:,.0f} |"
            f" {u.message_bytes / 1e6:,.0f} | {requests_of(u, volumes):,.0f} |"
            f" {u.rows:,.0f} | {u.row_bytes / 1e6:,.0f} |"
            for name, u in sides.items()
        ),
        "",
        "| costs | " + " | ".join(names) + " | total |",
        "|---" * (len(names) + 2) + "|",
        *(
            f"| {name} | "
            + " | ".join(f"{getattr(bill, part):,.2f}" for part in names)
            + f" | {bill.total:,.2f} |"
            for name, bill in bills.items()
        ),
    ]


def counted_table(counted: Mapping[str, Usage]) -> list[str]:
    """Return what each kind of work uses, in Markdown."""
    return [
        "| work | reads | writes | messages | message bytes | audit rows | audit bytes |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {kind} | {u.reads:g} | {u.writes:g} | {u.messages:g} | {u.message_bytes:,.0f} |"
            f" {u.rows:g} | {u.row_bytes:,.0f} |"
            for kind, u in counted.items()
        ),
    ]


def read_prices() -> Prices:
    """Return the table of prices."""
    return msgspec.json.decode(PRICES_FILE.read_bytes(), type=Prices)


def count() -> dict[str, Usage]:
    """Count what each kind of work uses, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="tagstitch-bench-") as name:
        return asyncio.run(count_usage(Path(name)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables for the volumes that the options give."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for field in fields(Volumes):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=float, default=field.default)
    volumes = Volumes(**vars(parser.parse_args(arguments)))
    counted = count()
    print("\n".join([*counted_table(counted), "", *report(volumes, counted, read_prices())]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
