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


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        (("bash", "chromium"), ""),
        (("bash",), "there is no apt-get to install it with"),
    ],
)
def test_the_check_says_when_it_cannot_have_a_browser(
    tmp_path: Path, programs: tuple[str, ...], said: str
) -> None:
    """`.ci/install_chromium`, with these programs and no others."""
    for name in programs:
        (tmp_path / name).symlink_to(shutil.which("bash") or "/bin/bash")

    ran = subprocess.run(
        [str(tmp_path / "bash"), str(ROOT / ".ci" / "install_chromium")],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert said in ran.stderr
    assert bool(ran.stderr) is bool(said)
