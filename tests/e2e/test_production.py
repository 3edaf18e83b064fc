"""The programs of deploy/ with its commands, files and logins: at work with narrow roles, down in order."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.processes import Process
from sketchy_orchestration.local.stack_parts import answers
from tests.e2e.stack_runner import ROOT, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("dagster"), pytest.mark.timeout(240)]

DEPLOY = ROOT / "deploy"
PARTS = ("timer", "relay", "gateway", "operator", "dagster")
# What MemoryDenyWriteExecute=yes and NoNewPrivileges=yes of the units forbid (kernels before 6.3 ignore it).
_HARDENED = (
    "import ctypes, os, sys; c = ctypes.CDLL(None); c.prctl(65, 1, 0, 0, 0); c.prctl(38, 1, 0, 0, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)

AT_WORK = (
    "select kind, dagster_run_id from orchestration.shifts"
    " where ended_at is null and dagster_run_id is not null"
)


class Server:
    """One server as the guide sets it up, in a folder of the test's own."""

    def __init__(self, folder: Path, postgres: RunningPostgres, database: str) -> None:
        self.folder, self.postgres, self.database = folder, postgres, database
        self.mark = uuid.uuid4().hex[:8]
        self.owner = postgres.owner_url(database)
        self.ports = {port: str(processes.free_port()) for port in ("3000", "4000", "8787")}
        self.running: dict[str, Process] = {}
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(90)

    def make_logins(self) -> None:
        script = (DEPLOY / "postgres" / "logins.sql").read_text(encoding="utf-8")
        own = self.folder / "logins.sql"
        # Roles belong to the cluster that all tests share: this test's have names of their own.
        own.write_text(re.sub(r"\b([a-z]+)_a\b", rf"\1_{self.mark}", script), encoding="utf-8")
        passwords = [word for part in PARTS for word in ("-v", f"{part}=secret-of-{part}")]
        subprocess.run(
            [self.postgres.program("psql"), self.owner, "-q", "-v", "ON_ERROR_STOP=1", *passwords, "-f", own],
            check=True,
            capture_output=True,
            text=True,
        )

    def write_files(self) -> None:
        (self.folder / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"))
        workspace = (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
        (self.folder / "workspace.yaml").write_text(workspace.replace("4000", self.ports["4000"]))

    def environment(self) -> dict[str, str]:
        """production.env as its owner fills it in."""
        given: dict[str, str] = {}
        place = f"127.0.0.1:{self.postgres.port}/{self.database}"
        for line in (DEPLOY / "environments" / "production.env").read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if not equals or line.startswith("#"):
                continue
            login = re.search(r"//([a-z]+)_a:PASSWORD@", value)
            if login:
                url = f"//{login[1]}_{self.mark}:secret-of-{login[1]}@{place}"
                value = value.partition("//")[0] + url
            given[name] = value
        assert sum("DATABASE_URL" in name for name in given) == 4
        return given | {
            "PUBNUB_PUBLISH_KEY": "test-key",
            "PUBNUB_SUBSCRIBE_KEY": "test-key",
            "PUBNUB_SECRET_KEY": "test-key",
            "PUBNUB_ORIGIN": "127.0.0.1:1",
            "SUPABASE_SERVICE_ROLE_KEY": "service-role-key-of-this-test",
            "CRON_SECRET": "cron-secret-of-this-test",
            "SUPABASE_JWT_SECRET": "jwt-secret-of-this-test-with-32-bytes",
        }

    def start(self, unit: str, *more: str) -> Process:
        """Run what the unit runs, with files and ports of the test's."""
        text = (DEPLOY / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
        (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        for port, own in self.ports.items():
            command = re.sub(rf"\b{port}\b", own, command)
        command = command.replace("/opt/sketchy/current/bin", str(Path(sys.executable).parent))
        command = command.replace("/etc/sketchy", str(self.folder)).replace("$SKETCHY_WEBSERVER_OPTIONS", "")
        self.running[unit] = processes.start(
            [sys.executable, "-c", _HARDENED, *shlex.split(command), *more],
            env=clean_environment(self.folder / "unused")
            | self.environment()
            | {"DAGSTER_HOME": str(self.folder), "NOTIFY_SOCKET": str(self.folder / "notify")},
            log=self.folder / f"{unit}.log",
            cwd=self.folder,
        )
        return self.running[unit]

    def notified(self) -> str:
        return self._notify.recv(100).decode()

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))

    def wait(self, condition: object, *, seconds: float = 90) -> None:
        assert processes.wait_until(condition, seconds=seconds, pause=0.1), self.logs()  # type: ignore[arg-type]

    def end(self) -> None:
        for process in self.running.values():
            processes.stop(process, (signal.SIGTERM, 20.0))
        self._notify.close()
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute("drop schema if exists dagster cascade")
            for part in PARTS:
                with suppress(psycopg.Error):
                    connection.execute(f"drop owned by {part}_{self.mark}")
                with suppress(psycopg.Error):
                    connection.execute(f"drop role {part}_{self.mark}")


Made = TypeVar("Made", bound=Server)


@contextmanager
def installed(
    postgres: RunningPostgres, folder: Path, kind: Callable[[Path, RunningPostgres, str], Made]
) -> Iterator[Made]:
    """A server with a database, its logins and files; nothing runs yet."""
    database = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(database)
    application.install(url)
    migrate_up(url)
    one = kind(folder, postgres, database)
    try:
        one.make_logins()
        one.write_files()
        yield one
    finally:
        one.end()
        postgres.drop_database(database)


@pytest.fixture
def server(postgres: RunningPostgres, tmp_path: Path) -> Iterator[Server]:
    with installed(postgres, tmp_path, Server) as one:
        yield one


def test_one_server_as_the_guide_says(server: Server) -> None:
    code_server = server.start("sketchy-code-server")
    assert server.notified() == "READY=1", server.logs()
    daemon = server.start("sketchy-daemon")
    server.start("sketchy-gateway")
    server.wait(lambda: len(server.rows(AT_WORK)) == 4, seconds=150)
    server.start("sketchy-webserver", "--read-only")
    server.wait(lambda: answers(f"http://127.0.0.1:{server.ports['8787']}/ready"))
    server.wait(lambda: answers(f"http://127.0.0.1:{server.ports['3000']}/server_info"))

    users = {
        str(row[0])
        for row in server.rows(
            "select distinct usename from pg_stat_activity"
            " where datname = current_database() and usename is not null and pid <> pg_backend_pid()"
        )
    }
    assert users <= {f"{part}_{server.mark}" for part in PARTS}, "somebody works as the owner"
    assert {f"{part}_{server.mark}" for part in ("timer", "relay", "gateway")} <= users

    processes.stop(daemon, (signal.SIGTERM, 15.0))
    code_server.send_signal(signal.SIGTERM)
    assert server.notified() == "STOPPING=1"
    assert code_server.wait(45) == 0, server.logs()
    ends = server.rows("select end_reason, count(*) from orchestration.shifts group by 1")
    assert ends == [("stopped", 4)], server.logs()
    assert server.rows("select distinct status from dagster.runs") == [("CANCELED",)], server.logs()
    assert processes.stop(server.running["sketchy-gateway"], (signal.SIGTERM, 20.0)) in (0, None)
