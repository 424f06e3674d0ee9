"""Write the generated schemas: `python -m schemas.generate`.

They say what the parsers accept, as far as JSON Schema can; `tests/test_schemas.py` compares the
files with what this gives, and the schemas' judgement with the parsers'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from schemas.audit_record_schema import audit_record_schema
from schemas.experiment_schema import experiment_schema
from schemas.identity_schema import identity_schema
from schemas.profile_import_schema import profile_import_schema
from schemas.rule_schema import rule_schema
from schemas.stitch_request_schema import stitch_request_schema
from schemas.trait_schema import trait_schema

DIRECTORY: Final = Path(__file__).parent

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


def main() -> None:
    """Write every file."""
    for name, schema in generate().items():
        (DIRECTORY / name).write_text(render(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
