"""Fixtures every test may use."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

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


# Files run as wholes, these first, so that all workers end at about the same time.
LONGEST = (
    "e2e/test_stack.py",
    "e2e/test_dagster.py",
    "faults",
    "integration/migrations/test_up_and_down.py",
    "integration/monitoring/test_runbooks.py",
    "integration/monitoring/test_alerts.py",
    "integration/migrations",
    "integration/local",
    "integration/plans",
    "simulation",
)
# Each needs minutes, or a whole system, for what smaller tests show nearly as well: `make test-long`.
LONG = (
    "e2e/test_alerts.py",
    "e2e/test_browser.py",
    "e2e/test_dagster_dev.py",
    "e2e/test_delivery_in_dagster.py",
    "e2e/test_deployment.py",
    "e2e/test_documents.py",
    "e2e/test_play.py",
    "e2e/test_production.py",
    "e2e/test_rollout_in_dagster.py",
    "e2e/test_stack_gateway.py",
    "e2e/test_watch_in_dagster.py",
    "faults/timer/test_database_fails.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent

    def place(item: pytest.Item, names: tuple[str, ...]) -> int:
        here = (number for number, name in enumerate(names) if item.path.is_relative_to(tests / name))
        return next(here, len(names))

    for item in items:
        if place(item, LONG) < len(LONG):
            item.add_marker("long")
    items.sort(key=lambda item: place(item, LONGEST))


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
