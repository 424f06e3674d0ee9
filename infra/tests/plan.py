"""A plan of Terraform, as `terraform show -json` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a plan."""

    type: str
    name: str
    index: str | int | None
    values: Mapping[str, Any]

    @property
    def address(self) -> str:
        """What Terraform calls it."""
        index = "" if self.index is None else f"[{json.dumps(self.index)}]"
        return f"{self.type}.{self.name}{index}"

    def first(self, block: str) -> Mapping[str, Any]:
        """Return a nested block that stands once, or nothing."""
        return next(iter(self.values.get(block) or ()), {})


@dataclass(frozen=True, slots=True)
class Plan:
    """The resources of a plan."""

    resources: tuple[Resource, ...]
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What was given, by name; empty for a state."""

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Plan:
        """Read what `terraform show -json` prints of a plan or of a state."""
        values = shown.get("planned_values") or shown["values"]
        found = values["root_module"].get("resources", ())
        return cls(
            tuple(
                Resource(r["type"], r["name"], r.get("index"), r["values"])
                for r in found
                if r["mode"] == "managed"
            ),
            {name: told.get("value") for name, told in shown.get("variables", {}).items()},
        )

    def all(self, *types: str) -> Iterator[Resource]:
        """Yield the resources of some types."""
        yield from (resource for resource in self.resources if resource.type in types)

    def functions(self) -> Iterator[tuple[str, Resource, Mapping[str, Any]]]:
        """Yield each function's own name, the resource and how it runs."""
        for resource in self.all("google_cloudfunctions2_function"):
            entry_point = resource.first("build_config").get("entry_point")
            yield str(entry_point), resource, resource.first("service_config")

    def services(self) -> Iterator[tuple[str, Resource, Mapping[str, Any], Mapping[str, Any]]]:
        """Yield each optional service's own name, the resource, its template and its container."""
        for resource in self.all("google_cloud_run_v2_service"):
            template = resource.first("template")
            yield str(resource.index), resource, template, template["containers"][0]

    def subscriptions(self) -> Iterator[Resource]:
        """Yield the subscriptions."""
        return self.all("google_pubsub_subscription")

    def dead_letter_topics(self) -> set[str]:
        """Return the topics to which subscriptions forward what they give up."""
        policies = (s.first("dead_letter_policy") for s in self.subscriptions())
        return {last_part(policy["dead_letter_topic"]) for policy in policies if policy}


def last_part(path: str) -> str:
    """Return the last part of a path, which is the name of what it leads to."""
    return path.rpartition("/")[2]
