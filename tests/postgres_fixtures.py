"""A real Postgres for tests: one server a session, shared by all workers, a fresh database for each test."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from filelock import FileLock
from psycopg import sql

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import RunningPostgres

_FOLDER = "SKETCHY_TEST_FOLDER"
_SESSION = "SKETCHY_TEST_SESSION"
_TEMPLATE = "template_sketchy"
_START_SECONDS = 60.0


def begin_session(config: pytest.Config) -> None:
    """Name the session's folder; the server starts when the first test asks for it."""
    if not hasattr(config, "workerinput"):
        folder = Path(tempfile.mkdtemp(prefix="sketchy-test-"))
        # As root, Postgres runs as an ordinary account, which must be able to come here.
        folder.chmod(0o755)
        os.environ[_FOLDER] = str(folder)
        os.environ[_SESSION] = str(os.getpid())


def end_session(config: pytest.Config) -> None:
    """End the shared server, where one was started, and wait until it has cleaned up."""
    if hasattr(config, "workerinput"):
        return
    folder = Path(os.environ[_FOLDER])
    with suppress(OSError, ValueError, psutil.NoSuchProcess):
        holder = psutil.Process(int((folder / "holder").read_text(encoding="utf-8")))
        holder.terminate()
        holder.wait(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)


def write_cluster(folder: Path, running: RunningPostgres) -> None:
    """Leave the server's particulars where the test processes find them; the folder is the session's own."""
    unfinished = folder / "cluster.unfinished"
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(pickle.dumps(running))
    unfinished.rename(folder / "cluster")


def shared_cluster() -> RunningPostgres:
    """The session's server, started by whoever comes first."""
    folder = Path(os.environ[_FOLDER])
    cluster = folder / "cluster"
    with FileLock(folder / "lock", timeout=_START_SECONDS):
        if not cluster.exists():
            _start_holder(folder, cluster)
    running: RunningPostgres = pickle.loads(cluster.read_bytes())  # noqa: S301  written by us, above
    return running


def _start_holder(folder: Path, cluster: Path) -> None:
    log = folder / "holder.log"
    with log.open("wb") as output:
        holder = subprocess.Popen(
            [sys.executable, "-m", "tests.postgres_holder", str(folder), os.environ[_SESSION]],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    (folder / "holder").write_text(str(holder.pid), encoding="utf-8")
    processes.wait_until(lambda: cluster.exists() or holder.poll() is not None, seconds=_START_SECONDS)
    if not cluster.exists():
        pytest.fail(f"the test Postgres did not start: {log.read_text(encoding='utf-8')}", pytrace=False)
    # The holder outlives this worker on purpose, so nobody here will wait for it.
    holder.returncode = 0


def _template(postgres: RunningPostgres) -> str:
    """The name of the database that has the application's tables and ours, made by whoever comes first."""
    folder = Path(os.environ[_FOLDER])
    done = folder / "template"
    with FileLock(folder / "template.lock", timeout=_START_SECONDS):
        if not done.exists():
            from sketchy_orchestration.database.migrate import migrate_up
            from sketchy_orchestration.local import application

            postgres.drop_database(_TEMPLATE)
            url = postgres.create_database(_TEMPLATE)
            application.install(url)
            migrate_up(url)
            done.touch()
    return _TEMPLATE


@pytest.fixture(scope="session")
def postgres() -> RunningPostgres:
    """The session's server (18, or what SKETCHY_TEST_POSTGRES says).

    Do not stop it or change its settings: others use it at the same time.
    """
    return shared_cluster()


@pytest.fixture
def empty_database(postgres: RunningPostgres) -> Iterator[str]:
    """URL of a fresh, empty database as its owner, who is no superuser; dropped afterwards."""
    with copy_of(postgres, "template1") as url:
        yield url


# Made while the test before is at work, dropped while the next one is: to wait for it would take longer than
# most tests.
_makers, _droppers = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
_ahead: dict[str, Future[str]] = {}
_dropped: list[Future[None]] = []


def _make(postgres: RunningPostgres, template: str) -> str:
    return postgres.create_database(f"test_{uuid.uuid4().hex[:16]}", template=template)


@contextmanager
def copy_of(postgres: RunningPostgres, template: str) -> Iterator[str]:
    """URL of a fresh copy of this database; dropped afterwards."""
    ahead = _ahead.pop(template, None) or _makers.submit(_make, postgres, template)
    url = ahead.result()
    _ahead[template] = _makers.submit(_make, postgres, template)
    yield url
    while _dropped and _dropped[0].done():
        _dropped.pop(0).result()
    _dropped.append(_droppers.submit(postgres.drop_database, url.rpartition("/")[2]))


@contextmanager
def fresh_database(postgres: RunningPostgres) -> Iterator[str]:
    """URL of a fresh database with the application's tables and our migrations; dropped afterwards."""
    with copy_of(postgres, _template(postgres)) as url:
        yield url


@pytest.fixture
def database_url(postgres: RunningPostgres) -> Iterator[str]:
    """URL of a fresh database with the application's tables and our migrations; dropped afterwards."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection of the owner to `database_url`."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(sql.SQL("set application_name = 'test'"))
        yield conn
