"""What must hold of the optional services that browsers reach."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.tests.expected import (
    PLAIN_SETTINGS,
    PUSH_TOKEN_S,
    READING,
    SECRET_READER,
    SERVICE_SECRETS,
)
from infra.tests.plan import Plan, last_part


def browsers_reach_what_only_reads(plan: Plan) -> Iterator[str]:
    """Check the services that browsers reach: read documents, named pages, a token's whole life."""
    own = {
        r.values["role_id"]: r.values["permissions"]
        for r in plan.all("google_project_iam_custom_role")
    }
    for name, service, template, container in plan.services():
        member = f"serviceAccount:{template.get('service_account')}"
        for grant in plan.resources:
            if grant.values.get("member") != member or "_iam_" not in grant.type:
                continue
            allowed = set(own.get(last_part(grant.values["role"]), ()))
            if not allowed <= READING and grant.values["role"] != SECRET_READER:
                yield f"{name} may do more than read: {grant.address}"
        environment = {e["name"]: e.get("value") for e in container.get("env") or ()}
        origins = (environment.get("TAGSTITCH_PUSH_ORIGINS") or "*").split(",")
        for origin in origins:
            if not re.fullmatch(r"https://[a-z0-9.-]+(:\d+)?", origin):
                yield f"{name} lets pages of {origin} listen"
        if int(template["timeout"].removesuffix("s")) <= PUSH_TOKEN_S:
            yield f"{name} ends a connection before its token does"
        if not template["scaling"][0].get("max_instance_count"):
            yield f"{name} may start any number of instances"
        yield from _secrets_of_a_service(name, container, environment)
        closed = plan.all("google_cloud_run_v2_service_iam_binding")
        if not any(b.values["name"] == service.values["name"] for b in closed):
            yield f"{name} has no closed list of who may call it"


def _secrets_of_a_service(
    name: str, container: Mapping[str, Any], environment: Mapping[str, str | None]
) -> Iterator[str]:
    mounted = {mount["mount_path"] for mount in container.get("volume_mounts") or ()}
    for entry in container.get("env") or ():
        if entry.get("value_source"):
            yield f"{name} has a secret in its environment"
    needed = environment.keys() - PLAIN_SETTINGS
    for setting in sorted(needed):
        if (environment[setting] or "").rpartition("/")[0] not in mounted:
            yield f"{name}: {setting} is no mounted file"
        if setting not in SERVICE_SECRETS:
            yield f"{name} has {setting} and does not need it"
    if len(mounted) > len(needed):
        yield f"{name} mounts a secret that no setting names"
