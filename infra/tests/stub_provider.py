"""A Terraform provider that knows google's schema and does nothing: plans and applies offline.

Terraform starts it as a program and talks to it over gRPC (plugin protocol 5,
https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/tfplugin5.proto, of which only
the fields in use stand here). It checks what a schema can check and keeps what it is told; whatever
the real provider would compute becomes a made-up text. `TAGSTITCH_PROVIDER_SCHEMA` names the file
that `provider_schema.py` made.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA_VARIABLE: Final = "TAGSTITCH_PROVIDER_SCHEMA"

_COOKIE: Final = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
"""By which Terraform and its plugins recognise each other; no secret."""

_NESTING: Final = {"single": 1, "list": 2, "set": 3, "map": 4}
_UNKNOWN: Final = msgspec.msgpack.Ext(0, b"\x00")

_SCALARS: Final = {"text": 9, "bytes": 12, "flag": 8, "count": 3}
_MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Empty": {},
    "Value": {"msgpack": (1, "bytes"), "json": (2, "bytes")},
    "Diagnostic": {"severity": (1, "count"), "summary": (2, "text"), "detail": (3, "text")},
    "Attribute": {
        "name": (1, "text"), "type": (2, "bytes"), "required": (4, "flag"),
        "optional": (5, "flag"), "computed": (6, "flag"), "write_only": (10, "flag"),
    },
    "Block": {
        "version": (1, "count"), "attributes": (2, "*Attribute"), "block_types": (3, "*Nested"),
    },
    "Nested": {
        "type_name": (1, "text"), "block": (2, "Block"), "nesting": (3, "count"),
        "min_items": (4, "count"), "max_items": (5, "count"),
    },
    "Schema": {"version": (1, "count"), "block": (2, "Block")},
    "Entry": {"key": (1, "text"), "value": (2, "Schema")},  # on the wire the same as a map
    "SchemaResponse": {
        "provider": (1, "Schema"), "resources": (2, "*Entry"), "data_sources": (3, "*Entry"),
    },
    "Prepare": {"config": (1, "Value")},
    "Diagnostics": {"diagnostics": (1, "*Diagnostic")},
    "Plan": {
        "type_name": (1, "text"), "prior_state": (2, "Value"), "proposed_new_state": (3, "Value"),
        "config": (4, "Value"),
    },
    "Planned": {"planned_state": (1, "Value"), "legacy_type_system": (5, "flag")},
    "Apply": {"type_name": (1, "text"), "prior_state": (2, "Value"), "planned_state": (3, "Value")},
    "Applied": {"new_state": (1, "Value"), "legacy_type_system": (4, "flag")},
    "Read": {"type_name": (1, "text"), "current_state": (2, "Value")},
    "ReadResponse": {"new_state": (1, "Value")},
    "ReadData": {"type_name": (1, "text"), "config": (2, "Value")},
    "DataResponse": {"state": (1, "Value")},
    "Raw": {"json": (1, "bytes")},
    "Upgrade": {"type_name": (1, "text"), "version": (2, "count"), "raw_state": (3, "Raw")},
    "Upgraded": {"upgraded_state": (1, "Value")},
}  # fmt: skip


def _message_classes() -> dict[str, Any]:
    """Build the protocol's messages, without a compiler."""
    file = descriptor_pb2.FileDescriptorProto(name="plugin.proto", package="p", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            label = 3 if kind.startswith("*") else 1
            field = message.field.add(name=field_name, number=number, label=label)
            type_name = kind.removeprefix("*")
            if type_name in _SCALARS:
                field.type = _SCALARS[type_name]
            else:
                field.type, field.type_name = 11, f".p.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"p.{name}"))
        for name in _MESSAGES
    }


class StubProvider:
    """Answers Terraform's calls from a schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self.messages = _message_classes()

    def get_schema(self, _: Any) -> Any:
        """Return every schema."""
        response = self.messages["SchemaResponse"]()
        provider = {**self._schema["provider"]}
        provider["attributes"] = {
            name: {**attribute, "computed": False}  # a provider has nothing to compute
            for name, attribute in provider["attributes"].items()
        }
        self._fill_block(provider, response.provider.block)
        for kind in ("resources", "data_sources"):
            for name, block in self._schema[kind].items():
                entry = getattr(response, kind).add(key=name)
                self._fill_block(block, entry.value.block)
        return response

    def prepare(self, request: Any) -> Any:
        """Accept the provider's configuration."""
        return self.messages["Prepare"](config=request.config)

    def accept(self, _: Any) -> Any:
        """Find nothing wrong: Terraform has checked against the schema."""
        return self.messages["Diagnostics"]()

    def plan(self, request: Any) -> Any:
        """Mark as unknown what the provider would compute."""
        planned = _decoded(request.proposed_new_state)
        block = self._schema["resources"][request.type_name]
        if planned is not None and _decoded(request.prior_state) is None:
            _mark_unknown(planned, block)
            _compute_early(request.type_name, planned)
        if planned is not None:
            _forget_write_only(planned, block)
        return self.messages["Planned"](planned_state=self._value(planned), legacy_type_system=True)

    def apply(self, request: Any) -> Any:
        """Keep what was planned and make up the rest."""
        state = _decoded(request.planned_state)
        if state is not None:
            _make_up(state, self._schema["resources"][request.type_name], of=_name_of(state))
        return self.messages["Applied"](new_state=self._value(state), legacy_type_system=True)

    def read(self, request: Any) -> Any:
        """Return the state as it is known."""
        return self.messages["ReadResponse"](new_state=request.current_state)

    def read_data(self, request: Any) -> Any:
        """Make up what a data source would tell."""
        block = self._schema["data_sources"][request.type_name]
        state = _decoded(request.config)
        _mark_unknown(state, block)
        _make_up(state, block, of=_name_of(state))
        return self.messages["DataResponse"](state=self._value(state))

    def upgrade(self, request: Any) -> Any:
        """Return a stored state as it is: there is one version of each schema."""
        value = self.messages["Value"](json=request.raw_state.json)
        return self.messages["Upgraded"](upgraded_state=value)

    def _value(self, value: Any) -> Any:
        return self.messages["Value"](msgpack=msgspec.msgpack.encode(value))

    def _fill_block(self, block: dict[str, Any], target: Any) -> None:
        target.SetInParent()
        for name, attribute in block["attributes"].items():
            flags = ("required", "optional", "computed", "write_only")
            target.attributes.add(
                name=name,
                type=json.dumps(attribute["type"]).encode(),
                **{flag: attribute.get(flag, False) for flag in flags},
            )
        for name, nested in block["blocks"].items():
            made = target.block_types.add(
                type_name=name,
                nesting=_NESTING[nested["nesting"]],
                min_items=nested["min"],
                max_items=nested["max"],
            )
            self._fill_block(nested["block"], made.block)


