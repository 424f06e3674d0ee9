"""Terraform with the stub provider, in a folder of its own: the real one never leaves the disk.

    python3 infra/tests/terraform.py validate | plan | test [arguments of terraform]

Needs `terraform` and `npm`; the schema package is fetched once and kept in `build/terraform`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Final

INFRA: Final = Path(__file__).resolve().parents[1]
ROOT: Final = INFRA.parent
sys.path.insert(0, str(ROOT))

from infra.tests.provider_schema import read_schema  # noqa: E402 - the path comes first
from infra.tests.stub_provider import SCHEMA_VARIABLE  # noqa: E402

PACKAGE: Final = "@cdktf/provider-google@16.12.1"
"""The last one there is: HashiCorp has ended cdktf."""

PROVIDER_VERSION: Final = "6.50.0"
"""Of the provider that this package describes."""

CACHE: Final = ROOT / "build" / "terraform"
_TERRAFORM_S: Final = 120
_NPM_S: Final = 120

_COPIED: Final = ("*.tf", "*.json", "*.tftpl", "schemas/*", "tests/*.tftest.hcl", "*.example")


def missing_parts() -> list[str]:
    """Return what of Terraform's tests cannot run here."""
    return [name for name in ("terraform", "npm") if shutil.which(name) is None]


def fetch_package(cache: Path = CACHE) -> Path:
    """Return the unpacked npm package, fetched with npm unless it is there already."""
    target = cache / PACKAGE.rpartition("@")[2]
    if not (target / "package" / "lib").is_dir():
        making = cache / f".{os.getpid()}"
        making.mkdir(parents=True, exist_ok=True)
        run = subprocess.run(
            ["npm", "pack", PACKAGE, "--silent", "--ignore-scripts"],
            cwd=making, capture_output=True, text=True, timeout=_NPM_S, check=False,
        )  # fmt: skip
        if run.returncode != 0:
            raise RuntimeError(f"npm pack {PACKAGE}: {run.stderr.strip()}")
        with tarfile.open(next(making.glob("*.tgz"))) as archive:
            wanted = [m for m in archive.getmembers() if m.name.startswith("package/lib/")]
            archive.extractall(making, members=wanted, filter="data")
        next(making.glob("*.tgz")).unlink()
        with contextlib.suppress(OSError):  # another process was first
            making.rename(target)
        shutil.rmtree(making, ignore_errors=True)
    return target / "package"


class Terraform:
    """A copy of `infra/` in a folder, with the stub in place of the google provider."""

    def __init__(self, folder: Path, package: Path | None) -> None:
        self.folder = folder / "infra"
        self._plugins = folder / "plugins"
        self._schema = folder / "schema.json"
        if package is not None:
            self._make(package)

    @classmethod
    def at(cls, folder: Path) -> Terraform:
        """Return what stands in a folder already: a copy of one that is ready."""
        return cls(folder, None)

    def _make(self, package: Path) -> None:
        for pattern in _COPIED:
            for source in INFRA.glob(pattern):
                target = self.folder / source.relative_to(INFRA)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        shutil.copytree(ROOT / "schemas", self.folder.parent / "schemas", ignore=_not_json_or_sql)
        self._install(read_schema(package, self._types()))

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command of terraform in the copy."""
        run = subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True,
            timeout=_TERRAFORM_S, check=False,
        )  # fmt: skip
        if check and run.returncode != 0:
            raise RuntimeError(f"terraform {arguments[0]}:\n{run.stdout}{run.stderr}")
        return run

    def init(self) -> None:
        """Make the copy ready."""
        self.run("init", "-input=false", f"-plugin-dir={self._plugins}")

    def plan(self, *arguments: str) -> dict[str, Any]:
        """Return the plan as Terraform shows it in JSON."""
        self.run("plan", "-input=false", "-refresh=false", "-out=plan", *arguments)
        plan: dict[str, Any] = json.loads(self.run("show", "-json", "plan").stdout)
        return plan

    def _types(self) -> set[str]:
        text = "\n".join(path.read_text("utf-8") for path in self.folder.rglob("*.tf"))
        return set(re.findall(r'^(?:resource|data) "(google_\w+)"', text, re.MULTILINE))

    def _install(self, schema: dict[str, Any]) -> None:
        self._schema.write_text(json.dumps(schema), "utf-8")
        system = f"{sys.platform}_{_architecture()}"
        where = self._plugins / "registry.terraform.io/hashicorp/google" / PROVIDER_VERSION / system
        where.mkdir(parents=True)
        program = where / f"terraform-provider-google_v{PROVIDER_VERSION}_x5"
        stub = INFRA / "tests" / "stub_provider.py"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stub}"\n', "utf-8")
        program.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """Return what terraform needs in its environment to find the stub."""
        ours = {
            SCHEMA_VARIABLE: str(self._schema),
            "TF_DISABLE_PLUGIN_TLS": "1",
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "GRPC_VERBOSITY": "NONE",
            "PYTHONPATH": "",
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TF_", "GOOGLE_"))  # no one's own configuration or project
        }
        return kept | ours


def _not_json_or_sql(folder: str, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if not name.endswith((".json", ".sql")) and not (Path(folder) / name).is_dir()
    ]


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def main(arguments: list[str]) -> int:
    """Run one command of terraform on a fresh copy."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    folder = CACHE / "run"
    shutil.rmtree(folder, ignore_errors=True)
    terraform = Terraform(folder, fetch_package())
    terraform.init()
    run = terraform.run(*arguments, check=False)
    print(run.stdout, end="")
    print(run.stderr, end="", file=sys.stderr)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
