"""One embedded Postgres server: started by one process, ended with it, whatever becomes of that process."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from filelock import FileLock, Timeout
from psycopg import sql

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import cluster, folders
from sketchy_orchestration.local.postgres.errors import EmbeddedPostgresError, EmbeddedPostgresInUseError
from sketchy_orchestration.local.processes import Process, ProcessError

_START_SECONDS = 60.0
_PORT_ATTEMPTS = 5
# Postgres calls them fast and immediate shutdown; the second is what a crash looks like to it.
_FAST = (signal.SIGINT, 20.0)
_IMMEDIATE = (signal.SIGQUIT, 5.0)

# A started server is held here: were its object collected, the lock would go and the server stay.
_started: set[EmbeddedPostgres] = set()


@atexit.register
def _stop_started() -> None:
    for server in list(_started):
        server.stop()


@dataclass(frozen=True)
class RunningPostgres:
    """A server that accepts connections on 127.0.0.1."""

    port: int
    data_dir: Path
    pid: int
    version: int
    binaries: Path
    log: Path
    credentials: cluster.Credentials = field(repr=False)

    @property
    def superuser_url(self) -> str:
        """For setting up only: nothing of the system works as a superuser."""
        return self._url(cluster.SUPERUSER, self.credentials.superuser, "postgres")

    def owner_url(self, database: str = cluster.DATABASE) -> str:
        """Connection of the role that owns the databases; not a superuser, may create roles and databases."""
        return self._url(cluster.OWNER, self.credentials.owner, database)

    def url(self, user: str, password: str, database: str = cluster.DATABASE) -> str:
        """Connection of another role."""
        return self._url(user, password, database)

    def program(self, name: str) -> Path:
        """A client program of the same version: psql, pg_dump, pg_restore, pgbench, ..."""
        return self.binaries / name

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database that the owner role owns, with its schema public.

        Returns:
            The owner's connection URL.
        """
        with self._as_superuser("postgres") as conn:
            conn.execute(
                sql.SQL("create database {} owner {} template {}").format(
                    sql.Identifier(name), sql.Identifier(cluster.OWNER), sql.Identifier(template)
                )
            )
        if template == "template1":
            with self._as_superuser(name) as conn:
                conn.execute(sql.SQL("alter schema public owner to {}").format(sql.Identifier(cluster.OWNER)))
        return self.owner_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the sessions in it."""
        with self._as_superuser("postgres") as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def _url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{quote(user)}:{quote(password)}@127.0.0.1:{self.port}/{quote(database)}"

    @contextmanager
    def _as_superuser(self, database: str) -> Iterator[psycopg.Connection[Any]]:
        url = self._url(cluster.SUPERUSER, self.credentials.superuser, database)
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as conn:
            yield conn


class EmbeddedPostgres:
    """The Postgres of one home folder.

    Example:
        with EmbeddedPostgres(Path(".sketchy")) as postgres:
            psycopg.connect(postgres.owner_url())

    Args:
        home: the folder that holds `postgres/`: data, log, passwords (mode 600), lock.
        version: 18 or 16.
        port: the wanted port; a busy one is replaced by a free one. None: the one used last, else any.
    """

    def __init__(self, home: Path, version: int = 18, *, port: int | None = None) -> None:
        self._home = home
        self._version = version
        self._port = port
        self._lock: FileLock | None = None
        self._process: Process | None = None
        self._running: RunningPostgres | None = None
        self._owner = os.getpid()

    def __enter__(self) -> RunningPostgres:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> RunningPostgres:
        """Make the data folder where there is none, start the server and wait until it answers.

        Raises:
            EmbeddedPostgresInUseError: another process runs it.
            OtherVersionError: the data folder is of another major version.
            EmbeddedPostgresError: anything else that keeps it from starting, with what to do.
        """
        if self._running is not None and self.is_alive():
            return self._running
        self._owner = os.getpid()
        self._take_lock()
        _started.add(self)
        try:
            self._running = self._start()
        except BaseException:
            self.stop()
            raise
        return self._running

    def stop(self, *, immediate: bool = False) -> None:
        """End the server and free the home folder. `immediate` ends it as a crash would; nothing is lost."""
        _started.discard(self)
        if self._owner != os.getpid():
            return  # a fork of the owner leaves the owner's server alone
        self._end_server(immediate=immediate)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def restart(self, *, immediate: bool = False) -> RunningPostgres:
        """End the server and start it again on the same port; the lock stays ours in between."""
        if self._running is None or self._lock is None:
            raise EmbeddedPostgresError("the embedded Postgres is not running")
        self._port = self._running.port
        self._end_server(immediate=immediate)
        self._running = self._start()
        return self._running

    def is_alive(self) -> bool:
        """Whether the server this object started still runs."""
        return self._process is not None and self._process.poll() is None

    def _end_server(self, *, immediate: bool) -> None:
        if self._process is not None:
            processes.stop(self._process, *([_IMMEDIATE] if immediate else [_FAST, _IMMEDIATE]))
        self._process = None
        self._running = None

    def _take_lock(self) -> None:
        private = folders.make_private(self._home)
        holder = private / "holder"
        lock = FileLock(private / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            who = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
            raise EmbeddedPostgresInUseError(
                f"the Postgres in {private} is in use by process {who}: join it (sketchy env prints its"
                " DATABASE_URL), stop it (sketchy down), or set SKETCHY_HOME to another folder"
            ) from None
        except OSError as error:
            raise EmbeddedPostgresError(
                f"cannot write in {private} ({error.strerror}): it belongs to another user;"
                " set SKETCHY_HOME to a folder of your own"
            ) from None
        self._lock = lock
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")

    def _start(self) -> RunningPostgres:
        try:
            account = processes.unprivileged_account()
        except ProcessError as error:
            raise EmbeddedPostgresError(str(error)) from None
        places = folders.prepare(self._home, account)
        binaries = folders.binaries(self._version, places, account)
        cluster.check_version(places.data, self._version)
        credentials = cluster.credentials(places)
        if not places.data.exists():
            cluster.create(places, binaries, self._version, credentials.superuser, account)
        cluster.configure(places.data)
        _end_leftover(places.data)
        port = self._port if self._port is not None else _last_port(places)
        for attempt in range(_PORT_ATTEMPTS):
            port = processes.free_port(port)
            places.log.unlink(missing_ok=True)
            self._process = processes.start(
                [binaries / "postgres", "-D", places.data, "-c", f"port={port}"],
                env=cluster.environment(),
                log=places.log,
                cwd=places.open,
                account=account,
                death_signal=_FAST[0],
            )
            if self._became_ready(places.data):
                break
            said = places.log.read_text(encoding="utf-8", errors="replace")
            # Between our look at the port and the server's, somebody else may have taken it.
            if "Address already in use" not in said or attempt == _PORT_ATTEMPTS - 1:
                raise EmbeddedPostgresError(
                    f"PostgreSQL did not start: {cluster.last_line(places.log)} (its log: {places.log})"
                )
            port = None
        assert port is not None  # noqa: S101  the loop ran
        places.last_port.write_text(f"{port}\n", encoding="utf-8")
        running = RunningPostgres(
            port=port,
            data_dir=places.data,
            pid=self._process_id(),
            version=self._version,
            binaries=binaries,
            log=places.log,
            credentials=credentials,
        )
        _set_up(running)
        return running

    def _process_id(self) -> int:
        assert self._process is not None  # noqa: S101
        return self._process.pid

    def _became_ready(self, data: Path) -> bool:
        process = self._process
        assert process is not None  # noqa: S101

        def settled() -> bool:
            return process.poll() is not None or _ready_pid(data) == process.pid

        processes.wait_until(settled, seconds=_START_SECONDS)
        if process.poll() is None and _ready_pid(data) != process.pid:
            processes.stop(process, _FAST, _IMMEDIATE)
        return process.poll() is None


def _set_up(running: RunningPostgres) -> None:
    """Create the owner's role and database where they are missing."""
    with running._as_superuser("postgres") as conn:
        role = sql.Identifier(cluster.OWNER)
        if conn.execute("select 1 from pg_roles where rolname = %s", [cluster.OWNER]).fetchone() is None:
            conn.execute(
                sql.SQL("create role {} login createrole createdb nosuperuser password {}").format(
                    role, sql.Literal(running.credentials.owner)
                )
            )
        missing = conn.execute("select 1 from pg_database where datname = %s", [cluster.DATABASE]).fetchone()
    if missing is None:
        running.create_database(cluster.DATABASE)


def _pid_file(data: Path) -> list[str]:
    with suppress(OSError):
        return (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    return []


def _ready_pid(data: Path) -> int | None:
    lines = _pid_file(data)
    ready = len(lines) >= 8 and lines[7].strip() == "ready"
    return int(lines[0]) if ready else None


def _last_port(places: folders.Folders) -> int | None:
    with suppress(OSError, ValueError):
        return int(places.last_port.read_text(encoding="utf-8"))
    return None


def _end_leftover(data: Path) -> None:
    """End a server whose owner died without it, and remove a pid file that no server stands behind.

    The caller holds the lock, so a server here belongs to nobody. On Linux it is already on its way out.
    """
    lines = _pid_file(data)
    if not lines:
        return
    with suppress(ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(lines[0]))
        if _is_server_of(process, data):
            for number, patience in ((None, 2.0), _FAST, _IMMEDIATE, (signal.SIGKILL, 5.0)):
                if number is not None:
                    process.send_signal(number)
                if processes.wait_until(lambda: not processes.alive(process.pid), seconds=patience):
                    break
    (data / "postmaster.pid").unlink(missing_ok=True)


def _is_server_of(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == data
    except psutil.AccessDenied:
        return False
