"""POST /activation: a view's attributes for one identifier, for front ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import read_settings
from tagstitch.adapters.wiring import make_keyring
from tagstitch.core.identifier import IdentitySettings
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.profile_import import import_profiles, in_batches
from tagstitch.pipeline.profile_line import parse_profile_line
from tests.functions.conftest import Start
from tests.functions.test_bad_input import BAD_BODIES, CANARY, JSON, check_error

ANNA = "5f0c2a9e-3b1d-4c58-9a67-1e2d3c4b5a69"
OTTO = "otto-who-denied-everything"

VIEWS: dict[str, dict[str, Any]] = {
    "features_by_anonymous_id": {
        "attributes": ["tier", "category", "margin", "size"],
        "concealed": ["margin"],
        "identifier_types": ["anonymous_id"],
    },
    "public_features": {
        "public": True,
        "attributes": ["tier", "margin"],
        "identifier_types": ["anonymous_id"],
    },
    "nearly_public": {"public": "yes", "attributes": ["tier"]},
    "features_by_user_id": {"attributes": ["tier"], "identifier_types": ["user_id"]},
    "everything": {"identifier_types": ["anonymous_id"]},
    "nothing": {"attributes": []},
}
PROFILES: list[dict[str, Any]] = [
    {
        "identifiers": {"anonymous_id": [ANNA], "user_id": ["u-1"]},
        "attributes": {"tier": "Gold", "category": "Lamps", "margin": 0.4, "city": "Bonn"},
        "consent": {"analytics_storage": True},
    },
    {
        "identifiers": {"anonymous_id": [OTTO]},
        "attributes": {"tier": "Gold"},
        "consent": {"analytics_storage": False},
    },
]
BODY = {
    "entity": "user",
    "id": {"type": "anonymous_id", "value": ANNA},
    "view": "features_by_anonymous_id",
}
KEYS = json.dumps(
    [
        {"id": "site", "secret": "s" * 32, "scopes": ["lookup"]},
        {"id": "inside", "secret": "i" * 32, "scopes": ["lookup", "concealed"]},
        {"id": "decider", "secret": "d" * 32, "scopes": ["decide"]},
        {
            "id": "narrow",
            "secret": "n" * 32,
            "scopes": ["lookup", "assert"],
            "views": ["features_by_user_id"],
        },
        {"id": "writer", "secret": "w" * 32, "scopes": ["lookup", "stitch", "assert"]},
    ]
)  # fmt: skip


async def fill(data_dir: Path) -> None:
    """Store the views and profiles, as another process would."""
    settings = read_settings({"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)})
    documents, deadline = open_backend(settings).documents, Deadline.after(10)
    views = [Put(f"views/{name}", view) for name, view in VIEWS.items()]
    await documents.commit(views, deadline=deadline)
    keyring = make_keyring(settings)
    lines = (
        (number, parse_profile_line(raw, IdentitySettings(), keyring))
        for number, raw in enumerate(PROFILES)
    )
    for batch in in_batches(lines):
        await import_profiles(documents, batch, now=datetime.now(UTC), deadline=deadline)


@pytest.fixture
async def site(start: Start, tmp_path: Path) -> httpx.AsyncClient:
    """stitch_sync with keys; a request without a header of its own uses the plain one."""
    await fill(tmp_path)
    client = await start("stitch_sync", TAGSTITCH_AUTH="key", TAGSTITCH_KEYS=KEYS)
    client.headers["X-Tagstitch-Key"] = "s" * 32
    return client


def key(letter: str) -> dict[str, str]:
    return {"X-Tagstitch-Key": letter * 32}


def asking(value: str, **others: Any) -> dict[str, Any]:
    return {**BODY, "id": {"type": "anonymous_id", "value": value}, **others}


class TestAnswer:
    async def test_it_has_every_declared_attribute_and_no_other(
        self, site: httpx.AsyncClient
    ) -> None:
        answer = await site.post("/activation", json={**BODY, "request_id": "page-1"})

        assert (answer.status_code, answer.json()) == (
            200,
            {
                "data": {
                    "features_by_anonymous_id": {"tier": "Gold", "category": "Lamps", "size": None}
                },
                "found": True,
                "reason": "KNOWN_PROFILE",
                "request_id": "page-1",
                "degraded": [],
            },
        )

    async def test_concealed_attributes_need_the_scope(self, site: httpx.AsyncClient) -> None:
        outside = await site.post("/activation", json=BODY)
        inside = await site.post("/activation", json=BODY, headers=key("i"))

        assert "margin" not in outside.json()["data"]["features_by_anonymous_id"]
        assert inside.json()["data"]["features_by_anonymous_id"]["margin"] == 0.4

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (asking("nobody-knows-this-one"), "UNKNOWN_PROFILE"),
            (asking(OTTO), "CONSENT_DENIED"),
            (asking(ANNA, consent={"analytics_storage": False}), "CONSENT_DENIED"),
            (asking("undefined"), "BLOCKED_IDENTIFIER"),
        ],
    )
    async def test_nobody_has_the_same_keys_as_somebody(
        self, site: httpx.AsyncClient, body: dict[str, Any], reason: str
    ) -> None:
        answer = (await site.post("/activation", json=body)).json()

        assert answer["data"] == {
            "features_by_anonymous_id": {"tier": None, "category": None, "size": None}
        }
        assert (answer["found"], answer["reason"], answer["degraded"]) == (False, reason, [])

    async def test_a_trailing_slash_does_not_matter_and_a_get_is_refused(
        self, site: httpx.AsyncClient
    ) -> None:
        assert (await site.post("/activation/", json=BODY)).status_code == 200
        check_error(await site.get("/activation"), 405, "method_not_allowed")

    async def test_a_caller_who_may_stitch_sets_nothing_off(
        self, site: httpx.AsyncClient, tmp_path: Path
    ) -> None:
        settings = read_settings(
            {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(tmp_path)}
        )
        documents = open_backend(settings).documents
        before = await documents.list_documents("profiles", deadline=Deadline.after(5))

        body = {**asking("a-new-one"), "mode": "async", "identifiers": {"user_id": "u-1"}}
        answer = await site.post("/activation", json=body, headers=key("w"))

        after = await documents.list_documents("profiles", deadline=Deadline.after(5))
        assert (answer.status_code, answer.json()["reason"]) == (200, "UNKNOWN_PROFILE")
        assert [(d.path, d.version) for d in after] == [(d.path, d.version) for d in before]


BAD_ACTIVATIONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("nothing", {}, "missing_field", "entity"),
    ("unknown entity", {**BODY, "entity": CANARY}, "invalid_field", "entity"),
    ("entity as a list", {**BODY, "entity": ["user"]}, "invalid_field", "entity"),
    ("no id", {"entity": "user", "view": "v"}, "missing_field", "id"),
    ("id as text", {**BODY, "id": CANARY}, "invalid_field", "id"),
    ("no type", {**BODY, "id": {"value": CANARY}}, "missing_field", "id.type"),
    ("undeclared type", {**BODY, "id": {"type": CANARY, "value": "a"}}, "invalid_field", "id.type"),
    ("type as a list", {**BODY, "id": {"type": [CANARY], "value": "a"}}, "invalid_field", "id.type"),
    ("no value", {**BODY, "id": {"type": "anonymous_id"}}, "missing_field", "id.value"),
    ("value as an object", asking({"a": CANARY}), "invalid_field", "id.value"),  # type: ignore[arg-type]
    ("NUL in the value", asking("canary\x00"), "invalid_unicode", "id.value"),
    ("endless value", asking("canary" * 600), "invalid_field", "id.value"),
    ("no view", {"entity": "user", "id": BODY["id"]}, "missing_field", "view"),
    ("view as a number", {**BODY, "view": 7}, "invalid_field", "view"),
    ("unknown view", {**BODY, "view": CANARY}, "invalid_field", "view"),
    ("default, which nobody declared", {**BODY, "view": "default"}, "invalid_field", "view"),
    ("a view of everything", {**BODY, "view": "everything"}, "invalid_field", "view"),
    ("a view of nothing", {**BODY, "view": "nothing"}, "invalid_field", "view"),
    ("a view for others", {**BODY, "view": "features_by_user_id"}, "invalid_field", "id.type"),
    ("a view that is not public", {**BODY, "public": True}, "invalid_field", "view"),
    ("public in other words", {**BODY, "public": True, "view": "nearly_public"}, "invalid_field", "view"),
    ("public as text", {**BODY, "public": "yes"}, "invalid_field", "public"),
    ("consent as text", {**BODY, "consent": CANARY}, "invalid_field", "consent"),
    ("deadline as text", {**BODY, "deadline_ms": CANARY}, "invalid_field", "deadline_ms"),
    ("request id with dots", {**BODY, "request_id": CANARY}, "invalid_field", "request_id"),
]  # fmt: skip


class TestBrowsers:
    """Answers that are to reach a browser: `public` in the request."""

    @pytest.mark.parametrize("letter", ["s", "i"])
    async def test_a_public_view_conceals_what_is_concealed_from_every_key(
        self, site: httpx.AsyncClient, letter: str
    ) -> None:
        body = {**BODY, "view": "public_features", "public": True}

        answer = await site.post("/activation", json=body, headers=key(letter))

        assert answer.json()["data"] == {"public_features": {"tier": "Gold"}}

    async def test_a_view_that_is_not_public_is_refused_whoever_is_asked_about(
        self, site: httpx.AsyncClient
    ) -> None:
        known = await site.post("/activation", json={**BODY, "public": True}, headers=key("i"))
        unknown = await site.post(
            "/activation", json={**asking("nobody"), "public": True}, headers=key("i")
        )

        error = check_error(known, 400, "invalid_field")
        other = check_error(unknown, 400, "invalid_field")
        assert "public: true" in error["hint"]
        assert {**error, "error_id": ""} == {**other, "error_id": ""}

    async def test_servers_may_ask_for_a_public_view_too(self, site: httpx.AsyncClient) -> None:
        answer = await site.post(
            "/activation", json={**BODY, "view": "public_features"}, headers=key("i")
        )

        assert answer.json()["data"] == {"public_features": {"tier": "Gold", "margin": 0.4}}


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "code", "path"), [pytest.param(*row[1:], id=row[0]) for row in BAD_ACTIVATIONS]
    )
    async def test_the_field_that_is_wrong_is_named_and_not_quoted(
        self, site: httpx.AsyncClient, body: dict[str, Any], code: str, path: str
    ) -> None:
        error = check_error(await site.post("/activation", json=body), 400, code)

        assert error["path"] == path

    @pytest.mark.parametrize(
        ("body", "code"), [pytest.param(*row[1:], id=row[0]) for row in BAD_BODIES]
    )
    async def test_a_body_that_is_not_bounded_json_is_refused(
        self, site: httpx.AsyncClient, body: bytes, code: str
    ) -> None:
        check_error(await site.post("/activation", content=body, headers=JSON), 400, code)

    async def test_a_body_beyond_the_limit_is_refused(self, site: httpx.AsyncClient) -> None:
        body = b" " * (256 * 1024 + 1)

        check_error(
            await site.post("/activation", content=body, headers=JSON), 413, "body_too_large"
        )

    @pytest.mark.parametrize("letter", ["x", "d", "n"])
    async def test_a_wrong_key_or_one_without_scope_or_view_is_unauthorized(
        self, site: httpx.AsyncClient, letter: str
    ) -> None:
        answer = await site.post("/activation", json=BODY, headers=key(letter))

        check_error(answer, 401, "unauthorized")

    async def test_a_key_that_is_limited_to_views_has_those(self, site: httpx.AsyncClient) -> None:
        body = {**BODY, "id": {"type": "user_id", "value": "u-1"}, "view": "features_by_user_id"}

        answer = await site.post("/activation", json=body, headers=key("n"))

        assert answer.json()["data"] == {"features_by_user_id": {"tier": "Gold"}}
