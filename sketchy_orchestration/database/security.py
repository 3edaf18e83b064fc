"""The catalogue read with a suspicious eye: definer functions, grants, roles, row level security."""

from __future__ import annotations

from typing import Any

import psycopg

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
