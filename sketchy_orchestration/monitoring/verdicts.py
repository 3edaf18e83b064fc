"""What Dagster's asset checks say, judged from what one look saw; and the numbers of its assets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sketchy_orchestration.database.monitoring import Signals
from sketchy_orchestration.domain.health import Check
from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.service_levels import Sums
from sketchy_orchestration.monitoring.standing import Report


class Weight(StrEnum):
    """How much a failed check matters."""

    warn = "warn"
    error = "error"


@dataclass(frozen=True, slots=True)
class Judged:
    """A check of an asset; `description` is what it asks, `said` what was seen."""

    asset: str
    name: str
    weight: Weight
    description: str
    passed: bool = True
    said: str = ""


ASKED: tuple[Judged, ...] = (
    Judged("service_levels", "contract_kept", Weight.error, "Every service level keeps its contract"),
    Judged("service_levels", "ambition_reached", Weight.warn, "Every service level reaches our ambition"),
    Judged("service_levels", "no_budget_burns", Weight.warn, "No error budget burns too fast"),
    Judged("timer_lateness", "no_game_overdue", Weight.error, "No game is more than 5 s past its deadline"),
    Judged("timer_lateness", "none_set_aside", Weight.warn, "No game is set aside"),
    Judged("event_delivery", "none_waits_long", Weight.error, "No event has waited for more than 30 s"),
    Judged("event_delivery", "no_dead_letters", Weight.warn, "No dead letter waits for a person"),
    Judged("event_delivery", "all_accounted", Weight.error, "Every event has its outcome, or waits for it"),
    Judged("pool", "connections_left", Weight.warn, "The database has connections left"),
    Judged("shifts", "two_timer_shifts", Weight.error, "Two timer shifts are at work"),
    Judged("shifts", "two_fanout_shifts", Weight.error, "Two fan-out shifts are at work"),
)
"""Every check there is; its verdict is filled in by `judge`."""


def judge(checks: Sequence[Check], signals: Signals, report: Report | None) -> list[Judged]:
    """Every check, judged; without a report, which reads a month, only those that need none."""
    by_name = {check.name: check for check in checks}
    aside = int(signals.get(("games_set_aside", ""), 0))
    dead = int(signals.get(("dead_letters_open", ""), 0))
    verdicts: dict[str, tuple[bool, str]] = {
        "none_set_aside": (not aside, f"{aside} are set aside"),
        "no_dead_letters": (not dead, f"{dead} wait"),
        **({} if report is None else _of_report(report)),
    }
    for name, of in (
        ("no_game_overdue", "games"),
        ("none_waits_long", "outbox"),
        ("connections_left", "database"),
        ("two_timer_shifts", "timer_shifts"),
        ("two_fanout_shifts", "fanout_shifts"),
    ):
        check = by_name.get(of)
        strict = of.endswith("shifts") or of == "database"
        passed = check is not None and (check.status == "ok" if strict else check.healthy)
        verdicts[name] = (passed, check.said if check is not None else "the database does not answer")
    return [
        Judged(one.asset, one.name, one.weight, one.description, *verdicts[one.name])
        for one in ASKED
        if one.name in verdicts
    ]


def _of_report(report: Report) -> dict[str, tuple[bool, str]]:
    broken = [each.level.name for each in report.standings if each.kept is False]
    missed = [each.level.name for each in report.standings if each.reached is False]
    known = sum(each.kept is not None for each in report.standings)
    measured = f"{known} of {len(report.standings)} have been measured, all"
    return {
        "contract_kept": (not broken, f"broken: {', '.join(broken)}" if broken else f"{measured} kept"),
        "ambition_reached": (not missed, f"missed: {', '.join(missed)}" if missed else f"{measured} reached"),
        "no_budget_burns": (
            not report.burning,
            ", ".join(f"{name} burns {pace}" for name, pace in report.burning.items()) or "none burns",
        ),
        "all_accounted": (
            not report.accounted.unaccounted,
            f"{report.accounted.unaccounted} of {report.accounted.written} have no outcome",
        ),
    }


def numbers(
    signals: Signals, report: Report, lately: Sums | None = None
) -> Mapping[str, Mapping[str, float]]:
    """What Dagster plots, by asset: only numbers of bounded many names.

    Args:
        lately: the sums of the last minutes; with them also what all shifts together did in them.
    """
    levels = {
        f"{each.level.name}_percent": each.contract.share * 100
        for each in report.standings
        if each.contract.share is not None
    }
    budgets = {
        f"{each.level.name}_budget_left_percent": max(each.budget_left, -10.0) * 100
        for each in report.standings
        if each.level.budget and each.budget_left is not None
    }
    together = {} if lately is None else _together(signals, lately)
    return {
        "service_levels": {**levels, **budgets},
        **together,
        "pool": {
            "connections": signals.get(("database_connections", ""), 0.0),
            "used_percent": signals.get(("database_connections_used_ratio", ""), 0.0) * 100,
            "oldest_transaction_seconds": signals.get(("database_oldest_transaction_seconds", ""), 0.0),
        },
        "shifts": {
            f"{kind}_{name}": signals.get((signal, kind), 0.0)
            for kind in ("timer", "fanout")
            for name, signal in (("at_work", "shifts_at_work"), ("heartbeat_age", "shifts_silent_seconds"))
        },
    }


def _together(signals: Signals, lately: Sums) -> dict[str, dict[str, float]]:
    """What all shifts did lately; their own points on the same assets are of one shift each."""
    return {
        "timer_lateness": {
            "all_transitions": float(lately.count("transitions")),
            "all_overdue": signals.get(("games_overdue", ""), 0.0),
            "all_set_aside": signals.get(("games_set_aside", ""), 0.0),
            **_times("all_lateness", lately.times.get("lateness")),
        },
        "event_delivery": {
            "all_delivered": float(lately.count("outcomes", "delivered")),
            "all_dead": float(lately.count("outcomes", "dead")),
            "all_expired": float(lately.count("outcomes", "expired")),
            "all_waiting": signals.get(("events_waiting", ""), 0.0),
            **_times("all_delivery", lately.times.get("delivery")),
        },
    }


def _times(name: str, times: Histogram | None) -> dict[str, float]:
    # Without any there is no point: a zero would look like a very good one.
    if times is None or not times.total:
        return {}
    return {
        f"{name}_p50_ms": times.percentile(0.5),
        f"{name}_p99_ms": times.percentile(0.99),
        f"{name}_max_ms": times.largest,
    }
