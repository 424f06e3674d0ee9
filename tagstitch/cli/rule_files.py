"""Rule files: YAML or JSON, one rule or many, to and from a repository's folder."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from tagstitch.core.limits import RULE_FILE_ALIASED_NODES_MAX, RULE_FILE_BYTES_MAX
from tagstitch.core.rule_definitions import EDITED, RuleDefinitions

_OPEN: Final = 0
"""Stands for the size of a node that is still being counted."""

_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_SUFFIXES: Final = (".yaml", ".yml", ".json")

_RULE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""Also the name of a document and of a file."""

_TELLING_FIELDS: Final[Mapping[str, str]] = {
    "variants": "experiments",
    "operation": "traits",
    "target_event_name": "event_rules",
    "event_name_trigger": "personalization_rules",
}
"""Field -> collection, where neither a top key nor the place of the file tells; the first wins."""

_ID_FIELDS: Final[Mapping[str, str]] = {
    "experiments": "experiment_id",
    "audiences": "audience_id",
    "traits": "trait_id",
}
"""Collection -> the field that names a definition; `rule_id` in the others."""


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Why a file, or a rule in it, cannot be read."""

    file: str
    rule_id: str | None
    message: str


class RuleFilesError(Exception):
    """Rule files that cannot be read; `problems` lists them all."""

    def __init__(self, problems: list[FileProblem]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the rule files")
        self.problems = problems


def read_rule_files(path: Path) -> RuleDefinitions:
    """Return the rules of a file, or of every YAML and JSON file below a folder.

    Raises RuleFilesError with every problem that was found, not only the first.
    """
    rules: dict[str, dict[str, Mapping[str, Any]]] = {collection: {} for collection in EDITED}
    problems: list[FileProblem] = []
    files = sorted(_files(path))
    if not files:
        problems.append(FileProblem(str(path), None, "no YAML or JSON file here"))
    for file in files:
        for found in _read_file(file):
            if isinstance(found, FileProblem):
                problems.append(found)
            elif found.rule_id in rules[found.collection]:
                problems.append(FileProblem(str(file), found.rule_id, "this id is defined twice"))
            else:
                rules[found.collection][found.rule_id] = found.rule
    if problems:
        raise RuleFilesError(problems)
    return RuleDefinitions.of(rules)


def write_rule_files(path: Path, definitions: RuleDefinitions) -> list[Path]:
    """Write one file (when `path` names one) or one per rule in a folder per kind.

    Returns the rule files of the folder that hold no rule of `definitions`: they are left alone.
    """
    content = definitions.edited
    if path.suffix in _SUFFIXES:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_dump(content, path.suffix), encoding="utf-8")
        return []
    written = set()
    for collection, rules in content.items():
        folder = path / collection
        folder.mkdir(parents=True, exist_ok=True)
        for rule_id, rule in rules.items():
            if not _RULE_ID.fullmatch(rule_id):  # somebody wrote that document by hand
                raise RuleFilesError([FileProblem(collection, rule_id, "no usable file name")])
            file = folder / f"{rule_id}.yaml"
            file.write_text(_dump(rule, ".yaml"), encoding="utf-8")
            written.add(file)
    return sorted(file for name in EDITED for file in _files(path / name) if file not in written)


def read_document(file: Path) -> Any:
    """Return the content of one YAML or JSON file; raises RuleFilesError."""
    try:
        return _load(file)
    except (OSError, ValueError, yaml.YAMLError, msgspec.DecodeError, RecursionError) as error:
        raise RuleFilesError(
            [FileProblem(str(file), None, f"cannot be read: {_reason(error)}")]
        ) from error


@dataclass(frozen=True, slots=True)
class _Found:
    collection: str
    rule_id: str
    rule: Mapping[str, Any]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for file in path.rglob("*"):
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.suffix in _SUFFIXES and file.is_file() and not hidden:
                yield file


def _read_file(file: Path) -> Iterator[_Found | FileProblem]:
    try:
        if file.stat().st_size > RULE_FILE_BYTES_MAX:
            yield FileProblem(str(file), None, f"larger than {RULE_FILE_BYTES_MAX} bytes")
            return
        content = _load(file)
    except (OSError, ValueError, yaml.YAMLError, msgspec.DecodeError, RecursionError) as error:
        yield FileProblem(str(file), None, f"cannot be read: {_reason(error)}")
        return
    for rule_id, rule, collection in _rules_of(content, file):
        yield _checked(file, rule_id, rule, collection)


def _rules_of(content: Any, file: Path) -> Iterator[tuple[str | None, Any, str | None]]:
    """Yield (id, rule, kind); what the content does not tell is None."""
    if isinstance(content, Mapping) and content.keys() & set(EDITED):
        for collection, rules in content.items():
            if collection not in EDITED:
                yield collection, None, None
            elif isinstance(rules, Mapping):
                for rule_id, rule in rules.items():
                    yield str(rule_id), rule, collection
            elif isinstance(rules, list):
                yield from ((None, rule, collection) for rule in rules)
            elif rules is not None:
                yield None, rules, collection
    elif isinstance(content, list):
        yield from ((None, rule, _kind_of_place(file)) for rule in content)
    else:
        yield file.stem, content, _kind_of_place(file)


def _kind_of_place(file: Path) -> str | None:
    return next((name for name in (file.parent.name, file.stem) if name in EDITED), None)


def _checked(
    file: Path, rule_id: str | None, rule: Any, collection: str | None
) -> _Found | FileProblem:
    if not isinstance(rule, Mapping) or not all(isinstance(key, str) for key in rule):
        return FileProblem(str(file), rule_id, "a definition must be a mapping")
    collection = collection or next((c for f, c in _TELLING_FIELDS.items() if f in rule), None)
    id_field = _ID_FIELDS.get(collection or "", "rule_id")
    rule_id = rule.get(id_field) or rule_id
    if not isinstance(rule_id, str) or not _RULE_ID.fullmatch(rule_id):
        return FileProblem(
            str(file), None, f"{id_field} must be letters, digits, dots, underscores or hyphens"
        )
    if collection is None:
        return FileProblem(
            str(file), rule_id,
            "is it an event rule (target_event_name), a personalization rule, an experiment"
            " (variants) or a trait (operation); an audience stands in a folder or under a key of"
            " the name audiences",
        )  # fmt: skip
    return _Found(collection, rule_id, {k: v for k, v in rule.items() if k != id_field})


def _load(file: Path) -> Any:
    if file.suffix == ".json":
        return msgspec.json.decode(file.read_bytes())
    text = file.read_text(encoding="utf-8")
    loader = _StrictLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_aliases(root)
        return _plain(loader.construct_document(root))
    finally:
        loader.dispose()


def _check_aliases(root: yaml.Node) -> None:
    """Raise YAMLError when a few lines of aliases stand for a document beyond all bounds."""
    sizes: dict[int, int] = {}
    expanded = _expanded_nodes(root, sizes)
    if expanded - len(sizes) > RULE_FILE_ALIASED_NODES_MAX:
        raise yaml.YAMLError(f"aliases repeat more than {RULE_FILE_ALIASED_NODES_MAX} values")


def _expanded_nodes(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many nodes it is with every alias written out; `sizes` remembers, by identity."""
    known = sizes.get(id(node))
    if known == _OPEN:
        raise yaml.YAMLError("a value that contains itself")
    if known is None:
        sizes[id(node)] = _OPEN
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        flat = (part for entry in parts for part in (entry if type(entry) is tuple else (entry,)))
        sizes[id(node)] = known = 1 + sum(_expanded_nodes(part, sizes) for part in flat)
    return known


def _dump(content: Any, suffix: str) -> str:
    plain = _plain(content)
    if suffix == ".json":
        return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _plain(value: Any) -> Any:
    """Return the value with times as ISO 8601 text: that is what conditions compare with."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.isoformat() if isinstance(value, date) else value


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return str(error) or type(error).__name__


class _StrictLoader(yaml.SafeLoader):
    """YAML without three of its surprises.

    A key written twice, `NO` (Norway) read as false, and half a character, which no store holds.
    """

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and not value.isascii() and _LONE_SURROGATE.search(value):
            raise yaml.constructor.ConstructorError(
                None, None, "half a character: write it in full", node.start_mark
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the library's signature
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(set(map(repr, keys))) != len(keys):
            raise yaml.constructor.ConstructorError(
                None, None, "a key stands twice in one mapping", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")
)


class _Dumper(yaml.SafeDumper):
    """Writes no anchors: a rule that repeats a list stays readable."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's signature
        return True