def _decoded(value: Any) -> Any:
    return msgspec.msgpack.decode(value.msgpack) if value.msgpack else None


def _nested_values(value: dict[str, Any], block: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return the blocks inside a value, each with its schema."""
    found = []
    for name, nested in block["blocks"].items():
        inner = value.get(name)
        if isinstance(inner, list):
            found += [(one, nested["block"]) for one in inner if isinstance(one, dict)]
        elif isinstance(inner, dict) and nested["nesting"] != "single":
            found += [(one, nested["block"]) for one in inner.values()]
    return found


def _mark_unknown(value: dict[str, Any], block: dict[str, Any]) -> None:
    for name, attribute in block["attributes"].items():
        if attribute.get("computed") and value.get(name) is None:
            value[name] = _UNKNOWN
    for inner, schema in _nested_values(value, block):
        _mark_unknown(inner, schema)


def _forget_write_only(value: dict[str, Any], block: dict[str, Any]) -> None:
    for name, attribute in block["attributes"].items():
        if attribute.get("write_only"):
            value[name] = None
    for inner, schema in _nested_values(value, block):
        _forget_write_only(inner, schema)


def _compute_early(type_name: str, planned: dict[str, Any]) -> None:
    """Compute what the real provider already knows when it plans."""
    account, project = planned.get("account_id"), planned.get("project")
    if type_name == "google_service_account" and isinstance(project, str):
        planned["email"] = f"{account}@{project}.iam.gserviceaccount.com"
        planned["member"] = f"serviceAccount:{planned['email']}"


def _name_of(value: dict[str, Any]) -> str:
    names = (value.get(key) for key in ("name", "account_id", "display_name"))
    return next((name for name in names if isinstance(name, str)), "it")


def _make_up(value: dict[str, Any], block: dict[str, Any], *, of: str) -> None:
    for name, attribute in block["attributes"].items():
        if isinstance(value.get(name), msgspec.msgpack.Ext):
            value[name] = _made_up(attribute["type"], name, of=of)
    for inner, schema in _nested_values(value, block):
        _make_up(inner, schema, of=of)


def _made_up(type_: Any, name: str, *, of: str) -> Any:
    if isinstance(type_, str):
        return {"string": f"{name}-of-{of}", "number": 0, "bool": False}.get(type_)
    if type_[0] == "object":
        return {key: _made_up(inner, key, of=of) for key, inner in type_[1].items()}
    return {} if type_[0] == "map" else []


def _handler(method: Callable[[Any], Any], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        lambda message, _: method(message),
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def serve(provider: StubProvider, stopped: threading.Event) -> None:
    """Serve on a free port, which the first line on stdout tells, until Terraform has enough."""
    calls = {
        "GetSchema": (provider.get_schema, "Empty"),
        "PrepareProviderConfig": (provider.prepare, "Prepare"),
        "ValidateResourceTypeConfig": (provider.accept, "Empty"),
        "ValidateDataSourceConfig": (provider.accept, "Empty"),
        "Configure": (provider.accept, "Empty"),
        "PlanResourceChange": (provider.plan, "Plan"),
        "ApplyResourceChange": (provider.apply, "Apply"),
        "ReadResource": (provider.read, "Read"),
        "ReadDataSource": (provider.read_data, "ReadData"),
        "UpgradeResourceState": (provider.upgrade, "Upgrade"),
        "Stop": (lambda _: provider.messages["Empty"](), "Empty"),
    }
    handlers = {
        name: _handler(method, provider.messages[request])
        for name, (method, request) in calls.items()
    }

    def shut_down(_: Any) -> Any:
        stopped.set()
        return provider.messages["Empty"]()

    controller = {"Shutdown": _handler(shut_down, provider.messages["Empty"])}
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)]
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("tfplugin5.Provider", handlers),
            grpc.method_handlers_generic_handler("plugin.GRPCController", controller),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"1|5|tcp|127.0.0.1:{port}|grpc|", flush=True)
    parent = os.getppid()
    while not stopped.wait(1) and os.getppid() == parent:
        pass
    server.stop(0)


if __name__ == "__main__":
    if os.environ.get("TF_PLUGIN_MAGIC_COOKIE") != _COOKIE:
        sys.exit("This is a Terraform provider: Terraform starts it.")
    serve(
        StubProvider(json.loads(Path(os.environ[SCHEMA_VARIABLE]).read_text("utf-8"))),
        threading.Event(),
    )
