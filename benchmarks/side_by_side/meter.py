"""What a contestant costs under load: CPU of workers and Postgres, peaks of memory and connections."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil
import psycopg

_EVERY_SECONDS = 1.0
_SESSIONS = """
    select count(*) filter (where application_name not in ('referee', 'writer')),
           array_agg(pid) filter (where application_name = 'referee')
    from pg_stat_activity where datname = current_database()
"""


class Meter:
    """Looks once a second, from `begin` to `end`, in a thread of its own.

    CPU of a process that exits is what the last look saw of it; `look` before a kill. The referee's own
    sessions are taken out of what Postgres has spent.

    Attributes:
        memory_mb, connections: the most there was, of all workers together (memory as PSS).
    """

    def __init__(self, url: str, pids: Callable[[], list[int]], postmaster: int) -> None:
        self._url, self._pids, self.postmaster = url, pids, postmaster
        self._spent: dict[int, float] = {}
        self._referee: dict[int, float] = {}
        self._before = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="meter", daemon=True)
        self._connection: psycopg.Connection | None = None
        self.memory_mb = 0.0
        self.connections = 0
        self.cpu = 0.0

    def begin(self) -> None:
        """The load begins: what was spent before does not count."""
        self.look()
        self._before = self._total()
        self._thread.start()

    def end(self) -> None:
        """The load is over; `cpu` has the seconds since `begin`. A second call does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
            self.look()
            self.cpu = self._total() - self._before
        if self._connection is not None:
            self._connection.close()

    def look(self) -> None:
        """One look."""
        with self._lock:
            trees = {pid: _tree(pid) for pid in self._pids()}
            memory = 0.0
            for pid, tree in trees.items():
                memory += sum(map(_memory, tree)) / 1e6
                self._note(pid, tree)
            self.memory_mb = max(self.memory_mb, memory)
            self._note(self.postmaster, _tree(self.postmaster))
            try:
                self._look_at_sessions()
            except psycopg.OperationalError:
                self._connection = None

    def _note(self, root: int, tree: list[psutil.Process]) -> None:
        self._spent[root] = max(self._spent.get(root, 0.0), sum(map(_cpu, tree)))

    def _look_at_sessions(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True, application_name="referee")
        row = self._connection.execute(_SESSIONS).fetchone()
        if row is not None:
            self.connections = max(self.connections, row[0])
            for pid in row[1] or ():
                self._referee[pid] = sum(map(_cpu, _tree(pid)[:1])) or self._referee.get(pid, 0.0)

    def _total(self) -> float:
        return sum(self._spent.values()) - sum(self._referee.values())

    def _keep(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self.look()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu(process: psutil.Process) -> float:
    """Its own seconds, and those of its children that have ended: a Dagster run is a child."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0.0
