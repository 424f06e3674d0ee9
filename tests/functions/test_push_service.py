"""The optional push service, as it is deployed: its own app, its origins, its staging."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("TAGSTITCH_BACKEND", "local")
    monkeypatch.setenv("TAGSTITCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TAGSTITCH_PUSH_ORIGINS", "https://shop.example.com")
    place = ROOT / "push_service" / "main.py"
    spec = importlib.util.spec_from_file_location("push_service_main", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def client(service: ModuleType) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://push")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://shop.example.com", "https://shop.example.com"),
        ("https://evil.example.com", None),
        ("https://shop.example.com.evil.example", None),
    ],
)
async def test_only_listed_origins_may_read(
    service: ModuleType, origin: str, allowed: str | None
) -> None:
    async with client(service) as browser:
        answer = await browser.get("/", params={"token": "x"}, headers={"origin": origin})

    assert answer.status_code == 401
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert answer.headers["vary"] == "Origin"


async def test_it_is_healthy(service: ModuleType) -> None:
    async with client(service) as browser:
        answer = await browser.get("/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_it_is_staged_like_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "infra"))
    monkeypatch.delitem(sys.modules, "package", raising=False)
    import package  # type: ignore[import-not-found]

    folder = package.stage("push_service", tmp_path)

    assert {"main.py", "Procfile", ".python-version", "requirements.txt", "tagstitch"} <= {
        path.name for path in folder.iterdir()
    }
    assert not (folder / "README.md").exists()
