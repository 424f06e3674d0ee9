"""Files become events whose ids derive from their lines."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagstitch.cli.json_lines import count_lines
from tagstitch.cli.output import CommandFailed
from tagstitch.cli.rejects_file import RejectsFile
from tagstitch.cli.replay_events import ReplayEvent, read_events
from tagstitch.cli.replay_tally import ReplayTally, percentiles
from tagstitch.core.identifier import IdentitySettings

EVENT = {"event_name": "page_view", "client_id": "100.200", "user_id": "u-1"}
ROW = {
    "event_timestamp": 1795291200123456,
    "event_name": "view_item",
    "user_pseudo_id": "100.200",
    "stream_id": 1,
    "event_params": [],
}


def lines(path: Path, *contents: Any) -> Path:
    text = "".join((c if isinstance(c, str) else json.dumps(c)) + "\n" for c in contents)
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> tuple[list[ReplayEvent], RejectsFile]:
    rejects = RejectsFile(path)
    events = list(read_events(path, rejects, IdentitySettings()))
    rejects.write(up_to_line=10**9)
    return events, rejects


def test_event_data_and_export_rows_are_told_apart(tmp_path: Path) -> None:
    events, _ = read(lines(tmp_path / "mixed.jsonl", EVENT, ROW))

    assert [e.parameters["event_name"] for e in events] == ["page_view", "view_item"]
    assert events[0].parameters == EVENT
    assert events[1].parameters["client_id"] == "100.200"
    assert events[0].identifiers == (
        {"type": "user_id", "value": "u-1"},
        {"type": "client_id", "value": "100.200"},
    )
    assert events[0].occurred_at is None
    assert events[1].occurred_at == datetime(2026, 11, 21, 20, 0, 0, 123000, UTC)


def test_ids_are_the_same_in_a_second_run_and_differ_within_one(tmp_path: Path) -> None:
    file = lines(tmp_path / "twins.jsonl", EVENT, EVENT, ROW, ROW, {**EVENT, "value": 1})

    first, second = read(file)[0], read(file)[0]

    ids = [event.event_id for event in first]
    assert [event.event_id for event in second] == ids
    assert len(set(ids)) == 5


def test_the_order_of_parameters_does_not_change_an_id(tmp_path: Path) -> None:
    one = read(lines(tmp_path / "a.jsonl", EVENT))[0]
    other = read(lines(tmp_path / "b.jsonl", dict(reversed(EVENT.items()))))[0]

    assert one[0].event_id == other[0].event_id


def test_a_compressed_file_reads_like_a_plain_one(tmp_path: Path) -> None:
    plain = lines(tmp_path / "plain.jsonl", EVENT, "", ROW)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert read(packed)[0] == read(plain)[0]
    assert count_lines(packed) == 3


def test_a_truncated_archive_is_a_failure_not_a_short_file(tmp_path: Path) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(EVENT).encode() * 10_000)[:-20])

    with pytest.raises(CommandFailed, match="damaged"):
        read(packed)


def test_lines_that_are_no_events_go_to_the_rejects(tmp_path: Path) -> None:
    file = lines(tmp_path / "bad.jsonl", "{", EVENT, [1], {"client_id": "1.2"}, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"))  # fmt: skip

    events, rejects = read(file)

    assert len(events) == 1
    text = (tmp_path / "bad.jsonl.rejects.jsonl").read_text(encoding="utf-8")
    written = [json.loads(line) for line in text.splitlines()]
    assert [entry["line"] for entry in written] == [1, 3, 4, 5]
    assert written[2]["code"] == "missing_field"
    assert written[2]["content"] == {"client_id": "1.2"}
    assert rejects.summary()["rejected"] == 4


def test_a_clean_file_leaves_no_rejects_file_behind(tmp_path: Path) -> None:
    file = lines(tmp_path / "good.jsonl", EVENT)
    stale = tmp_path / "good.jsonl.rejects.jsonl"
    stale.write_text("from the run before\n")

    read(file)

    assert not stale.exists()


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert percentiles([]) is None
    assert percentiles([5.0]) == {"p50": 5.0, "p95": 5.0, "p99": 5.0}
    assert percentiles([float(n) for n in range(1, 101)]) == {"p50": 50, "p95": 95, "p99": 99}


def test_a_tally_counts_an_event_by_what_leaves() -> None:
    tally = ReplayTally()
    rename = {"rule_id": "a", "type": "rename_event", "old_name": "x", "new_name": "y"}
    change = {"rule_id": "b", "type": "modify_parameter", "parameter": "value"}

    tally.count_decision({"event": {"drop": False, "rename": "y", "modifications": [rename]}})
    tally.count_decision(
        {"event": {"drop": False, "rename": "y", "modifications": [rename, change]}}
    )
    tally.count_decision({"event": {"drop": True, "rename": None, "modifications": [change]}})
    tally.count_decision({"event": {"drop": False, "modifications": []}, "degraded": ["rules"]})

    document = tally.to_document()
    assert document["events"] == 4
    assert (document["renamed"], document["changed"]) == (2, 1)
    assert (document["dropped"], document["unchanged"]) == (1, 1)
    assert document["degraded"] == {"rules": 1}
    assert document["rules"] == {"a": 2, "b": 2}
