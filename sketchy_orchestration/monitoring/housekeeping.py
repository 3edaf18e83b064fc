"""Keeps the house clean: what leaves, what is made ahead, what is repaired; each says what it did.

Nothing here runs longer than a batch at a time, and a dry run changes nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import psycopg
import structlog

from sketchy_orchestration.database import maintenance, monitoring
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

PARTITIONS_AHEAD = 7
PARTITIONS_KEPT = timedelta(hours=24)
GAMES_KEPT = timedelta(days=7)
MINUTES_KEPT = timedelta(days=2)
OLD_KEPT: dict[str, timedelta] = {
    "metric_minutes": timedelta(days=100),
    "observations": timedelta(days=7),
    "alerts": timedelta(days=100),
    "dead_letters": timedelta(days=100),
    "transitions": GAMES_KEPT,
    "last_reports": timedelta(0),
}
KEY_AGE_DAYS = 90
"""Age at which a key is due to be rotated."""

TRIES = 100
PAUSE = (0.02, 0.2)
"""A lock that somebody else holds is tried again this often, after so many seconds: 11 s in all."""

_MOST_BATCHES = 1_000

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class HousekeepingError(SketchyError):
    """A job of housekeeping could not finish; what it had done until then stays done."""


@dataclass(slots=True)
class Done:
    """What one job did, or with `dry_run` would do.

    Attributes:
        removed: rows or tables, by what they are.
        made: what was made ahead or repaired, by what it is.
        freed: bytes.
        kept: what had to stay, and why; one line each.
        details: one line each, for the report.
    """

    job: str
    dry_run: bool
    removed: dict[str, int] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    freed: int = 0
    kept: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """As a report."""
        verb = "would remove" if self.dry_run else "removed"
        lines = [
            f"**{self.job}**{' (dry run)' if self.dry_run else ''}",
            "",
            "| what | how many |",
            "|---|---|",
        ]
        lines += [f"| {verb} {what} | {count:,} |" for what, count in self.removed.items()]
        lines += [f"| {what} | {count:,} |" for what, count in self.made.items()]
        lines.append(f"| bytes freed | {self.freed:,} |")
        lines += ["", *(f"- kept: {line}" for line in self.kept), *(f"- {line}" for line in self.details)]
        return "\n".join(lines) + "\n"


@contextmanager
def _session(settings: Settings, job: str) -> Iterator[psycopg.Connection[Row]]:
    try:
        with connect(
            settings,
            Role.operator,
            application_name=f"sketchy {job}",
            statement_timeout=300.0,
            lock_timeout=0.1,
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise HousekeepingError(f"{job} stopped: {' '.join(str(error).split())}") from None


def _with_tries(act: Callable[[], Result], what: str, pause: Callable[[float], object]) -> Result:
    """Try until the lock is free; short tries, so that nobody queues behind us for long."""
    for _ in range(TRIES):
        try:
            return act()
        except psycopg.errors.LockNotAvailable:
            pause(random.uniform(*PAUSE))
    raise HousekeepingError(
        f"{what}: no lock in {TRIES} tries",
        hint="look for a long transaction: docs/runbooks/partitions-ahead.md",
    )


def partitions(
    settings: Settings,
    *,
    dry_run: bool = False,
    keep: timedelta = PARTITIONS_KEPT,
    ahead: int = PARTITIONS_AHEAD,
    pause: Callable[[float], object] = time.sleep,
) -> Done:
    """Make days ahead; detach and drop days that ended longer than `keep` ago and in which nothing waits.

    Raises:
        SketchyError: the database is away, or somebody holds a lock for longer than all tries take.
    """
    done = Done("partitions", dry_run)
    with _session(settings, done.job) as connection:
        if not dry_run:
            done.made["partitions made ahead"] = _with_tries(
                lambda: maintenance.ensure_partitions(connection, ahead), "making partitions", pause
            )
        for old in maintenance.old_days(connection, keep):
            if old.waiting:
                done.kept.append(f"{old.day}: {old.waiting} events still wait")
                continue
            if not dry_run:
                try:
                    _detach(connection, old.day, pause)
                except psycopg.errors.ObjectNotInPrerequisiteState as error:
                    done.kept.append(f"{old.day}: {error.diag.message_primary}")
                    continue
            done.removed["days"] = done.removed.get("days", 0) + 1
            done.freed += old.bytes
            done.details.append(f"{old.day}: {old.bytes:,} bytes")
        if not dry_run:
            dropped = _with_tries(lambda: maintenance.drop_detached(connection), "dropping tables", pause)
            done.removed["tables"] = dropped
    return done


def _detach(connection: psycopg.Connection[Row], day: date, pause: Callable[[float], object]) -> None:
    _with_tries(lambda: maintenance.detach_day(connection, day), f"detaching {day}", pause)


def finished_games(settings: Settings, *, dry_run: bool = False, keep: timedelta = GAMES_KEPT) -> Done:
    """Remove the traces of games that ended longer than `keep` ago.

    Raises:
        SketchyError: the database is away.
    """
    done = Done("finished_games", dry_run)
    with _session(settings, done.job) as connection:
        for _ in range(1 if dry_run else _MOST_BATCHES):
            rows = maintenance.forget_games(connection, keep, dry_run=dry_run)
            for what, count in rows.items():
                done.removed[what] = done.removed.get(what, 0) + count
            if rows.get("enrolments", 0) < maintenance.BATCH:
                break
    return done


def old_rows(settings: Settings, *, dry_run: bool = False) -> Done:
    """Fold minutes into hours; remove what is older than OLD_KEPT says; bring the ledger up to date.

    Raises:
        SketchyError: the database is away.
    """
    done = Done("old_rows", dry_run)
    with _session(settings, done.job) as connection:
        if not dry_run:
            monitoring.refresh_ledger(connection)
        folded = maintenance.fold_minutes(connection, MINUTES_KEPT, dry_run=dry_run)
        done.removed["metric minutes folded into hours"] = folded
        for what, keep in OLD_KEPT.items():
            total = 0
            for _ in range(1 if dry_run else _MOST_BATCHES):
                removed = maintenance.forget_old(connection, what, keep, dry_run=dry_run)
                total += removed
                if removed < maintenance.BATCH:
                    break
            done.removed[what] = total
    return done


def reconcile(settings: Settings, *, dry_run: bool = False) -> Done:
    """Repair what triggers could not do, and say what.

    Raises:
        SketchyError: the database is away.
    """
    done = Done("reconcile", dry_run)
    with _session(settings, done.job) as connection:
        repairs = maintenance.reconcile(connection, dry_run=dry_run)
    done.made["repairs needed" if dry_run else "repairs"] = len(repairs)
    done.details += [f"{each.game_id}: {each.repair}" for each in repairs[:100]]
    return done


def key_ages(settings: Settings, *, today: date | None = None, record: bool = True) -> Done:
    """How old the keys are, by the dates of KEYS_ROTATED; which of those in use have no date.

    Raises:
        SketchyError: the database is away.
    """
    done = Done("key_ages", dry_run=not record)
    now = today or datetime.now(UTC).date()
    ages = {name: (now - rotated).days for name, rotated in settings.keys_rotated.items()}
    for name, days in sorted(ages.items()):
        due = f": rotate it, {KEY_AGE_DAYS} days have passed" if days >= KEY_AGE_DAYS else ""
        done.details.append(f"{name} is {days} days old{due}")
    in_use = {
        name.upper()
        for name in (
            "pubnub_secret_key",
            "supabase_service_role_key",
            "cron_secret",
            "supabase_jwt_secret",
        )
        if getattr(settings, name) is not None
    }
    done.kept += [
        f"{name} is in use and KEYS_ROTATED has no date for it" for name in sorted(in_use - ages.keys())
    ]
    done.made["keys due"] = sum(days >= KEY_AGE_DAYS for days in ages.values())
    if record and ages:
        with _session(settings, done.job) as connection:
            for name, days in ages.items():
                monitoring.observe(connection, "key_age_days", days, label=name[:64])
    return done


def sizes(settings: Settings) -> tuple[int, int]:
    """Bytes of our schema, and of Dagster's."""
    with _session(settings, "sizes") as connection:
        return maintenance.sizes(connection)
