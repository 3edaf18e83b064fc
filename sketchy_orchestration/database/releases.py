"""Rows of releases, and which release each shift at work has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.database.shifts import FRESH, WANTED
from sketchy_orchestration.version import Version


@dataclass(frozen=True, slots=True)
class Release:
    """An exact version that was made current once.

    Attributes:
        placement: where its code is and what was started of it.
        current_until: None while it is the current one.
    """

    release_id: int
    label: str
    package: str
    build: str
    migrations: str
    settings: str
    placement: Mapping[str, Any]
    current_since: datetime
    current_until: datetime | None
    made_by: str
    reason: str

    @property
    def version(self) -> Version:
        return Version(self.package, self.build, self.migrations, self.settings)


@dataclass(frozen=True, slots=True)
class AtWork:
    """A shift and the release it is of; `beats`: heard from within the last seconds."""

    kind: str
    release: str | None
    version: str
    host: str
    pid: int
    dagster_run_id: str | None
    started_at: datetime
    relieved: bool
    beats: bool


def releases(connection: Connection[Row], limit: int = 20) -> list[Release]:
    """The current one first, then those before it."""
    with connection.cursor(row_factory=class_row(Release)) as cursor:
        return cursor.execute(query("releases.list"), {"limit": limit}).fetchall()


def current(connection: Connection[Row]) -> Release | None:
    """The release that a deployment made current last; None before the first."""
    with connection.cursor(row_factory=class_row(Release)) as cursor:
        return cursor.execute(query("releases.current")).fetchone()


def previous(connection: Connection[Row]) -> Release | None:
    """The one before it."""
    with connection.cursor(row_factory=class_row(Release)) as cursor:
        return cursor.execute(query("releases.previous")).fetchone()


def at_work(connection: Connection[Row]) -> list[AtWork]:
    """Shifts that have not ended."""
    with connection.cursor(row_factory=class_row(AtWork)) as cursor:
        return cursor.execute(query("releases.at_work"), {"fresh": FRESH}).fetchall()


def make_current(
    connection: Connection[Row], version: Version, placement: Mapping[str, object], *, by: str, reason: str
) -> None:
    """Make a version the current one; the one before ends in the same moment."""
    values = {
        **version.as_dict(),
        "label": version.label,
        "placement": Jsonb(dict(placement)),
        "by": by,
        "reason": reason,
    }
    connection.execute(query("releases.make_current"), values)


def relieve_others(connection: Connection[Row], release: str, kind: str) -> int:
    """Let shifts of other releases leave, if enough of this one are at work; how many were told."""
    values = {"release": release, "kind": kind, "wanted": WANTED, "fresh": FRESH}
    row = connection.execute(query("releases.relieve_others"), values).fetchone()
    return int(row[0]) if row else 0
