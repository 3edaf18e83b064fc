"""Partial rollbacks: one flag, or what answers one of the known risks; the rest goes on."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import Connection

from sketchy_orchestration.database import flags as flag_table
from sketchy_orchestration.database import rollback as statements
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.rollback import RollbackError
from sketchy_orchestration.delivery.steps import Step, Steps
from sketchy_orchestration.domain.rollback import Change, Risk, of_risk
from sketchy_orchestration.settings import Settings


def switch_off(
    settings: Settings,
    flag: str,
    *,
    by: str,
    reason: str,
    dry_run: bool,
    tell: Callable[[Step], None] = lambda _: None,
) -> Steps:
    """Switch one flag off; safe to repeat.

    Raises:
        SketchyError: there is no such flag, no reason, or no database.
    """
    steps = Steps(tell)
    with connect(settings, Role.operator, application_name="sketchy rollback") as connection:
        _apply(connection, steps, Change(flag, enabled=False), by, reason, dry_run)
    return steps


def answer(
    settings: Settings,
    risk: Risk,
    *,
    by: str,
    reason: str,
    dry_run: bool,
    tell: Callable[[Step], None] = lambda _: None,
) -> Steps:
    """Do what answers a risk. Numbers already lowered are not lowered again within the same incident.

    Raises:
        SketchyError: no reason, or no database.
    """
    if not reason.strip():
        raise RollbackError("a partial rollback needs a reason")
    steps = Steps(tell)
    with connect(settings, Role.operator, application_name="sketchy rollback") as connection:
        known = {flag.name: flag for flag in flag_table.flags(connection)}
        # A number that a rollback has lowered stays as it is: launching twice must not lower it twice.
        marker = _marker(risk)
        numbers = {
            name: float(flag.value)
            for name, flag in known.items()
            if flag.kind == "number" and flag.value is not None and not flag.reason.startswith(marker)
        }
        what = of_risk(risk, numbers)
        for change in what.changes:
            _apply(connection, steps, change, by, f"{marker}: {reason}", dry_run)
        if not what.changes:
            steps.did("flags", "lowered already")
        if what.recycle:
            _recycle(connection, steps, by, reason, dry_run)
    steps.did("meanwhile", what.by_hand)
    steps.did("to take it back", what.back)
    return steps


def _marker(risk: Risk) -> str:
    return f"rollback of risk {risk}"


def _apply(
    connection: Connection[Row], steps: Steps, change: Change, by: str, reason: str, dry_run: bool
) -> None:
    now = flag_table.flag(connection, change.flag)
    wanted = "off" if change.enabled is False else f"{change.value:g}"
    if now.shown == wanted:
        steps.did(change.flag, f"is {wanted} already")
    elif dry_run:
        steps.did(change.flag, f"would become {wanted}; is {now.shown}")
    else:
        flag_table.set_flag(
            connection, change.flag, by=by, reason=reason, enabled=change.enabled, value=change.value
        )
        steps.did(change.flag, f"{now.shown} -> {wanted}; every process follows within a second")


def _recycle(connection: Connection[Row], steps: Steps, by: str, reason: str, dry_run: bool) -> None:
    if dry_run:
        found = statements.would_stop(connection)
        steps.did("recycle", f"would let {found.shifts} shifts leave and be replaced")
        return
    try:
        left = statements.recycle(connection, "recycled")
        statements.act(connection, by=by, action="recycle", reason=reason, details={"shifts": len(left)})
    except psycopg.Error as error:
        raise RollbackError(f"the shifts were not recycled: {' '.join(str(error).split())}") from None
    steps.did("recycle", f"{len(left)} shifts leave within a second and are replaced")
