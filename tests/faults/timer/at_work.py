"""Timer shifts as real processes, started as an operator would start them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from sketchy_orchestration.local import processes

Connection = psycopg.Connection[tuple[Any, ...]]

START_SECONDS = 30.0


class AtWork:
    """The shifts of one database; each is a process of its own with default signals."""

    def __init__(self, url: str, connection: Connection, log: Path) -> None:
        self._url = url
        self.connection = connection
        self._log = log
        self.running: list[processes.Process] = []

    def start(self) -> processes.Process:
        """One more shift; returns when its row is there."""
        process = processes.start(
            [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", "timer"],
            env={**os.environ, "DATABASE_URL": self._url},
            log=self._log,
            cwd=Path(__file__).parents[3],
        )
        self.running.append(process)
        assert processes.wait_until(lambda: self.is_at_work(process), seconds=START_SECONDS), self.said()
        return process

    def row(self, process: processes.Process) -> tuple[Any, ...] | None:
        """(end_reason, seconds since its heartbeat, relieved) of a shift; None before it is at work."""
        return self.connection.execute(
            """select end_reason, extract(epoch from clock_timestamp() - heartbeat_at)::float8,
                      relieved_by is not null
               from orchestration.shifts where pid = %s""",
            [process.pid],
        ).fetchone()

    def is_at_work(self, process: processes.Process) -> bool:
        row = self.row(process)
        return row is not None and row[0] is None and row[1] < 3 and process.poll() is None

    def end_reason(self, process: processes.Process) -> str | None:
        row = self.row(process)
        return row[0] if row else None

    def kill(self, process: processes.Process) -> None:
        """kill -9."""
        process.kill()
        process.wait(10)
        self.running.remove(process)

    def make_older(self, process: processes.Process, interval: str) -> None:
        """Let a shift seem to have begun earlier than it did."""
        self.connection.execute(
            "update orchestration.shifts set started_at = started_at - %s::interval where pid = %s",
            [interval, process.pid],
        )

    def end_as_supervisor(self, process: processes.Process) -> None:
        """Declare a shift ended, as supervision does with one that has been silent for too long."""
        self.connection.execute(
            """update orchestration.shifts
               set ended_at = clock_timestamp(), end_reason = 'ended_by_supervisor' where pid = %s""",
            [process.pid],
        )

    def said(self) -> str:
        """What the shifts logged."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""


@contextmanager
def at_work(url: str, connection: Connection, log: Path, *, count: int = 2) -> Iterator[AtWork]:
    """`count` shifts at work until the end of the block."""
    shifts = AtWork(url, connection, log)
    try:
        for _ in range(count):
            shifts.start()
        yield shifts
    finally:
        for process in shifts.running:
            process.send_signal(signal.SIGCONT)
            processes.stop(process, (signal.SIGTERM, 10.0))
