"""Systems made of Debian's packages, and how pip finds its packages inside them as it does here."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


def needed(*programs: str) -> None:
    """Skip the test unless it runs as root and these are installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("making a system needs root")
    if platform.freedesktop_os_release()["ID"] != "debian":
        pytest.skip("its packages would be another system's than this one's")


def make_system(place: Path, *packages: str) -> None:
    """The least Debian with these packages; a folder, or an archive if the name ends in .tar."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    sources = [_SOURCES] if _SOURCES.exists() else []
    chosen = ["--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
    words = [shutil.which("mmdebstrap") or "", *chosen, release, place, *sources]
    subprocess.run(words, check=True, capture_output=True)


def index_of_this_machine(folder: Path) -> Path:
    """A pip.conf that says what this machine's pip is told, wherever that stands."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    told = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", said, re.MULTILINE))
    kept = [f"{name} = {value}" for name, value in told.items() if name not in ("config-file", "find-links")]
    file = folder / "pip.conf"
    file.write_text("\n".join(["[global]", *kept, ""]), encoding="utf-8")
    return file
