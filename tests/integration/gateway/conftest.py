"""One gateway a test, and a world of games behind it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.gateway.serving import Serving, World, serving, settings_for
from tests.integration.migrations.conftest import start_pooler

__all__ = ["start_pooler"]


@pytest.fixture
def world(connection: psycopg.Connection) -> World:
    """The database of this test."""
    return World(connection)


@pytest.fixture
def gateway(database_url: str) -> Iterator[Serving]:
    """A gateway before this test's database, ready."""
    with serving(settings_for(database_url)) as served:
        yield served
