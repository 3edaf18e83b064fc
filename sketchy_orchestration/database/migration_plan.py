"""What is applied, what is to do: the bookkeeping beside the files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from sketchy_orchestration import __version__
from sketchy_orchestration.database.migration_checks import DatabaseNotReadyError
from sketchy_orchestration.database.migration_files import Migration
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError


class MigrationChangedError(SketchyError):
    """What the database says was applied is not what the files say."""


class UnknownTargetError(SketchyError):
    """No migration has this number, or it lies in the other direction."""


@dataclass(frozen=True)
class Applied:
    """A row of the bookkeeping."""

    number: int
    name: str
    checksum: str
    applied_at: datetime
    applied_by: str
    version: str


@dataclass(frozen=True)
class State:
    """One migration as the files and the database see it: applied, pending, changed or unknown."""

    number: int
    name: str
    state: str
    applied_at: datetime | None = None
    applied_by: str | None = None
    version: str | None = None


def applied(connection: psycopg.Connection[Any]) -> list[Applied]:
    """The bookkeeping, by number; empty before the first migration."""
    there = connection.execute(query("migrations.bookkeeping_exists")).fetchone()
    if not there or not there[0]:
        return []
    try:
        return [Applied(*row) for row in connection.execute(query("migrations.applied")).fetchall()]
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseNotReadyError(
            f"role {connection.info.user!r} may not read orchestration.migrations "
            f"({error.diag.message_primary}): connect as the owner of schema orchestration"
        ) from None


def plan_up(files: list[Migration], rows: list[Applied], target: int | None) -> list[Migration]:
    """What to apply. Migrations of a newer version may be there already: a release was rolled back."""
    _check_unchanged(files, rows)
    last = rows[-1].number if rows else 0
    highest = files[-1].number
    if target is not None and not last <= target <= highest:
        raise UnknownTargetError(
            f"cannot go up to {target}: {last} is applied, {highest} is the last; choose {last} to {highest}"
        )
    known = {row.number for row in rows}
    late = [m for m in files if m.number < last and m.number not in known]
    if late:
        raise MigrationChangedError(
            f"migration {late[0]} is not applied, but {last:04d} after it is: give it a higher number"
        )
    return [m for m in files if last < m.number <= (highest if target is None else target)]


def plan_down(files: list[Migration], rows: list[Applied], target: int) -> list[Migration]:
    """What to take back, the last one first."""
    _check_unchanged(files, rows)
    last = rows[-1].number if rows else 0
    if not 0 <= target <= last:
        raise UnknownTargetError(f"cannot go down to {target}: {last} is applied; choose 0 to {last}")
    known = {m.number: m for m in files}
    unknown = [row for row in rows if row.number > target and row.number not in known]
    if unknown:
        row = unknown[-1]
        raise MigrationChangedError(
            f"migration {row.number:04d}_{row.name} was applied by version {row.version} and is not known to "
            f"{__version__}: go down with that version"
        )
    return [known[row.number] for row in reversed(rows) if row.number > target]


def states(files: list[Migration], rows: list[Applied]) -> list[State]:
    """Every migration in the files or in the database, by number."""
    by_file = {file.number: file for file in files}
    by_row = {row.number: row for row in rows}
    found = []
    for number in sorted(by_file.keys() | by_row.keys()):
        file, row = by_file.get(number), by_row.get(number)
        if row is None:
            found.append(State(number, by_file[number].name, "pending"))
            continue
        state = "unknown" if file is None else "applied" if _same(file, row) else "changed"
        found.append(State(number, row.name, state, row.applied_at, row.applied_by, row.version))
    return found


def _same(file: Migration, row: Applied) -> bool:
    return (file.name, file.checksum) == (row.name, row.checksum)


def _check_unchanged(files: list[Migration], rows: list[Applied]) -> None:
    known = {m.number: m for m in files}
    for row in rows:
        file = known.get(row.number)
        if file is not None and not _same(file, row):
            raise MigrationChangedError(
                f"migration {file} was changed after it was applied as {row.number:04d}_{row.name} on "
                f"{row.applied_at:%Y-%m-%d %H:%M} UTC by version {row.version}: "
                "restore the file and put the change into a new migration"
            )
