"""The templates judge consent signals as decide does."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tagstitch.core.consent import CONSENT_MODE_PURPOSES, resolve_consent
from tagstitch.core.event import Event
from tests.node_tests import needs_node, one_worker

PROGRAM = Path(__file__).with_name("consent_of.mjs")

GCS = [None, "G111", "G110", "G101", "G100", "G1--", "G1-1", "G11-", "G1", "G2111", "", 7]
GCD = [
    None, "13r3r3r3r5l1", "13t3t3t2t5l1", "13l3l3l3l1l1", "13p3p3p2p5l1", "13l3l3l2l1",
    "13q3m3v3-5", "13r3r", "1", "", "13r!3r3r3r", 13,
]  # fmt: skip
STATES: list[Any] = [
    None,
    {"analytics_storage": True, "ad_personalization": True, "shop_ads": True},
    {"analytics_storage": False},
    {"ad_storage": True},
    {"analytics_storage": "granted", "ad_personalization": "denied"},
    {"analytics_storage": 1},
    {},
    "granted",
]


def events() -> list[dict[str, Any]]:
    """Return events with each combination of two of the four signals, and of all in a few."""
    found = []
    for gcs, gcd, state, other in itertools.product(GCS, GCD, STATES[:4], STATES):
        signals: dict[str, Any] = {"x-ga-gcs": gcs, "x-ga-gcd": gcd, "consent_state": other}
        event = {name: value for name, value in signals.items() if value is not None}
        if state is not None:
            event["x-sst-system_properties"] = {"consent": {"consentGrantedState": state}}
        found.append({"event_name": "purchase", **event})
    return found


def by_decide(event: dict[str, Any], purpose: str) -> bool | None:
    """Return what the event says of a purpose in decide; None when it says nothing."""
    said = resolve_consent(
        requested=None, event=Event("purchase", event), profile=None, default_granted=False
    )
    return said.decided.get(purpose)


@needs_node
@one_worker
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("purpose", [*CONSENT_MODE_PURPOSES, "shop_ads"])
def test_the_templates_read_consent_as_decide_does(purpose: str) -> None:
    asked = events()
    ran = subprocess.run(
        ["node", str(PROGRAM)],
        input=json.dumps({"events": asked, "purpose": purpose}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr

    answers = json.loads(ran.stdout)
    differing = [
        (event, answer, by_decide(event, purpose))
        for event, answer in zip(asked, answers, strict=True)
        if answer != by_decide(event, purpose)
    ]

    assert differing == []
