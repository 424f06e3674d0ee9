"""Stage functions for deployment: `python3 infra/package.py build stitch_sync decide …`.

Each gets a folder of its own with `main.py`, `requirements.txt` and the package beside it, because
the framework puts only the source file's own folder on the import path, and beside the folder an
archive of it, which has the same bytes whenever the sources have: only a function that has changed
is deployed anew. Needs nothing installed.
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


def stage(function: str, build_dir: Path) -> Path:
    """Return the folder that was made anew for one function."""
    target = build_dir / function
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    source = ROOT / "functions" / function
    for file in (source if source.exists() else ROOT / function).iterdir():
        if file.name in STAGED:
            shutil.copy2(file, target)
    shutil.copy2(ROOT / "requirements.txt", target)
    shutil.copytree(ROOT / "tagstitch", target / "tagstitch", ignore=LEFT_OUT)
    shutil.copytree(ROOT / "schemas", target / "schemas", ignore=NOT_SCHEMAS)
    (target / "infra").mkdir()
    shutil.copy2(ROOT / "infra" / "topology.json", target / "infra")
    return target


def main(arguments: list[str]) -> int:
    """Stage the functions named behind the build folder."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    for function in arguments[1:]:
        print(archive(stage(function, Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
