"""How often a key may ask, and that nothing else is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.settings import SettingsError, read_settings
from tests.functions.conftest import Start
from tests.functions.signing import SIGNATURE, signed

LOOKUP = {"identifiers": {"client_id": "1294673677.1747154479"}}
EVENT = {"event": {"event_name": "purchase", "client_id": "1294673677.1747154479"}}

SLOW = "0.01,2"
"""Two at once, and the next after a hundred seconds: more than a test takes."""


def environment(limit: str = SLOW, **rates: str) -> dict[str, str]:
    """Return settings with the keys `one` and `two`; `rates` are those of their own."""
    keys = [
        {
            "id": name,
            "secret": name * 10,
            "scopes": ["lookup", "decide"],
            **({"rate": rates[name]} if name in rates else {}),
        }
        for name in ("one", "two")
    ]
    return {
        "TAGSTITCH_AUTH": "key",
        "TAGSTITCH_KEYS": json.dumps(keys),
        "TAGSTITCH_RATE_LIMIT": limit,
    }


async def statuses(client: httpx.AsyncClient, name: str, *, count: int = 4) -> list[int]:
    headers = {"X-Tagstitch-Key": name * 10}
    return [
        (await client.post("/", json=LOOKUP, headers=headers)).status_code for _ in range(count)
    ]


@pytest.mark.parametrize(("function", "body"), [("stitch_sync", LOOKUP), ("decide", EVENT)])
async def test_a_key_that_asks_too_often_is_told_when_to_ask_again(
    start: Start, function: str, body: dict[str, Any]
) -> None:
    client = await start(function, **environment())
    headers = {"X-Tagstitch-Key": "one" * 10}

    answers = [await client.post("/", json=body, headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    error = answers[2].json()["error"]
    assert error.pop("error_id")
    assert error == {
        "code": "rate_limited",
        "message": "this key asks more often than it may",
        "hint": "try again after the time in Retry-After",
    }
    assert 50 <= int(answers[2].headers["retry-after"]) <= 100


async def test_one_second_is_the_least_that_it_is_told_to_wait(start: Start) -> None:
    client = await start("stitch_sync", **environment("1,1"))
    headers = {"X-Tagstitch-Key": "one" * 10}

    answers = [await client.get("/?client_id=5.6", headers=headers) for _ in range(20)]

    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


async def test_one_key_does_not_use_up_what_another_may(start: Start) -> None:
    client = await start("stitch_sync", **environment())

    assert await statuses(client, "one") == [200, 200, 429, 429]
    assert await statuses(client, "two") == [200, 200, 429, 429]


async def test_a_key_may_have_a_rate_of_its_own_or_none(start: Start) -> None:
    client = await start("stitch_sync", **environment(one="0.01,1", two="off"))

    assert await statuses(client, "one") == [200, 429, 429, 429]
    assert await statuses(client, "two") == [200] * 4


async def test_nobody_is_limited_unless_the_operator_says_so(start: Start) -> None:
    client = await start("stitch_sync", **environment("", two="0.01,1"))

    assert await statuses(client, "one") == [200] * 4
    assert await statuses(client, "two") == [200, 429, 429, 429]


async def test_wrong_keys_use_up_nothing(start: Start) -> None:
    client = await start("stitch_sync", **environment())

    assert await statuses(client, "six", count=10) == [401] * 10
    assert await statuses(client, "one") == [200, 200, 429, 429]


async def test_whoever_signs_is_limited_by_the_id_of_the_secret(start: Start) -> None:
    client = await start("decide", **SIGNATURE, TAGSTITCH_RATE_LIMIT=SLOW)

    answers = [await client.post("/", **signed(EVENT, f"msg-{number}")) for number in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_all_whom_the_platform_lets_through_share_one_limit(start: Start) -> None:
    client = await start("stitch_sync", TAGSTITCH_AUTH="iam", TAGSTITCH_RATE_LIMIT=SLOW)

    assert await statuses(client, "any") == [200, 200, 429, 429]


async def test_without_authentication_nobody_is_told_from_anybody_and_none_is_limited(
    start: Start,
) -> None:
    client = await start("stitch_sync", TAGSTITCH_RATE_LIMIT="0.01,1")

    assert await statuses(client, "any") == [200] * 4


async def test_health_is_never_limited(start: Start) -> None:
    client = await start("decide", **environment("0.01,1"))
    headers = {"X-Tagstitch-Key": "one" * 10}

    assert [(await client.get("/health", headers=headers)).status_code for _ in range(5)] == [
        200
    ] * 5


async def test_what_is_pushed_is_never_limited(start: Start) -> None:
    limited = {"TAGSTITCH_AUTH": "iam", "TAGSTITCH_RATE_LIMIT": "0.01,1"}
    client = await start("stitch_async", **limited)

    swept = [(await client.post("/sweep", json={})).status_code for _ in range(5)]

    assert 429 not in swept
    assert len(set(swept)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"TAGSTITCH_RATE_LIMIT": "50/s"},
            "TAGSTITCH_RATE_LIMIT must be off, or requests a second",
        ),
        (environment(one="fast"), "the rate of the key 'one' must be off, or requests a second"),
    ],
)
def test_a_rate_of_another_form_stops_the_start(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        read_settings(
            {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path), **settings}
        )

    assert "50/s" not in str(raised.value)
    assert "fast" not in str(raised.value)


def test_two_secrets_of_one_caller_have_one_rate(tmp_path: Path) -> None:
    keys = [
        {"id": "same", "secret": letter * 24, "scopes": ["lookup"], "rate": rate}
        for letter, rate in (("a", "5"), ("b", "6"))
    ]
    with pytest.raises(SettingsError, match="the id 'same' must have the same rate"):
        read_settings(
            {
                "TAGSTITCH_BACKEND": "local",
                "TAGSTITCH_DATA_DIR": str(tmp_path),
                "TAGSTITCH_KEYS": json.dumps(keys),
            }
        )
