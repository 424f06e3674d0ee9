"""Terraform with the stub provider, and plans of changed copies of `infra/`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from infra.package import archive, stage
from infra.tests.terraform import Terraform, fetch_package, missing_parts

VARIABLES = {
    "project_id": "my-project",
    "region": "europe-west1",
    "consent_default": "denied",
    "alert_emails": ["oncall@example.com"],
    "billing_account": "000000-000000-000000",
    "audit_readers": ["group:analysts@example.com"],
    "publishers": ["serviceAccount:crm@my-project.iam.gserviceaccount.com"],
}

Planned = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses Terraform, so that `make check-infra` finds it."""
    for item in items:
        if "schema_package" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.terraform)


@pytest.fixture(scope="session")
def schema_package() -> Path:
    """The provider's schema; skips, or fails where it must be there, when a part is missing."""
    reason = ""
    if missing := missing_parts():
        reason = "not installed: " + ", ".join(missing)
    else:
        try:
            return fetch_package()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            reason = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives of the four functions."""
    folder = tmp_path_factory.mktemp("packages")
    for function in ("stitch_sync", "stitch_async", "decide", "audit_sink"):
        archive(stage(function, folder))
    return folder


@pytest.fixture(scope="session")
def terraform(
    schema_package: Path, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Terraform:
    """A copy of `infra/`, ready to plan; nobody changes it."""
    made = Terraform(tmp_path_factory.mktemp("terraform"), schema_package)
    made.init()
    (made.folder / "terraform.tfvars.json").write_text(
        json.dumps({**VARIABLES, "package_dir": str(packages)})
    )
    return made


@pytest.fixture
def copy(terraform: Terraform, tmp_path: Path) -> Terraform:
    """A copy that a test may change."""
    shutil.copytree(terraform.folder.parent, tmp_path / "copy", symlinks=True)
    return terraform.at(tmp_path / "copy")


@pytest.fixture
def planned(copy: Terraform) -> Planned:
    """Return the plan of a copy with other variables, or with other words in a file."""

    def plan(changes: Iterable[tuple[str, str, str]] = (), **variables: Any) -> dict[str, Any]:
        for name, old, new in changes:
            text = (copy.folder / name).read_text("utf-8")
            assert text.count(old) == 1, f"{name} has {text.count(old)} times: {old}"
            (copy.folder / name).write_text(text.replace(old, new), "utf-8")
        (copy.folder / "test.auto.tfvars.json").write_text(json.dumps(variables))
        return copy.plan()

    return plan


@pytest.fixture(scope="session")
def plan(terraform: Terraform) -> dict[str, Any]:
    """The plan of `infra/` as it is."""
    return terraform.plan()
