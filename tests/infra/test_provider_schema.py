"""The provider's schema, as it is read from the npm package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.tests.provider_schema import _stored_type, read_schema


@pytest.fixture(scope="module")
def schema(schema_package: Path) -> dict[str, Any]:
    return read_schema(
        schema_package,
        ["google_pubsub_subscription", "google_secret_manager_secret_version", "google_project"],
    )


def test_resources_and_data_sources_of_these_names_are_read(schema: dict[str, Any]) -> None:
    assert {name for name in schema["resources"] if "project" not in name} == {
        "google_pubsub_subscription", "google_secret_manager_secret_version",
    }  # fmt: skip
    assert "google_project" in schema["data_sources"]
    assert schema["provider"]["attributes"]["project"]["type"] == "string"


def test_arguments_have_their_type_and_whether_they_are_required(schema: dict[str, Any]) -> None:
    attributes = schema["resources"]["google_pubsub_subscription"]["attributes"]

    assert attributes["topic"]["required"]
    assert attributes["ack_deadline_seconds"]["type"] == "number"
    assert attributes["ack_deadline_seconds"]["optional"]
    assert attributes["labels"]["type"] == ["map", "string"]
    assert attributes["effective_labels"] == {"type": ["map", "string"], "computed": True}


def test_blocks_nest_and_know_how_often_they_may_stand(schema: dict[str, Any]) -> None:
    blocks = schema["resources"]["google_pubsub_subscription"]["blocks"]
    push = blocks["push_config"]

    assert (push["nesting"], push["min"], push["max"]) == ("list", 0, 1)
    assert push["block"]["attributes"]["push_endpoint"]["required"]
    token = push["block"]["blocks"]["oidc_token"]["block"]
    assert token["attributes"]["service_account_email"]["required"]
    assert blocks["message_transforms"]["max"] == 0, "as often as one likes"
    assert blocks["timeouts"]["nesting"] == "single"


def test_a_write_only_argument_is_neither_computed_nor_kept(schema: dict[str, Any]) -> None:
    version = schema["resources"]["google_secret_manager_secret_version"]["attributes"]

    assert version["secret_data_wo"]["write_only"]
    assert not version["secret_data_wo"]["computed"]
    assert not version["secret_data"]["write_only"]


def test_a_type_that_nobody_knows_is_a_mistake() -> None:
    assert _stored_type("stringListMap", is_set=False) == ["map", ["list", "string"]]
    assert _stored_type("stringList", is_set=True) == ["set", "string"]
    with pytest.raises(ValueError, match="nobody knows: quaternion"):
        _stored_type("quaternion", is_set=False)
