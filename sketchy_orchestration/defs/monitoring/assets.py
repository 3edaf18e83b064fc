"""Assets that the watch reports without runs, and their checks."""

from collections.abc import Iterator

import dagster as dg

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.domain.service_levels import LEVELS
from sketchy_orchestration.monitoring import health, standing, verdicts
from sketchy_orchestration.monitoring.verdicts import ASKED, Judged, Weight

GROUP = "monitoring"
OWNERS = ["team:operations"]
OWNER_TAGS = {"owner": "operations"}
_EVERY = "One point about every five minutes, reported without a run; nothing to materialise by hand."

_CONTRACTS = "\n".join(
    [
        "| service level | contract | ambition |",
        "|---|---|---|",
        *(
            f"| {level.title} | {level.contract.share * 100:g} %"
            + (f" within {level.contract.within_ms:g} ms" if level.contract.within_ms else "")
            + f" | {level.ambition.share * 100:g} %"
            + (f" within {level.ambition.within_ms:g} ms" if level.ambition.within_ms else "")
            + " |"
            for level in LEVELS
        ),
    ]
)

_POOL = """
| number | what it is | look at it |
|---|---|---|
| `connections` | connections of this system | above 20 |
| `used_percent` | everybody's, of `max_connections` | from 80 |
| `oldest_transaction_seconds` | how long the oldest has been open | from 900: vacuum cannot clean behind it |
"""
_SHIFTS = """
| number | what it is | look at it |
|---|---|---|
| `timer_at_work`, `fanout_at_work` | shifts with a heartbeat within 5 s | below 2 |
| `timer_heartbeat_age`, `fanout_heartbeat_age` | seconds since the newest heartbeat | above 2 |
"""

ASSETS = [
    dg.AssetSpec(
        "service_levels",
        description=f"Where each service level stands over 28 days. {_EVERY}\n\n{_CONTRACTS}",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres"},
    ),
    dg.AssetSpec(
        "pool",
        description=f"Connections of the database and its oldest open transaction. {_EVERY}\n{_POOL}",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres"},
    ),
    dg.AssetSpec(
        "shifts",
        description=f"Shifts at work by kind, and the age (s) of the newest heartbeat. {_EVERY}\n{_SHIFTS}",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres"},
    ),
]

_SEVERITY = {Weight.warn: dg.AssetCheckSeverity.WARN, Weight.error: dg.AssetCheckSeverity.ERROR}


def evaluation(judged: Judged) -> dg.AssetCheckEvaluation:
    """A verdict as Dagster records it without a run."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(judged.asset),
        check_name=judged.name,
        passed=judged.passed,
        severity=_SEVERITY[judged.weight],
        metadata={"said": dg.MetadataValue.text(judged.said)},
    )


@dg.multi_asset_check(
    name="all_checks",
    specs=[dg.AssetCheckSpec(one.name, asset=one.asset, description=one.description) for one in ASKED],
    can_subset=True,
)
def all_checks(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource
) -> Iterator[dg.AssetCheckResult]:
    """Judges checks now; the watch does so by itself whenever one changes, and hourly."""
    settings = postgres.settings()
    with connect(settings, Role.operator, application_name="sketchy checks") as connection:
        report = standing.report(connection, standing.levels_of(settings))
        signals = monitoring.signals(connection)
    wanted = {(key.asset_key.to_user_string(), key.name) for key in context.selected_asset_check_keys}
    for judged in verdicts.judge(health.look_at_database(settings), signals, report):
        if (judged.asset, judged.name) not in wanted:
            continue
        yield dg.AssetCheckResult(
            asset_key=judged.asset,
            check_name=judged.name,
            passed=judged.passed,
            severity=_SEVERITY[judged.weight],
            metadata={"said": judged.said},
        )


CHECKS = [all_checks]
