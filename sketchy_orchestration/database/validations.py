"""Rows of validations and attestations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.validation import Result, Verdict
from sketchy_orchestration.version import Version


@dataclass(frozen=True, slots=True)
class Validation:
    """A validation that was made; `age` in seconds."""

    validation_id: int
    ended_at: datetime
    target: str
    go: bool
    why: str
    passed: int
    total: int
    age: float


@dataclass(frozen=True, slots=True)
class Attestation:
    """Who vouches for an item, since when, until when; `valid` by the database's clock."""

    item: str
    attested_by: str
    at: datetime
    note: str
    expires_at: datetime
    valid: bool


def record(
    connection: Connection[Row],
    version: Version,
    verdict: Verdict,
    results: Sequence[Result],
    *,
    target: str,
    suites: Sequence[str],
    began_at: datetime,
    by: str,
) -> int:
    """Write a validation down; its number."""
    values = {
        **version.as_dict(),
        "began_at": began_at,
        "target": target,
        "suites": list(suites),
        "passed": sum(result.outcome == "passed" for result in results),
        "total": len(results),
        "go": verdict.go,
        "why": verdict.why,
        "results": Jsonb([result.as_dict() for result in results]),
        "by": by,
    }
    row = connection.execute(query("validations.record"), values).fetchone()
    assert row is not None, "an insert returns its row"  # noqa: S101
    return int(row[0])


def newest_of(connection: Connection[Row], version: Version, suites: Sequence[str]) -> Validation | None:
    """The last validation of this very version that ran all of these suites."""
    with connection.cursor(row_factory=class_row(Validation)) as cursor:
        values = {**version.as_dict(), "suites": list(suites)}
        return cursor.execute(query("validations.newest_of"), values).fetchone()


def validations(connection: Connection[Row], limit: int = 20) -> list[Validation]:
    """The last ones, newest first."""
    with connection.cursor(row_factory=class_row(Validation)) as cursor:
        return cursor.execute(query("validations.list"), {"limit": limit}).fetchall()


def attest(connection: Connection[Row], item: str, *, by: str, note: str, days: int) -> Attestation:
    """Vouch for an item for so many days."""
    with connection.cursor(row_factory=class_row(Attestation)) as cursor:
        values = {"item": item, "by": by, "note": note, "days": days}
        found = cursor.execute(query("validations.attest"), values).fetchone()
    assert found is not None, "an insert returns its row"  # noqa: S101
    return found


def attestations(connection: Connection[Row]) -> list[Attestation]:
    """The last one of each item."""
    with connection.cursor(row_factory=class_row(Attestation)) as cursor:
        return cursor.execute(query("validations.attestations")).fetchall()
