"""The google provider's schema for Terraform, read from the npm package `@cdktf/provider-google`.

The provider itself is some 100 MB and only to be had from HashiCorp's registry; the package holds
the same resources as JavaScript classes. Each class lists its arguments in `synthesizeHclAttributes`,
each nested block in a function `…ToHclTerraform`; the interfaces beside them say what is required,
the getters what the provider computes. (MPL-2.0: it is read when the tests run and kept nowhere.)

What the package does not say: which optional arguments the provider computes when they are not
given. All are taken to be such, so that a plan never shows a value that the provider may choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Type = str | list[Any]
"""A type as Terraform writes it in JSON: "string", ["list", "string"], ["object", {…}]."""

DEPTH_MAX: Final = 12
"""Levels of computed objects that are followed; some refer to themselves."""

_ARGUMENT: Final = re.compile(
    r"^\s+(\w+): \{\s+value: .*?,\s+isBlock: (true|false),"
    r'\s+type: "(\w+)",\s+storageClassType: "(\w+)",?\s+\},?$',
    re.MULTILINE | re.DOTALL,
)
_INTERFACE: Final = re.compile(
    r"^export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)^\}", re.MULTILINE | re.DOTALL
)
_PROPERTY: Final = re.compile(
    r"#(\w+) \w+#\w+\}(?:(?!\*/).)*\*/\s*readonly \w+(\??): (.*?);\n", re.DOTALL
)
_FUNCTION: Final = re.compile(
    r"^function (\w+)ToHclTerraform\(struct\) \{(.*?)^\}", re.MULTILINE | re.DOTALL
)
_CLASS: Final = re.compile(
    r"^class (\w+) extends cdktf\.(\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL
)
_GETTER: Final = re.compile(r"return this\.get(\w+)Attribute\('(\w+)'\)")
_MEMBER: Final = re.compile(r'new ((?:cdktf\.)?\w+)\(this, "(\w+)"(?:, (true|false))?')
_TYPE_NAME: Final = re.compile(r"terraformResourceType: '(\w+)'")

_SIMPLE: Final = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
_KINDS: Final = {
    "TerraformResource": "resources",
    "TerraformDataSource": "data_sources",
    "TerraformProvider": "provider",
}
_NESTING: Final = {"list": "list", "set": "set", "map": "map", "struct": "single"}


def read_schema(package: Path, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return `{version, provider, resources, data_sources}` of an unpacked package.

    `names` keeps only these resources and data sources: 1,469 of them take seconds to read.
    """
    found: dict[str, Any] = {"provider": {}, "resources": {}, "data_sources": {}}
    for folder in sorted(_folders(package, names)):
        source = _Source.read(folder)
        if source is None:
            continue
        block = source.block(source.arguments(), f"{source.name}Config", source.name)
        if source.kind == "provider":
            found["provider"] = block
        else:
            found[source.kind][source.type_name] = block
    return found


def _folders(package: Path, names: Iterable[str] | None) -> Iterator[Path]:
    library = package / "lib"
    if names is None:
        yield from (path for path in library.iterdir() if path.is_dir())
        return
    yield library / "provider"
    for name in names:
        folder = name.removeprefix("google_").replace("_", "-")
        candidates = (library / folder, library / f"data-google-{folder}")
        yield from (path for path in candidates if path.is_dir())


