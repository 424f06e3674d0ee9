"""Write the generated schemas and openapi.yaml: `python -m schemas.generate`.

They say what the parsers accept, as far as JSON Schema can; `tests/test_schemas.py` compares the
files with what this gives, and the schemas' judgement with the parsers'. With `--check` nothing is
written: the exit code tells whether a file differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from schemas.audit_record_schema import audit_record_schema
from schemas.experiment_schema import experiment_schema
from schemas.identity_schema import identity_schema
from schemas.openapi import openapi_document
from schemas.profile_import_schema import profile_import_schema
from schemas.rule_schema import rule_schema
from schemas.stitch_request_schema import stitch_request_schema
from schemas.trait_schema import trait_schema

DIRECTORY: Final = Path(__file__).parent
OPENAPI: Final = DIRECTORY.parent / "openapi.yaml"

_COLUMNS: Final = 100


def generate() -> dict[str, dict[str, Any]]:
    """Return file name -> schema."""
    return {
        "stitch_request.schema.json": stitch_request_schema(),
        "audit_record.schema.json": audit_record_schema(),
        "profile_import.schema.json": profile_import_schema(),
        "rule.schema.json": rule_schema(),
        "experiment.schema.json": experiment_schema(),
        "trait.schema.json": trait_schema(),
        "identity.schema.json": identity_schema(),
    }


def render(schema: dict[str, Any]) -> str:
    """Return the text of a schema file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return _lay_out(head | schema, indent=0, before=0) + "\n"


def _lay_out(value: Any, *, indent: int, before: int) -> str:
    """Return JSON in which whatever fits behind `before` columns stands on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if before + len(line) < _COLUMNS or not isinstance(value, dict | list) or not value:
        return line
    inside = indent + 1
    if isinstance(value, dict):
        names = [f"{json.dumps(name)}: " for name in value]
        entries = [
            name + _lay_out(entry, indent=inside, before=inside + len(name))
            for name, entry in zip(names, value.values(), strict=True)
        ]
    else:
        entries = [_lay_out(entry, indent=inside, before=inside) for entry in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    body = (",\n" + " " * inside).join(entries)
    return f"{opening}\n{' ' * inside}{body}\n{' ' * indent}{closing}"


def render_openapi() -> str:
    """Return the text of openapi.yaml."""
    # JSON in between: what several places share is written out at each of them.
    document = json.loads(json.dumps(openapi_document()))
    written = yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=_COLUMNS,
        default_flow_style=None,
    )
    return f"# Written by `make schemas` from schemas/openapi.py.\n{written}"


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as it stands."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def files() -> dict[Path, str]:
    """Return every file that is generated, with its text."""
    schemas = {DIRECTORY / name: render(schema) for name, schema in generate().items()}
    return {**schemas, OPENAPI: render_openapi()}


def main(arguments: Sequence[str]) -> int:
    """Write every file, or compare it."""
    if arguments not in ([], ["--check"]):
        sys.exit("usage: python -m schemas.generate [--check]")
    differing = [
        path
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if not arguments:
        for path in differing:
            path.write_text(files()[path], encoding="utf-8")
        return 0
    for path in differing:
        sys.stderr.write(f"{path.name} is not what the generator writes: run `make schemas`\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
