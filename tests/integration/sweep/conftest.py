"""Scenes on databases of each shape; one template a shape, made by whoever comes first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from filelock import FileLock

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local.application import Shape, install
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.integration.sweep.scene import Scene
from tests.postgres_fixtures import copy_of

MakeScene = Callable[[Shape], Scene]


def _template(postgres: RunningPostgres, shape: Shape) -> str:
    name = f"template_sweep_{shape}"
    done = Path(os.environ["SKETCHY_TEST_FOLDER"]) / name
    with FileLock(f"{done}.lock", timeout=60):
        if not done.exists():
            postgres.drop_database(name)
            url = postgres.create_database(name)
            install(url, shape)
            migrate_up(url)
            done.touch()
    return name


@pytest.fixture
def make_scene(postgres: RunningPostgres) -> Iterator[MakeScene]:
    """Makes scenes: a fresh database of the given shape with our migrations, every new game enrolled."""
    with ExitStack() as stack:

        def make(shape: Shape) -> Scene:
            url = stack.enter_context(copy_of(postgres, _template(postgres, shape)))
            return Scene(url, stack.enter_context(psycopg.connect(url, autocommit=True)))

        yield make


@pytest.fixture
def scene(make_scene: MakeScene) -> Scene:
    """A scene of the application as it is today."""
    return make_scene("current")
