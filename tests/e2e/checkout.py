"""A copy of the checkout's files, as git would hand them to somebody, uncommitted ones included."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.e2e.stack_runner import ROOT


def copy_of_the_checkout(place: Path) -> None:
    """Copy what git tracks or would track into a folder, which may not be there yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
