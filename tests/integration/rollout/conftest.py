"""Simulated hours on a database of the tests."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.settings import Settings
from tests.integration.rollout.simulation import Simulation


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, database_url=database_url, alert_slack_url="json://127.0.0.1:1")  # type: ignore[call-arg,arg-type]


@pytest.fixture
def simulation(connection: psycopg.Connection, settings: Settings) -> Simulation:
    return Simulation(connection, settings)
