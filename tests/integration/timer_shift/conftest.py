"""Two shifts at work, and the pieces to run one inside the test."""

from __future__ import annotations

import pytest

from sketchy_orchestration.settings import Settings
from tests.faults.timer.conftest import shifts, table, watching

__all__ = ["shifts", "table", "watching"]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, database_url=database_url)  # type: ignore[call-arg,arg-type]
