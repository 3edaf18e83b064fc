"""Numbered migrations, each one transaction, with an exact way back; safe to run from two places at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb

from sketchy_orchestration import __version__, crash_points
from sketchy_orchestration.database.connect import Address, connect_to, explained
from sketchy_orchestration.database.migration_checks import (
    breaches,
    catalogue,
    check_ready,
    check_schema_is_free,
    differences,
)
from sketchy_orchestration.database.migration_files import Migration, load_migrations
from sketchy_orchestration.database.migration_locks import (
    LOCK_TIMEOUT,
    MigrationBlockedError,
    Patience,
    Watch,
    take_migration_lock,
)
from sketchy_orchestration.database.migration_plan import (
    State,
    applied,
    plan_down,
    plan_up,
    states,
)
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

log = structlog.get_logger(__name__)

# Seconds; a busy table gives way within one or two tries, so a minute means somebody holds on to it.
PATIENCE = 60.0

_LOCK_FAILURES = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
)


class MigrationFailedError(SketchyError):
    """The SQL of a migration raised; nothing of that migration remains."""


class DownRefusedError(SketchyError):
    """Going down now would lose events or leave games without a handler."""


@dataclass(frozen=True)
class Step:
    """A migration made or taken back: how often it was tried, how long the last try took, what others felt.

    Attributes:
        seconds: duration of the transaction that was committed.
        worst_wait: longest wait, in seconds, of another session for a table we held or stood in line for, as
            sampled over all tries.
    """

    number: int
    name: str
    tries: int
    seconds: float
    worst_wait: float


Told = Callable[[Step], None]


def _log(step: Step) -> None:
    name = f"{step.number:04d}_{step.name}"
    log.info("migration_step", migration=name, tries=step.tries, seconds=round(step.seconds, 3))


@contextmanager
def _session(url: str, name: str = "sketchy migrate") -> Iterator[psycopg.Connection[Any]]:
    at = Address.of_url(url)
    # A statement may be long where no lock near the application is held; where one is, the watch ends it.
    connection = connect_to(at, application_name=name, statement_timeout=600, lock_timeout=LOCK_TIMEOUT)
    # A migration is a script of many statements, which cannot be prepared as one.
    connection.prepare_threshold = None
    with connection:
        try:
            yield connection
        except psycopg.OperationalError as error:
            if connection.broken:
                raise explained(error, at) from error
            raise


def migrate_up(
    url: str,
    target: int | None = None,
    *,
    folder: Path | None = None,
    patience: float = PATIENCE,
    told: Told = _log,
) -> list[Step]:
    """Applies what is pending up to `target` (default: all). Applying nothing is fine.

    Args:
        patience: seconds to go on trying for a lock, per migration, and for another migrator to finish.
        told: called after each step; default: the log.

    Raises:
        DatabaseNotReadyError, MigrationFilesError, MigrationChangedError, MigrationBlockedError,
        MigrationsBusyError, MigrationFailedError, UnknownTargetError, and those of `connect`.
    """
    files = load_migrations(folder)
    steps: list[Step] = []
    with _session(url) as connection:
        take_migration_lock(connection, patience)
        to_apply = plan_up(files, applied(connection), target)
        if not to_apply:
            return steps
        check_ready(connection)
        if to_apply[0].number == 1:
            check_schema_is_free(connection)
        for migration in to_apply:
            step = _run(connection, url, migration, partial(_up, connection, migration), patience)
            crash_points.reach("migration.committed")
            _keep_catalogue(connection, migration.number)
            crash_points.reach("migration.kept")
            steps.append(step)
            told(step)
    return steps


def migrate_down(
    url: str,
    target: int,
    discard_reason: str | None = None,
    *,
    folder: Path | None = None,
    patience: float = PATIENCE,
    told: Told = _log,
) -> list[Step]:
    """Takes back every migration above `target`; 0 takes back all and leaves nothing of ours.

    Refuses while events wait or enrolled games live, as `orchestration.why_not_down()` says, in the same
    transaction that would take them away; with `discard_reason` it logs both and goes on.

    Raises:
        DownRefusedError, and those of `migrate_up`.
    """
    if discard_reason is not None and not discard_reason.strip():
        raise DownRefusedError("the reason for discarding is empty: say why what is waiting may be lost")
    files = load_migrations(folder)
    steps: list[Step] = []
    with _session(url) as connection:
        take_migration_lock(connection, patience)
        to_take_back = plan_down(files, applied(connection), target)
        if to_take_back and discard_reason is not None:
            log.warning("migration_discards", what=_why_not(connection), reason=discard_reason)
        for migration in to_take_back:
            step = _run(
                connection, url, migration, partial(_down, connection, migration, discard_reason), patience
            )
            steps.append(step)
            told(step)
    return steps


def pending(url: str, target: int | None = None, *, folder: Path | None = None) -> list[Migration]:
    """What `migrate_up` would apply, after the same checks."""
    with _session(url) as connection:
        found = plan_up(load_migrations(folder), applied(connection), target)
        if found:
            check_ready(connection)
        return found


def way_down(url: str, target: int, *, folder: Path | None = None) -> tuple[list[Migration], list[str]]:
    """What `migrate_down` would take back, and what speaks against it now."""
    with _session(url) as connection:
        return plan_down(load_migrations(folder), applied(connection), target), _why_not(connection)


def status(url: str, *, folder: Path | None = None) -> list[State]:
    """Every migration in the files or in the database, by number."""
    files = load_migrations(folder)
    with _session(url) as connection:
        return states(files, applied(connection))


def verify(url: str, *, folder: Path | None = None) -> list[str]:
    """What is not as the migrations made it; empty when all is well.

    Compares checksums, then every object of ours with what was there right after the last migration, then the
    rules of `breaches`.
    """
    problems = []
    for one in status(url, folder=folder):
        if one.state == "changed":
            problems.append(f"migration {one.number:04d}_{one.name} is not the file that was applied")
        elif one.state == "unknown":
            problems.append(f"migration {one.number:04d}_{one.name} is not known to version {__version__}")
        elif one.state == "pending":
            problems.append(f"migration {one.number:04d}_{one.name} is not applied")
    with _session(url) as connection:
        rows = applied(connection)
        if rows:
            kept = connection.execute(
                query("migrations.kept_catalogue"), {"number": rows[-1].number}
            ).fetchone()
            if kept is None or kept[0] is None:
                problems.append(
                    f"no catalogue was kept after migration {rows[-1].number:04d}: it was interrupted"
                )
            else:
                problems += differences(kept[0], catalogue(connection))
            problems += breaches(connection)
    return problems


def _up(connection: psycopg.Connection[Any], migration: Migration) -> None:
    connection.execute(migration.up)
    if migration.number == 1:
        connection.execute(query("migrations.make_bookkeeping"))
        connection.execute(query("migrations.grant_bookkeeping"))
    values = {"number": migration.number, "name": migration.name, "checksum": migration.checksum}
    connection.execute(query("migrations.record"), {**values, "version": __version__})


def _down(connection: psycopg.Connection[Any], migration: Migration, discard_reason: str | None) -> None:
    reasons = _why_not(connection)
    if reasons and discard_reason is None:
        raise DownRefusedError(
            f"not going down: {'; '.join(reasons)}. Wait until they are done, or discard them with "
            '--discard --reason "..."'
        )
    if migration.number == 1:
        connection.execute(query("migrations.drop_bookkeeping"))
    else:
        connection.execute(query("migrations.forget"), {"number": migration.number})
    connection.execute(migration.down)


def _why_not(connection: psycopg.Connection[Any]) -> list[str]:
    can_say = connection.execute(query("migrations.can_say_why_not_down")).fetchone()
    if not can_say or not can_say[0]:
        return []
    return [str(row[0]) for row in connection.execute(query("migrations.why_not_down")).fetchall()]


def _keep_catalogue(connection: psycopg.Connection[Any], number: int) -> None:
    # After the commit, not in it: reading the catalogue takes longer than the locks may be held.
    kept = {"number": number, "catalogue": Jsonb(catalogue(connection))}
    connection.execute(query("migrations.keep_catalogue"), kept)


def _met_another_database(error: psycopg.Error) -> bool:
    """Roles belong to the whole cluster: migrators of two databases may make or drop the same one at once."""
    text = str(error.diag.message_primary)
    return (
        text.startswith("tuple concurrently")
        or (isinstance(error, psycopg.errors.UniqueViolation) and '"pg_' in text)
        or (isinstance(error, psycopg.errors.UndefinedObject) and 'role "sketchy_' in text)
    )


def _run(
    connection: psycopg.Connection[Any],
    url: str,
    migration: Migration,
    work: Callable[[], None],
    patience: float,
) -> Step:
    """One transaction, tried again while a lock is not to be had."""
    trying = Patience(patience)
    tries = 0
    worst_wait = 0.0
    blockers: list[Any] = []
    pid = _backend(connection)
    with _session(url, "sketchy migrate watch") as watcher:
        while True:
            tries += 1
            watch = Watch(watcher, pid)
            started = time.monotonic()
            try:
                with watch, connection.transaction():
                    work()
                    crash_points.reach("migration.before_commit")
                seconds = time.monotonic() - started
                worst_wait = max(worst_wait, watch.worst_wait)
                return Step(migration.number, migration.name, tries, seconds, worst_wait)
            except psycopg.Error as error:
                if connection.broken:
                    raise
                lock = isinstance(error, _LOCK_FAILURES)
                if not lock and not _met_another_database(error):
                    raise _failed(migration, error) from error
                blockers = watch.blockers or blockers
                worst_wait = max(worst_wait, watch.worst_wait)
                more = migration.retries_locks and trying.again()
                log.warning(
                    "migration_waits",
                    migration=str(migration),
                    tries=tries,
                    blockers=[str(b) for b in blockers],
                )
                if not more:
                    raise _gave_up(migration, tries, trying.spent, blockers, watch, error) from None


def _gave_up(
    migration: Migration,
    tries: int,
    spent: float,
    blockers: list[Any],
    watch: Watch,
    error: psycopg.Error,
) -> MigrationBlockedError:
    if blockers:
        who = "; blocked by " + " and by ".join(str(b) for b in blockers)
    elif watch.stepped_aside:
        who = (
            "; it was taken back because the application waited for it: try again when there is less traffic"
        )
    else:
        who = f"; {error.diag.message_primary}"
    return MigrationBlockedError(f"migration {migration} gave up after {tries} tries in {spent:.1f} s{who}")


def _failed(migration: Migration, error: psycopg.Error) -> MigrationFailedError:
    said = error.diag.message_primary or " ".join(str(error).split())
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    context = f"; in {error.diag.context.splitlines()[0]}" if error.diag.context else ""
    return MigrationFailedError(
        f"migration {migration} failed and left nothing behind: {said}{hint}{context}"
    )


def _backend(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("select pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0
