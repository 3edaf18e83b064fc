"""A scene of one's own, or one that the scenarios of a module share."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres, RunningPostgres
from sketchy_orchestration.local.postgres.folders import delete
from tests.faults.figures import Figures
from tests.faults.scene import Scene, a_scene
from tests.postgres_fixtures import fresh_database

SEED = "SKETCHY_FAULT_SEED"


@pytest.fixture(scope="session")
def figures() -> Figures:
    return Figures()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Whom to strike, and when; a test that fails says with which seed."""
    seed = os.environ.get(SEED) or str(random.randrange(1_000_000))
    sys.stdout.write(f"the same strikes again: {SEED}={seed}\n")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture(scope="module")
def shared_url(postgres: RunningPostgres) -> Iterator[str]:
    """A database that the scenarios of one module share."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(scope="module")
def scene(shared_url: str, tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Scene]:
    """Two shifts of each kind at work; the scenarios of one module follow each other in it."""
    with a_scene(shared_url, tmp_path_factory.mktemp("scene"), figures) as made:
        yield made


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, with the application and our migrations in its database."""
    home = tmp_path / "home"
    server = EmbeddedPostgres(home)
    try:
        url = server.start().owner_url()
        application.install(url)
        migrate_up(url, told=lambda _: None)
        yield server
    finally:
        server.stop()
        delete(home)
