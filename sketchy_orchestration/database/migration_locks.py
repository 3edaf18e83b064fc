"""Taking locks near the application's tables without anybody noticing, and naming who stands in the way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
import structlog
from psycopg.rows import class_row

from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

log = structlog.get_logger(__name__)

# Seconds. The first bounds how long others queue behind a lock we wait for; the second how long they queue
# behind one we hold. A statement may meet both, and two tables of ours, and still wait less than 150 ms.
LOCK_TIMEOUT = 0.03
MOST_HARM = 0.05
_SAMPLE = 0.015

_LOCK_CLASS = 5273  # orchestration.lock_class(), which does not exist before the first migration
_LOCK_NUMBER = 0


class MigrationBlockedError(SketchyError):
    """A lock was not to be had for as long as we were willing to try; the message names who holds it."""


class MigrationsBusyError(SketchyError):
    """Another migrator is at work on this database and did not finish in time."""


@dataclass(frozen=True)
class Blocker:
    """A session in the way; state, ages and query are None where Postgres hides them from this role."""

    pid: int
    application_name: str | None
    user: str | None
    state: str | None
    transaction_age: float | None
    query_age: float | None
    query: str | None

    def __str__(self) -> str:
        parts = [f"pid {self.pid}", f"application {self.application_name or '(none)'!r}", f"user {self.user}"]
        parts.append(self.state or "state hidden (needs pg_read_all_stats)")
        if self.transaction_age is not None:
            parts.append(f"in its transaction for {self.transaction_age:.1f} s")
        if self.query_age is not None:
            parts.append(f"last query {self.query_age:.1f} s ago: {' '.join((self.query or '').split())}")
        return ", ".join(parts)


class Watch:
    """While a migration runs: notes who blocks it, and takes it back when others wait for it too long.

    The transaction taken back gets `QueryCanceled` and is tried again like one that found no lock.
    """

    def __init__(self, connection: psycopg.Connection[Any], pid: int, most_harm: float = MOST_HARM) -> None:
        self._connection = connection
        self._pid = pid
        self._most_harm = most_harm
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="migration watch", daemon=True)
        self.blockers: list[Blocker] = []
        self.worst_wait = 0.0
        self.stepped_aside = False

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(_SAMPLE):
                self._sample()
        except psycopg.Error as error:
            log.warning("migration_unwatched", error=" ".join(str(error).split()))

    def _sample(self) -> None:
        parameters = {"pid": self._pid}
        row = self._connection.execute(query("migrations.watch"), parameters).fetchone()
        waiting, harm = row if row else (False, 0.0)
        self.worst_wait = max(self.worst_wait, harm)
        if harm > self._most_harm and not self._over.is_set():
            self.stepped_aside = True
            self._connection.execute(query("migrations.step_aside"), parameters)
        if waiting:
            with self._connection.cursor(row_factory=class_row(Blocker)) as cursor:
                found = cursor.execute(query("migrations.blockers"), parameters).fetchall()
            self.blockers = found or self.blockers


@dataclass
class Patience:
    """How long to go on trying: jittered pauses growing from 100 ms to 2 s, until `seconds` have passed."""

    seconds: float
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._started = self.now()
        self._tries = 0

    @property
    def spent(self) -> float:
        return self.now() - self._started

    def again(self) -> bool:
        """Pauses and returns True, or returns False when patience is at its end."""
        pause = min(2.0, 0.1 * 2**self._tries) * random.uniform(0.5, 1.5)
        if self.spent + pause > self.seconds:
            return False
        self._tries += 1
        self.sleep(pause)
        return True


def take_migration_lock(connection: psycopg.Connection[Any], patience: float) -> None:
    """Takes the session-level lock that only one migrator of a database holds; it dies with the session.

    Raises:
        MigrationsBusyError: another migrator kept it for `patience` seconds.
    """
    key = {"class": _LOCK_CLASS, "number": _LOCK_NUMBER}
    trying = Patience(patience)
    while True:
        row = connection.execute(query("migrations.try_lock"), key).fetchone()
        if row and row[0]:
            return
        if not trying.again():
            break
    with connection.cursor(row_factory=class_row(Blocker)) as cursor:
        holder = cursor.execute(query("migrations.lock_holder"), key).fetchone()
    raise MigrationsBusyError(
        f"another migrator has been at work for {trying.spent:.0f} s ({holder or 'it has just finished'}): "
        "wait for it, or end that session"
    )
