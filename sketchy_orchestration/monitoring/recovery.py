"""The recovery drill: dump, restore beside, compare, time, report. A backup never restored is a hope."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql

from sketchy_orchestration.database.connect import Address, Role, Row, connect_to
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

SCHEMAS = ("public", "orchestration", "auth")
INVARIANTS = (
    "seq_without_gaps",
    "outcomes_of_known_events",
    "one_transition_out_of_a_phase",
    "live_games_are_games",
)


class RecoveryError(SketchyError):
    """The drill could not be made: no tools, no database, no scratch server. Says nothing of the backup."""


class Scratch(Protocol):
    """An empty server beside the real one, and the programs of its version."""

    def program(self, name: str) -> Path:
        """The path of pg_dump or pg_restore."""
        ...

    @property
    def superuser_url(self) -> str:
        """Where to restore to."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """What a table held in the snapshot that was dumped; `digest` does not depend on the rows' order."""

    rows: int
    digest: int


@dataclass(frozen=True, slots=True)
class Backup:
    """A dump, and what it must contain."""

    path: Path
    sha256: str
    tables: dict[str, Table]
    roles: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class Drilled:
    """What the drill found; without `problems` the backup can be trusted."""

    tables: int = 0
    rows: int = 0
    bytes: int = 0
    dump_seconds: float = 0.0
    restore_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """As a report."""
        lines = [
            f"**recovery drill**: {'the backup can be trusted' if not self.problems else 'DO NOT TRUST IT'}",
            "",
            "| what | measured |",
            "|---|---|",
            f"| tables | {self.tables} |",
            f"| rows compared | {self.rows:,} |",
            f"| size of the dump | {self.bytes / 1e6:,.1f} MB |",
            f"| dumped in | {self.dump_seconds:.1f} s |",
            f"| restored and verified in | {self.restore_seconds:.1f} s |",
            "",
            *(f"- {problem}" for problem in self.problems),
        ]
        return "\n".join(lines) + "\n"


def drill(
    settings: Settings,
    scratch: Callable[[], AbstractContextManager[Scratch]],
    *,
    schemas: Sequence[str] = SCHEMAS,
) -> Drilled:
    """Dump, restore into a scratch server, verify; the original is only read.

    Raises:
        SketchyError: the drill could not be made.
    """
    with scratch() as server, tempfile.TemporaryDirectory(prefix="sketchy-drill-") as folder:
        backup = dump(settings, server, Path(folder) / "backup", schemas=schemas)
        return verify(backup, server)


def dump(settings: Settings, tools: Scratch, path: Path, *, schemas: Sequence[str] = SCHEMAS) -> Backup:
    """Dump the schemas, and note what the same snapshot contains.

    Raises:
        SketchyError: the database is away, or pg_dump refuses.
    """
    address = Address.of_role(settings, Role.owner)
    began = time.perf_counter()
    with connect_to(
        address, application_name="sketchy drill", autocommit=False, statement_timeout=0
    ) as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        snapshot = _one(connection, "select pg_export_snapshot()")
        tables = contents(connection, schemas)
        roles = connection.execute(query("recovery.roles")).fetchall()
        words = [f"--schema={schema}" for schema in schemas]
        _run(
            [
                str(tools.program("pg_dump")),
                "--format=custom",
                f"--snapshot={snapshot}",
                f"--file={path}",
                *words,
                "--dbname",
                _without_password(address),
            ],
            address.parameters.get("password"),
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Backup(path, digest, tables, tuple(row[0] for row in roles), time.perf_counter() - began)


def verify(backup: Backup, scratch: Scratch) -> Drilled:
    """Restore a backup into a scratch database and compare; never raises for what is wrong with the backup.

    Raises:
        RecoveryError: the scratch server cannot be used.
    """
    began = time.perf_counter()
    done = Drilled(len(backup.tables), sum(table.rows for table in backup.tables.values()))
    done.bytes, done.dump_seconds = backup.path.stat().st_size, backup.seconds
    if hashlib.sha256(backup.path.read_bytes()).hexdigest() != backup.sha256:
        done.problems.append("the file is not the one that was written: its checksum differs")
    address = Address.of_url(scratch.superuser_url)
    database = f"drill_{int(time.time() * 1000)}"
    try:
        with connect_to(address, application_name="sketchy drill") as connection:
            for role in backup.roles:
                if not connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
                    connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    except psycopg.Error as error:
        raise RecoveryError(f"the scratch server cannot be used: {' '.join(str(error).split())}") from None
    target = Address({**address.parameters, "dbname": database}, None, "scratch")
    try:
        _restore(backup, scratch, target, done)
    finally:
        with connect_to(address, application_name="sketchy drill") as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database))
            )
    done.restore_seconds = time.perf_counter() - began
    return done


def _restore(backup: Backup, scratch: Scratch, target: Address, done: Drilled) -> None:
    with connect_to(target, application_name="sketchy drill") as connection:
        connection.execute("drop schema if exists public cascade")
    try:
        _run(
            [
                str(scratch.program("pg_restore")),
                "--no-owner",
                "--no-privileges",
                "--exit-on-error",
                "--dbname",
                _without_password(target),
                str(backup.path),
            ],
            target.parameters.get("password"),
        )
    except RecoveryError as error:
        done.problems.append(str(error))
        return
    with connect_to(target, application_name="sketchy drill", statement_timeout=0) as connection:
        found = contents(connection, sorted({name.partition(".")[0] for name in backup.tables}))
        for name, table in backup.tables.items():
            there = found.get(name)
            if there is None:
                done.problems.append(f"{name} is missing")
            elif there.rows != table.rows:
                done.problems.append(f"{name} has {there.rows} rows instead of {table.rows}")
            elif there != table:
                done.problems.append(f"{name} has other contents")
        if "orchestration.outbox" in found or any(n.startswith("orchestration.outbox") for n in found):
            for invariant in INVARIANTS:
                broken = _one(connection, query(f"recovery.{invariant}"))
                if broken:
                    done.problems.append(f"{invariant.replace('_', ' ')}: broken {broken} times")


def contents(connection: psycopg.Connection[Row], schemas: Sequence[str]) -> dict[str, Table]:
    """Rows and digest of every ordinary table of these schemas, by qualified name."""
    found = {}
    for schema, name in connection.execute(query("recovery.tables"), {"schemas": list(schemas)}).fetchall():
        row = connection.execute(
            sql.SQL(
                "select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) % 4294967291"
                " from {}.{} t"
            ).format(sql.Identifier(schema), sql.Identifier(name))
        ).fetchone()
        assert row is not None, "an aggregate always answers one row"  # noqa: S101
        found[f"{schema}.{name}"] = Table(int(row[0]), int(row[1]))
    return found


def _one(connection: psycopg.Connection[Row], text: str) -> object:
    row = connection.execute(text.encode()).fetchone()
    return row[0] if row else None


def _without_password(address: Address) -> str:
    return psycopg.conninfo.make_conninfo(
        "", **{name: value for name, value in address.parameters.items() if name != "password"}
    )


def _run(words: list[str], password: str | None) -> None:
    # The password goes by the environment: a command line is everybody's to read.
    environment = {"PGPASSWORD": password} if password else {}
    try:
        done = subprocess.run(
            words, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise RecoveryError(f"{Path(words[0]).name} cannot be run: {error}") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:300]
        raise RecoveryError(f"{Path(words[0]).name} failed: {said}")
