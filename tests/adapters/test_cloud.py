"""The cloud backend's wiring: what is imported when, and that it closes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tagstitch.adapters.cloud import close_cloud_backend, open_cloud_backend
from tagstitch.adapters.settings import Settings, read_settings
from tagstitch.core.errors import Unavailable
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.deadline import Deadline

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = "127.0.0.1:1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(
        {
            "TAGSTITCH_DATA_DIR": str(tmp_path),
            "FIRESTORE_EMULATOR_HOST": NOBODY,
            "PUBSUB_EMULATOR_HOST": NOBODY,
            "BIGQUERY_EMULATOR_HOST": f"http://{NOBODY}",
            "BIGQUERY_STORAGE_EMULATOR_HOST": NOBODY,
        }
    )


def vendors_imported_by(code: str, data_dir: Path) -> list[str]:
    """Run code in a process of its own and return the vendors' packages that it imported."""
    program = f"""
import sys
from tagstitch.adapters.cloud import import_libraries, open_cloud_backend
from tagstitch.adapters.settings import read_settings
settings = read_settings({{"TAGSTITCH_DATA_DIR": {str(data_dir)!r},
    "FIRESTORE_EMULATOR_HOST": {NOBODY!r}, "PUBSUB_EMULATOR_HOST": {NOBODY!r}}})
{textwrap.dedent(code)}
vendors = ["grpc", "requests", "google.cloud.firestore_v1", "google.pubsub_v1",
    "google.cloud.bigquery", "google.cloud.bigquery_storage_v1"]
print(*(name for name in vendors if name in sys.modules))
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout.split()


def test_opening_the_backend_imports_no_vendor(tmp_path: Path) -> None:
    assert vendors_imported_by("open_cloud_backend(settings)", tmp_path) == []


def test_importing_a_port_s_libraries_imports_its_own_alone(tmp_path: Path) -> None:
    vendors = vendors_imported_by("import_libraries(['documents', 'publisher'])", tmp_path)

    assert "google.cloud.firestore_v1" in vendors
    assert "google.pubsub_v1" in vendors
    assert not {"google.cloud.bigquery", "google.cloud.bigquery_storage_v1"} & {*vendors}


def test_appending_does_not_import_the_query_library(tmp_path: Path) -> None:
    vendors = vendors_imported_by("import_libraries(['audit_table'])", tmp_path)

    assert "google.cloud.bigquery_storage_v1" in vendors
    assert "google.cloud.bigquery" not in vendors


def test_the_ports_stand_in_the_order_of_the_backend(settings: Settings) -> None:
    backend = open_cloud_backend(settings)

    assert [field.name for field in dataclasses.fields(Backend)] == [
        "documents",
        "publisher",
        "audit_table",
        "audit_queries",
        "callbacks",
        "clock",
    ]
    assert backend.clock().utcoffset() is not None


async def test_a_closed_backend_opens_again_on_its_next_use(settings: Settings) -> None:
    backend = open_cloud_backend(settings)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await backend.documents.get("c/a", deadline=Deadline.after(5))
        with pytest.raises(Unavailable):
            await backend.publisher.publish("t", b"x", deadline=Deadline.after(5))
        with pytest.raises(Unavailable):
            await backend.audit_queries.run("SELECT 1", deadline=Deadline.after(5))
        assert await backend.audit_table.append([], deadline=Deadline.after(5)) == []
        await close_cloud_backend(backend)
