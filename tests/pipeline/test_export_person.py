"""The export of a person has everything that is held, and nothing that is only ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tagstitch.adapters.duckdb_audit_queries import DuckDbAuditQueries
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.erase_person import PersonEraser
from tagstitch.pipeline.export_person import export_person
from tagstitch.pipeline.person import Asked
from tests.pipeline.lives import Life, everything, traces
from tests.pipeline.test_merges import user
from tests.pipeline.world import KEYRING, START, World


async def export(world: World, who: Identifier) -> dict[str, Any]:
    queries = DuckDbAuditQueries(world.database, world.audit_rows, dataset="tagstitch")
    return await export_person(
        replace(world.backend, audit_queries=queries),
        KEYRING,
        Asked.by_identifier(who, KEYRING),
        deadline=Deadline.after(30),
    )


async def exported(world: World) -> tuple[Life, dict[str, Any]]:
    """Return a person who lived here and the data of each section of the export."""
    ada = Life(world, "ada")
    await ada.live()
    await Life(world, "bob").live()
    await world.store_audit()
    document = await export(world, ada.browser)
    return ada, {name: section["data"] for name, section in document["sections"].items()}


async def test_every_kind_of_data_has_its_section(world: World) -> None:
    ada, data = await exported(world)

    assert data["profile"]["profile_id"] == KEYRING.profile_id(ada.user)
    assert [i["type"] for i in data["identifiers"]] == ["user_id", "client_id", "device_id"]
    assert data["attributes"] == [{"name": "tier", "value": ada.trace, "set_at": START}]
    assert {trait["name"]: trait["value"] for trait in data["traits"]} == {
        "last_page": ada.trace,
        "pages": 3,
    }
    assert data["trait_states"].keys() == {"last_page", "pages"}
    assert data["state"] == {"shown": True}
    [said] = data["consent"]
    assert (said["purpose"], said["granted"], said["source"]) == ("email", True, "request")
    assert sorted(entry["kind"] for entry in data["history"]) == ["link", "merge"]
    assert {c["type"] for c in data["contributions"]} == {"user_id", "client_id"}
    assert sorted(d["kind"] for d in data["deliveries"]) == ["action", "action", "callback"]
    assert data["deliveries"][-1]["created_at"] >= START
    assert len(data["answers"]) == 5
    assert data["experiments"].keys() == {"x"}
    assert data["exposures"][0]["experiment_id"] == "x"
    [decided] = [
        row for row in data["audit"] if row["request_id"] == f"{ada.trace}-2" and row["receipt"]
    ]
    assert decided["receipt"] == "sealed"
    assert decided["modifications"][0]["old_value"] == 7.5


async def test_it_is_of_one_person_and_holds_no_key_and_no_salt(world: World) -> None:
    ada, data = await exported(world)

    text = msgspec.json.encode(data).decode()
    assert "trace-of-bob" not in text
    assert not [key for key in ada.keys if key in text]
    assert '"salt"' not in text
    assert "salt of" not in text
    assert '"subject"' not in text


async def test_every_section_says_what_it_is_and_how_long_it_is_kept(world: World) -> None:
    await world.put_profile(user("u"))

    document = await export(world, user("u"))

    for section in document["sections"].values():
        assert section.keys() == {"label", "kept", "data"}
        assert section["label"]
        assert section["kept"]


async def test_all_that_the_store_holds_of_them_is_in_it(world: World) -> None:
    """A secret word in every document: what has it must be shown."""
    ada, data = await exported(world)
    held = {path.partition("/")[0] for path in traces(await everything(world), ada.trace)}
    sections = {
        "profiles": "attributes", "processed": "answers", "outbox": "deliveries",
        "links": "history", "contributions": "contributions", "quarantine": "quarantine",
        "audit": "audit", "exposures": "exposures",
    }  # fmt: skip

    assert held >= {"profiles", "processed", "outbox", "links", "contributions"}
    for collection in held:
        assert ada.trace in msgspec.json.encode(data[sections[collection]]).decode(), collection


async def test_what_a_document_has_besides_is_shown_too(world: World) -> None:
    await world.put_profile(user("u"), something_new={"records": [1], "salt": "of the sea"})

    document = await export(world, user("u"))

    other = document["sections"]["other"]["data"]
    assert other == {"something_new": {"records": [1], "salt": "of the sea"}}


async def test_a_profile_that_was_written_by_hand_is_exported(world: World) -> None:
    path = f"profiles/{KEYRING.profile_id(user('u'))}"
    await world.store.commit([Put(path, {"tier": "Gold"})], deadline=Deadline.after(5))

    document = await export(world, user("u"))

    [attribute] = document["sections"]["attributes"]["data"]
    assert (attribute["name"], attribute["value"]) == ("tier", "Gold")


async def test_of_somebody_unknown_there_is_nothing(world: World) -> None:
    with pytest.raises(InvalidInput, match="nothing is held"):
        await export(world, user("u"))


async def test_after_an_erasure_there_is_nothing(world: World) -> None:
    ada, _ = await exported(world)
    eraser = PersonEraser(world.backend, KEYRING, world.audit)
    await eraser.erase(Asked.by_identifier(ada.user, KEYRING), deadline=Deadline.after(20))
    world.now += timedelta(minutes=1)

    for identifier in ada.identifiers:
        with pytest.raises(InvalidInput, match="nothing is held"):
            await export(world, identifier)
