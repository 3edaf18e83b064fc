"""Databases with the application in one of its shapes, small migrations, and a pooler."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.application import Shape, install
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.postgres_fixtures import copy_of

MakeDatabase = Callable[[Shape], str]
StartPooler = Callable[[str, str], str]


@pytest.fixture
def make_database(postgres: RunningPostgres) -> Iterator[MakeDatabase]:
    """Makes databases with the application's tables and nothing of ours; gives the owner's URL."""
    with ExitStack() as stack:

        def make(shape: Shape) -> str:
            url = stack.enter_context(copy_of(postgres, "template1"))
            install(url, shape)
            return url

        yield make


@pytest.fixture
def application(make_database: MakeDatabase) -> str:
    """A database with the application as it is today."""
    return make_database("current")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with two small migrations of the same form as ours."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    add(folder, "0001_first", "create schema orchestration;", "drop schema orchestration;")
    add(
        folder,
        "0002_second",
        "create table orchestration.things (id integer primary key);",
        "drop table orchestration.things;",
    )
    return folder


def add(folder: Path, name: str, up: str, down: str) -> None:
    (folder / f"{name}.up.sql").write_text(up, encoding="utf-8")
    (folder / f"{name}.down.sql").write_text(down, encoding="utf-8")


@pytest.fixture
def start_pooler() -> Iterator[StartPooler]:
    """Puts a pgbouncer in front of a database: `start_pooler(url, "transaction")` gives the pooled URL."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer on this machine: poolers are not tried")
    account = processes.unprivileged_account()
    folder = Path(tempfile.mkdtemp(prefix="sketchy-pooler-"))
    folder.chmod(0o755)
    running = []

    def start(url: str, mode: str) -> str:
        parts = urlsplit(url)
        port = processes.free_port()
        users, config = folder / f"{port}.users", folder / f"{port}.ini"
        users.write_text(f'"{parts.username}" "{parts.password}"\n', encoding="utf-8")
        config.write_text(
            f"[databases]\n* = host={parts.hostname} port={parts.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {users}\npool_mode = {mode}\ndefault_pool_size = 5\n",
            encoding="utf-8",
        )
        for file in (users, config):
            file.chmod(0o600)
            if account:
                os.chown(file, account.uid, account.gid)
        process = processes.start([program, config], env={}, log=folder / "log", account=account)
        running.append(process)
        pooled = urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}"))

        def answers() -> bool:
            try:
                psycopg.connect(pooled, connect_timeout=2).close()
            except psycopg.OperationalError:
                return False
            return True

        assert processes.wait_until(answers, seconds=10), (folder / "log").read_text(encoding="utf-8")
        return pooled

    yield start
    for process in running:
        processes.stop(process, (signal.SIGINT, 5.0))
    shutil.rmtree(folder)
