"""A contestant's worker processes: started, killed, and started again when they exit."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.side_by_side.contestants import Contestant

_READY_SECONDS = 60.0
_RESTART_SECONDS = 0.1
"""systemd's RestartSec when nobody sets it."""

_AT_WORK = """
    select count(*) from orchestration.shifts
    where ended_at is null and heartbeat_at > clock_timestamp() - interval '2 s'
"""
_LANES_HELD = "select count(*) = 0 from orchestration.lanes where holder is null"


class WorkerDidNotStartError(RuntimeError):
    """A contestant's worker did not come to work; the message says whose, and where its log is."""


class Workers:
    """The processes of one contestant, each a group of its own so that none outlives the benchmark.

    Attributes:
        restarted: workers that exited, or were killed, and were started again as systemd would.
    """

    def __init__(self, contestant: Contestant, env: dict[str, str], cwd: Path, url: str) -> None:
        self._contestant, self._env, self._cwd, self._url = contestant, env, cwd, url
        self._log = (cwd / "workers.log").open("ab")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.restarted = 0
        self._running: list[tuple[tuple[str, ...], subprocess.Popen[bytes]]] = []
        for command in contestant.commands:
            self._start(command)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def supervise(self) -> None:
        """From now on, start again what exits."""
        self._supervisor.start()

    @property
    def pids(self) -> list[int]:
        """Those at work."""
        with self._lock:
            return [process.pid for _, process in self._running]

    def _start(self, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env=self._env,
            cwd=None if self._contestant.kind != "bench" or "-m" in command else self._cwd,
            stdin=subprocess.PIPE if self._contestant.told else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._running.append((command, process))
        return process

    def _wait(self) -> None:
        if self._contestant.kind == "ours" and not self._contestant.slow:
            self._wait_for_shifts()
            return
        for _, process in self._running:
            self._wait_until_ready(process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        late = threading.Timer(_READY_SECONDS, process.kill)
        late.start()
        try:
            if process.stdout.readline().strip() != b"ready":
                raise WorkerDidNotStartError(
                    f"{self._contestant.title}: its worker did not start; see {self._log.name}"
                )
        finally:
            late.cancel()

    def _wait_for_shifts(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        with psycopg.connect(self._url, autocommit=True) as connection:
            while connection.execute(_AT_WORK).fetchone() != (len(self._running),) or connection.execute(
                _LANES_HELD
            ).fetchone() != (True,):
                if time.monotonic() > until:
                    raise WorkerDidNotStartError("our shifts did not come to work")
                time.sleep(0.1)

    def double(self) -> None:
        """One more of each, where there is only one: a kill is to be survived by somebody."""
        if len(self._running) == 1 and not self._contestant.slow:
            self._wait_until_ready(self._start(self._contestant.commands[0]))

    def tell(self, line: str) -> None:
        """A line to the first worker's standard input."""
        stdin = self._running[0][1].stdin
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def kill_one(self) -> None:
        """kill -9 of one worker; of ours, of one of each kind."""
        kinds = 2 if self._contestant.kind == "ours" and not self._contestant.slow else 1
        for pid in self.pids[:kinds]:
            os.killpg(pid, signal.SIGKILL)

    def _supervise(self) -> None:
        while not self._stopping.wait(_RESTART_SECONDS):
            with self._lock:
                for command, process in list(self._running):
                    if process.poll() is not None:
                        self._running.remove((command, process))
                        _close(process)
                        self._start(command)
                        self.restarted += 1

    def stop(self) -> None:
        """End them all."""
        self._stopping.set()
        with self._lock:
            processes = [process for _, process in self._running]
            self._running = []
        for process in processes:
            _signal(process, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait(5)
            _close(process)
        self._log.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextmanager
def at_work(contestant: Contestant, env: dict[str, str], cwd: Path, url: str) -> Iterator[Workers]:
    """The contestant's workers, for as long as the turn lasts."""
    workers = Workers(contestant, env, cwd, url)
    try:
        yield workers
    finally:
        workers.stop()
