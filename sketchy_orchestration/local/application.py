"""The application's own tables, for local, test and staging databases that lack them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import psycopg
from psycopg import sql

from sketchy_orchestration.database.connect import Address, connect_to
from sketchy_orchestration.database.sql_files import sql_folder
from sketchy_orchestration.errors import SketchyError

Shape = Literal["current", "old", "in_database_sweep"]
"""Which version of the application: `current` (timer columns, no row level security on games), `old`
(neither timer columns nor grace, older broadcast triggers, row level security) or `in_database_sweep`
(a cron calls a sweep that selects and updates by itself; the results phase is in use)."""

TABLES = (
    "users",
    "games",
    "game_participants",
    "submissions",
    "votes",
    "game_transition_log",
    "game_metadata",
)
"""The tables of schema public without which nothing of ours can be installed."""

_FILES: dict[Shape, tuple[str, ...]] = {
    "current": (
        "auth.sql",
        "tables.sql",
        "timer_columns.sql",
        "rules.sql",
        "shapes/current/functions.sql",
        "shapes/current/broadcast.sql",
        "grants.sql",
    ),
    "old": (
        "auth.sql",
        "tables.sql",
        "rules.sql",
        "shapes/old/functions.sql",
        "shapes/old/broadcast.sql",
        "grants.sql",
        "shapes/old/row_level_security.sql",
    ),
    "in_database_sweep": (
        "auth.sql",
        "tables.sql",
        "timer_columns.sql",
        "rules.sql",
        "shapes/current/functions.sql",
        "shapes/in_database_sweep/sweep.sql",
        "shapes/current/broadcast.sql",
        "grants.sql",
    ),
}

# Two installs into one database meet here; any number that nobody else locks will do.
_INSTALL_LOCK = 0x5C8E_7C14
_LOCK_TIMEOUT_S = 60


class ApplicationMissingError(SketchyError):
    """The database lacks the application's tables, or some of them, and they could not be made."""


def missing_tables(conn: psycopg.Connection[Any]) -> list[str]:
    """Names of the application's tables that schema public lacks; empty when it is all there."""
    with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        # Not to_regclass: it may answer from a cache filled before we waited for somebody who made them.
        cursor.execute(
            "select name from unnest(%s::text[]) with ordinality as wanted (name, place)"
            " where not exists (select from pg_catalog.pg_class where relname = name"
            " and relnamespace = 'public'::regnamespace) order by place",
            [list(TABLES)],
        )
        return [name for (name,) in cursor]


def install(url: str, shape: Shape = "current") -> bool:
    """Create the application's tables, functions, triggers and roles where they are absent.

    Needs no superuser: the owner of schema public who may create roles and schemas is enough. Safe to call
    again and from several places at once. A database that has the tables is left as it is.

    Returns:
        True when the tables were made by this call.

    Raises:
        ApplicationMissingError: some tables are there and some are not, or this role may not create them.
        DatabaseUnreachableError, DatabaseRefusedError: there is no database, or it says no.
    """
    if shape not in get_args(Shape):
        raise ApplicationMissingError(f"shape is {shape!r}; it must be one of {', '.join(get_args(Shape))}")
    with connect_to(
        Address.of_url(url), application_name="sketchy application", lock_timeout=_LOCK_TIMEOUT_S
    ) as conn:
        # Somebody may be making them at this moment; only under the lock is a part of them an error.
        if not missing_tables(conn):
            return False
        try:
            conn.execute(_statements("roles.sql"))
            with conn.transaction():
                conn.execute("select pg_advisory_xact_lock(%s)", [_INSTALL_LOCK])
                if _present(conn):
                    return False
                conn.execute("set local client_min_messages = warning")
                for name in _FILES[shape]:
                    conn.execute(_statements(name))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ApplicationMissingError(
                f"database {conn.info.dbname!r} lacks the application's tables (public.games, ...) and role"
                f" {conn.info.user!r} may not create them ({error.diag.message_primary}): point DATABASE_URL"
                " at the application's database, or let the owner of schema public (with CREATEROLE) run this"
            ) from None
    return True


def _present(conn: psycopg.Connection[Any]) -> bool:
    missing = missing_tables(conn)
    if missing and len(missing) < len(TABLES):
        raise ApplicationMissingError(
            f"database {conn.info.dbname!r} has some of the application's tables but not"
            f" {', '.join('public.' + name for name in missing)}:"
            " complete the application's own migrations first"
        )
    return not missing


def _statements(name: str) -> sql.SQL:
    return sql.SQL((sql_folder("app") / name).read_text(encoding="utf-8"))