@dataclass(frozen=True, slots=True)
class _Source:
    """The code of one resource, data source or of the provider's own configuration."""

    name: str
    kind: str
    type_name: str
    interfaces: Mapping[str, Mapping[str, tuple[bool, bool]]]
    """For each argument of an interface: whether it is required, whether it may be repeated."""
    functions: Mapping[str, str]
    classes: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> _Source | None:
        code = "\n".join(path.read_text("utf-8") for path in sorted(folder.rglob("*.js")))
        types = "\n".join(path.read_text("utf-8") for path in sorted(folder.rglob("*.d.ts")))
        type_name = _TYPE_NAME.search(code)
        classes = {name: (base, body) for name, base, body in _CLASS.findall(code)}
        main = next((name for name, (base, _) in classes.items() if base in _KINDS), None)
        if type_name is None or main is None:
            return None
        return cls(
            main,
            _KINDS[classes[main][0]],
            type_name[1],
            {name: _properties(body) for name, body in _INTERFACE.findall(types)},
            dict(_FUNCTION.findall(code)),
            {name: body for name, (_, body) in classes.items()},
        )

    def arguments(self) -> str:
        """Return the code that lists the arguments of the resource itself."""
        return self.classes[self.name].partition("synthesizeHclAttributes")[2]

    def block(self, code: str, interface: str, class_name: str) -> dict[str, Any]:
        """Return the schema of one block: `{attributes: {name: …}, blocks: {name: …}}`."""
        told = self.interfaces.get(interface, {})
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for name, is_block, container, stored in _ARGUMENT.findall(code):
            required, repeated = told.get(name, (False, False))
            if is_block == "true":
                blocks[name] = self._nested(container, stored, required=required, many=repeated)
            else:
                attributes[name] = {
                    "type": self._argument_type(container, stored),
                    "required": required,
                    "optional": not required,
                    "computed": not required,
                    # A write-only argument is never stored; their names end so by convention.
                    "write_only": name.endswith("_wo"),
                }
                if attributes[name]["write_only"]:
                    attributes[name]["computed"] = False
        for name, type_ in self._members(class_name, 0).items():
            if name not in attributes and name not in blocks:
                attributes[name] = {"type": type_, "computed": True}
        return {"attributes": attributes, "blocks": blocks}

    def _nested(self, container: str, stored: str, *, required: bool, many: bool) -> dict[str, Any]:
        name = stored.removesuffix("List")
        code = self.functions.get(name[0].lower() + name[1:], "")
        is_single = container == "struct"
        return {
            "nesting": _NESTING[container],
            "min": 1 if required and not is_single else 0,
            "max": 0 if many or is_single else 1,
            "block": self.block(code, name, f"{name}OutputReference"),
        }

    def _argument_type(self, container: str, stored: str) -> Type:
        if stored[0].islower():
            return _stored_type(stored, is_set=container == "set")
        name = re.sub(r"(List|Map)$", "", stored)
        kind = container if container in ("list", "set", "map") else "list"
        return [kind, ["object", self._members(f"{name}OutputReference", 1)]]

    def _members(self, class_name: str, depth: int) -> dict[str, Type]:
        """Return what can be read of a class, by name."""
        body = self.classes.get(class_name, "")
        found: dict[str, Type] = {name: _getter_type(kind) for kind, name in _GETTER.findall(body)}
        for made, name, wraps_set in _MEMBER.findall(body):
            if name != "index":
                found[name] = self._member_type(made, depth, is_set=wraps_set == "true")
        return found

    def _member_type(self, made: str, depth: int, *, is_set: bool) -> Type:
        if made.startswith("cdktf."):
            name = made.removeprefix("cdktf.")
            return _stored_type(name[0].lower() + name[1:], is_set=False)
        if depth >= DEPTH_MAX:
            return "dynamic"
        reference = made if made.endswith("OutputReference") else f"{made[:-4]}OutputReference"
        return ["set" if is_set else "list", ["object", self._members(reference, depth + 1)]]


def _properties(body: str) -> dict[str, tuple[bool, bool]]:
    return {name: (mark != "?", "[]" in type_) for name, mark, type_ in _PROPERTY.findall(body)}


def _stored_type(name: str, *, is_set: bool) -> Type:
    """Return the type behind a name such as `stringList` or `stringMapList`."""
    if name in _SIMPLE:
        return _SIMPLE[name]
    for suffix, kind in (("List", "set" if is_set else "list"), ("Map", "map")):
        if name.endswith(suffix):
            return [kind, _stored_type(name.removesuffix(suffix), is_set=False)]
    raise ValueError(f"a type of the package that nobody knows: {name}")


def _getter_type(kind: str) -> Type:
    """Return what `getStringAttribute` and the like return; a bare list is one of texts."""
    if kind == "List":
        return ["list", "string"]
    return _stored_type(kind[0].lower() + kind[1:], is_set=False)
