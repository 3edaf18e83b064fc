"""What tests of the whole stack share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sketchy_orchestration.local.postgres.folders import delete


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder that no stack has used; its database's files may lie elsewhere and are removed too."""
    yield tmp_path / "home"
    delete(tmp_path / "home")
