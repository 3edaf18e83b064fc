"""A copy of the checkout's files, as git would hand them to somebody, uncommitted ones included."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.check_tree import files_of
from tests.e2e.stack_runner import ROOT


def copy_of_the_checkout(place: Path) -> None:
    """Copy what git tracks or would track into a folder, which may not be there yet."""
    for path in files_of(ROOT):
        copy = place / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
