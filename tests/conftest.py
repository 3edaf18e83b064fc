"""Fixtures every test may use."""

from __future__ import annotations

import pytest

from tests.postgres_fixtures import (
    begin_session,
    connection,
    database_url,
    empty_database,
    end_session,
    postgres,
)

__all__ = ["connection", "database_url", "empty_database", "postgres"]


def pytest_configure(config: pytest.Config) -> None:
    begin_session(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    end_session(config)
