"""Rows of deployments and their steps; what was done is committed before the next step begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.deployment import StepName, StepState
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.version import Version


class DeploymentError(SketchyError):
    """A deployment was refused, or cannot be resumed or rolled back; the message says why."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment; `kept` is what its steps need of one another."""

    deployment_id: int
    began_at: datetime
    state: str
    package: str
    build: str
    migrations: str
    settings: str
    label: str
    config: Mapping[str, Any]
    kept: dict[str, Any]
    started_by: str
    reason: str
    why: str | None


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step of it."""

    place: int
    name: StepName
    state: StepState
    began_at: datetime
    ended_at: datetime | None
    found: str


def walk_alone(connection: Connection[Row]) -> None:
    """Take the lock of whoever walks deployments, for as long as this session lasts.

    Raises:
        DeploymentError: somebody else does.
    """
    row = connection.execute(query("deployments.lock")).fetchone()
    if not (row and row[0]):
        raise DeploymentError("a deployment is being walked by somebody else: wait for it, or end that run")


def begin(
    connection: Connection[Row], version: Version, config: Mapping[str, object], *, by: str, reason: str
) -> int:
    """A new deployment; its number.

    Raises:
        DeploymentError: one is under way.
    """
    values = {
        **version.as_dict(),
        "label": version.label,
        "config": Jsonb(dict(config)),
        "by": by,
        "reason": reason,
    }
    try:
        row = connection.execute(query("deployments.begin"), values).fetchone()
    except psycopg.errors.UniqueViolation:
        raise DeploymentError("a deployment is under way: resume it or roll it back") from None
    assert row is not None, "an insert returns its row"  # noqa: S101
    return int(row[0])


def running(connection: Connection[Row]) -> Deployment | None:
    """The one that has not ended."""
    return _one(connection, "deployments.running")


def newest(connection: Connection[Row]) -> Deployment | None:
    """The last one."""
    return _one(connection, "deployments.newest")


def steps(connection: Connection[Row], deployment_id: int) -> list[StepRow]:
    """Its steps, in their order."""
    rows = connection.execute(query("deployments.steps"), {"deployment_id": deployment_id}).fetchall()
    return [StepRow(row[0], StepName(row[1]), StepState(row[2]), row[3], row[4], row[5]) for row in rows]


def states(connection: Connection[Row], deployment_id: int) -> dict[StepName, StepState]:
    """Where each step stands that was begun."""
    return {step.name: step.state for step in steps(connection, deployment_id)}


def enter(
    connection: Connection[Row], deployment_id: int, step: StepName, state: StepState, found: str = ""
) -> None:
    """Write down where a step stands."""
    values = {
        "deployment_id": deployment_id,
        "place": list(StepName).index(step),
        "name": str(step),
        "state": str(state),
        "found": found,
    }
    connection.execute(query("deployments.enter"), values)


def keep(connection: Connection[Row], deployment_id: int, **values: object) -> None:
    """Keep what later steps, or their undoing, need."""
    connection.execute(query("deployments.keep"), {"deployment_id": deployment_id, "kept": Jsonb(values)})


def set_state(connection: Connection[Row], deployment_id: int, state: str, why: str | None = None) -> None:
    """running, rolling_back, succeeded, rolled_back or failed."""
    connection.execute(
        query("deployments.state"), {"deployment_id": deployment_id, "state": state, "why": why}
    )


def backup_marker(connection: Connection[Row]) -> dict[str, str]:
    """Where a restore ends that must not have what comes now."""
    row = connection.execute(query("deployments.backup_marker")).fetchone()
    return {"lsn": str(row[0]), "at": str(row[1])} if row else {}


def _one(connection: Connection[Row], name: str) -> Deployment | None:
    with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        return cursor.execute(query(name)).fetchone()
