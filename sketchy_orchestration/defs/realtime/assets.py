"""What shifts report: numbers that Dagster plots."""

from __future__ import annotations

import dagster as dg

from sketchy_orchestration.realtime.shift import ShiftKind, ShiftReport

GROUP = "realtime"
OWNERS = ["team:realtime"]
OWNER_TAGS = {"owner": "realtime"}
"""Whom jobs, sensors and schedules belong to; their runs carry it, so that alerts find their way."""

_ASSET: dict[ShiftKind, dg.AssetSpec] = {
    ShiftKind.timer: dg.AssetSpec(
        "timer_lateness",
        description=(
            "What timer shifts did: transitions, lateness (ms, p50, p99, max), errors, games set aside. One"
            " point per shift about every five minutes and at its end; nothing to materialise by hand.\n\n"
            "| number | of | what it is |\n|---|---|---|\n"
            "| `transitions`, `lateness_…_ms` | one shift | since its last point |\n"
            "| `all_transitions`, `all_lateness_…_ms` | all shifts | the last five minutes |\n"
            "| `all_overdue`, `all_set_aside` | the system | games at this moment |\n"
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres"},
        tags={"sketchy/kind": "timer"},
    ),
    ShiftKind.fanout: dg.AssetSpec(
        "event_delivery",
        description=(
            "What fan-out shifts did: events sequenced, delivered, dead, expired, delays (ms). One point per"
            " shift about every five minutes and at its end; nothing to materialise by hand.\n\n"
            "| number | of | what it is |\n|---|---|---|\n"
            "| `delivered`, `delivery_…_ms` | one shift | since its last point |\n"
            "| `all_delivered`, `all_dead`, `all_expired`, `all_delivery_…_ms` | all shifts | the last five"
            " minutes |\n"
            "| `all_waiting` | the system | events at this moment |\n"
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"pubnub"},
        tags={"sketchy/kind": "fanout"},
    ),
}
ASSETS = list(_ASSET.values())


def materialisation(report: ShiftReport) -> dg.AssetMaterialization:
    """The report as one point on the asset of its kind."""
    identity = report.identity
    return dg.AssetMaterialization(
        _ASSET[identity.kind].key,
        metadata={
            **{name: dg.MetadataValue.float(float(value)) for name, value in report.numbers.items()},
            "seconds": dg.MetadataValue.float((report.until - report.since).total_seconds()),
            "shift": dg.MetadataValue.text(f"{identity.shift_id} on {identity.host}, process {identity.pid}"),
        },
    )
