"""The programs of the stack: started, waited for, started again when they die, ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local import processes
from sketchy_orchestration.local.processes import Process
from sketchy_orchestration.local.stack_state import PartState

_PORT_ATTEMPTS = 4
_LOOK_SECONDS = 0.03
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOG_BYTES = 20 * 1024 * 1024
_RESTART_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A part that ran this long has proved itself: its next death is a first one again.
_PROVEN_SECONDS = 60.0


class PartFailedError(SketchyError):
    """A program of the stack did not start; the message has its last words and where its log is."""


class Part:
    """One program.

    Args:
        command: from the port (0 when it has none) to the command line.
        env: its whole environment, asked for at each start.
        port: wanted port, for a program that listens; a busy one is replaced.
        is_ready: from the port to whether it does its work; None: running is enough.
        patience: seconds it may take to become ready.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], list[str]],
        *,
        env: Callable[[], Mapping[str, str]],
        logs: Path,
        cwd: Path | None = None,
        port: int | None = None,
        is_ready: Callable[[int], bool] | None = None,
        patience: float = 60.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.port = port
        self.restarts = 0
        self._command = command
        self._env = env
        self._cwd = cwd
        self._is_ready = is_ready
        self._patience = patience
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._process: Process | None = None
        self._started = 0.0
        self._again_at: float | None = None
        self._deaths = 0
        # Whoever waits for it decides what its death means.
        self._awaited = False

    @property
    def state(self) -> PartState:
        pid = self._process.pid if self._process is not None else 0
        return PartState(self.name, pid, self.port, str(self.log), self.restarts)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program; `wait` or `waiting` tells when it is ready."""
        self.log.unlink(missing_ok=True)
        self._awaited = self._is_ready is not None
        self._launch(new_port=True)

    def wait(self) -> None:
        """Wait until the program is ready; errors are those of `waiting`."""
        for _ in self.waiting():
            time.sleep(_LOOK_SECONDS)

    def waiting(self) -> Iterator[None]:
        """Yields as long as the program is not ready, so that its caller can do other things meanwhile.

        On a port that somebody took meanwhile it is started on another.

        Raises:
            PartFailedError: it ended, or was not ready in time.
        """
        for attempt in range(_PORT_ATTEMPTS):
            end = time.monotonic() + self._patience
            while not self._settled() and time.monotonic() < end:
                yield
            if self.alive and self._ready():
                self._awaited = False
                return
            if self.alive:
                raise PartFailedError(
                    f"{self.name} was not ready within {self._patience:.0f} s (its log: {self.log})"
                )
            taken = self.port is not None and not processes.is_free(self.port)
            if not taken or attempt == _PORT_ATTEMPTS - 1:
                break
            self._launch(new_port=True)
        raise PartFailedError(f"{self.name} ended at once: {last_line(self.log)} (its log: {self.log})")

    def watch(self) -> str | None:
        """Start the program again when it has died, after a pause that grows with its deaths.

        Returns:
            A line to tell the operator, when something happened.
        """
        now = time.monotonic()
        self._bound_log()
        if self.alive or self._awaited:
            return None
        if self._again_at is None:
            self._deaths = 1 if now - self._started > _PROVEN_SECONDS else self._deaths + 1
            pause = _RESTART_PAUSES[min(self._deaths, len(_RESTART_PAUSES)) - 1]
            self._again_at = now + pause
            code = self._process.returncode if self._process is not None else None
            return f"{self.name} ended (status {code}): {last_line(self.log)}; again in {pause:g} s"
        if now >= self._again_at:
            self._again_at = None
            self.restarts += 1
            self._launch(new_port=False)
            return f"{self.name} started again"
        return None

    def stop(self, *, hurry: bool = False) -> None:
        """End the program, politely first."""
        if self._process is not None:
            processes.stop(self._process, (self._stop_signal, 1.0 if hurry else self._stop_seconds))

    def signal_stop(self) -> None:
        """Ask the program to end and do not wait."""
        if self._process is not None and self.alive:
            self._process.send_signal(self._stop_signal)

    def _launch(self, *, new_port: bool) -> None:
        if self.port is not None and new_port:
            self.port = processes.free_port(self.port)
        self._process = processes.start(
            self._command(self.port or 0), env=self._env(), log=self.log, cwd=self._cwd
        )
        self._started = time.monotonic()

    def _settled(self) -> bool:
        return not self.alive or self._ready()

    def _ready(self) -> bool:
        return self._is_ready is None or self._is_ready(self.port or 0)

    def _bound_log(self) -> None:
        # The program keeps its file open, so the file is emptied in place; what was in it goes aside once.
        with suppress(OSError):
            if self.log.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                with self.log.open("r+b") as file:
                    file.truncate(0)


class Parts:
    """The programs of one stack, and what all of them are told.

    Attributes:
        environment: settings by name; a program sees what is in it at its start.
    """

    def __init__(self, home: Path, mark: str) -> None:
        self.environment: dict[str, str] = {}
        self._home = home
        self._mark = mark
        self._all: list[Part] = []

    def __iter__(self) -> Iterator[Part]:
        return iter(list(self._all))

    def __getitem__(self, name: str) -> Part:
        return next(part for part in self._all if part.name == name)

    def __contains__(self, name: str) -> bool:
        return any(part.name == name for part in self._all)

    def add(
        self,
        name: str,
        command: Callable[[int], list[str]],
        *,
        port: int | None = None,
        is_ready: Callable[[int], bool] | None = None,
        patience: float = 60.0,
        stop_seconds: float = 5.0,
    ) -> Part:
        """One more program, not yet started; the arguments are those of `Part`."""
        part = Part(
            name,
            command,
            env=self._variables,
            logs=self._home / "logs",
            cwd=Path.cwd(),
            port=port,
            is_ready=is_ready,
            patience=patience,
            stop_seconds=stop_seconds,
        )
        self._all.append(part)
        return part

    def let_go(self, part: Part) -> None:
        """End a program that is needed no more."""
        part.stop()
        self._all.remove(part)

    def _variables(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.environment,
            "SKETCHY_HOME": str(self._home),
            processes.MARK: self._mark,
            "PYTHONUNBUFFERED": "1",
        }


def answers(url: str) -> bool:
    """Whether an HTTP server says 200 there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def last_line(log: Path) -> str:
    """The last line of a log with text in it, cut to a readable length."""
    if not log.exists():
        return "it said nothing"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    said = next((line for line in reversed(lines) if line), "it said nothing")
    return _COLOUR.sub("", said)[:300]
