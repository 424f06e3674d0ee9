"""`tagstitch rules`: rule files against the checks, and to and from the rule store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tagstitch.cli.explain import explain
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.output import (
    JsonOption,
    emit,
    err,
    json_text,
    printable,
    run,
    table_of,
)
from tagstitch.cli.rule_checks import (
    CatalogueOption,
    ProfilesOption,
    SamplesOption,
    ViewsOption,
    broken_problems,
    checked_push,
    compile_and_check,
    context_of,
    files_failed,
    found_problems,
    learn_fields,
    load_view_documents,
    problem_lines,
    read_views,
    rules_of_files,
    show_fields,
    show_problems,
)
from tagstitch.cli.rule_files import RuleFilesError, write_rule_files
from tagstitch.core.broken_rule import BrokenRule
from tagstitch.core.errors import Conflict
from tagstitch.core.profile_traits import compile_traits
from tagstitch.core.rule_book import compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.view import declared_protected
from tagstitch.pipeline.backend import Backend, DocumentStore
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.rule_publication import (
    Publication,
    RulePointer,
    load_bundle,
    load_definitions,
    load_pointer,
    publish_rules,
    publish_stored_rules,
)

_TIMEOUT_S = 120.0
"""Seconds for reading the store and for writing to it: 100,000 rules are 200 commits."""

_ATTEMPTS_MAX = 3
"""Tries against somebody who publishes at the same time."""

app = typer.Typer(help="Rule files, the rule store and what is published.", no_args_is_help=True)
app.command()(explain)

PathArgument = Annotated[
    Path, typer.Argument(exists=True, help="A YAML or JSON file, or a folder of them.")
]
AllowEmptyOption = Annotated[
    bool, typer.Option("--allow-empty", help="Let no rules at all be published.")
]


@app.command()
def validate(
    path: PathArgument,
    *,
    samples: SamplesOption = None,
    profiles: ProfilesOption = None,
    catalogue: CatalogueOption = None,
    views: ViewsOption = None,
    json: JsonOption = False,
) -> None:
    """Check rule files against the schema and the static checks; warnings do not fail."""

    async def work() -> dict[str, Any]:
        declared = read_views(views)
        definitions = rules_of_files(path, protected=declared_protected(declared))
        learnt = learn_fields(samples or (), profiles or (), catalogue)
        book, report = compile_and_check(definitions, context_of(declared, definitions, learnt))
        broken = (*book.broken, *compile_traits(definitions.traits).broken)
        return {
            "ok": not (broken or report.has_errors),
            "version": book.version,
            "counts": _counts(definitions),
            "problems": broken_problems(broken) + found_problems(report),
            "notes": list(report.notes),
        }

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: _show_validated(out, answer))
    if not answer["ok"]:
        raise typer.Exit(1)


@app.command()
def fields(
    events: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="JSON Lines of events or export rows."),
    ],
    *,
    profiles: ProfilesOption = None,
    output: Annotated[Path | None, typer.Option(help="Where to write it, for --catalogue.")] = None,
    json: JsonOption = False,
) -> None:
    """Learn which fields events and profiles have: names, types and shares, never values."""

    async def work() -> dict[str, Any]:
        learnt = learn_fields(events, profiles or ())
        document = learnt.to_json() if learnt is not None else {}
        if output is not None:
            output.write_text(json_text(document) + "\n", encoding="utf-8")
        return document

    answer = run(work(), as_json=json)
    emit(answer, as_json=json, show=lambda out: show_fields(out, answer))


@app.command()
def push(
    path: PathArgument,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make the store equal the files.")
    ] = False,
    allow_empty: AllowEmptyOption = False,
    json: JsonOption = False,
) -> None:
    """Write rule files to the store and publish them; an invalid set is refused whole."""
    warnings: list[dict[str, Any]] = []

    async def work() -> Publication:
        definitions = rules_of_files(path, may_be_empty=allow_empty and replace)
        async with opened_backend() as opened:
            views = await load_view_documents(opened.backend.documents, Deadline.after(_TIMEOUT_S))

            def check(wanted: RuleDefinitions) -> None:
                warnings[:] = checked_push(wanted, definitions, context_of(views, wanted))

            return await push_rules(opened.backend, definitions, replace=replace, check=check)

    publication = run(work(), as_json=json)
    show_problems(err(), warnings, ())
    answer = {**_published(publication), "warnings": warnings}
    emit(answer, as_json=json, show=lambda out: _show_published(out, publication))


@app.command()
def pull(
    path: Annotated[Path, typer.Argument(help="A folder to write to, or a .yaml or .json file.")],
    *,
    json: JsonOption = False,
) -> None:
    """Write the store's rules to files."""

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            documents = opened.backend.documents
            definitions = await load_definitions(documents, Deadline.after(_TIMEOUT_S))
        try:
            left = write_rule_files(path, definitions)
        except RuleFilesError as error:
            raise files_failed(error) from error
        return {
            "path": str(path),
            "counts": _counts(definitions),
            "not_in_store": [str(file) for file in left],
        }

    answer = run(work(), as_json=json)
    for file in answer["not_in_store"]:
        err().print(f"{file} is not in the store; left as it is", markup=False)
    emit(
        answer,
        as_json=json,
        show=lambda out: out.print(f"{_counted(answer['counts'])} written to {path}", markup=False),
    )


