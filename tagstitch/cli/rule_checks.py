"""The static checks at the command line: what they are told, and how their findings are shown."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tagstitch.adapters.ga4_export import convert_row, is_export_row, row_from_text
from tagstitch.cli.json_lines import BadLine, read_lines
from tagstitch.cli.output import CommandFailed, err, printable, progress_bar, table_of
from tagstitch.cli.rule_files import RuleFilesError, read_document, read_rule_files
from tagstitch.core.broken_rule import COLLECTION_OF, BrokenRule
from tagstitch.core.errors import InvalidInput
from tagstitch.core.event import parse_event
from tagstitch.core.field_catalogue import FieldCatalogue, parse_catalogue
from tagstitch.core.finding import CheckReport
from tagstitch.core.profile_traits import compile_traits
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_checks import CheckContext, check_rules
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.view import declared_attributes, declared_purposes
from tagstitch.pipeline.backend import DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.list_all import list_all

SamplesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--samples", exists=True, dir_okay=False,
        help="JSON Lines of events or GA4 export rows, .gz too: which fields are there?",
    ),
]  # fmt: skip
ProfilesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--profiles", exists=True, dir_okay=False,
        help="JSON Lines of profiles, as `tagstitch profiles export` writes them.",
    ),
]  # fmt: skip
CatalogueOption = Annotated[
    Path | None,
    typer.Option(
        "--catalogue", exists=True, dir_okay=False, help="What `tagstitch rules fields` wrote."
    ),
]
ViewsOption = Annotated[
    Path | None,
    typer.Option(
        "--views", exists=True, dir_okay=False,
        help="YAML or JSON of the documents views/{name}: attributes and their purposes.",
    ),
]  # fmt: skip


def learn_fields(
    events: Sequence[Path], profiles: Sequence[Path], catalogue: Path | None = None
) -> FieldCatalogue | None:
    """Return the catalogue of the samples, added to a saved one; None when nothing is given."""
    if not (events or profiles or catalogue):
        return None
    learnt = parse_catalogue(_document(catalogue)) if catalogue else FieldCatalogue()
    for file in events:
        _report_unread(file, sum(not _learn_event(learnt, raw) for _, raw in read_lines(file)))
    for file in profiles:
        _report_unread(file, sum(not _learn_profile(learnt, raw) for _, raw in read_lines(file)))
    return learnt


def context_of(
    views: Mapping[str, Mapping[str, Any]],
    definitions: RuleDefinitions,
    catalogue: FieldCatalogue | None = None,
) -> CheckContext:
    """Return what the checks are told besides the rules; `views` are the documents views/{name}."""
    return CheckContext(
        attribute_purposes=declared_purposes(views),
        attributes=declared_attributes(views),
        traits=frozenset(definitions.traits),
        catalogue=catalogue,
    )


def read_views(file: Path | None) -> dict[str, Mapping[str, Any]]:
    """Return the documents of a file, name -> document."""
    content = _document(file) if file else {}
    if not isinstance(content, Mapping) or not all(
        isinstance(view, Mapping) for view in content.values()
    ):
        raise CommandFailed(f"{file} must be an object of views, each an object")
    return {str(name): view for name, view in content.items()}


def rules_of_files(
    path: Path, *, protected: tuple[str, ...] = (), may_be_empty: bool = False
) -> RuleDefinitions:
    """Return the definitions of rule files; the command fails when there are none to read."""
    try:
        definitions = replace(read_rule_files(path), protected=protected)
    except RuleFilesError as error:
        raise files_failed(error) from error
    if not any(definitions.edited.values()) and not may_be_empty:
        raise CommandFailed("no rules there; emptying the store needs --replace --allow-empty")
    return definitions


def files_failed(error: RuleFilesError) -> CommandFailed:
    """Return the failure of a command that cannot read its rule files."""
    problems: list[Mapping[str, Any]] = [
        {"file": p.file, "rule_id": p.rule_id, "message": p.message} for p in error.problems
    ]
    return CommandFailed(problem_lines(problems), {"ok": False, "problems": problems})


def broken_problems(broken: Sequence[BrokenRule]) -> list[dict[str, Any]]:
    """Return what the parsers found, in the form of findings."""
    return [
        {
            "severity": "error",
            "code": "invalid",
            "rule_id": rule.rule_id,
            "kind": rule.kind,
            "path": problem.path,
            "message": problem.message,
            "hint": problem.hint,
            "related": [],
        }
        for rule in broken
        for problem in rule.problems
    ]


def found_problems(report: CheckReport) -> list[dict[str, Any]]:
    """Return the findings of a report as commands print them."""
    return [finding.to_json() for finding in report.findings]


def compile_and_check(
    definitions: RuleDefinitions, context: CheckContext
) -> tuple[RuleBook, CheckReport]:
    """Return the rule book and the report of the static checks, with a progress bar on stderr."""
    total = len(definitions.event_rules) + len(definitions.personalization_rules)
    with _without_collections(), progress_bar("checking", total) as advance:
        book = compile_rule_book(definitions)
        return book, check_rules(definitions, context, book=book, advance=advance)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector: what is made here stays, and it took two fifths of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def checked_push(
    wanted: RuleDefinitions, pushed: RuleDefinitions, context: CheckContext
) -> list[dict[str, Any]]:
    """Return the warnings about what is pushed, among all; raises CommandFailed for errors."""
    ids = {kind: pushed.edited[name] for kind, name in COLLECTION_OF.items()}
    book, report = compile_and_check(wanted, context)
    findings = tuple(finding for finding in report.findings if finding.rule_id in ids[finding.kind])
    broken = [rule for rule in book.broken if rule.rule_id in ids[rule.kind]]
    broken += _broken_traits(wanted, pushed)
    problems = broken_problems(broken) + found_problems(replace(report, findings=findings))
    errors = [problem for problem in problems if problem["severity"] == "error"]
    if errors:
        raise CommandFailed(problem_lines(errors), {"ok": False, "problems": problems})
    return problems


def _broken_traits(wanted: RuleDefinitions, pushed: RuleDefinitions) -> list[BrokenRule]:
    """Return the traits that a push must not leave broken.

    What is broken in the store already is somebody else's; what has no room any more is not.
    """
    if not pushed.traits:
        return []
    before = {n: raw for n, raw in wanted.traits.items() if n not in pushed.traits}
    known = {trait.rule_id for trait in compile_traits(before).broken}
    broken = compile_traits(wanted.traits).broken
    return [
        trait for trait in broken if trait.rule_id in pushed.traits or trait.rule_id not in known
    ]


async def load_view_documents(
    documents: DocumentStore, deadline: Deadline
) -> dict[str, Mapping[str, Any]]:
    """Return the documents views/{name} of the store."""
    found = await list_all(documents, "views", deadline=deadline)
    return {document.path.partition("/")[2]: document.fields for document in found}


def problem_lines(problems: Sequence[Mapping[str, Any]]) -> str:
    """Return one line for each problem."""
    return "\n".join(
        " ".join(
            str(part)
            for part in (
                problem.get("file") or "",
                f"{problem['rule_id']}:" if problem.get("rule_id") else "",
                problem.get("path") or "",
                problem["message"],
                f"({problem['hint']})" if problem.get("hint") else "",
            )
            if part
        )
        for problem in problems
    )


def show_problems(
    out: Console, problems: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> None:
    """Print problems by severity, each with its rule, place and code on a line of its own."""
    for severity in ("error", "warning"):
        found = [problem for problem in problems if problem["severity"] == severity]
        if found:
            out.print(f"{len(found)} {severity}{'s' if len(found) > 1 else ''}", style="bold")
        for problem in found:
            place = [problem["rule_id"], problem["path"], problem["code"]]
            others = ", ".join(problem["related"])
            out.print(printable("  " + "  ".join(filter(None, place))), markup=False)
            said = [problem["message"], problem["hint"], others and f"other rules: {others}"]
            out.print(printable("    " + "; ".join(filter(None, said))), markup=False)
    for note in notes:
        out.print(note, markup=False)


def show_fields(out: Console, catalogue: Mapping[str, Any]) -> None:
    """Print the document of a field catalogue as a table."""
    kinds = {**catalogue["events"], "profiles": catalogue["profiles"]}
    rows = [
        {"samples": name, "field": field, "share": f"{seen['share']:.0%}", "types": ", ".join(seen["types"])}
        for name, fields in kinds.items()
        for field, seen in fields["fields"].items()
    ]  # fmt: skip
    out.print(table_of(rows, ["samples", "field", "share", "types"]))


def _learn_event(catalogue: FieldCatalogue, raw: Mapping[str, Any] | BadLine) -> bool:
    """Learn from one line; False when it is no event."""
    row = row_from_text(raw.text) if isinstance(raw, BadLine) else raw
    if row is None:
        return False
    try:
        event = parse_event(convert_row(row) if is_export_row(row) else dict(row))
    except InvalidInput:
        return False
    catalogue.add_event(event.name, event.parameters)
    return True


def _learn_profile(catalogue: FieldCatalogue, raw: Mapping[str, Any] | BadLine) -> bool:
    attributes = None if isinstance(raw, BadLine) else raw.get("attributes", {})
    if not isinstance(attributes, Mapping):
        return False
    catalogue.add_profile(attributes)
    return True


def _report_unread(file: Path, lines: int) -> None:
    if lines:
        err().print(f"{file}: {lines} line(s) left out, which are no sample", markup=False)


def _document(file: Path) -> Any:
    try:
        return read_document(file)
    except RuleFilesError as error:
        raise CommandFailed(f"{file} {error.problems[0].message}") from error
