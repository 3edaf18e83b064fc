"""The embedded Postgres: it keeps its promises, and dies with its owner."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    EmbeddedPostgresInUseError,
    OtherVersionError,
)
from sketchy_orchestration.local.postgres import cluster as cluster_module
from sketchy_orchestration.local.postgres.folders import delete

_OWNER = """
import sys, threading
from pathlib import Path
from sketchy_orchestration.local.postgres import EmbeddedPostgres
running = EmbeddedPostgres(Path(sys.argv[1])).start()
print(running.pid, running.owner_url(), flush=True)
threading.Event().wait()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    delete(tmp_path / "home")


def _owner_process(home: Path) -> tuple[subprocess.Popen[str], int, str]:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(home)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout as lines:
        pid, url = lines.readline().split()
    return owner, int(pid), url


@pytest.mark.parametrize("version", [18, 16])
def test_data_survives_a_stop_and_the_port_stays_the_same(home: Path, version: int) -> None:
    with EmbeddedPostgres(home, version) as first, psycopg.connect(first.owner_url()) as conn:
        conn.execute("create table kept as select 'x' as word")
        conn.commit()
        assert conn.info.server_version // 10_000 == version
        # What production promises; the tests' shared server does without the first.
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert conn.execute("select current_setting(%s)", [name]).fetchone() == ("on",)
        assert conn.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
    with EmbeddedPostgres(home, version) as second, psycopg.connect(second.owner_url()) as conn:
        assert conn.execute("select word from kept").fetchone() == ("x",)
    assert second.port == first.port
    assert not psutil.pid_exists(second.pid)


def test_killing_the_owner_leaves_no_server_no_lock_and_every_acknowledged_row(home: Path) -> None:
    owner, pid, url = _owner_process(home)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("create table kept (n int)")
        for n in range(100):
            conn.execute("insert into kept values (%s)", [n])
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with EmbeddedPostgres(home) as again:
        assert not processes.alive(pid)
        with psycopg.connect(again.owner_url()) as conn:
            assert conn.execute("select count(*) from kept").fetchone() == (100,)


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_killing_the_owner_ends_the_server_by_itself(home: Path) -> None:
    owner, pid, _ = _owner_process(home)
    owner.kill()
    owner.wait()
    assert processes.wait_until(lambda: not processes.alive(pid), seconds=10)


def test_a_server_left_over_without_its_owner_is_ended(home: Path) -> None:
    with EmbeddedPostgres(home) as first:
        pass
    leftover = processes.start(
        [first.program("postgres"), "-D", first.data_dir, "-c", f"port={first.port}"],
        env=cluster_module.environment(),
        account=processes.unprivileged_account(),
    )
    pid_file = first.data_dir / "postmaster.pid"
    assert processes.wait_until(lambda: pid_file.exists() and "ready" in pid_file.read_text(), seconds=20)
    with EmbeddedPostgres(home) as second:
        assert leftover.wait(5) is not None
        assert second.pid != leftover.pid


def test_a_stale_pid_file_that_names_somebody_else_is_ignored(home: Path) -> None:
    with EmbeddedPostgres(home) as first:
        pass
    (first.data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{first.data_dir}\n0\n{first.port}\n")
    with EmbeddedPostgres(home) as second:
        assert second.pid != os.getpid()


def test_a_second_owner_is_refused_with_what_to_do(home: Path) -> None:
    owner, _, _ = _owner_process(home)
    try:
        with pytest.raises(EmbeddedPostgresInUseError, match=f"in use by process {owner.pid}.*sketchy down"):
            EmbeddedPostgres(home).start()
    finally:
        owner.terminate()
        owner.wait()


def test_a_data_folder_of_another_version_is_refused_with_what_to_do(home: Path) -> None:
    with EmbeddedPostgres(home, 16):
        pass
    with pytest.raises(OtherVersionError, match="PostgreSQL 16, not PostgreSQL 18: set POSTGRES_VERSION=16"):
        EmbeddedPostgres(home, 18).start()
    with EmbeddedPostgres(home, 16) as again:
        assert again.version == 16


def test_a_busy_port_gets_another_one(home: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        with EmbeddedPostgres(home, port=busy) as running:
            assert running.port != busy


def test_passwords_are_private(home: Path) -> None:
    with EmbeddedPostgres(home) as running:
        secrets = {running.credentials.owner, running.credentials.superuser}
        shown = repr(running) + " ".join(psutil.Process(running.pid).cmdline())
        shown += running.log.read_text()
        wrong = running.url("sketchy_owner", "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
    assert len(secrets) == 2
    assert not any(secret in shown for secret in secrets)
    assert stat.S_IMODE((home / "postgres" / "credentials.json").stat().st_mode) == 0o600


def test_lost_passwords_are_an_error_that_says_what_to_do(home: Path) -> None:
    with EmbeddedPostgres(home):
        pass
    (home / "postgres" / "credentials.json").unlink()
    with pytest.raises(EmbeddedPostgresError, match=r"credentials.json is missing .*make clean"):
        EmbeddedPostgres(home).start()


def test_a_crash_and_restart_keeps_port_and_rows(home: Path) -> None:
    server = EmbeddedPostgres(home)
    before = server.start()
    try:
        with psycopg.connect(before.owner_url(), autocommit=True) as conn:
            conn.execute("create table kept as select 1 as n")
        after = server.restart(immediate=True)
        assert (after.port, after.pid != before.pid) == (before.port, True)
        with psycopg.connect(after.owner_url()) as conn:
            assert conn.execute("select n from kept").fetchone() == (1,)
    finally:
        server.stop()


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="SKETCHY_HOME"):
        EmbeddedPostgres(tmp_path / "file" / "home").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as somebody else")
class TestAsRoot:
    def test_runs_as_an_account_without_rights(self, home: Path) -> None:
        with EmbeddedPostgres(home) as running:
            assert psutil.Process(running.pid).username() == "nobody"

    def test_below_a_closed_folder_the_data_goes_elsewhere_and_no_permission_changes(
        self, home: Path, tmp_path: Path
    ) -> None:
        tmp_path.chmod(0o700)
        with EmbeddedPostgres(home) as running:
            assert not running.data_dir.is_relative_to(tmp_path)
            outside = running.data_dir.parent
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
        with EmbeddedPostgres(home) as again:
            assert again.data_dir == running.data_dir
        delete(home)
        assert not outside.exists()

    def test_an_ordinary_user_can_run_it_too(self) -> None:
        account = processes.unprivileged_account()
        assert account is not None
        if not account.can_reach(Path(sys.executable).resolve()):
            pytest.skip("an ordinary user cannot reach this Python")
        place = Path("/var/tmp") / f"sketchy-user-{os.getpid()}"  # noqa: S108
        place.mkdir(mode=0o700)
        os.chown(place, account.uid, account.gid)
        script = (
            "import os, sys, psycopg; from pathlib import Path;"
            "from sketchy_orchestration.local.postgres import EmbeddedPostgres;"
            "server = EmbeddedPostgres(Path(sys.argv[1]) / 'home');"
            "running = server.start();"
            "psycopg.connect(running.owner_url()).close();"
            "server.stop(); print(os.getuid())"
        )
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-c", script, str(place)],
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                cwd=Path(__file__).parents[3],
                env={"PATH": os.environ["PATH"], "HOME": str(place)},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        finally:
            with suppress(OSError):
                subprocess.run(["/bin/rm", "-rf", str(place)], check=False)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(account.uid), "")
