"""A contestant's worker processes: started, killed, replaced, and what they cost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from benchmarks.side_by_side.contestants import Contestant

_READY_SECONDS = 60.0
_AT_WORK = """
    select count(*) from orchestration.shifts
    where ended_at is null and heartbeat_at > clock_timestamp() - interval '2 s'
"""
_LANES_HELD = "select count(*) = 0 from orchestration.lanes where holder is null"
_CONNECTIONS = """
    select count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'referee'
"""


@dataclass(frozen=True)
class Cost:
    """CPU seconds since the start, of the workers and of Postgres; memory of the workers in MB (PSS)."""

    workers: float
    postgres: float
    memory_mb: float
    connections: int


class Workers:
    """The processes of one contestant, each a group of its own so that none outlives the benchmark."""

    def __init__(
        self, contestant: Contestant, env: dict[str, str], cwd: Path, url: str, postmaster: int
    ) -> None:
        self._contestant, self._env, self._cwd, self._url = contestant, env, cwd, url
        self._postmaster = postmaster
        self._log = (cwd / "workers.log").open("ab")
        self.running = [self._start(command) for command in contestant.commands]
        self.wait()

    def _start(self, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self._env,
            cwd=None if self._contestant.kind != "bench" or "-m" in command else self._cwd,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Until all are at work."""
        if self._contestant.kind == "ours" and not self._contestant.slow:
            self._wait_for_shifts()
            return
        for process in self.running:
            assert process.stdout is not None
            if process.stdout.readline().strip() != b"ready":
                raise SystemExit(f"{self._contestant.title}: its worker did not start; see {self._log.name}")

    def _wait_for_shifts(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        with psycopg.connect(self._url, autocommit=True) as connection:
            while connection.execute(_AT_WORK).fetchone() != (len(self.running),) or connection.execute(
                _LANES_HELD
            ).fetchone() != (True,):
                if time.monotonic() > until:
                    raise SystemExit("our shifts did not come to work")
                time.sleep(0.1)

    def double(self) -> None:
        """One more of each, where there is only one: a kill is to be survived by somebody."""
        if len(self.running) == 1 and not self._contestant.slow:
            self.running.append(self._start(self._contestant.commands[0]))
            process = self.running[-1]
            assert process.stdout is not None
            process.stdout.readline()

    def kill_one(self) -> None:
        """kill -9 of one worker; of ours, of one of each kind."""
        kinds = 2 if self._contestant.kind == "ours" and not self._contestant.slow else 1
        for process in self.running[:kinds]:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        del self.running[:kinds]

    def stop(self) -> None:
        """End them all."""
        for process in self.running:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)
            if process.stdout is not None:
                process.stdout.close()
        self.running = []
        self._log.close()

    def cost(self) -> Cost:
        """What they have cost so far."""
        mine = [each for process in self.running for each in _tree(process.pid)]
        with psycopg.connect(self._url, application_name="referee") as connection:
            row = connection.execute(_CONNECTIONS).fetchone()
        return Cost(
            sum(map(_cpu, mine)),
            sum(map(_cpu, _tree(self._postmaster))),
            sum(each.memory_full_info().pss for each in mine) / 1e6,
            row[0] if row else 0,
        )


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def at_work(
    contestant: Contestant, env: dict[str, str], cwd: Path, url: str, postmaster: int
) -> Iterator[Workers]:
    """The contestant's workers, for as long as the turn lasts."""
    workers = Workers(contestant, env, cwd, url, postmaster)
    try:
        yield workers
    finally:
        workers.stop()
