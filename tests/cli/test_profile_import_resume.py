"""An import that was interrupted goes on where it was, skips nothing and doubles nothing."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tagstitch.cli import profiles
from tagstitch.cli.import_checkpoint import ImportCheckpoint
from tagstitch.cli.rejects_file import RejectsFile
from tests.cli.conftest import Cli

LINES = 200
START_S = 60
"""Seconds until a process must have imported its first batch; generous for a busy machine."""


class Killed(BaseException):
    """The process ends here, as by kill -9: nothing handles it."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.jsonl"
    path.write_text(people(LINES))
    return path


def people(size: int) -> str:
    """Return lines of which each seventh has a mistake."""
    lines = [
        {"profile_id": f"p{n}", "attributes": {"n": n}} if n % 7 else {"attributes": {"n": n}}
        for n in range(1, size + 1)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def stored(cli: Cli) -> dict[str, Any]:
    return {p["profile_id"]: p["attributes"] for p in cli("profiles", "export", "--json").document}


def rejected_lines(file: Path) -> list[int]:
    text = Path(f"{file}.rejects.jsonl").read_text()
    return [json.loads(line)["line"] for line in text.splitlines()]


def is_whole(cli: Cli, file: Path) -> bool:
    wrong = list(range(7, LINES + 1, 7))
    expected = {f"p{n}": {"n": n} for n in range(1, LINES + 1) if n % 7}
    return stored(cli) == expected and rejected_lines(file) == wrong


@dataclass(frozen=True)
class Point:
    """A call that never returns: the process dies before it has an effect, or behind that."""

    owner: Any
    name: str
    call: int
    behind: bool

    def __str__(self) -> str:
        return f"{'behind' if self.behind else 'before'} {self.name} {self.call}"

    def dying(self) -> Callable[..., Any]:
        """Return the function that dies at the point."""
        original, calls = getattr(self.owner, self.name), count(1)

        def dying(*arguments: Any, **options: Any) -> Any:
            is_here = next(calls) == self.call
            if is_here and not self.behind:
                raise Killed
            answer = original(*arguments, **options)
            if not is_here:
                return answer
            if not isinstance(answer, Coroutine):
                raise Killed
            return self._behind(answer)

        return dying

    async def _behind(self, work: Coroutine[Any, Any, Any]) -> None:
        await work
        raise Killed


POINTS = [
    Point(owner, name, call, behind)
    for owner, name, call in (
        (profiles, "import_profiles", 3),
        (RejectsFile, "write", 3),
        (ImportCheckpoint, "save", 1),
        (ImportCheckpoint, "save", 3),
        (ImportCheckpoint, "clear", 1),
    )
    for behind in (False, True)
]


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_death_anywhere_loses_and_doubles_nothing(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch, point: Point
) -> None:
    die(cli, file, monkeypatch, point)

    ran = cli("profiles", "import", file, "--json")

    assert (ran.exit_code, ran.document["rejected"]) == (1, LINES // 7)
    assert is_whole(cli, file)
    assert not Path(f"{file}.import").exists()


def die(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch, point: Point) -> None:
    """Begin an import that dies at the point."""
    with monkeypatch.context() as patched:
        patched.setattr(point.owner, point.name, point.dying())
        with pytest.raises(Killed):
            cli("profiles", "import", file)


def interrupted(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch, *, batches: int = 3) -> int:
    """Import some batches and die; return how many lines are done."""
    die(cli, file, monkeypatch, Point(ImportCheckpoint, "save", batches, behind=True))
    saved = json.loads(Path(f"{file}.import").read_bytes())
    return int(saved["progress"]["lines_done"])


def test_what_is_done_is_not_done_again(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = interrupted(cli, file, monkeypatch)

    ran = cli("profiles", "import", file, "--json")

    assert ran.document["resumed_after_line"] == done > 0
    assert ran.document["created"] == sum(1 for n in range(done + 1, LINES + 1) if n % 7)


def test_a_file_that_changed_begins_at_the_first_line(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(cli, file, monkeypatch)
    before = file.stat()
    file.write_text(file.read_text().replace('{"n": 1}', '{"n": 9}', 1))  # as long as before
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    ran = cli("profiles", "import", file, "--json")

    assert ran.document["resumed_after_line"] == 0
    assert stored(cli)["p1"] == {"n": 9}
    assert rejected_lines(file) == list(range(7, LINES + 1, 7))


def test_another_store_begins_at_the_first_line(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(cli, file, monkeypatch)
    monkeypatch.setenv("TAGSTITCH_DATA_DIR", str(tmp_path / "other"))

    assert cli("profiles", "import", file, "--json").document["resumed_after_line"] == 0
    assert is_whole(cli, file)


def test_a_store_that_was_cleared_meanwhile_begins_at_the_first_line(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(cli, file, monkeypatch)
    for database in (tmp_path / "data").glob("*.sqlite*"):
        database.unlink()
    assert stored(cli) == {}

    ran = cli("profiles", "import", file, "--json")

    assert ran.document["resumed_after_line"] == 0
    assert "from the first line" in ran.err
    assert is_whole(cli, file)


def test_another_reading_of_the_same_bytes_begins_at_the_first_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "people.csv"
    file.write_text("profile_id,zip\n" + "".join(f"p{n},1010\n" for n in range(LINES)))
    interrupted(cli, file, monkeypatch)

    cli("profiles", "import", file, "--text", "zip")

    assert {profile["zip"] for profile in stored(cli).values()} == {"1010"}


def test_a_damaged_checkpoint_begins_at_the_first_line(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for damage in (b"", b"{", b"[]", b'{"of": "x", "lines_done": 60}'):
        interrupted(cli, file, monkeypatch, batches=1)
        Path(f"{file}.import").write_bytes(damage)

        assert cli("profiles", "import", file, "--json").document["resumed_after_line"] == 0
    assert is_whole(cli, file)


def test_a_dry_run_leaves_an_interrupted_import_as_it_is(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = interrupted(cli, file, monkeypatch)

    cli("profiles", "import", file, "--dry-run")

    assert cli("profiles", "import", file, "--json").document["resumed_after_line"] == done
    assert is_whole(cli, file)


def test_a_file_that_ends_in_the_middle_imports_nothing(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl.gz"
    file.write_bytes(gzip.compress(people(LINES).encode())[:-40])

    ran = cli("profiles", "import", file)

    assert ran.exit_code == 1
    assert "damaged" in ran.err
    assert stored(cli) == {}


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_an_import_that_was_killed_ends_like_one_that_was_not(
    cli: Cli, tmp_path: Path, suffix: str
) -> None:
    size = 20_000
    file = tmp_path / f"people.{suffix}"
    rows = ["profile_id,n", *(f"p{n},{n}" if n % 7 else f"/,{n}" for n in range(2, size + 1))]
    file.write_text(people(size) if suffix == "jsonl" else "\n".join(rows))
    checkpoint = Path(f"{file}.import")
    code = "from tagstitch.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "profiles", "import", str(file)])
    try:
        until = time.monotonic() + START_S
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    half = len(stored(cli))

    ran = cli("profiles", "import", file, "--json")

    assert 0 < half < size - size // 7
    assert ran.document["resumed_after_line"] > 0
    assert len(stored(cli)) == sum(
        1 for n in range(1 if suffix == "jsonl" else 2, size + 1) if n % 7
    )
    assert rejected_lines(file) == list(range(7, size + 1, 7))
    assert cli("profiles", "import", file, "--json").document["unchanged"] == len(stored(cli))