@app.command()
def publish(*, allow_empty: AllowEmptyOption = False, json: JsonOption = False) -> None:
    """Compile and publish what was edited in the store; broken rules keep their last version."""

    async def work() -> Publication:
        deadline = Deadline.after(_TIMEOUT_S)
        async with opened_backend() as opened:
            return await publish_stored_rules(
                opened.backend.documents, opened.backend.clock(), deadline, allow_empty=allow_empty
            )

    publication = run(work(), as_json=json)
    emit(_published(publication), as_json=json, show=lambda out: _show_published(out, publication))
    if publication.broken or publication.traits.broken:
        raise typer.Exit(1)


@app.command()
def status(*, json: JsonOption = False) -> None:
    """Show the published version and the broken rules of the store."""
    answer = run(_status(), as_json=json)
    emit(answer, as_json=json, show=lambda out: _show_status(out, answer))


async def push_rules(
    backend: Backend,
    definitions: RuleDefinitions,
    *,
    replace: bool = False,
    check: Callable[[RuleDefinitions], None] = lambda _: None,
) -> Publication:
    """Write and publish rules, beside the stored ones or in their place.

    `check` gets the whole set that would be published, and raises to refuse it.
    """
    for attempt in range(1, _ATTEMPTS_MAX + 1):
        try:
            wanted, removed = await _wanted(backend, definitions, replace=replace)
            check(wanted)
            deadline = Deadline.after(_TIMEOUT_S)  # the checks of many rules take their time
            return await publish_rules(
                backend.documents, wanted, backend.clock(), deadline, removed=removed
            )
        except Conflict:
            if attempt == _ATTEMPTS_MAX:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _wanted(
    backend: Backend, definitions: RuleDefinitions, *, replace: bool
) -> tuple[RuleDefinitions, list[str]]:
    """Return the set to publish, and the paths of the documents that go."""
    stored = await load_definitions(backend.documents, Deadline.after(_TIMEOUT_S))
    if replace:
        removed = [
            f"{collection}/{rule_id}"
            for collection, old in stored.edited.items()
            for rule_id in old.keys() - definitions.edited[collection].keys()
        ]
        return replace_fields(definitions, protected=stored.protected), removed
    merged = {name: {**old, **definitions.edited[name]} for name, old in stored.edited.items()}
    return RuleDefinitions.of(merged, stored.protected), []


async def _status() -> dict[str, Any]:
    deadline = Deadline.after(_TIMEOUT_S)
    async with opened_backend() as opened:
        documents = opened.backend.documents
        pointer = await load_pointer(documents, deadline)
        stored = await load_definitions(documents, deadline)
        is_current = await _is_current(documents, pointer, stored, deadline)
    book = compile_rule_book(stored)
    broken = (*book.broken, *compile_traits(stored.traits).broken)
    return {
        "published": None
        if pointer is None
        else {
            "version": pointer.version,
            "published_at": pointer.published_at,
            "counts": pointer.counts,
        },
        "stored": {"version": book.version, "counts": _counts(stored)},
        "is_current": is_current,
        "broken": _broken(broken),
    }


async def _is_current(
    documents: DocumentStore,
    pointer: RulePointer | None,
    stored: RuleDefinitions,
    deadline: Deadline,
) -> bool:
    """Return whether the store holds exactly what is published."""
    if pointer is None:
        return False
    published = await load_bundle(documents, pointer, deadline)
    return compile_rule_book(published).version == compile_rule_book(stored).version


def _counts(definitions: RuleDefinitions) -> dict[str, int]:
    return {c: len(rules) for c, rules in definitions.edited.items()}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())


def _broken(broken: Sequence[BrokenRule]) -> list[dict[str, Any]]:
    return [
        {
            "rule_id": rule.rule_id,
            "kind": rule.kind,
            "path": problem.path,
            "message": problem.message,
            "hint": problem.hint,
        }
        for rule in broken
        for problem in rule.problems
    ]


def _published(publication: Publication) -> dict[str, Any]:
    pointer, traits = publication.pointer, publication.traits
    return {
        "version": pointer.version,
        "published_at": pointer.published_at,
        "is_new": publication.is_new,
        "counts": pointer.counts,
        "traits": {"computed": len(traits.by_name), "broken": len(traits.broken)},
        "broken": _broken((*publication.broken, *traits.broken)),
        "kept_last_version_of": list(publication.kept),
    }


def _show_validated(out: Console, answer: Mapping[str, Any]) -> None:
    show_problems(out, answer["problems"], answer["notes"])
    found = f"{len(answer['problems'])} problems" if answer["problems"] else "no problems"
    out.print(f"{_counted(answer['counts'])}: {found}. {answer['version']}")


def _show_published(out: Console, publication: Publication) -> None:
    pointer = publication.pointer
    done = "published" if publication.is_new else "already published"
    out.print(f"{_counted(pointer.counts)} {done}: {pointer.version}")
    traits = publication.traits
    if traits.by_name or traits.broken:
        out.print(f"{len(traits.by_name)} traits in the store, {len(traits.broken)} broken besides")
    broken = _broken((*publication.broken, *traits.broken))
    if broken:
        err().print(printable(problem_lines(broken)), style="red", markup=False)


def _show_status(out: Console, answer: Mapping[str, Any]) -> None:
    published = answer["published"]
    if published is None:
        out.print("nothing is published yet")
    else:
        out.print(f"published {published['version']} at {published['published_at']:%F %T} UTC")
        out.print(_counted(published["counts"]))
    if not answer["is_current"] and (published or any(answer["stored"]["counts"].values())):
        out.print("the store holds what is not published: tagstitch rules publish")
    if answer["stored"]["counts"]["traits"]:
        out.print(f"{answer['stored']['counts']['traits']} traits in the store")
    if answer["broken"]:
        out.print(table_of(answer["broken"], ["rule_id", "path", "message", "hint"]))
