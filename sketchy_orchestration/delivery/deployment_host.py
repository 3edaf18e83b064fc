"""Where releases run: the new one is started beside the old one, and stopped again if it must be.

The plain host runs processes on this machine: a code server and shifts, by the interpreter of the release.
Where something else does that (a container platform, systemd), commands of the configuration take its place.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import structlog
from pydantic import SecretStr

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

LISTENS_WITHIN = 90.0
"""Seconds in which a code server must have loaded the definitions and listen."""

_STOP_SECONDS = 10.0
_COMMAND_SECONDS = 600.0

log = structlog.get_logger(__name__)


class HostError(SketchyError):
    """A release could not be started or stopped."""


class Host(Protocol):
    """Starts and stops what runs of a release; each is safe to repeat.

    A placement is what was started: plain values, kept in the database.
    """

    def start_code(self, placement: Mapping[str, Any]) -> dict[str, Any]:
        """Start its code server beside what is there, and wait until it listens."""
        ...

    def start_shifts(self, placement: Mapping[str, Any]) -> dict[str, Any]:
        """Start shifts of it, as many as are wanted at work."""
        ...

    def stop(self, placement: Mapping[str, Any]) -> str:
        """Stop what was started; says what."""
        ...


@dataclass(frozen=True, slots=True)
class ProcessHost:
    """Processes on this machine.

    Attributes:
        settings: passed on to them as environment.
        folder: where their logs go.
        python: the interpreter of the release; another version is another virtual environment.
        path: a checkout put before what that interpreter has installed; empty for none.
        wanted: shifts of each kind.
    """

    settings: Settings
    folder: Path
    python: str = sys.executable
    path: str = ""
    wanted: int = 2
    variables: Mapping[str, str] = field(default_factory=dict)

    def start_code(self, placement: Mapping[str, Any]) -> dict[str, Any]:
        """See `Host`."""
        if _lives(placement.get("code_pid"), placement.get("code_began")):
            return dict(placement)
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        words = ["-m", "dagster", "api", "grpc", "-m", "sketchy_orchestration.definitions"]
        words += ["--host", "127.0.0.1", "--port", str(port), "--location-name", "sketchy_orchestration"]
        process = self._start(words, "code-server")
        until = time.monotonic() + LISTENS_WITHIN
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                process.wait()
                raise HostError(f"the new code server does not come up: see {self.folder}/code-server.log")
            time.sleep(0.1)
        process.returncode = 0  # as with the shifts below
        return {**placement, "python": self.python, "code_port": port, **_known("code", process)}

    def start_shifts(self, placement: Mapping[str, Any]) -> dict[str, Any]:
        """See `Host`."""
        alive = [one for one in placement.get("shifts", []) if _lives(one["pid"], one["began"])]
        for kind in ("timer", "fanout"):
            for _ in range(self.wanted - sum(one["kind"] == kind for one in alive)):
                process = self._start(
                    ["-m", "sketchy_orchestration.cli.main", "shift", kind], f"{kind}-shift"
                )
                # It outlives this process on purpose, so that nobody here will wait for it.
                process.returncode = 0
                alive.append(
                    {"kind": kind, "pid": process.pid, "began": psutil.Process(process.pid).create_time()}
                )
        return {**placement, "shifts": alive}

    def stop(self, placement: Mapping[str, Any]) -> str:
        """See `Host`: shifts leave in good order, then the code server, which would wait for its runs."""
        shifts = [(one["pid"], one["began"]) for one in placement.get("shifts", [])]
        code = [(placement["code_pid"], placement["code_began"])] if "code_pid" in placement else []
        stopped = sum(_stop(pid, began) for pid, began in (*shifts, *code))
        return f"{stopped} processes stopped"

    def _start(self, words: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as output:
            # A session of its own: it outlives the run that starts it.
            return subprocess.Popen(
                [self.python, *words],
                env={**os.environ, **environment_of(self.settings), **self._paths(), **self.variables},
                cwd=self.path or None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _paths(self) -> dict[str, str]:
        return {"PYTHONPATH": self.path} if self.path else {}


@dataclass(frozen=True, slots=True)
class CommandHost:
    """Commands that do it, where this machine does not run the releases.

    Attributes:
        code, shifts, undo: command lines; empty ones do nothing. They find RELEASE in their environment.
    """

    release: str
    code: str = ""
    shifts: str = ""
    undo: str = ""

    def start_code(self, placement: Mapping[str, Any]) -> dict[str, Any]:
        """See `Host`."""
        return {**placement, "code": self._run(self.code)}

    def start_shifts(self, placement: Mapping[str, Any]) -> dict[str, Any]:
        """See `Host`."""
        return {**placement, "shift_command": self._run(self.shifts)}

    def stop(self, placement: Mapping[str, Any]) -> str:  # noqa: ARG002  commands know by themselves
        """See `Host`."""
        return self._run(self.undo)

    def _run(self, line: str) -> str:
        if not line:
            return "no command is configured"
        done = subprocess.run(
            shlex.split(line),
            env={**os.environ, "RELEASE": self.release},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        said = " ".join((done.stdout + done.stderr).split())[-200:]
        if done.returncode:
            raise HostError(f"`{line}` ended with code {done.returncode}: {said}")
        return said or "done"


def environment_of(settings: Settings) -> dict[str, str]:
    """Settings that were given, as a process reads them."""
    found = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            found[name.upper()] = value.get_secret_value()
        elif isinstance(value, str | int | float | Path):
            found[name.upper()] = str(value)
    return found


def _known(name: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    return {f"{name}_pid": process.pid, f"{name}_began": psutil.Process(process.pid).create_time()}


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lives(pid: int | None, began: float | None) -> bool:
    """Whether this very process lives: its number may have been given to another since."""
    if pid is None or began is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - began) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stop(pid: int, began: float) -> bool:
    if not _lives(pid, began):
        return False
    try:
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
