"""The local stack: every part of the system on this machine, owned by one process and gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from sketchy_orchestration.database import connect as connecting
from sketchy_orchestration.database.connect import Address
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local import processes, stack_dagster, stack_database, stack_runs, stack_state
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.stack_keyset import LOCAL_KEYS, keyset_environment, local_environment
from sketchy_orchestration.local.stack_parts import Part, answers
from sketchy_orchestration.local.stack_state import StackState
from sketchy_orchestration.settings import Environment, Settings

_DATABASE = "DATABASE_URL"
_SHIFT_SECONDS = 20.0
_BRIDGES = {"timer-bridge": "timer", "fanout-bridge": "fanout"}


class StackError(SketchyError):
    """The local stack cannot be started as asked."""


@dataclass(frozen=True)
class StackOptions:
    """What `sketchy up` was asked for.

    Attributes:
        games: how many games are played at any time; None: 50 on the embedded database, none on another.
        dagster_port, pubnub_port, postgres_port: wanted ports; busy ones are replaced.
        services_only: Postgres and PubNub alone, for a Dagster that somebody else runs (`on_demand`).
        with_application: make the application's tables where a given database lacks them; development only.
    """

    games: int | None = None
    dagster_port: int = 3000
    pubnub_port: int = 18090
    postgres_port: int | None = None
    services_only: bool = False
    with_application: bool = False


class Stack:
    """Starts the parts in order, keeps them alive, ends them in order.

    Args:
        tell: is given one line for each step.
    """

    def __init__(self, settings: Settings, options: StackOptions, tell: Callable[[str], None]) -> None:
        self.home = settings.sketchy_home.resolve()
        self._settings = settings
        self._options = options
        self._tell = tell
        self._mark = stack_state.mark_of(self.home)
        self._lock: FileLock | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}
        self._secrets: dict[str, str] = {}
        self._keyset: dict[str, str] | None = None
        self._dagster_ui: str | None = None
        self._dagster_starts: Iterator[None] = iter(())
        self.started_at = datetime.now(UTC)
        self.parts: list[Part] = []

    @property
    def database_url(self) -> str:
        """Connection of the owner of the schema."""
        return self._environment[_DATABASE]

    @property
    def owns_database(self) -> bool:
        """Whether the database is embedded, so that everything in it is ours."""
        return self._postgres is not None

    @property
    def dagster_ui(self) -> str | None:
        """Address of the Dagster UI; None until it answers."""
        return self._dagster_ui

    def start(self) -> None:
        """Start what moves games on; Dagster, which takes longer, comes up in `watch`.

        Raises:
            SketchyError: one of several kinds, each saying what to do; `stop` must be called all the same.
        """
        self._check()
        self._take_lock()
        left = processes.end_marked(self._mark)
        if left:
            self._tell(f"ended {left} programs left over from an earlier stack")
        self._secrets = stack_state.generated_secrets(self.home) | stack_state.given_secrets(self._settings)
        self._start_postgres()
        self._start_guard()
        pubnub = self._start_pubnub()
        self._prepare_database()
        if pubnub is not None:
            pubnub.wait()
            self._environment["PUBNUB_ORIGIN"] = f"127.0.0.1:{pubnub.port}"
            self._tell(f"PubNub: local, at {self._environment['PUBNUB_ORIGIN']}")
        if self._options.services_only:
            self._save()
            return
        self._start_bridges()
        self._start_players()
        self._save()
        self._tell("Dagster UI: starting ...")
        self._dagster_starts = self._start_dagster()

    def watch(self) -> None:
        """Look after the parts once, and take Dagster's start a step further; call it about every second.

        Raises:
            SketchyError: Dagster does not start.
        """
        next(self._dagster_starts, None)
        self._end_bridges()
        for part in self.parts:
            said = part.watch()
            if said:
                self._tell(said)
                self._save()
        if self._postgres is not None and not self._postgres.is_alive():
            self._tell("Postgres ended; starting it again")
            self._postgres.restart()

    def stop(self, *, hurry: bool = False) -> None:
        """End every part, those that use others first, and whatever they have started."""
        if self._lock is None:
            return  # nothing of this is ours
        by_name = {part.name: part for part in self.parts}
        if "players" in by_name:
            by_name["players"].signal_stop()
        if "dagster-daemon" in by_name:
            # Without it no sensor replaces the runs that end now.
            by_name["dagster-daemon"].stop(hurry=hurry)
        if not hurry:
            known = {part.state.pid for part in self.parts} | {self._guard.pid if self._guard else 0}
            stack_runs.end_runs(self._mark, known, self._dagster_ui)
        last = [by_name[name] for name in ("pubnub",) if name in by_name]
        others = [part for part in self.parts if part not in last]
        for part in others:
            part.signal_stop()
        for part in (*others, *last):
            part.stop(hurry=hurry)
        self._end_guard()
        processes.end_marked(self._mark, patience=1.0 if hurry else 5.0)
        if self._postgres is not None:
            self._postgres.stop()
        stack_state.forget(self.home)
        self._lock.release()
        self._lock = None

    def _check(self) -> None:
        self._keyset = keyset_environment(self._settings)
        if self._options.games and self._settings.environment is Environment.production:
            raise StackError(
                "ENVIRONMENT is production and --games asks for invented games: leave --games out"
            )
        if self._options.with_application and self._settings.environment is not Environment.development:
            raise StackError(
                f"ENVIRONMENT is {self._settings.environment} and --with-application makes tables for trying"
                " things out: it is for development only, leave it out"
            )

    def _take_lock(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            (self.home / "logs").mkdir(exist_ok=True)
            lock = FileLock(self.home / "stack.lock", timeout=0)
            lock.acquire()
        except Timeout:
            state = stack_state.read(self.home)
            who = f"process {state.pid}" if state else "another process"
            raise StackError(
                f"the stack in {self.home} is already run by {who}: `sketchy status` shows it,"
                " `sketchy down` stops it, another SKETCHY_HOME gives a second one"
            ) from None
        except OSError as error:
            raise StackError(
                f"cannot write in {self.home} ({error.strerror}): set SKETCHY_HOME to a folder of your own"
            ) from None
        self._lock = lock

    def _start_postgres(self) -> None:
        given = self._settings.database_url
        if given is not None:
            url = given.get_secret_value()
            at = Address.of_url(url)
            connecting.connect_to(at, application_name="sketchy up").close()
            self._tell(f"Postgres: yours, {at}")
        else:
            version = self._settings.postgres_version
            self._postgres = EmbeddedPostgres(self.home, version, port=self._options.postgres_port)
            running = self._postgres.start()
            url = running.owner_url()
            self._tell(f"Postgres: {version}, embedded, at 127.0.0.1:{running.port}")
        s = self._secrets
        self._environment = {
            _DATABASE: url,
            **{name: s[name] for name in ("SUPABASE_SERVICE_ROLE_KEY", "CRON_SECRET")},
        }

    def _start_guard(self) -> None:
        server = self._postgres.start().pid if self._postgres is not None else 0
        # The pipe's writing end is ours alone, so it closes when this process ends in whatever way.
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "sketchy_orchestration.local.guard", self._mark, str(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _end_guard(self) -> None:
        if self._guard is not None:
            if self._guard.stdin is not None:
                with suppress(OSError):
                    self._guard.stdin.close()
            processes.stop_after(self._guard, 15)

    def _start_pubnub(self) -> Part | None:
        if self._keyset is not None:
            self._environment |= self._keyset
            self._tell(f"PubNub: your keyset, at {self._keyset.get('PUBNUB_ORIGIN', 'the real service')}")
            return None
        publish_key, subscribe_key = LOCAL_KEYS
        self._environment |= local_environment(self._secrets["PUBNUB_SECRET_KEY"])
        part = self._part(
            "pubnub",
            lambda port: [
                *(sys.executable, "-m", "sketchy_orchestration.local.pubnub", "--port", str(port)),
                *("--publish-key", publish_key, "--subscribe-key", subscribe_key),
            ],
            port=self._options.pubnub_port,
            is_ready=lambda port: answers(f"http://127.0.0.1:{port}/time/0"),
        )
        part.start()
        return part

    def _prepare_database(self) -> None:
        if self._options.services_only and self._postgres is None:
            return  # whose database it is decides about its schema
        began = time.monotonic()
        asked = self._options.with_application
        steps = stack_database.prepare(self.database_url, owned=self.owns_database, with_application=asked)
        did = f"{steps} migrations applied" if steps else "as the migrations made it"
        self._tell(f"schema: {did} ({time.monotonic() - began:.1f} s)")

    def _start_code_server(self) -> Part:
        part = self._part(
            "code-server",
            stack_dagster.code_server_command,
            port=processes.free_port(),
            is_ready=lambda port: not processes.is_free(port),
        )
        dagster_home = self.home / "dagster"
        own = self._secrets["DAGSTER_PASSWORD"] if self._postgres is not None else None
        storage = stack_dagster.prepare_storage(self.database_url, own)
        self._environment[stack_dagster.STORAGE_VARIABLE] = storage
        self._environment["DAGSTER_HOME"] = str(dagster_home)
        stack_dagster.write_instance(dagster_home, part.port or 0)
        part.start()
        return part

    def _start_players(self) -> None:
        games = self._options.games
        if games is None:
            games = 50 if self._postgres is not None else 0
        if games:
            part = self._part(
                "players",
                lambda _: [
                    *(sys.executable, "-m", "sketchy_orchestration.cli.main", "play"),
                    *("--games", str(games), "--forever"),
                ],
            )
            part.start()
            self._tell(f"players: {games} games at any time")
        else:
            self._tell("players: none (--games N plays some)")

    def _start_dagster(self) -> Iterator[None]:
        """Yields wherever there is something to wait for."""
        code_server = self._start_code_server()
        workspace = self.home / "dagster" / "workspace.yaml"
        daemon = self._part(
            "dagster-daemon",
            lambda _: stack_dagster.daemon_command(workspace),
            is_ready=lambda _: stack_dagster.daemon_beats(self.database_url),
            patience=90,
            # It waits for its threads, though nothing it does is lost when it does not.
            stop_seconds=2.0,
        )
        # It looks for the code server again and again, so the two load side by side.
        daemon.start()
        self._save()
        yield from code_server.waiting()
        # The first of the two to open a new storage creates its tables; they must not do it both.
        yield from daemon.waiting()
        # The webserver's start takes two seconds of a processor that the first runs have better use for.
        end = time.monotonic() + _SHIFT_SECONDS
        while self._bridges() and time.monotonic() < end:
            yield
        webserver = self._part(
            "dagster-webserver",
            lambda port: stack_dagster.webserver_command(workspace, port),
            port=self._options.dagster_port,
            is_ready=lambda port: answers(f"http://127.0.0.1:{port}/server_info"),
            patience=90,
        )
        webserver.start()
        yield from webserver.waiting()
        self._dagster_ui = f"http://127.0.0.1:{webserver.port}"
        self._save()
        self._tell(f"Dagster: {self._dagster_ui}")

    def _start_bridges(self) -> None:
        """Put shifts to work that need no Dagster, whose loading takes seconds."""
        for name, kind in _BRIDGES.items():
            self._part(name, _shift_command(kind)).start()

    def _bridges(self) -> list[Part]:
        return [part for part in self.parts if part.name in _BRIDGES]

    def _end_bridges(self) -> None:
        """Let each bridge go when a run does its work."""
        if bridges := self._bridges():
            at_work = stack_runs.shifts_in_runs(self.database_url)
            for bridge in bridges:
                if _BRIDGES[bridge.name] in at_work:
                    bridge.stop()
                    self.parts.remove(bridge)
                    self._save()

    def _part(
        self,
        name: str,
        command: Callable[[int], list[str]],
        *,
        port: int | None = None,
        is_ready: Callable[[int], bool] | None = None,
        patience: float = 60.0,
        stop_seconds: float = 5.0,
    ) -> Part:
        part = Part(
            name,
            command,
            env=self._part_environment,
            logs=self.home / "logs",
            cwd=Path.cwd(),
            port=port,
            is_ready=is_ready,
            patience=patience,
            stop_seconds=stop_seconds,
        )
        self.parts.append(part)
        return part

    def _part_environment(self) -> dict[str, str]:
        """What a part sees: this process's environment, the stack's particulars and its mark."""
        return {
            **os.environ,
            **self._environment,
            "SKETCHY_HOME": str(self.home),
            processes.MARK: self._mark,
            "PYTHONUNBUFFERED": "1",
        }

    def _save(self) -> None:
        stack_state.write(
            self.home,
            StackState(
                pid=os.getpid(),
                created=psutil.Process().create_time(),
                started_at=self.started_at.isoformat(timespec="seconds"),
                environment={**self._environment, "SKETCHY_HOME": str(self.home)},
                parts=[part.state for part in self.parts],
                dagster_ui=self._dagster_ui,
            ),
        )


def _shift_command(kind: str) -> Callable[[int], list[str]]:
    return lambda _: [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", kind]
