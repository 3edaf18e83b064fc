"""Walks every active rollout one tick: reads, measures if a look is due, decides, writes. Remembers nothing.

Whoever dies in a tick leaves the rollout as it was read or as it was written, never between: all that a tick
writes is one transaction. At most one walks at a time by a lease; should it fail, versions refuse the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg
import structlog
from psycopg import Connection

from sketchy_orchestration.crash_points import reach
from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.rollout import ChangedMeanwhileError
from sketchy_orchestration.delivery.rollout_measuring import measure
from sketchy_orchestration.delivery.rollout_messages import messages
from sketchy_orchestration.domain.analysis import Judged, merged
from sketchy_orchestration.domain.rollout import Change, Rollout, decide
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

CONTROLLER = "controller"
"""Who changes a rollout when nobody does."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Walked:
    """What a tick did to one rollout: as it is now, the look if one was due, the change if there was one."""

    rollout: Rollout
    verdicts: tuple[Judged, ...] | None
    change: Change | None

    @property
    def said(self) -> str:
        where = f"{self.rollout.flag} {self.rollout.percentage:g} %, {self.rollout.state}"
        if self.change is not None:
            return f"{where}: {self.change.said}"
        return where if self.verdicts is None else f"{where}, looked at"


def walk(settings: Settings, now: datetime | None = None) -> list[Walked] | None:
    """One tick over every active rollout; None while somebody else walks them.

    Args:
        now: the moment to decide by; the database's own when not given.

    Raises:
        SketchyError, psycopg.Error: the database is away; the next tick goes on where this one began.
    """
    with (
        connect(settings, Role.operator, application_name="sketchy rollout controller") as connection,
        table.controlling_alone(connection) as alone,
    ):
        if not alone:
            return None
        active = table.rollouts(connection, active=True)
        return [walk_one(connection, settings, rollout, now) for rollout in reversed(active)]


def walk_one(
    connection: Connection[Row], settings: Settings, rollout: Rollout, now: datetime | None = None
) -> Walked:
    """One tick of one rollout."""
    moment = now or monitoring.database_now(connection)
    flag = table.flag_now(connection, rollout.flag)
    change = decide(rollout, flag, None, moment)
    verdicts, before = None, rollout
    if change is None and rollout.look_due(moment):
        verdicts = tuple(measure(connection, rollout, moment))
        counts = merged(rollout.counts, verdicts)
        rollout = replace(rollout, looks=rollout.looks + 1, looked_at=moment, counts=counts)
        change = decide(rollout, flag, verdicts, moment)
    if change is None and verdicts is None:
        return Walked(rollout, None, None)
    try:
        with connection.transaction():
            if change is not None:
                table.lock_flags(connection)
            if verdicts is not None:
                table.record_look(connection, before, verdicts, rollout.counts, moment)
            if change is not None:
                _write(connection, settings, rollout, change)
            reach("rollout.before_commit")
    except ChangedMeanwhileError as error:
        log.info("rollout_changed_meanwhile", rollout=rollout.id, said=str(error))
        return Walked(before, None, None)
    reach("rollout.committed")
    if change is not None:
        log.warning("rollout", rollout=rollout.id, action=str(change.action), said=change.said)
        rollout = replace(change.after, version=rollout.version + 1)
    return Walked(rollout, verdicts, change)


def _write(connection: Connection[Row], settings: Settings, rollout: Rollout, change: Change) -> None:
    told = messages(
        settings, rollout.flag, change.said, by=CONTROLLER, reason=rollout.plan.name, grave=change.grave
    )
    reason = f"step {rollout.step} of plan {rollout.plan.name}: {change.said}"
    table.change(connection, rollout, change, by=CONTROLLER, reason=reason, messages=told)


def try_walk(settings: Settings) -> tuple[list[Walked], str]:
    """`walk` for a loop: what was done, and in words; a database that is away is only said."""
    try:
        walked = walk(settings)
    except (SketchyError, psycopg.Error) as error:
        said = f"the database is away: {' '.join(str(error).split())}"
        log.warning("rollout_not_walked", error=said)
        return [], said
    if walked is None:
        return [], "another controller is at it"
    return walked, "; ".join(each.said for each in walked) or "no rollout is active"


def newest(settings: Settings, flags: Iterable[str]) -> list[Rollout]:
    """The newest rollout of each flag, whoever changed it; none while the database is away."""
    try:
        with connect(settings, Role.operator, application_name="sketchy rollout") as connection:
            return [found for flag in flags for found in table.rollouts(connection, flag=flag, limit=1)]
    except (SketchyError, psycopg.Error):
        return []
