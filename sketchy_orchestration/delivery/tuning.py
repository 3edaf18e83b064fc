"""Reads what the last days measured and proposes thresholds; writes nothing."""

from __future__ import annotations

from datetime import timedelta

from psycopg import Connection

from sketchy_orchestration.database import flags, monitoring
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.rollout_plan import Plan
from sketchy_orchestration.domain.tuning import Measured, Peak, Proposal, proposals


def propose(
    connection: Connection[Row], alerts: dict[str, float], days: float, plan: Plan | None = None
) -> list[Proposal]:
    """Proposals from the last `days`; the connection is only read from.

    Args:
        alerts: limits of the alert rules, by name.
    """
    now = monitoring.database_now(connection)
    since = {"since": now - timedelta(days=days)}
    peaks = {
        metric: Peak(float(minute), float(five), float(total))
        for metric, minute, five, total in connection.execute(query("tuning.peaks"), since)
    }
    row = connection.execute(query("tuning.span"), since).fetchone()
    measured = Measured(
        hours=float(row[0]) if row else 0.0,
        times=monitoring.sums(connection, timedelta(days=days)).times,
        peaks=peaks,
        flags={each.name: float(each.value) for each in flags.flags(connection) if each.value is not None},
        alerts=alerts,
    )
    return proposals(measured, plan or Plan())
