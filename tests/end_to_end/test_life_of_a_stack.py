"""Stopping, starting again and clearing a local stack; each test has one of its own."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.running_stack import running_stack, until
from tests.end_to_end.samples import has_rules, load_samples, push_body, run_command


def test_it_stops_cleanly_and_a_second_start_keeps_the_data(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        load_samples(stack.data_dir, tmp_path)
        with stack.client() as client:
            body = {
                "mode": "async",
                "identifiers": {"client_id": "885001.17", "user_id": "u-1001"},
                "callback": "main",
                "request_id": "kept-1",
            }
            client.post("/stitch_sync", json=body)
            stack.audit_of("kept-1", 2)
        assert stack.stop() == 0
        assert stack.errors.read_text() == ""

        stack.start()

        with stack.client() as client:
            found = client.get("/stitch_sync", params={"client_id": "885001.17"}).json()
        assert found["attributes"]["user_loyalty_tier"] == "Gold"
        assert len(stack.listed("callbacks")) == 1
        assert len(stack.listed("audit")) == 2
        assert has_rules(stack) or until(
            lambda: has_rules(stack), seconds=20, what="the rules after a restart"
        )
        assert stack.stop() == 0
        assert stack.errors.read_text() == ""


def test_a_reset_leaves_the_rules_and_nothing_else(tmp_path: Path) -> None:
    with running_stack(tmp_path, TAGSTITCH_RULES_REFRESH_S="0.2") as stack:
        load_samples(stack.data_dir, tmp_path)
        with stack.client() as client:
            until(lambda: has_rules(stack), seconds=20, what="the rules")
            body = {"mode": "async", "identifiers": {"user_id": "r"}, "callback": "main"}
            client.post("/stitch_sync", json={**body, "request_id": "reset-1"})
            bad = push_body(b"no JSON", "m-reset")
            client.post("/stitch_async", json=bad)
            stack.audit_of("reset-1", 2)
            until(lambda: stack.count("deadletters"), seconds=20, what="the dead letter")

            answer = client.post("/_local/reset")

            assert (answer.status_code, answer.content) == (204, b"")
            counts = [stack.count(what) for what in ("callbacks", "audit", "deadletters")]
            assert counts == [0, 0, 0]
            assert not client.get("/stitch_sync", params={"user_id": "u-1001"}).json()["found"]
            event = {"event_name": "purchase", "value": 5}
            decided = client.post("/decide", json={"event": event}).json()
            assert decided["event"]["rename"] == "micro_purchase"
            # The same request id again is a new request: nothing remembers the old one.
            client.post("/stitch_sync", json={**body, "request_id": "reset-1"})
            stack.one_item("callbacks", "reset-1")

            assert client.post("/_local/reset", json={"keep": []}).status_code == 204
            until(lambda: not has_rules(stack), seconds=20, what="no rules")


def test_the_command_line_sees_the_same_data(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack, stack.client() as client:
        client.post("/stitch_async", json=push_body(b'{"request_id": "cli-1"}', "m-cli"))
        stack.one_item("deadletters", "cli-1")

        (letter,) = run_command(stack.data_dir, "deadletters", "list")
        rows = run_command(stack.data_dir, "audit", "query", "SELECT outcome FROM tagstitch.audit")

    assert (letter["request_id"], letter["code"]) == ("cli-1", "missing_field")
    assert rows == [{"outcome": "rejected"}]
