"""Fixtures every test may use."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from tests.postgres_fixtures import (
    begin_session,
    connection,
    database_url,
    empty_database,
    end_session,
    postgres,
)

# Machines are shared: how long an example takes says nothing about it.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

__all__ = ["connection", "database_url", "empty_database", "postgres"]


def pytest_configure(config: pytest.Config) -> None:
    begin_session(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    end_session(config)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A test that sets up the log leaves none that writes to its own captured output."""
    handlers = list(logging.getLogger().handlers)
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = [
        each for each in logging.getLogger().handlers if each in handlers or not hasattr(each, "of_sketchy")
    ]
