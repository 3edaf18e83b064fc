"""sketchy up, down, status, env: the local stack."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import typer
from rich.console import Console
from rich.live import Live

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.cli.stack_screen import one_line, screen
from sketchy_orchestration.database.connect import Address, Role, connect_to
from sketchy_orchestration.database.status import Status, first_transition_after, read_status
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local import processes, stack_state
from sketchy_orchestration.local.postgres.folders import delete as delete_postgres
from sketchy_orchestration.local.stack import Stack
from sketchy_orchestration.local.stack_options import StackOptions
from sketchy_orchestration.local.stack_programs import GATEWAY_VARIABLE
from sketchy_orchestration.settings import settings

_LOOK_SECONDS = 0.5
_EXACT_SECONDS = 10.0
_PLAIN_SECONDS = 30.0
_NEWS_SECONDS = 60.0
_DOWN_SECONDS = 45.0


class _StopRequestedError(BaseException):
    """Ctrl-C or a signal to end; not an error of anything, so not an Exception."""


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """A signal to end raises in the main thread, at most twice: the second one is for hurry."""
    asked = 0

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise _StopRequestedError

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watch:
    """Looks at the system again and again, and reconnects when its connection breaks."""

    def __init__(self, url: str) -> None:
        self._address = Address.of_url(url)
        self._connection: psycopg.Connection[Any] | None = None
        self._exact_at = 0.0
        self._last: Status | None = None
        self.problem: str | None = None

    def look(self) -> Status | None:
        exact = time.monotonic() >= self._exact_at
        try:
            if self._connection is None:
                self._connection = connect_to(self._address, application_name="sketchy up")
            status = read_status(self._connection, exact=exact)
        except (psycopg.Error, SketchyError) as error:
            self.close()
            self.problem = " ".join(str(error).split())
            return self._last
        self.problem = None
        if exact:
            self._exact_at = time.monotonic() + _EXACT_SECONDS
        elif self._last is not None and self._last.waiting_events > status.waiting_events:
            # Between two exact counts only the latest events are looked at; older ones may still wait.
            status = replace(
                status,
                oldest_waiting_seconds=max(status.oldest_waiting_seconds, self._last.oldest_waiting_seconds),
            )
        self._last = status
        return status

    def first_transition(self, since: datetime) -> float | None:
        with suppress(psycopg.Error):
            if self._connection is not None:
                return first_transition_after(self._connection, since)
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def up(
    games: int | None = typer.Option(
        None,
        min=0,
        max=5000,
        help="Games played at any time. Default: 50 on the embedded database, else none.",
    ),
    dagster_port: int = typer.Option(3000, min=1, max=65535, help="Wanted port of the Dagster UI."),
    pubnub_port: int = typer.Option(18090, min=1, max=65535, help="Wanted port of the local PubNub."),
    postgres_port: int | None = typer.Option(
        None, min=1, max=65535, help="Wanted port of the embedded Postgres. Default: the last one used."
    ),
    gateway_port: int | None = typer.Option(
        None, min=1, max=65535, help="Wanted port of the gateway. Default: GATEWAY_PORT, 8787."
    ),
    with_application: bool = typer.Option(
        False,
        "--with-application",
        help="First make the application's own tables where DATABASE_URL lacks them, and take its games"
        " over; for development only.",
    ),
    enforce_access: bool = typer.Option(
        False,
        "--enforce-access",
        help="The local PubNub lets in only who has a token or the secret key, as with Access Manager.",
    ),
) -> None:
    """Start the whole system and play games through it, until Ctrl-C.

    Postgres is embedded unless DATABASE_URL is set; PubNub is local unless its keys are set. A busy port is
    replaced by a free one. A database of yours must have the application's tables.
    """
    console = Console()
    began = time.monotonic()
    notices: deque[tuple[float, str]] = deque(maxlen=6)

    def tell(line: str) -> None:
        now = time.monotonic()
        notices.append((now, f"{now - began:6.1f} s  {line}"))
        if not console.is_terminal or not live_started:
            console.print(notices[-1][1], highlight=False, markup=False, soft_wrap=True)

    live_started = False
    options = StackOptions(
        games,
        dagster_port,
        pubnub_port,
        postgres_port,
        gateway_port,
        with_application=with_application,
        enforce_access=enforce_access,
    )
    stack = Stack(settings(), options, tell)
    with _stop_on_signals():
        try:
            stack.start()
            live_started = True
            _show(console, stack, notices, tell)
        except _StopRequestedError:
            console.print("stopping ...", highlight=False)
        finally:
            try:
                stack.stop()
            except _StopRequestedError:
                stack.stop(hurry=True)
    console.print("stopped")


def _show(console: Console, stack: Stack, notices: deque[tuple[float, str]], tell: Any) -> None:
    watch = _Watch(stack.database_url)
    pause = threading.Event()
    told_first = False
    next_plain = 0.0
    live = Live(console=console, auto_refresh=False, screen=False) if console.is_terminal else None
    try:
        with live or nullcontext():
            while True:
                stack.watch()
                status = watch.look()
                if not told_first and (seconds := watch.first_transition(stack.started_at)) is not None:
                    told_first = True
                    tell(f"first transition after {seconds:.1f} s")
                if live is not None:
                    title = f"Sketchy Orchestration, up {datetime.now(UTC) - stack.started_at}".partition(
                        "."
                    )[0]
                    live.update(
                        screen(
                            status,
                            [part.state for part in stack.parts],
                            title=title,
                            gateway=stack.gateway_url,
                            dagster_ui=stack.dagster_ui,
                            dagster_starts=stack.dagster_ui is None,
                            notices=[
                                *_recent(notices),
                                "Ctrl-C stops everything; sketchy env | status | down elsewhere",
                            ],
                            problem=watch.problem,
                        ),
                        refresh=True,
                    )
                elif status is not None and time.monotonic() >= next_plain:
                    next_plain = time.monotonic() + _PLAIN_SECONDS
                    tell(watch.problem or one_line(status))
                pause.wait(_LOOK_SECONDS)
    finally:
        watch.close()


def _recent(notices: Iterable[tuple[float, str]]) -> list[str]:
    """What happened a while ago is no news."""
    return [line for when, line in notices if time.monotonic() - when < _NEWS_SECONDS]


def down(
    quiet: bool = typer.Option(False, "--quiet", help="Say nothing."),
    delete_data: bool = typer.Option(False, "--delete-data", help="Also remove the database and the logs."),
) -> None:
    """Stop the local stack of this home folder, whoever started it."""
    home = settings().sketchy_home.resolve()
    state = stack_state.read(home)
    if state is not None:
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
        if not processes.wait_until(lambda: not state.alive, seconds=_DOWN_SECONDS, pause=0.1):
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGKILL)
    left = processes.end_marked(stack_state.mark_of(home))
    if delete_data:
        delete_postgres(home)
        _delete(home)
    if not quiet:
        typer.echo("stopped" if state is not None or left else f"no local stack is running in {home}")


def _delete(home: Path) -> None:
    import shutil

    for name in ("dagster", "logs", "stack.json", "stack.lock", "secrets.json"):
        path = home / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def env() -> None:
    """Print how to join the running stack, for: eval "$(sketchy env)"."""
    state = stack_state.running(settings().sketchy_home)
    urls = {"SKETCHY_DAGSTER_UI": state.dagster_ui} if state.dagster_ui is not None else {}
    for name, value in sorted({**state.environment, **urls}.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


def status(as_json: bool = typer.Option(False, "--json", help="Machine-readable.")) -> None:
    """One screen of truth: of the database that is set, else of the local stack."""
    chosen = joined_settings()
    state = stack_state.read(chosen.sketchy_home)
    own = chosen.database_url.get_secret_value() if chosen.database_url is not None else None
    if state is not None and state.environment.get("DATABASE_URL") != own:
        state = None
    # On a server only the logins of the parts are set, the operator's among them.
    address = Address.of_role(chosen, Role.operator if own is None else Role.owner)
    with connect_to(address, application_name="sketchy status") as connection:
        try:
            found = read_status(connection)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise NotInstalledError(
                f"the database at {address} lacks our schema: run `sketchy migrate up`"
            ) from None
    parts = state.parts if state is not None else []
    if as_json:
        stack: dict[str, Any] | None = None
        if state is not None:
            stack = {
                "pid": state.pid,
                "started_at": state.started_at,
                "dagster_ui": state.dagster_ui,
                "gateway": state.environment.get(GATEWAY_VARIABLE),
                "parts": [asdict(part) | {"alive": part.alive} for part in parts],
            }
        json.dump({"database": str(address), "stack": stack, "system": found.as_dict()}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    title = f"Sketchy Orchestration at {address}"
    gateway = state.environment.get(GATEWAY_VARIABLE) if state else None
    ui = state.dagster_ui if state else None
    Console().print(screen(found, parts, title=title, gateway=gateway, dagster_ui=ui))


class NotInstalledError(SketchyError):
    """The database does not have our schema."""
