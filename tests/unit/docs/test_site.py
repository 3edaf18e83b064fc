"""The documentation: it builds without a dead link, and every page made from the code has something on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TITLES = ("settings", "commands", "http", "events", "metrics", "sql")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", TITLES)
def test_a_page_made_from_the_code_is_full(site: Path, name: str) -> None:
    page = (site / "reference" / name / "index.html").read_text(encoding="utf-8")
    assert page.count("<tr>") + page.count("<pre>") > 10, name


def test_every_setting_and_command_is_in_the_reference(site: Path) -> None:
    from sketchy_orchestration.settings import Settings
    from tests.unit.cli.test_every_command import LEAVES

    settings = (site / "reference" / "settings" / "index.html").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if name.upper() not in settings] == []
    commands = (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert [path for path in LEAVES if f">{path}<" not in commands] == []


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """No font, style or script; the theme fetches the program that draws the diagrams, on pages with one."""
    home = (site / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?:[^"']+)""", home)
    assert [address for address in loaded if "canonical" not in address] == []


_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md"])
def test_links_in_the_repository_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target
