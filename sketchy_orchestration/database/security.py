"""The catalogue read with a suspicious eye: definer functions, grants, roles, row level security."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from sketchy_orchestration.database.queries import query


def lint(connection: psycopg.Connection[Any]) -> list[str]:
    """What breaks a rule, one line each; empty when all is well.

    The rules: definer functions have an empty search_path and belong to the schema's owner; only the running
    parts may call functions or touch tables (the query lists the exceptions); every table has row level
    security; partitions are reached through their parents; the roles have no power beyond their grants.

    Args:
        connection: of the owner of the schema, outside a transaction.
    """
    with connection.transaction():
        connection.execute("set local search_path = ''")
        rows = connection.execute(query("security.lint"), {}).fetchall()
    return sorted(str(row[0]) for row in rows)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do with a table, in letters: s, i, u, d; a capital is some columns only."""

    table_name: str
    role: str
    letters: str


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who may log in as one of the running parts; until when its password is good."""

    rolname: str
    part: str
    rolvaliduntil: datetime | None


def matrix(connection: psycopg.Connection[Any]) -> list[Grant]:
    """Every table of ours with every role that could have something to do with it."""
    with connection.cursor(row_factory=class_row(Grant)) as cursor:
        return cursor.execute(query("security.matrix")).fetchall()


def logins(connection: psycopg.Connection[Any]) -> list[Login]:
    """The logins behind the running parts."""
    with connection.cursor(row_factory=class_row(Login)) as cursor:
        return cursor.execute(query("security.logins")).fetchall()


def listens_on(connection: psycopg.Connection[Any]) -> str:
    """The addresses the database server listens on, as it was told."""
    row = connection.execute(query("security.listening")).fetchone()
    return str(row[0]) if row else ""
