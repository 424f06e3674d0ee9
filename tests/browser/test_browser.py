"""The browser's side of personalization: the sample page in a headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.node_tests import ROOT, check_node_tests, install_simulator, needs_node, one_worker

TESTS = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")

needs_chromium = pytest.mark.skipif(
    "CHROMIUM" not in os.environ and not any(map(shutil.which, NAMES)), reason="needs Chromium"
)


@needs_node
@needs_chromium
@one_worker
def test_the_sample_page_passes_its_tests_in_a_browser() -> None:
    install_simulator()

    check_node_tests(TESTS / "browser.test.mjs")


APT_FAILS = "exit 1"


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"chromium": "exit 1"}, ""),
        ({}, "there is no apt-get to install it with"),
        ({"apt-get": APT_FAILS, "id": "echo 1000"}, "apt-get would need root"),
        ({"apt-get": APT_FAILS, "id": "echo 0"}, "apt-get could not install the package"),
        ({"apt-get": "exit 0", "id": "echo 0"}, ""),
    ],
)
def test_the_check_says_when_it_cannot_have_a_browser(
    tmp_path: Path, programs: dict[str, str], said: str
) -> None:
    """`.ci/install_chromium`, with these programs and no others."""
    bash = shutil.which("bash") or "/bin/bash"
    (tmp_path / "bash").symlink_to(bash)
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!{bash}\n{script}\n")
        (tmp_path / name).chmod(0o755)

    ran = subprocess.run(
        [bash, str(ROOT / ".ci" / "install_chromium")],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert said in ran.stderr
    assert bool(ran.stderr) is bool(said)
