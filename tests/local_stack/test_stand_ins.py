"""What stands in for the world around the functions: GA4, the sGTM endpoint, a page of the shop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from tagstitch.local_stack.server import StackOptions, local_stack_in_thread
from tests.local_stack.test_local_stack import functions_dir, options, signed_headers

__all__ = ["functions_dir", "options"]

BODY = b'{"type":"visitor.stitched","data":{"request_id":"r-1","profile_id":"p_secret"}}'


@pytest.fixture
def stack(options: StackOptions) -> Iterator[httpx.Client]:
    with local_stack_in_thread(options) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def test_a_listener_hears_callbacks_and_hits_by_name_alone(
    stack: httpx.Client, tmp_path: Path
) -> None:
    with stack.stream("GET", "/_local/listen") as feed:
        lines = feed.iter_lines()
        assert next(lines) == ""
        stack.post("/_local/ga4/g/collect?en=purchase&uid=anna")
        stack.post("/_local/sgtm/callback", content=BODY, headers=signed_headers(tmp_path, BODY))
        stack.post("/_local/sgtm/callback", content=BODY)
        heard = [msgspec.json.decode(next(lines)) for _ in range(3)]

    assert [(line["kind"], line["name"], line["detail"]) for line in heard] == [
        ("sent", "purchase", "to the GA4 stand-in"),
        ("callback", "visitor.stitched", "kept"),
        ("callback", "refused", "its signature is not valid"),
    ]


def test_a_stack_that_stops_ends_whoever_listens(options: StackOptions) -> None:
    with httpx.Client(timeout=20) as client, ExitStack() as listening:
        with local_stack_in_thread(options) as url:
            feed = listening.enter_context(client.stream("GET", f"{url}/_local/listen"))
            lines = feed.iter_lines()
            assert next(lines) == ""

        assert list(lines) == []  # an answer that is cut off would raise


def test_the_sample_page_is_served_and_runs_only_scripts_of_its_own(stack: httpx.Client) -> None:
    page = stack.get("/_local/shop/")

    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.text
    for name in ("shop.js", "personalization.js", "messages.js", "shop.css"):
        assert stack.get(f"/_local/shop/{name}").status_code == 200
    assert stack.get("/_local/shop/../rules/traits.yaml").status_code == 404
    assert stack.get("/_local/shop/%2e%2e/views.yaml").status_code == 404


def test_a_page_from_elsewhere_may_not_listen(stack: httpx.Client) -> None:
    answer = stack.get("/_local/listen", headers={"origin": "https://evil.example.com"})

    assert answer.status_code == 400
