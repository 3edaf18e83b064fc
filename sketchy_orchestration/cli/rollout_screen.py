"""What `sketchy rollout status` and `watch` show."""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg import Connection
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.rollout import Changed, Seen
from sketchy_orchestration.domain.rollout import Rollout, State

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def screen(connection: Connection[Row], rollout: Rollout) -> RenderableType:
    """Where it stands, how long still, what was measured last, what happened last."""
    now = monitoring.database_now(connection)
    flag = table.flag_now(connection, rollout.flag)
    head = Text(
        f"rollout {rollout.id} of {rollout.flag}: {rollout.state}"
        + (f" ({rollout.pause})" if rollout.pause else "")
        + f"   {rollout.flag} is {'at' if flag.enabled else 'off, set to'} {flag.value:g} %",
        style="bold",
    )
    return Group(
        head,
        Text(rollout.why),
        _steps(rollout, now),
        _verdicts(table.verdicts(connection, rollout.id)),
        history(table.changes(connection, rollout.id, 5)),
    )


def _steps(rollout: Rollout, now: datetime) -> Table:
    shown = Table("step", "percentage", "hours", "")
    frozen = rollout.plan.frozen(now)
    for number, step in enumerate(rollout.plan.steps):
        said = "passed" if number in rollout.good else ""
        if number == rollout.step and rollout.active:
            left = timedelta(seconds=round(rollout.left(now).total_seconds()))
            said = f"here for {timedelta(seconds=round(rollout.elapsed(now).total_seconds()))}, {left} left"
            if not left and rollout.state is State.running:
                said += f"; frozen: {frozen.why}" if frozen else "; at its checkpoint"
        gate = " (gate)" if step.gate else ""
        shown.add_row(str(number), f"{step.percentage:g} %", f"{step.hours:g}{gate}", said)
    return shown


def _verdicts(seen: list[Seen]) -> RenderableType:
    if not seen:
        return Text("nothing has been measured yet")
    shown = Table("metric", "verdict", "sample", "measured", "at")
    for each in seen:
        verdict = Text(each.verdict + (" (dry run)" if each.dry_run else ""), style=_COLOURS[each.verdict])
        shown.add_row(each.metric, verdict, str(each.sample), each.said, f"{each.at:%H:%M:%S}")
    return shown


def history(changes: list[Changed]) -> Table:
    """Changes, newest first."""
    shown = Table("at", "by", "action", "state", "percentage", "what", "why")
    for each in changes:
        shown.add_row(
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            each.by,
            each.action,
            each.state,
            f"{each.percentage:g} %",
            str(each.details.get("said", "")),
            each.reason,
        )
    return shown
