"""What must be there before migrating, and whether what is there afterwards is what the migrations made."""

from __future__ import annotations

from typing import Any

import psycopg

from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

APPLICATION_TABLES = [
    "users",
    "games",
    "game_participants",
    "submissions",
    "votes",
    "game_transition_log",
    "game_metadata",
]
ROLES = ["sketchy_timer", "sketchy_relay", "sketchy_gateway", "sketchy_operator"]

# The application's own functions ask this one, as whoever calls them.
PUBLIC_FUNCTIONS = ["orchestration.is_enrolled(uuid)"]


class DatabaseNotReadyError(SketchyError):
    """The database lacks the application's tables, or this role lacks a permission."""


def check_ready(connection: psycopg.Connection[Any]) -> None:
    """Whether the migrations can be applied here, before the first lock is taken.

    Raises:
        DatabaseNotReadyError: names every table and every permission that is missing.
    """
    where = f"database {connection.info.dbname!r}"
    tables = _lines(connection, "migrations.missing_tables", {"tables": APPLICATION_TABLES})
    if tables:
        raise DatabaseNotReadyError(
            f"{where} lacks the application's tables {', '.join(tables)}: point DATABASE_URL at the "
            "application's database, or make a test database with `sketchy migrate up --with-application`"
        )
    permissions = _lines(
        connection, "migrations.missing_permissions", {"tables": APPLICATION_TABLES, "roles": ROLES}
    )
    if permissions:
        raise DatabaseNotReadyError(
            f"role {connection.info.user!r} may not install in {where}; it cannot: {'; '.join(permissions)}"
        )


def check_schema_is_free(connection: psycopg.Connection[Any]) -> None:
    """Whether a schema `orchestration` without our bookkeeping is at least empty.

    Raises:
        DatabaseNotReadyError: somebody else's objects are in it.
    """
    row = connection.execute(query("migrations.not_ours")).fetchone()
    if row and row[0]:
        raise DatabaseNotReadyError(
            f"schema orchestration holds {row[0]} relations but no table orchestration.migrations: "
            "it is not ours, or was damaged; rename or drop that schema first"
        )


def catalogue(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Every object that is ours with a hash of its definition and grants."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        return dict(connection.execute(query("catalogue.objects")).fetchall())


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """One line an object that is missing, was changed, or does not belong."""
    lines = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name} does not belong" for name in sorted(found.keys() - expected.keys())]
    lines += [
        f"{name} was changed"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    return lines


def breaches(connection: psycopg.Connection[Any]) -> list[str]:
    """Rules that the catalogue can show, broken: search_path of security definers, grants to PUBLIC."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        return _lines(connection, "catalogue.breaches", {"public_functions": PUBLIC_FUNCTIONS})


def _lines(connection: psycopg.Connection[Any], name: str, parameters: dict[str, Any]) -> list[str]:
    return [str(row[0]) for row in connection.execute(query(name), parameters).fetchall()]
