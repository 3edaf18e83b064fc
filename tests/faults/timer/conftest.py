"""A table of games, two shifts at work on it, and somebody who watches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.timer.at_work import AtWork, at_work
from tests.faults.timer.table import Table
from tests.faults.timer.watching import Watching


@pytest.fixture
def table(connection: psycopg.Connection) -> Table:
    return Table(connection)


@pytest.fixture
def shifts(connection: psycopg.Connection, database_url: str, tmp_path: Path) -> Iterator[AtWork]:
    """Two timer shifts, each a process."""
    with at_work(database_url, connection, tmp_path / "shifts.log") as running:
        yield running


@pytest.fixture
def watching(shifts: AtWork, database_url: str) -> Iterator[Watching]:
    with Watching(database_url) as started:
        yield started
