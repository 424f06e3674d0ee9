"""Delete a deployment after saying what goes: `python3 infra/teardown.py`.

Lists what Terraform's state holds, asks for the project's name, lifts the protection of profiles
and audit, and destroys. Needs Terraform, and nothing installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

LOST: Final = {
    "google_firestore_database": "every profile, identifier, link, rule and dead letter",
    "google_bigquery_dataset": "the whole audit, and queries of others that read it",
    "google_secret_manager_secret": "every secret; with the identity key gone, nobody whose"
    " profile you restore is ever recognised again",
    "google_pubsub_subscription": "every message that waits",
    "google_cloudfunctions2_function": "the addresses that sGTM calls: events pass unchanged",
    "google_cloud_run_v2_service": "the address at which pages listen for messages",
    "google_monitoring_alert_policy": "the alerts",
}

STAYS: Final = (
    "Firestore's backups, until their days are over",
    "what the log holds, until its days are over",
    "the services (APIs) that were switched on",
)

PROTECTED: Final = (
    "google_firestore_database.this", "google_bigquery_dataset.audit",
    "google_bigquery_table.audit",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Say, ask and destroy."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--project", help="answers the question beforehand")
    given = parser.parse_args(arguments)
    try:
        resources = _resources(given.folder)
    except (OSError, subprocess.CalledProcessError) as error:
        print("Terraform cannot read its state; `terraform init` in infra/ makes it ready.")
        print(getattr(error, "stderr", None) or error)
        return 1
    projects = {r["values"]["project"] for r in resources if r["values"].get("project")}
    if len(projects) != 1:
        print("There is no deployment in Terraform's state.")
        return 1
    project = projects.pop()
    print(_told(resources, project))
    answer = given.project or input(f"Type {project} to delete all this: ")
    if answer != project:
        print("Nothing was deleted.")
        return 1
    unprotected = ["-input=false", "-auto-approve", "-var=deletion_protection=false"]
    targets = [f"-target={address}" for address in PROTECTED]
    _terraform(given.folder, "apply", *unprotected, *targets)
    _terraform(given.folder, "destroy", *unprotected)
    return 0


def _resources(folder: Path) -> list[dict[str, Any]]:
    run = subprocess.run(
        ["terraform", "show", "-json"], cwd=folder, capture_output=True, text=True, check=True
    )
    values = json.loads(run.stdout).get("values") or {}
    found = values.get("root_module", {}).get("resources", [])
    return [resource for resource in found if resource["mode"] == "managed"]


def _told(resources: list[dict[str, Any]], project: str) -> str:
    counted = Counter(resource["type"] for resource in resources)
    lines = [f"In the project {project}, {len(resources)} things are deleted, among them:"]
    lines += [f"  - {told}" for kind, told in LOST.items() if counted[kind]]
    lines += ["What stays:", *(f"  - {told}" for told in STAYS)]
    return "\n".join(lines)


def _terraform(folder: Path, *arguments: str) -> None:
    subprocess.run(["terraform", *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
