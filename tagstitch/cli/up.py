"""`tagstitch up`: the local stack in the foreground."""

from __future__ import annotations

import json as json_text
import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from tagstitch.adapters.settings import environment_with, read_settings
from tagstitch.cli.opened_backend import opened_backend
from tagstitch.cli.output import CommandFailed, JsonOption, err, fail, out, run, write_json
from tagstitch.cli.samples import LoadedSamples, load_samples

if TYPE_CHECKING:
    from tagstitch.local_stack.server import StackOptions
    from tagstitch.local_stack.simulated_container import SimulatedContainer

_REFRESH_S: Final = "0.5"
"""Seconds between looks at rules and views, so that an edit is seen within one."""

_CLIENT_ID: Final = "5551234567.1763700000"

_CURLS: Final[Mapping[str, tuple[str, Mapping[str, Any] | None]]] = {
    "stitch_sync": ("/stitch_sync?user_id=u-1001", None),
    "stitch_async": (
        "/stitch_sync",
        {
            "mode": "async",
            "identifiers": {"client_id": _CLIENT_ID, "user_id": "u-1001"},
            "callback": "main",
        },
    ),
    "decide": (
        "/decide",
        {"event": {"event_name": "purchase", "client_id": _CLIENT_ID, "value": 7.5}},
    ),
    "audit_sink": ("/_local/audit?limit=5", None),
}
"""What shows each function at work; stitch_async and audit_sink are reached through a topic."""


class BackendChoice(StrEnum):
    """Where the stack keeps its data."""

    local = "local"
    emulators = "emulators"


def up(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    data_dir: Annotated[Path, typer.Option(file_okay=False, envvar="TAGSTITCH_DATA_DIR")] = Path(
        ".tagstitch"
    ),
    backend: Annotated[
        BackendChoice, typer.Option(help="`emulators`: Google's, which need gcloud and Java.")
    ] = BackendChoice.local,
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="Leave an empty store empty.")
    ] = False,
    container_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the simulated container; 0 takes a free one.")
    ] = 8090,
    no_container: Annotated[
        bool, typer.Option("--no-container", help="Run no simulated container beside it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run the four functions, their queue and, where there is Node, a simulated sGTM container.

    Until Ctrl-C. Sample rules and profiles are loaded into an empty store only.
    """
    from tagstitch.local_stack.simulated_container import SimulatedContainer

    container = None if no_container else SimulatedContainer(container_port)
    try:
        if backend is BackendChoice.local:
            _up_local(port, data_dir, container, samples=not no_samples, as_json=json)
        else:
            _up_emulators(port, data_dir, container, samples=not no_samples, as_json=json)
    except CommandFailed as error:
        fail(error, as_json=json)


def _up_local(
    port: int,
    data_dir: Path,
    container: SimulatedContainer | None,
    *,
    samples: bool,
    as_json: bool,
) -> None:
    from tagstitch.local_stack.server import StackOptions

    values = {"TAGSTITCH_BACKEND": "local", "TAGSTITCH_DATA_DIR": str(data_dir)}
    loaded = _load_samples(values, as_json=as_json) if samples else None
    options = StackOptions(
        data_dir=data_dir, port=port, settings=_with_refresh(values), container=container
    )
    _serve(options, loaded, as_json=as_json)


def _up_emulators(
    port: int,
    data_dir: Path,
    container: SimulatedContainer | None,
    *,
    samples: bool,
    as_json: bool,
) -> None:
    from tagstitch.local_stack.emulator_stack import emulator_stack
    from tagstitch.local_stack.emulators import EmulatorError

    err().print("starting the emulators (a minute the first time)")
    try:
        with emulator_stack(port=port, data_dir=data_dir) as options:
            loaded = _load_samples(options.settings, as_json=as_json) if samples else None
            refreshed = replace(
                options, settings=_with_refresh(options.settings), container=container
            )
            _serve(refreshed, loaded, as_json=as_json)
    except EmulatorError as error:
        raise CommandFailed(str(error)) from error


def _with_refresh(values: Mapping[str, str]) -> dict[str, str]:
    name = "TAGSTITCH_RULES_REFRESH_S"
    return {name: environment_with().get(name) or _REFRESH_S, **values}


def _load_samples(values: Mapping[str, str], *, as_json: bool) -> LoadedSamples | None:
    async def work() -> LoadedSamples | None:
        async with opened_backend(read_settings(environment_with(overrides=values))) as opened:
            return await load_samples(opened)

    loaded = run(work(), as_json=as_json)
    if loaded is not None:
        err().print(f"loaded {loaded.rules} sample rules and {loaded.profiles} sample profiles")
    return loaded


def _serve(options: StackOptions, loaded: LoadedSamples | None, *, as_json: bool) -> None:
    from tagstitch.local_stack.server import LocalStackError, run_local_stack

    answers = sys.stdout

    def announce(url: str) -> None:
        with redirect_stdout(answers):
            if as_json:
                write_json(_document(url, options, loaded))
            else:
                _show(out(), url, options)

    try:
        with redirect_stdout(sys.stderr):  # the functions' log goes to stdout, as in the cloud
            run_local_stack(options, announce)
    except LocalStackError as error:
        raise CommandFailed(str(error)) from error


def _document(url: str, options: StackOptions, loaded: LoadedSamples | None) -> dict[str, Any]:
    container = options.container
    return {
        "url": url,
        "data_dir": str(options.data_dir),
        "container": None if container is None else container.url,
        "container_absence": None if container is None else container.absence,
        "sample_page": None if container is None else _sample_page(url, container),
        "functions": {name: url + path for name, (path, _) in _CURLS.items()},
        "samples": None if loaded is None else {"rules": loaded.rules, "profiles": loaded.profiles},
    }


def _show(console: Console, url: str, options: StackOptions) -> None:
    console.print(f"[bold]Tagstitch[/bold] on {url}, data in {options.data_dir}\n")
    for name, (path, body) in _CURLS.items():
        command = ["curl", "-s", url + path]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json_text.dumps(body)]
        console.print(f"[bold]{name}[/bold]")
        console.print("  " + shlex.join(command) + "\n", markup=False)
    console.print(f"received callbacks: {url}/_local/callbacks", markup=False)
    if options.container is not None:
        _show_container(console, url, options.container)
    console.print(f"tagstitch listen --url {url} shows what arrives, live.", markup=False)
    console.print("Ctrl-C stops it.", markup=False)


def _show_container(console: Console, url: str, container: SimulatedContainer) -> None:
    if container.url is None:
        console.print(f"no simulated sGTM container: {container.absence}", markup=False)
        return
    console.print(f"simulated sGTM container: {container.url}, hits at /g/collect", markup=False)
    console.print(f"sample page, for a browser: {_sample_page(url, container)}", markup=False)


def _sample_page(url: str, container: SimulatedContainer) -> str | None:
    return container.url and f"{url}/_local/shop/?container={container.url}"
