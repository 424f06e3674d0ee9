"""Google's emulators for the cloud backend on one machine: Firestore, Pub/Sub, BigQuery.

The first two come with gcloud and need Java; the third is bqemulator in a virtual environment of
its own, because its pins contradict ours. What each of them does not emulate is listed in
docs/emulator-gaps.md.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tagstitch.local_stack import watchdog

_READY_S: Final = 90.0
"""Seconds to be ready; measured 3 s on an idle machine, ten times that on a busy one."""

_INSTALL_S: Final = 600.0
_LOG_CHARS: Final = 2_000
"""Characters of a log's end in an error."""

BIGQUERY_FOLDER: Final = ".venv-bqemulator"
BIGQUERY_STARTER: Final = str(Path(__file__).with_name("bigquery_emulator.py"))
"""Run in that environment; it cannot be imported in ours."""


class EmulatorError(Exception):
    """The emulators cannot run here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Emulators:
    """Where the running emulators listen."""

    firestore: str
    pubsub: str
    bigquery: str
    bigquery_storage: str

    def environment(self) -> Mapping[str, str]:
        """Return the variables that send the cloud backend to them."""
        return {
            "FIRESTORE_EMULATOR_HOST": self.firestore,
            "PUBSUB_EMULATOR_HOST": self.pubsub,
            "BIGQUERY_EMULATOR_HOST": self.bigquery,
            "BIGQUERY_STORAGE_EMULATOR_HOST": self.bigquery_storage,
        }


def missing_parts(repository: Path) -> Sequence[str]:
    """Return what is missing on this machine, each with how to install it."""
    missing = []
    if shutil.which("java") is None:
        missing.append("Java 21 or later (https://adoptium.net)")
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        missing.append("gcloud (https://cloud.google.com/sdk/docs/install)")
    else:
        platform = Path(gcloud).resolve().parent.parent / "platform"
        missing += [
            f"the gcloud component {name} (gcloud components install {name} beta, or the package "
            f"google-cloud-cli-{package})"
            for name, package in (
                ("cloud-firestore-emulator", "firestore-emulator"),
                ("pubsub-emulator", "pubsub-emulator"),
            )
            if platform.is_dir() and not (platform / name).is_dir()
        ]
    if not _bigquery_program(repository).exists():
        missing.append("bqemulator (make bqemulator)")
    return missing


@contextmanager
def run_emulators(repository: Path, *, project: str) -> Iterator[Emulators]:
    """Run the three emulators, empty, on free ports, until the block ends or this process dies.

    `repository` is the folder that holds `.venv-bqemulator`. Raises EmulatorError when something
    is missing or when one of them does not start.
    """
    if missing := missing_parts(repository):
        raise EmulatorError("the emulators need " + "; ".join(missing))
    firestore, pubsub, bigquery, storage = (f"127.0.0.1:{port}" for port in _free_ports(4))
    with tempfile.TemporaryDirectory(prefix="tagstitch-emulators-") as folder:
        logs = Path(folder)
        commands = [
            _firestore_command(firestore, project, logs),
            _pubsub_command(pubsub, project, logs),
            _bigquery_command(bigquery, storage, project, repository, logs),
        ]
        with _watched(commands) as process:
            for address, path in (
                (firestore, "/"),
                (pubsub, "/"),
                (bigquery, f"/bigquery/v2/projects/{project}/datasets"),
            ):
                _wait_until_ready(address, path, process, logs)
            yield Emulators(firestore, pubsub, f"http://{bigquery}", storage)


def install_bigquery_emulator(repository: Path) -> None:
    """Make the virtual environment of bqemulator from `requirements-bqemulator.txt`.

    It loads DuckDB extensions from its home and otherwise downloads them at every start, so they
    come as pinned wheels and are laid into a home inside the environment.
    """
    folder = repository / BIGQUERY_FOLDER
    requirements = repository / "requirements-bqemulator.txt"
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*install, "--disable-pip-version-check", "--requirement", str(requirements)],
    ):
        subprocess.run(command, check=True, timeout=_INSTALL_S)  # noqa: S603 - our own command
    show_platform = "import duckdb; print(duckdb.sql('PRAGMA platform').fetchone()[0])"
    answer = subprocess.run(  # noqa: S603 - our own command
        [str(python), "-c", show_platform], check=True, capture_output=True, text=True, timeout=60
    )
    for extension in folder.glob("lib/python*/site-packages/duckdb_extension_*/extensions/*/*"):
        home = _bigquery_home(repository) / ".duckdb" / "extensions"
        target = home / extension.parent.name / answer.stdout.strip()
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(extension, target)


def _firestore_command(address: str, project: str, logs: Path) -> Mapping[str, object]:
    command = ["gcloud", "emulators", "firestore", "start", f"--host-port={address}"]
    return _command(logs, "firestore", [*command, f"--project={project}", "--quiet"])


def _pubsub_command(address: str, project: str, logs: Path) -> Mapping[str, object]:
    data = logs / "pubsub-data"
    data.mkdir()  # the emulator does not make it
    command = ["gcloud", "beta", "emulators", "pubsub", "start", f"--host-port={address}"]
    return _command(
        logs, "pubsub", [*command, f"--project={project}", f"--data-dir={data}", "--quiet"]
    )


def _bigquery_command(
    rest: str, storage: str, project: str, repository: Path, logs: Path
) -> Mapping[str, object]:
    program = _bigquery_program(repository).with_name("python")
    command = ["env", f"HOME={_bigquery_home(repository)}", str(program), "-I", BIGQUERY_STARTER]
    rest_port, grpc_port = (address.rpartition(":")[2] for address in (rest, storage))
    ports = ["--rest-port", rest_port, "--grpc-port", grpc_port]
    options = ["--ephemeral", "--project", project, "--log-level", "warning"]
    return _command(logs, "bigquery", [*command, "start", *ports, *options])


def _command(logs: Path, name: str, command: Sequence[str]) -> Mapping[str, object]:
    # Their folder is a temporary one: bqemulator's DuckDB spills gigabytes into the current one.
    return {"command": command, "log": str(logs / f"{name}.log"), "folder": str(logs)}


def _bigquery_program(repository: Path) -> Path:
    return repository.resolve() / BIGQUERY_FOLDER / "bin" / "bqemulator"


def _bigquery_home(repository: Path) -> Path:
    return repository.resolve() / BIGQUERY_FOLDER / "home"


def _free_ports(count: int) -> Sequence[int]:
    """Return ports that are free now, all held at once so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def _watched(commands: Sequence[Mapping[str, object]]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the commands under a watchdog, which ends them when its standard input closes."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-I", watchdog.__file__, json.dumps(commands)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the stack, which then ends us in its own order
    )
    try:
        yield process
    finally:
        process.communicate()  # closes its standard input and waits


def _wait_until_ready(
    address: str, path: str, process: subprocess.Popen[bytes], logs: Path
) -> None:
    host, _, port = address.partition(":")
    give_up = time.monotonic() + _READY_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise EmulatorError("an emulator ended at its start:\n" + _log_ends(logs))
        connection = http.client.HTTPConnection(host, int(port), timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            time.sleep(0.1)  # it does not listen yet
        finally:
            connection.close()
    raise EmulatorError("an emulator was not ready in time:\n" + _log_ends(logs))


def _log_ends(logs: Path) -> str:
    return "\n".join(
        f"{log.name}: {log.read_text(errors='replace')[-_LOG_CHARS:]}"
        for log in sorted(logs.glob("*.log"))
    )


if __name__ == "__main__":
    install_bigquery_emulator(Path.cwd())
