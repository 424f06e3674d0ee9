"""Runs the local stack, on SQLite or on emulators as its environment says, with faults by chance.

    python faulty_stack.py DATA_DIR PORT SEED

The product has no hooks for this: the ports and the functions are wrapped from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp

from tagstitch.adapters import backend_factory
from tagstitch.adapters.settings import Settings
from tagstitch.adapters.topology import read_topology
from tagstitch.local_stack.app import StackBackend, open_local_stack_backend
from tagstitch.local_stack.emulator_stack import open_emulator_stack_backend
from tagstitch.local_stack.functions import load_functions
from tagstitch.local_stack.server import StackOptions, run_local_stack
from tests.soak.faults import Faults, FaultyFunction, faulty_backend
from tests.soak.local_audit import with_local_audit


def main(data_dir: Path, port: int, seed: int) -> None:
    """Serve until a signal."""
    faults = Faults(seed, data_dir)

    async def open_faulty(settings: Settings) -> StackBackend:
        is_cloud = settings.backend == "cloud"
        open_stack = open_emulator_stack_backend if is_cloud else open_local_stack_backend
        stack = await open_stack(settings)
        # What the functions get when they ask for the backend of the same settings.
        opened = backend_factory._backends[asyncio.get_running_loop()]
        opened[settings] = faulty_backend(with_local_audit(stack.backend, settings), faults)
        return stack

    def load() -> Mapping[str, ASGIApp]:
        functions = load_functions(read_topology().functions)
        return {name: FaultyFunction(name, app, faults) for name, app in functions.items()}

    def announce(url: str) -> None:
        print(json.dumps({"severity": "INFO", "message": "ready", "url": url}), flush=True)

    backend = {
        "TAGSTITCH_BACKEND": os.environ["TAGSTITCH_BACKEND"]
    }  # else it would be the local one
    options = StackOptions(data_dir, port, backend, open_stack_backend=open_faulty, load=load)
    run_local_stack(options, announce)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
