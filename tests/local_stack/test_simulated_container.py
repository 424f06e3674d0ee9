"""The simulated container beside the stack: that it starts, and what is said when it does not."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tagstitch.local_stack.live_feed import LiveFeed
from tagstitch.local_stack.simulated_container import SGTM_DIR, SimulatedContainer
from tests.node_tests import install_simulator, needs_node, one_worker

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@contextlib.asynccontextmanager
async def running(
    container: SimulatedContainer, data_dir: Path, feed: LiveFeed | None = None
) -> AsyncIterator[None]:
    """Run it beside a stack that is not there."""
    nowhere = "http://127.0.0.1:9"
    async with container.running(
        stack_url=nowhere, ga4_url=nowhere, callback_secret=SECRET, data_dir=data_dir,
        feed=feed or LiveFeed(),
    ):  # fmt: skip
        yield


def modes(folder: Path) -> list[int]:
    """Return who may read the files of a folder."""
    return [path.stat().st_mode & 0o777 for path in folder.iterdir()]


@needs_node
@one_worker
async def test_it_answers_hits_and_its_log_is_the_feed(tmp_path: Path) -> None:
    install_simulator()
    container, feed = SimulatedContainer(0), LiveFeed()

    with feed.listening() as told:
        async with running(container, tmp_path, feed):
            assert container.url is not None
            async with httpx.AsyncClient(base_url=container.url, timeout=30) as browser:
                answer = await browser.get("/g/collect?v=2&tid=G-1&cid=1.2&en=purchase")
            keys = modes(tmp_path)
        feed.close()
        kinds = [line.kind async for line in told]

    assert answer.status_code == 200
    assert keys == [0o600]
    assert modes(tmp_path) == []
    assert kinds[0] == "hit"
    assert "answer" in kinds
    async with httpx.AsyncClient(base_url=container.url) as browser:
        with pytest.raises(httpx.ConnectError):
            await browser.get("/")


@needs_node
@one_worker
async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    install_simulator()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        container = SimulatedContainer(port)
        async with running(container, tmp_path):
            assert container.url is None

    assert container.absence == f"port {port} is taken: choose another by --container-port"


@needs_node
async def test_packages_that_are_not_installed_are_named(tmp_path: Path) -> None:
    shutil.copy(SGTM_DIR / "container.json", tmp_path)
    container = SimulatedContainer(0, sgtm_dir=tmp_path)
    async with running(container, tmp_path):
        assert container.url is None

    assert container.absence is not None
    assert "npm ci --omit=dev --prefix sgtm" in container.absence


async def test_without_node_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    container = SimulatedContainer(0)
    async with running(container, tmp_path):
        assert container.url is None

    assert container.absence == "it needs Node 20, which is not there"


async def test_an_old_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v18.20.4\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    container = SimulatedContainer(0)
    async with running(container, tmp_path):
        assert container.url is None

    assert container.absence == "it needs Node 20, and this is v18.20.4"


async def test_outside_a_checkout_it_says_so(tmp_path: Path) -> None:
    container = SimulatedContainer(0, sgtm_dir=tmp_path)
    async with running(container, tmp_path):
        assert container.url is None

    assert container.absence is not None
    assert "checkout" in container.absence
