"""Starting and ending the programs of the local stack so that none outlives its owner."""

from __future__ import annotations

import json
import os
import pwd
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from sketchy_orchestration.errors import SketchyError

_LAUNCHER = Path(__file__).with_name("launch.py")

Process = subprocess.Popen[bytes]


class ProcessError(SketchyError):
    """A program of the local stack could not be started or did not behave."""


@dataclass(frozen=True)
class Account:
    """An account of the operating system that a program runs as."""

    name: str
    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether this account may pass through every folder above `path` and read `path` itself."""
        path = path.resolve()
        if not all(self._may(folder, 0o1) for folder in path.parents):
            return False
        return self._may(path, 0o5 if path.is_dir() or os.access(path, os.X_OK) else 0o4)

    def _may(self, path: Path, wanted: int) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (status.st_mode >> shift) & wanted == wanted


def unprivileged_account() -> Account | None:
    """The account to run as in root's place; None when this process is not root.

    Raises:
        ProcessError: this is root and there is no account `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ProcessError(
            "Postgres refuses to run as root and there is no account `nobody` to run it as:"
            " run this as an ordinary user, or set DATABASE_URL"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


class _Spawner:
    """One thread that starts every child: the kernel ties the death signal to the *thread* that forked."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._requests: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="spawner", daemon=True).start()

    def _serve(self) -> None:
        while True:
            start, answer = self._requests.get()
            try:
                answer.set_result(start())
            except BaseException as error:
                answer.set_exception(error)

    def start(self, start: Callable[[], Process]) -> Process:
        answer: Future[Process] = Future()
        self._requests.put((start, answer))
        return answer.result()


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()


def start(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: Path | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> Process:
    """Start a program in a session of its own, with default signals, that ends when this process ends.

    Args:
        argv: the program (an absolute path) and its arguments.
        env: its whole environment.
        log: the file its output is appended to; None discards it.
        account: whom to run it as; only root can give one.
        death_signal: what it receives when this process dies in whatever way (Linux).
    """
    global _spawner
    options = {
        "parent": os.getpid(),
        "death_signal": int(death_signal),
        "uid": account.uid if account else None,
        "gid": account.gid if account else None,
    }
    command = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(options), *map(str, argv)]

    def popen() -> Process:
        with _output(log) as output:
            return subprocess.Popen(
                command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    with _spawner_lock:
        if _spawner is None or _spawner.pid != os.getpid():
            _spawner = _Spawner()
    return _spawner.start(popen)


@contextmanager
def _output(log: Path | None) -> Iterator[int | IO[bytes]]:
    if log is None:
        yield subprocess.DEVNULL
    else:
        with log.open("ab") as file:
            yield file


def stop(process: Process, *steps: tuple[signal.Signals, float]) -> int:
    """Send each signal in turn, waiting the seconds beside it for an end, at last SIGKILL.

    Returns:
        The exit status, negative for a signal.
    """
    for number, patience in steps or ((signal.SIGTERM, 10.0),):
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(patience)
    process.kill()
    return process.wait()


def stop_after(process: Process, seconds: float) -> int:
    """Wait for a program to end by itself, but not longer than `seconds`; then it is killed."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    process.kill()
    return process.wait()


def alive(pid: int, *, since: float | None = None) -> bool:
    """Whether a process with this id runs; with `since`, the one that started at that time (s since 1970)."""
    try:
        process = psutil.Process(pid)
        if since is not None and abs(process.create_time() - since) > 1:
            return False
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until(condition: Callable[[], bool], *, seconds: float, pause: float = 0.01) -> bool:
    """Whether `condition` came true within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return True


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """`preferred` when nobody listens there, else a port the system chooses."""
    if preferred is not None and is_free(preferred):
        return preferred
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


MARK = "SKETCHY_STACK"
"""The environment variable that all programs of one stack inherit, whoever starts them."""


def marked(mark: str) -> list[psutil.Process]:
    """Every process that carries this mark, except this one and those it descends from."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in own:
            continue
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_marked(mark: str, *, patience: float = 5.0) -> int:
    """End every process that carries this mark, politely first.

    Returns:
        How many there were.
    """
    count = 0
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        found = marked(mark)
        count = max(count, len(found))
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(number)
        if wait_until(lambda: not marked(mark), seconds=seconds, pause=0.1):
            break
    return count
