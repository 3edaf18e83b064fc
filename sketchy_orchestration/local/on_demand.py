"""The services that settings leave to us, started when they are first needed and shared by all who need them.

`dagster dev` alone starts nothing; the first run or sensor that uses a resource comes here. The services
belong to a process of their own, which ends when the last of its users has: the `dagster dev` above them,
not the run that came first.

Usage: python -m sketchy_orchestration.local.on_demand   (done by `services`)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
from filelock import FileLock, Timeout

from sketchy_orchestration.database import supervision
from sketchy_orchestration.database.connect import Address, connect_to
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local import processes, stack_state
from sketchy_orchestration.local.stack import Stack
from sketchy_orchestration.local.stack_options import StackOptions
from sketchy_orchestration.local.stack_parts import last_line
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.settings import settings as own_settings

_START_SECONDS = 50.0
_LOOK_SECONDS = 1.0
# A shift leaves with its next heartbeat, and cleanly only while there is a database.
_LINGER_SECONDS = 3.0


class ServicesFailedError(SketchyError):
    """The local services could not be started; the message says why and where their log is."""


def services(settings: Settings) -> Mapping[str, str]:
    """How to reach what `settings` leave out, by environment variable; started here if nobody has.

    A stack that `sketchy up` runs in the same home folder is joined.

    Raises:
        ServicesFailedError: they do not start.
    """
    home = settings.sketchy_home.resolve()
    try:
        (home / "logs").mkdir(parents=True, exist_ok=True)
        with FileLock(home / "services.lock", timeout=_START_SECONDS):
            _register(home, _user())
            state = stack_state.read(home)
            return (state or _start(home)).environment
    except Timeout:
        raise ServicesFailedError(
            f"another process has been starting the local services in {home} for {_START_SECONDS:.0f} s:"
            " try again, or end it with `sketchy down`"
        ) from None
    except OSError as error:
        raise ServicesFailedError(
            f"cannot write in {home} ({error.strerror}): set SKETCHY_HOME to a folder of your own,"
            " or DATABASE_URL to a database of your own"
        ) from None


def _start(home: Path) -> stack_state.StackState:
    log = home / "logs" / "services.log"
    with log.open("wb") as output:
        # A session and a life of its own: whoever happens to come first must not take it along.
        process = subprocess.Popen(
            [sys.executable, "-m", "sketchy_orchestration.local.on_demand"],
            env={**os.environ, "SKETCHY_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    found: list[stack_state.StackState] = []

    def settled() -> bool:
        state = stack_state.read(home)
        if state is not None:
            found.append(state)
        return state is not None or process.poll() is not None

    processes.wait_until(settled, seconds=_START_SECONDS, pause=0.05)
    if not found:
        processes.stop(process)
        raise ServicesFailedError(f"the local services did not start: {last_line(log)} (their log: {log})")
    # It outlives this process on purpose, so nobody here will wait for it.
    process.returncode = 0
    return found[0]


def _user() -> psutil.Process:
    """Whoever the services are for: the topmost Dagster above this process, else this process."""
    own = psutil.Process()
    above = [process for process in own.parents() if _is_dagster(process)]
    return above[-1] if above else own


def _is_dagster(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        # The program itself, or the interpreter and the script or -m and the module.
        return any(Path(word).name.startswith("dagster") for word in process.cmdline()[:3])
    return False


def _users(home: Path) -> Path:
    return home / "users"


def _register(home: Path, user: psutil.Process) -> None:
    _users(home).mkdir(exist_ok=True)
    (_users(home) / f"{user.pid}-{user.create_time():.2f}").touch()


def _living_users(home: Path) -> Iterator[str]:
    for file in _users(home).iterdir():
        pid, _, since = file.name.partition("-")
        if processes.alive(int(pid), since=float(since)):
            yield file.name
        else:
            file.unlink(missing_ok=True)


def _unneeded(home: Path) -> bool:
    """Whether nobody is left; if so, whoever comes next starts anew."""
    if any(True for _ in _living_users(home)):
        return False
    with FileLock(home / "services.lock"):
        if any(True for _ in _living_users(home)):
            return False
        stack_state.forget(home)
        return True


def main() -> int:
    """Run the services until their last user has gone or somebody says stop."""
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    stack = Stack(own_settings(), StackOptions(services_only=True), lambda line: print(line, flush=True))  # noqa: T201
    home = stack.home
    try:
        _wait_for_the_last(home)
        stack.start()
        while not done.wait(_LOOK_SECONDS) and not _unneeded(home):
            stack.watch()
        if stack.owns_database:
            _end_shifts(stack.database_url)
            done.wait(_LINGER_SECONDS)
    except SketchyError as error:
        sys.stderr.write(f"{error.in_one_line()}\n")
        return 1
    finally:
        stack.stop()
    return 0


def _end_shifts(database_url: str) -> None:
    """A code server told to stop waits for its runs, and a shift in one would never end by itself."""
    with suppress(SketchyError, psycopg.Error):
        at = Address.of_url(database_url)
        with connect_to(at, application_name="sketchy services") as connection:
            supervision.end_all(connection, "stopped")


def _wait_for_the_last(home: Path) -> None:
    """Give services that are just ending the time to do so; a stack that goes on says so by itself."""
    with suppress(Timeout, OSError):
        FileLock(home / "stack.lock").acquire(timeout=20).lock.release()


if __name__ == "__main__":
    sys.exit(main())
