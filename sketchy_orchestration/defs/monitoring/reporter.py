"""What the watch tells Dagster, and what Dagster tells the watch."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.maintenance import dagster_storage
from sketchy_orchestration.defs.monitoring.assets import evaluation
from sketchy_orchestration.monitoring import standing, verdicts
from sketchy_orchestration.monitoring.verdicts import Judged
from sketchy_orchestration.monitoring.watch import Look
from sketchy_orchestration.settings import Settings

REPORT_EVERY = 300.0
CHECKS_EVERY = 3600.0
SOON = 60.0
"""Seconds to the next report as long as nothing has been measured: the first minutes of an installation."""


@dataclass(slots=True)
class Memory:
    """What the reporter remembers between two ticks: when it last reported, and the checks' verdicts."""

    reported: float = 0.0
    checked: float = 0.0
    passed: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, cursor: str | None) -> Memory:
        return cls(**json.loads(cursor)) if cursor else cls()

    def cursor(self) -> str:
        return json.dumps(asdict(self))


def tell_the_watch(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Record that Dagster's daemons beat, and how many runs failed within the hour."""
    statuses = instance.get_daemon_statuses()
    required = [status for status in statuses.values() if status.required]
    alive = bool(required) and all(status.healthy for status in required)
    failed = instance.get_runs_count(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.now(UTC) - timedelta(hours=1)
        )
    )
    with connect(settings, Role.operator, application_name="sketchy watch") as connection:
        monitoring.observe(connection, "dagster_daemon_alive", float(alive))
        monitoring.observe(connection, "dagster_failed_runs_1h", failed)


def report(
    instance: dg.DagsterInstance,
    settings: Settings,
    look: Look,
    memory: Memory,
    now: float | None = None,
) -> str:
    """Report assets every five minutes and checks when they change, and hourly; what was reported.

    Hourly it also lets go of ticks that requested nothing, which Dagster would keep for a day.
    """
    moment = time.time() if now is None else now
    if not look.signals:
        return "nothing is known"
    if moment - memory.reported < REPORT_EVERY:
        told = _tell(instance, memory, verdicts.judge(look.checks, look.signals, None))
        return f"{told} checks reported" if told else "nothing is due"
    with connect(settings, Role.operator, application_name="sketchy watch") as connection:
        found = standing.report(connection, standing.levels_of(settings))
        lately = monitoring.sums(connection, timedelta(seconds=REPORT_EVERY))
    table = {"service_levels": standing.markdown(found)}
    for asset, numbers in verdicts.numbers(look.signals, found, lately).items():
        metadata: dict[str, dg.MetadataValue] = {
            name: dg.MetadataValue.float(value) for name, value in numbers.items()
        }
        if asset in table:
            metadata["report"] = dg.MetadataValue.md(table[asset])
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, metadata=metadata))
    measured = any(each.kept is not None for each in found.standings)
    memory.reported = moment if measured else moment - REPORT_EVERY + SOON
    hourly = moment - memory.checked >= CHECKS_EVERY
    told = _tell(instance, memory, verdicts.judge(look.checks, look.signals, found), all_of_them=hourly)
    if hourly:
        memory.checked = moment
        dagster_storage.forget_skipped_ticks(instance)
    return f"5 assets and {told} checks reported"


def _tell(
    instance: dg.DagsterInstance, memory: Memory, judged: list[Judged], *, all_of_them: bool = False
) -> int:
    """Report the checks whose verdict is another than last time, or all; how many."""
    told = 0
    for one in judged:
        name = f"{one.asset}.{one.name}"
        if all_of_them or memory.passed.get(name) is not one.passed:
            instance.report_runless_asset_event(evaluation(one))
            told += 1
        memory.passed[name] = one.passed
    return told
