"""Shifts of both kinds and the local PubNub, as processes that a test may kill, freeze and replace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psycopg

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.pubnub.config import StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.remote import RunningStandIn
from tests.faults.books import entries_of

Connection = psycopg.Connection[Any]
Process = processes.Process
Kind = Literal["timer", "fanout"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
SHIFT = ("-m", "sketchy_orchestration.cli.main", "shift")


class PubNub:
    """The stand-in, on one port whatever becomes of its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: list[Path] = []
        self.port = processes.free_port()
        self.origin = f"127.0.0.1:{self.port}"
        self.control = RunningStandIn(self.origin)
        self.process = self.start()

    def start(self) -> Process:
        """A new process on the same port, with a record of its own."""
        record = self._folder / f"accepted-{len(self._records)}.jsonl"
        self._records.append(record)
        command = [sys.executable, "-m", "sketchy_orchestration.local.pubnub"]
        command += ["--port", str(self.port), "--record", str(record)]
        self.process = processes.start(
            command, env=dict(os.environ), log=self._folder / "pubnub.log", cwd=ROOT
        )
        assert processes.wait_until(self.answers, seconds=START_SECONDS), "the local PubNub did not start"
        return self.process

    def answers(self) -> bool:
        with suppress(StandInError):
            return bool(self.control.stats())
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def fault(self, kind: str, **settings: Any) -> int:
        """Switch a fault of publishes on; its number."""
        return self.control.fault_on({"kind": kind, "operations": ["publish"], **settings})

    def struck(self) -> int:
        """How many requests the faults that are on have struck."""
        return sum(int(fault["struck"]) for fault in self.control.faults())

    def accepted(self) -> list[dict[str, Any]]:
        """Everything it took, of all its lives, once it is written down."""
        with suppress(StandInError):
            count = int(self.control.record(limit=0)["count"])
            current = self._records[-1]
            processes.wait_until(lambda: current.read_bytes().count(b"\n") >= count, seconds=5)
        return entries_of(*(file for file in self._records if file.exists()))

    def environment(self) -> dict[str, str]:
        """What a process needs to publish here."""
        keys = StandInConfig()
        return {
            "PUBNUB_ORIGIN": self.origin,
            "PUBNUB_PUBLISH_KEY": keys.publish_key,
            "PUBNUB_SUBSCRIBE_KEY": keys.subscribe_key,
            "PUBNUB_SSL": "false",
        }


class Workers:
    """The shifts of one database."""

    def __init__(self, url: str, environment: Mapping[str, str], log: Path) -> None:
        self.url = url
        self._environment = {**os.environ, **environment}
        self._log = log
        self.running: dict[Kind, list[Process]] = {"timer": [], "fanout": []}

    def start(
        self, kind: Kind, *, command: Iterable[str] = SHIFT, prefix: Iterable[str] = (), **environment: str
    ) -> Process:
        """One more shift; does not wait for it. `prefix` is a program that runs it."""
        process = processes.start(
            [*prefix, sys.executable, *command, kind],
            env={**self._environment, "DATABASE_URL": self.url, **environment},
            log=self._log,
            cwd=ROOT,
        )
        self.running[kind].append(process)
        return process

    def wait_for(self, connection: Connection, *some: Process) -> None:
        """Until these shifts, or all, are at work and every lane is held."""
        wanted = some or (*self.running["timer"], *self.running["fanout"])
        assert processes.wait_until(
            lambda: all(at_work(connection, process.pid) for process in wanted), seconds=START_SECONDS
        ), self.said()
        if self.running["fanout"]:
            assert processes.wait_until(lambda: self.lanes_held(connection), seconds=START_SECONDS), (
                self.said()
            )

    def lanes_held(self, connection: Connection) -> bool:
        """Whether all lanes are held by relays that live, each having its share."""
        held = holders(connection)
        shares = [held.get(process.pid, 0) for process in self.running["fanout"]]
        return sum(shares) == 32 and min(shares) > 0

    def kill(self, process: Process, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and forget it."""
        process.send_signal(number)
        process.wait(10)
        for each in self.running.values():
            if process in each:
                each.remove(process)

    def died(self, process: Process, seconds: float = 30.0) -> bool:
        """Whether a process dies by itself, killed by SIGKILL."""
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(seconds)
            for each in self.running.values():
                if process in each:
                    each.remove(process)
            return code == -signal.SIGKILL
        return False

    def said(self, *, whole: bool = False) -> str:
        """What the shifts logged last, or all of it."""
        text = self._log.read_text(encoding="utf-8") if self._log.exists() else ""
        return text if whole else text[-4000:]

    @contextmanager
    def without(self, process: Process) -> Iterator[None]:
        """Cut off, it is not among those at work, whatever comes of that; afterwards it is."""
        kind = next(kind for kind, each in self.running.items() if process in each)
        self.running[kind].remove(process)
        try:
            yield
        finally:
            self.running[kind].append(process)

    def close(self) -> None:
        every = [process for each in self.running.values() for process in each]
        for process in every:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in every:
            processes.stop(process, (signal.SIGTERM, 8.0))


def at_work(connection: Connection, pid: int) -> bool:
    """Whether the shift of this process had a heartbeat lately and has not ended."""
    row = connection.execute(
        """select ended_at is null and heartbeat_at > clock_timestamp() - interval '3 s'
           from orchestration.shifts where pid = %s order by started_at desc limit 1""",
        [pid],
    ).fetchone()
    return row == (True,)


def holders(connection: Connection) -> dict[int, int]:
    """Lanes held, by process id."""
    return dict(
        connection.execute(
            """select s.pid, count(*)::int from orchestration.lanes l
               join orchestration.shifts s on s.shift_id = l.holder group by 1"""
        ).fetchall()
    )


def stopped(process: Process) -> bool:
    """Whether a process is frozen by SIGSTOP."""
    return Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith("T")
