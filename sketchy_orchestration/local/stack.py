"""The local stack: every part of the system on this machine, owned by one process and gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import psutil
from filelock import FileLock, Timeout

from sketchy_orchestration.database import connect as connecting
from sketchy_orchestration.database.connect import Address
from sketchy_orchestration.local import (
    processes,
    stack_dagster,
    stack_database,
    stack_programs,
    stack_runs,
    stack_state,
)
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.stack_keyset import keyset_environment, local_environment
from sketchy_orchestration.local.stack_options import StackError, StackOptions
from sketchy_orchestration.local.stack_parts import Part, PartFailedError, Parts
from sketchy_orchestration.local.stack_state import StackState
from sketchy_orchestration.settings import Settings

_DATABASE = "DATABASE_URL"
_SHIFT_SECONDS = 20.0


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
        self._secrets: dict[str, str] = {}
        self._keyset: dict[str, str] | None = None
        self._dagster_ui: str | None = None
        self._starts: list[Iterator[None]] = []
        self.started_at = datetime.now(UTC)
        self.parts = Parts(self.home, self._mark)

    @property
    def database_url(self) -> str:
        """Connection of the owner of the schema."""
        return self.parts.environment[_DATABASE]

    @property
    def owns_database(self) -> bool:
        """Whether the database is embedded, so that everything in it is ours."""
        return self._postgres is not None

    @property
    def gateway_url(self) -> str | None:
        """Where the HTTP functions are; None until they answer."""
        return self.parts.environment.get(stack_programs.GATEWAY_VARIABLE)

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
        self._secrets = stack_state.stack_secrets(self.home, self._settings)
        self._start_postgres()
        self._start_guard()
        pubnub = self._start_pubnub()
        self._prepare_database()
        if pubnub is not None:
            pubnub.wait()
            self.parts.environment["PUBNUB_ORIGIN"] = f"127.0.0.1:{pubnub.port}"
            self._tell(f"PubNub: local, at 127.0.0.1:{pubnub.port}")
        if self._options.services_only:
            self._save()
            return
        for bridge in stack_programs.bridges(self.parts):
            bridge.start()
        self._start_players()
        self._save()
        self._tell("Dagster UI: starting ...")
        self._starts = [self._start_gateway(), self._start_dagster()]

    def watch(self) -> None:
        """Look after the parts once, and take Dagster's start a step further; call it about every second.

        Raises:
            SketchyError: Dagster does not start.
        """
        for starting in self._starts:
            next(starting, None)
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
        for name in ("players", "watchdog"):
            # The watch must not take what ends now for a fault.
            if name in self.parts:
                self.parts[name].signal_stop()
        if "dagster-daemon" in self.parts:
            # Without it no sensor replaces the runs that end now.
            self.parts["dagster-daemon"].stop(hurry=hurry)
        if not hurry:
            known = {part.state.pid for part in self.parts} | {self._guard.pid if self._guard else 0}
            stack_runs.end_runs(self._mark, known, self._dagster_ui)
        last = [part for part in self.parts if part.name == "pubnub"]
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
        self._options.check(self._settings)

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
        told = {name: self._secrets[name] for name in stack_state.TOLD if name in self._secrets}
        self.parts.environment |= {_DATABASE: url, **told}

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
            self.parts.environment |= self._keyset
            self._tell(f"PubNub: your keyset, at {self._keyset.get('PUBNUB_ORIGIN', 'the real service')}")
            return None
        self.parts.environment |= local_environment(self._secrets["PUBNUB_SECRET_KEY"])
        options = self._options
        part = stack_programs.pubnub(self.parts, options.pubnub_port, enforce_access=options.enforce_access)
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

    def _start_players(self) -> None:
        games = self._options.games
        if games is None:
            games = 50 if self._postgres is not None else 0
        if games:
            stack_programs.players(self.parts, games).start()
            self._tell(f"players: {games} games at any time")
        else:
            self._tell("players: none (--games N plays some)")

    def _start_gateway(self) -> Iterator[None]:
        """Yields wherever there is something to wait for."""
        wanted = self._options.gateway_port or self._settings.gateway_port
        gateway = stack_programs.gateway(self.parts, wanted)
        gateway.start()
        # Dagster's programs, which look at the gateway too, are started before it is ready.
        self.parts.environment["GATEWAY_PORT"] = str(gateway.port)
        try:
            yield from gateway.waiting()
        except PartFailedError as error:
            # Games go on without it: a setting that it alone needs must not hold them up.
            self.parts.let_go(gateway)
            self._tell(f"gateway: none; {error}")
            return
        url = f"http://127.0.0.1:{gateway.port}"
        self.parts.environment |= {"GATEWAY_PORT": str(gateway.port), stack_programs.GATEWAY_VARIABLE: url}
        self._save()
        self._tell(f"gateway: {url}")

    def _start_dagster(self) -> Iterator[None]:
        """Yields wherever there is something to wait for."""
        folder = self.home / "dagster"
        code_server = stack_programs.code_server(self.parts)
        own = self._secrets["DAGSTER_PASSWORD"] if self._postgres is not None else None
        storage = stack_dagster.prepare_storage(self.database_url, own)
        self.parts.environment |= {
            stack_dagster.STORAGE_VARIABLE: storage,
            "DAGSTER_HOME": str(folder),
        }
        workspace = stack_dagster.write_instance(folder, code_server.port or 0)
        code_server.start()
        if not stack_dagster.has_storage(self.database_url):
            # Whoever opens a new storage first creates its tables; two at once hinder each other.
            yield from code_server.waiting()
        # It looks for the code server again and again, so the two load side by side.
        daemon = stack_programs.daemon(self.parts, workspace, self.database_url)
        daemon.start()
        self._save()
        yield from code_server.waiting()
        yield from daemon.waiting()
        # The webserver's start takes two seconds of a processor that the first runs have better use for.
        end = time.monotonic() + _SHIFT_SECONDS
        while stack_programs.bridged(self.parts) and time.monotonic() < end:
            yield
        webserver = stack_programs.webserver(self.parts, workspace, self._options.dagster_port)
        webserver.start()
        yield from webserver.waiting()
        self._dagster_ui = f"http://127.0.0.1:{webserver.port}"
        # What it watches is complete only now.
        stack_programs.watchdog(self.parts).start()
        self._save()
        self._tell(f"Dagster: {self._dagster_ui}")

    def _end_bridges(self) -> None:
        """Let each bridge go when a run does its work."""
        if bridged := stack_programs.bridged(self.parts):
            at_work = stack_runs.shifts_in_runs(self.database_url)
            for bridge, kind in bridged.items():
                if kind in at_work:
                    self.parts.let_go(bridge)
                    self._save()

    def _save(self) -> None:
        stack_state.write(
            self.home,
            StackState(
                pid=os.getpid(),
                created=psutil.Process().create_time(),
                started_at=self.started_at.isoformat(timespec="seconds"),
                environment={**self.parts.environment, "SKETCHY_HOME": str(self.home)},
                parts=[part.state for part in self.parts],
                dagster_ui=self._dagster_ui,
            ),
        )
