"""Trace context: what a header says, and what is no header of ours to believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagstitch.core.trace_context import TraceContext, parse_traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_header_names_a_place_in_a_trace(text: str, is_sampled: bool) -> None:  # noqa: FBT001
    assert parse_traceparent(text) == TraceContext(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "00", "anna@example.com",
        f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-01-",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1", f"0-{TRACE}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n", f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", f"00-{TRACE[:-1]}\u0663-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 300}",
    ],
)  # fmt: skip
def test_what_the_standard_does_not_allow_is_no_place(text: str | None) -> None:
    assert parse_traceparent(text) is None


@given(st.text() | st.from_regex(r"[0-9a-f-]{50,60}"))
def test_nothing_that_is_sent_makes_it_raise(text: str) -> None:
    found = parse_traceparent(text)

    assert found is None or parse_traceparent(found.traceparent()) == found
