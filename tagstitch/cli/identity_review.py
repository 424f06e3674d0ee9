"""`tagstitch identity review`: identifiers that are held because they met too many profiles."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tagstitch.cli.named_identifier import named_identifier
from tagstitch.cli.opened_backend import Opened, opened_backend
from tagstitch.cli.output import JsonOption, emit, run
from tagstitch.core.identity_graph import type_of
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.quarantine_review import QuarantineReview, Verdict

_TIMEOUT_S: Final = 30.0
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,31}:[A-Z2-7]{26}")

app = typer.Typer(
    help="Identifiers that are held because they met too many profiles; without a command: list.",
    invoke_without_command=True,
)

_TypeOrKey = Annotated[
    str, typer.Argument(metavar="TYPE|KEY", help="Such as client_id; or a key as `list` shows it.")
]
_Value = Annotated[str | None, typer.Argument(metavar="[VALUE]", help="Behind a type.")]


@app.callback()
def without_command(context: typer.Context, *, json: JsonOption = False) -> None:
    """List them where no command is named."""
    if context.invoked_subcommand is None:
        list_held(json=json)


@app.command("list")
def list_held(*, json: JsonOption = False) -> None:
    """List what is held: how many profiles it met, since when, and until when."""

    async def work() -> list[dict[str, Any]]:
        async with opened_backend() as opened:
            held = await _review(opened).held(deadline=Deadline.after(_TIMEOUT_S))
            return [each.to_json() for each in held]

    found = run(work(), as_json=json)
    emit(found, as_json=json, show=lambda out: _print(out, found))


@app.command()
def release(type_or_key: _TypeOrKey, value: _Value = None, *, json: JsonOption = False) -> None:
    """Let an identifier recognise again; it is not held again for the profiles that it met."""
    _decide("RELEASED", type_or_key, value, as_json=json)


@app.command()
def block(type_or_key: _TypeOrKey, value: _Value = None, *, json: JsonOption = False) -> None:
    """Let an identifier never recognise anybody again, held or not; `release` takes it back."""
    _decide("BLOCKED", type_or_key, value, as_json=json)


def _decide(verdict: Verdict, type_or_key: str, value: str | None, *, as_json: bool) -> None:
    if value is None and not _KEY.fullmatch(type_or_key):
        raise typer.BadParameter("name an identifier (TYPE VALUE), or its key")

    async def work() -> dict[str, Any]:
        async with opened_backend() as opened:
            key = type_or_key
            if value is not None:
                identifier = named_identifier(type_or_key, value, opened.settings.identity)
                key = opened.keyring.identifier_key(identifier)
            review, deadline = _review(opened), Deadline.after(_TIMEOUT_S)
            act = review.release if verdict == "RELEASED" else review.block
            record_id = await act(key, deadline=deadline)
        return {"type": type_of(key), "key": key, "verdict": verdict, "record_id": record_id}

    done = run(work(), as_json=as_json)
    emit(done, as_json=as_json, show=lambda out: _print_verdict(out, done))


def _review(opened: Opened) -> QuarantineReview:
    audit = AuditPublisher(opened.backend.publisher)
    return QuarantineReview(opened.backend, opened.keyring, audit)


def _print(out: Console, found: list[dict[str, Any]]) -> None:
    if not found:
        out.print("nothing is held")
        return
    for each in found:  # lines: a table would cut the keys that `release` and `block` take
        since, until = each["held_at"], each["expires_at"]
        out.print(f"{each['key']}  {each['profiles']} profiles  {since} - {until}", markup=False)


def _print_verdict(out: Console, done: dict[str, Any]) -> None:
    out.print(f"{done['key']} {done['verdict'].lower()}, {done['record_id']}", markup=False)
