"""The role matrix, tried: what each role may do works, what it may not is refused."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.integration.gateway.role_matrix import APPLICATION_ROLES, ROLES, TABLES, callers

_HINT = "tests/integration/gateway/role_matrix.py says otherwise"


def _tables(conn: psycopg.Connection[Any]) -> set[str]:
    return {
        row[0]
        for row in conn.execute(
            "select c.relname from pg_class c where c.relnamespace = 'orchestration'::regnamespace"
            " and c.relkind in ('r', 'p') and not c.relispartition"
        )
    }


def _column(conn: psycopg.Connection[Any], role: str, table: str) -> str:
    """A column the role may update, or else any."""
    row = conn.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        " and attgenerated = '' and attidentity = ''"
        " order by has_column_privilege(%s, attrelid, attnum, 'update') desc, attnum limit 1",
        [f"orchestration.{table}", role],
    ).fetchone()
    assert row is not None
    return str(row[0])


def _may(conn: psycopg.Connection[Any], role: str | None, statement: sql.Composed) -> bool:
    """Whether the role may run it: permissions are checked before anything is planned or done."""
    conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)) if role else "reset role")
    try:
        conn.execute(sql.SQL("explain ") + statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    finally:
        conn.execute("reset role")
    return True


def _statements(table: str, column: str) -> dict[str, sql.Composed]:
    name, changed = sql.Identifier("orchestration", table), sql.Identifier(column)
    return {
        "s": sql.SQL("select from {}").format(name),
        "i": sql.SQL("insert into {} default values").format(name),
        "u": sql.SQL("update {} set {} = null").format(name, changed),
        "d": sql.SQL("delete from {}").format(name),
    }


def test_every_table_is_in_the_matrix(connection: psycopg.Connection) -> None:
    assert _tables(connection) == set(TABLES), _HINT


def test_tables(connection: psycopg.Connection) -> None:
    wrong = []
    for table, allowed in TABLES.items():
        for role, letters in zip(ROLES, allowed, strict=True):
            for letter, statement in _statements(table, _column(connection, role, table)).items():
                # Beside each denial stands the owner, who may: the statement itself is not at fault.
                assert _may(connection, None, statement)
                if _may(connection, role, statement) != (letter in letters.lower()):
                    wrong.append(f"{role} {table} {letter}")
        for role in APPLICATION_ROLES:
            wrong += [
                f"{role} {table} {letter}"
                for letter, statement in _statements(table, _column(connection, role, table)).items()
                if _may(connection, role, statement)
            ]
    assert wrong == [], _HINT


def test_some_columns_only_means_only_those(connection: psycopg.Connection) -> None:
    found = {}
    for table, allowed in TABLES.items():
        for role, letters in zip(ROLES, allowed, strict=True):
            row = connection.execute(
                "select has_table_privilege(%s, %s, 'update'), has_any_column_privilege(%s, %s, 'update')",
                [role, f"orchestration.{table}", role, f"orchestration.{table}"],
            ).fetchone()
            found[table, role] = row
            assert row == ("u" in letters, "u" in letters.lower()), (table, role)
    assert (False, True) in found.values()


def test_functions(connection: psycopg.Connection) -> None:
    wrong = []
    functions = connection.execute(
        "select p.proname, p.oid::regprocedure::text from pg_proc p"
        " where p.pronamespace = 'orchestration'::regnamespace and p.proname !~ '^legacy_'"
    ).fetchall()
    for name, signature in functions:
        for role in (*ROLES, *APPLICATION_ROLES):
            row = connection.execute(
                "select has_function_privilege(%s, %s, 'execute')", [role, signature]
            ).fetchone()
            assert row is not None
            if row[0] != (role in callers(name)):
                wrong.append(f"{role} {signature}: {'may' if row[0] else 'may not'}")
    assert wrong == [], _HINT


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        (
            "sketchy_gateway",
            "select orchestration.timer_pass('r')",
            "select orchestration.sweep()",
        ),
        (
            "sketchy_gateway",
            "select orchestration.accept_event(null, 'x', 'test', 'u', '{}', 'r')",
            "insert into orchestration.outbox (lane, type, data, channels, request_id)"
            " values (0, 'test', '{}', '{game-x}', 'r')",
        ),
        (
            "sketchy_timer",
            "select orchestration.sweep()",
            "select orchestration.set_flag('triggers', 'me', 'because', false)",
        ),
        (
            "sketchy_operator",
            "select orchestration.set_flag('triggers', 'me', 'because', true)",
            "update orchestration.flags set enabled = false",
        ),
        (
            "sketchy_relay",
            "select count(*) from orchestration.outbox",
            "delete from orchestration.outbox",
        ),
    ],
)
def test_for_real(connection: psycopg.Connection, role: str, allowed: str, denied: str) -> None:
    connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    connection.execute(allowed)  # type: ignore[arg-type]  # only texts of this file
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(denied)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ROLES)
def test_no_part_reads_the_application_s_tables(connection: psycopg.Connection, role: str) -> None:
    for table in ("users", "games", "game_participants", "submissions", "votes"):
        assert not _may(connection, role, sql.SQL("select from public.{}").format(sql.Identifier(table)))
