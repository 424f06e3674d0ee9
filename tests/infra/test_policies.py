"""The policies hold of every way to deploy, and each fails on a copy that breaks it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from infra.tests.policies import POLICIES, violations
from tests.infra.conftest import Planned
from tests.infra.mutations import MUTATIONS

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "keys": {},
    "signatures": {"auth": "signature"},
    "identities": {"auth": "iam", "callers": ["serviceAccount:sgtm@other.iam.gserviceaccount.com"]},
    "nobody may call yet": {"auth": "iam"},
    "the audit archived too": {"audit_archive": True},
    "browsers listen": {
        "push_service": {
            "image": "europe-west1-docker.pkg.dev/my-project/tagstitch-functions/push-service:1",
            "origins": ["https://shop.example.com", "https://www.example.com:8443"],
        },
    },
    "as little as possible": {
        "alert_emails": [], "audit_readers": [], "backup_days": 0, "billing_account": None,
        "deletion_protection": False, "point_in_time_recovery": False, "publishers": [],
    },
    "larger, elsewhere, by another name": {
        "audit_days": 30,
        "bigquery_location": "EU",
        "firestore_location": "eur3",
        "functions": {
            "decide": {"memory": "2Gi", "cpu": "2", "min_instances": 5},
            "stitch_async": {"timeout_s": 55},
        },
        "otlp_endpoint": "https://collector.example.com:4318",
        "prefix": "shop-tags",
        "runtime": "python313",
    },
}  # fmt: skip


BROWSERS = {3, 4}
"""The batches that break the service by which browsers listen."""

BATCHES = sorted({mutation.batch for mutation in MUTATIONS})


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_policies_hold(planned: Planned, name: str) -> None:
    assert violations(planned(**DEPLOYMENTS[name])) == {}


@pytest.mark.parametrize("batch", BATCHES)
def test_each_policy_fails_on_a_copy_that_breaks_it(planned: Planned, batch: int) -> None:
    mutations = [mutation for mutation in MUTATIONS if mutation.batch == batch]

    variables = DEPLOYMENTS["browsers listen" if batch in BROWSERS else "keys"]
    found = violations(planned([mutation[2:5] for mutation in mutations], **variables))

    assert [m for m in mutations if m.sentence not in found.get(m.policy, ())] == []


def test_every_policy_is_shown_to_fail() -> None:
    assert {mutation.policy for mutation in MUTATIONS} == {policy.__name__ for policy in POLICIES}


@pytest.mark.parametrize(
    "kind",
    [
        "google_cloud_run_service_iam_member", "google_cloud_run_v2_service_iam_member",
        "google_cloudfunctions2_function_iam_member", "google_cloudfunctions2_function_iam_binding",
        "google_cloudfunctions2_function_iam_policy",
    ],
)  # fmt: skip
def test_nobody_is_let_in_beside_the_list(plan: dict[str, Any], kind: str) -> None:
    shown = deepcopy(plan)
    values = {"role": "roles/run.invoker", "member": "allUsers", "members": ["allUsers"]}
    beside = {"type": kind, "name": "beside", "mode": "managed", "values": values}
    shown["planned_values"]["root_module"]["resources"].append(beside)

    assert violations(shown)["only_the_platform_calls_workers"] == [
        f"{kind}.beside stands beside the closed list"
    ]
