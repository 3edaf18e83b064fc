"""Finds node, the official JavaScript SDK and a browser, or the reason why they are not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

SDK = "pubnub@12"
_PACKAGES = Path(os.environ.get("SKETCHY_HOME", ".sketchy")).absolute() / "node"
SCRIPTS = Path(__file__).parent / "js"
STEPS = [
    "publish_get_and_post",
    "fire_and_signal",
    "subscribe_hears_everything_in_order",
    "presence",
    "history_and_counts",
    "time",
    "errors",
    "access_manager",
]

BROWSER_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
]


def _skip(reason: str) -> None:
    print(f"skipped: {reason}")  # noqa: T201 - a missing tool must be seen, not only counted
    pytest.skip(reason)


def node() -> str:
    """The path of node, version 18 or later; skips the test otherwise."""
    found = shutil.which("node")
    if found is None:
        _skip("there is no node on PATH")
    assert found is not None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=False)
    number = version.stdout.strip().removeprefix("v").split(".")[0]
    if not number.isdigit() or int(number) < 18:
        _skip(f"node is {version.stdout.strip()!r}; 18 or later is needed")
    return found


def sdk() -> Path:
    """The folder of the installed SDK; skips the test when npm cannot install it."""
    return installed(SDK) / "pubnub"


def installed(package: str) -> Path:
    """The folder of packages with this one (`name@version`), installed once and kept; or skips the test."""
    npm = shutil.which("npm")
    if npm is None:
        _skip("there is no npm on PATH")
    assert npm is not None
    folder = _PACKAGES / package.replace("@", "-")
    packages = folder / "node_modules"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        there = (packages / package.partition("@")[0] / "package.json").exists()
        if not there and (reason := _install(npm, folder, package)) is not None:
            _skip(f"npm could not install {package}: {reason}")
    return packages


@cache
def _install(npm: str, folder: Path, package: str) -> str | None:
    """Why npm could not, asked once: an index that is out of reach shall not cost every test a minute."""
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--fetch-retries=1", "--prefix", str(folder)]
    command = [npm, "install", *options, package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        return "its index did not answer in 90 s"
    return None if done.returncode == 0 else done.stderr.strip()[-300:]


def browser() -> str:
    """The path of Chromium; skips the test when there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    _skip("there is no chromium on PATH")
    raise AssertionError
