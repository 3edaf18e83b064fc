"""Runs the Postgres that all test processes of one session share, until that session ends.

Usage: python -m tests.postgres_holder <folder> <process id of the session>
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import psycopg

from sketchy_orchestration.local.postgres import EmbeddedPostgres, folders
from tests.postgres_fixtures import write_cluster


def main() -> None:
    folder, session = Path(sys.argv[1]), int(sys.argv[2])
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    server = EmbeddedPostgres(folder / "home", _version())
    try:
        running = server.start()
        with psycopg.connect(running.superuser_url, autocommit=True) as connection:
            # Nothing here outlives its session; crashes are tried on servers that do wait for the disk.
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
        write_cluster(folder, running)
        while psutil.pid_exists(session) and not done.wait(0.5):
            pass
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _version() -> int:
    """The embedded version asked for; with SKETCHY_TEST_POSTGRES_BIN that of the programs in that folder."""
    own = os.environ.get("SKETCHY_TEST_POSTGRES_BIN")
    if own is None:
        return int(os.environ.get("SKETCHY_TEST_POSTGRES", "18"))
    said = subprocess.run(
        [str(Path(own) / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    folders.binaries = lambda *_: Path(own)
    return int(said.split()[2].partition(".")[0])


if __name__ == "__main__":
    main()
