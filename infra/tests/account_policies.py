"""What must hold of the accounts: whose they are, and what they and others may do."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from infra.tests.expected import (
    ERASER,
    ERASING,
    EVERYBODY,
    HELD,
    HELD_BY_OTHERS,
    HELD_BY_PUBSUB,
    PERMISSIONS,
    PROJECT_ROLES,
    RESOURCE_ROLES,
)
from infra.tests.plan import Plan, Resource, last_part


def each_function_has_an_account_of_its_own(plan: Plan) -> Iterator[str]:
    """Check that no two functions share an account, and none runs as the project's default one."""
    seen: dict[str, str] = {}
    for name, _, config in plan.functions():
        account = config.get("service_account_email") or "the default account"
        if account in seen or "@" not in account or "compute@" in account:
            yield f"{name} runs as {account}" + (
                f", like {seen[account]}" if account in seen else ""
            )
        seen[account] = name
    for name, _, template, _ in plan.services():
        account = template.get("service_account") or "the default account"
        if account in seen or "@" not in account or "compute@" in account:
            yield f"{name} runs as {account}" + (
                f", like {seen[account]}" if account in seen else ""
            )
        seen[account] = name


def roles_are_the_least(plan: Plan) -> Iterator[str]:
    """Check roles on the project, roles on things and permissions of our own roles."""
    own: dict[str, frozenset[str]] = {}
    for role in plan.all("google_project_iam_custom_role"):
        own[role.values["role_id"]] = frozenset(role.values["permissions"])
        for permission in sorted(own[role.values["role_id"]] - PERMISSIONS - ERASING):
            yield f"{role.address} holds {permission}"
    for grant in plan.resources:
        name = grant.values.get("role")
        if not re.search(r"_iam_(member|binding|policy)$", grant.type) or not isinstance(name, str):
            continue
        permissions = own.get(last_part(name))
        if grant.type.startswith("google_project_iam"):
            is_narrow = bool(grant.first("condition")) or permissions == frozenset(
                {"bigquery.jobs.create"}
            )
            if not (name in PROJECT_ROLES or (permissions is not None and is_narrow)):
                yield f"{grant.address} grants {name} on the whole project"
        elif permissions is None and name not in RESOURCE_ROLES and not _is_archive(grant):
            yield f"{grant.address} grants {name}"
        yield from _erases_unasked(plan, grant, permissions or frozenset())


def _erases_unasked(plan: Plan, grant: Resource, permissions: frozenset[str]) -> Iterator[str]:
    eraser = next(c["service_account_email"] for name, _, c in plan.functions() if name == ERASER)
    if permissions & ERASING and grant.values.get("member") != f"serviceAccount:{eraser}":
        yield f"{grant.address} lets another than {ERASER} delete"


def _is_archive(grant: Resource) -> bool:
    """Return whether it is what a BigQuery subscription itself must have."""
    return grant.values["role"] == "roles/bigquery.dataEditor" and "@gcp-sa-pubsub." in str(
        grant.values.get("member", "@gcp-sa-pubsub.")
    )


def accounts_hold_what_they_need(plan: Plan) -> Iterator[str]:
    """Check that each of our accounts has the roles and permissions of its work, and no other."""
    held = _held(plan)
    for name, member in _accounts(plan).items():
        expected, found = HELD.get(name, frozenset()), held.get(member, set())
        for what in sorted(found - expected):
            yield f"{name} holds {what} and does not need it"
        for what in sorted(expected - found):
            yield f"{name} needs {what}"


def others_hold_little(plan: Plan) -> Iterator[str]:
    """Check that others call, publish and read the audit at most, and everybody may only call."""
    ours = set(_accounts(plan).values())
    for member, found in sorted(_held(plan).items()):
        if member in ours:
            continue
        allowed = HELD_BY_PUBSUB if "@gcp-sa-pubsub." in member else HELD_BY_OTHERS
        if member in EVERYBODY:
            allowed = frozenset({"roles/run.invoker"})
        for what in sorted(found - allowed):
            yield f"{member} holds {what}"


def _accounts(plan: Plan) -> dict[str, str]:
    """Return our accounts as members, by what they are for."""
    found = {name: config.get("service_account_email") for name, _, config in plan.functions()}
    found |= {name: template.get("service_account") for name, _, template, _ in plan.services()}
    for account in plan.all("google_service_account"):
        if account.name not in ("function", "service"):
            found[str(account.index or account.name)] = account.values["email"]
    return {name: f"serviceAccount:{email}" for name, email in found.items()}


def _held(plan: Plan) -> dict[str, set[str]]:
    """Return Google's roles and the permissions of our own roles, by who has them."""
    own = {
        role.values["role_id"]: set(role.values["permissions"])
        for role in plan.all("google_project_iam_custom_role")
    }
    held: dict[str, set[str]] = defaultdict(set)
    for grant in plan.resources:
        if not re.search(r"_iam_(member|binding)$", grant.type):
            continue
        role = grant.values["role"]
        members = grant.values.get("members") or [grant.values.get("member")]
        for member in filter(None, members):
            held[member] |= own.get(last_part(role), {role})
    return held
