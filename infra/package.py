"""Stage functions for deployment: `python3 infra/package.py build stitch_sync decide …`.

Each gets a folder of its own with `main.py`, `requirements.txt` and the package beside it, because
the framework puts only the source file's own folder on the import path, and beside the folder an
archive of it, which has the same bytes whenever the sources have: only a function that has changed
is deployed anew. Needs nothing installed. With `--otel` they bring the extra that records spans.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STAGED = ("main.py", "Procfile", ".python-version")
"""What a function, or the optional push service, brings itself."""

LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "cli", "local_stack")
"""What only a checkout runs. The local adapters stay, with the topology that they read: they are
small, the cloud never imports them, and a staged function can be tried on one machine."""

NOT_SCHEMAS = shutil.ignore_patterns("__pycache__", "*.py", "views", "queries")
"""A function reads the columns of its rows; generators, views and queries stay in the checkout."""


OTEL = "requirements-otel.txt"

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive: the oldest that the format knows."""


def archive(folder: Path) -> Path:
    """Return the archive of a staged function."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, path.read_bytes())
    return target


def stage(function: str, build_dir: Path, *, with_otel: bool = False) -> Path:
    """Return the folder that was made anew for one function."""
    target = build_dir / function
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    source = ROOT / "functions" / function
    for file in (source if source.exists() else ROOT / function).iterdir():
        if file.name in STAGED:
            shutil.copy2(file, target)
    shutil.copy2(ROOT / "requirements.txt", target)
    if with_otel:
        shutil.copy2(ROOT / OTEL, target)
        with (target / "requirements.txt").open("a", encoding="utf-8") as requirements:
            requirements.write(f"-r {OTEL}\n")
    shutil.copytree(ROOT / "tagstitch", target / "tagstitch", ignore=LEFT_OUT)
    shutil.copytree(ROOT / "schemas", target / "schemas", ignore=NOT_SCHEMAS)
    (target / "infra").mkdir()
    shutil.copy2(ROOT / "infra" / "topology.json", target / "infra")
    return target


def main(arguments: list[str]) -> int:
    """Stage the functions named behind the build folder."""
    build_dir, *functions = [argument for argument in arguments if argument != "--otel"] or [""]
    if not functions:
        print(__doc__, file=sys.stderr)
        return 2
    for function in functions:
        print(archive(stage(function, Path(build_dir), with_otel="--otel" in arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
