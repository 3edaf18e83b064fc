"""What is well and what is not, judged from signals; one JSON shape for everybody who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sketchy_orchestration.domain.envelope import iso

Signals = Mapping[tuple[str, str], float]

SLOW_ROUND_TRIP_MS = 250.0
OVERDUE_SECONDS = 5.0
WAITING_SECONDS = 30.0
DAEMON_SECONDS = 120.0
CANARY_SECONDS = 60.0
SLOW_CANARY_MS = 1_000.0
FEW_PARTITIONS = 2
USED_CONNECTIONS = 0.8


class Status(StrEnum):
    """How a check stands; a warning is still healthy."""

    ok = "ok"
    warning = "warning"
    failing = "failing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        said: what was seen, one line.
        action: what to do; empty while all is well.
        for_seconds: how long it has not been well; None when well, or not known.
        latency_ms: how long the look took, or the measured time itself.
        numbers: what was measured, by name.
    """

    name: str
    status: Status
    said: str
    action: str = ""
    for_seconds: float | None = None
    latency_ms: float | None = None
    numbers: tuple[tuple[str, float | str], ...] = ()

    @property
    def healthy(self) -> bool:
        return self.status is not Status.failing

    def as_json(self, now: datetime) -> dict[str, Any]:
        since = None if self.for_seconds is None else iso(now - timedelta(seconds=self.for_seconds))
        return {
            "healthy": self.healthy,
            "status": str(self.status),
            "said": self.said,
            "action": self.action or None,
            "since": since,
            "latencyMs": None if self.latency_ms is None else round(self.latency_ms, 2),
            **dict(self.numbers),
        }


def as_json(checks: Iterable[Check], now: datetime, version: str) -> dict[str, Any]:
    """The shape of `/health`, `/ready` and `sketchy health --json`."""
    found = list(checks)
    return {
        "status": "healthy" if all(check.healthy for check in found) else "unhealthy",
        "checks": {check.name: check.as_json(now) for check in found},
        "version": version,
        "timestamp": iso(now),
    }


def of_database(
    round_trip_ms: float, signals: Signals, *, pooler: str, numbers: tuple[tuple[str, float | str], ...] = ()
) -> Check:
    """The database answers, soon enough, and has connections left.

    Args:
        pooler: what lies between: none, session mode or transaction mode.
    """
    used = signals.get(("database_connections_used_ratio", ""), 0.0)
    told: tuple[tuple[str, float | str], ...] = (
        ("pooler", pooler),
        ("connections", signals.get(("database_connections", ""), 0.0)),
        ("connectionsUsed", round(used, 3)),
        *numbers,
    )
    if used >= USED_CONNECTIONS:
        said, action = (
            f"{used:.0%} of the connections are in use",
            "see docs/runbooks/database-connections.md",
        )
        found = Check("database", Status.warning, said, action, latency_ms=round_trip_ms, numbers=told)
        return _dated(found, signals)
    if round_trip_ms >= SLOW_ROUND_TRIP_MS:
        said = f"a round trip takes {round_trip_ms:.0f} ms"
        action = "see docs/runbooks/database-slow.md"
        return Check("database", Status.warning, said, action, latency_ms=round_trip_ms, numbers=told)
    return Check("database", Status.ok, "answers", latency_ms=round_trip_ms, numbers=told)


def of_failed_database(said: str, for_seconds: float | None = None) -> Check:
    """The database does not answer."""
    return Check("database", Status.failing, said, "see docs/runbooks/database-unreachable.md", for_seconds)


def of_signals(signals: Signals, read_ms: float | None = None) -> list[Check]:
    """Every check that the database's own signals answer; reading them took `read_ms`."""
    found = [_dated(judge(signals), signals) for judge in _JUDGES]
    return [replace(check, latency_ms=read_ms) if check.latency_ms is None else check for check in found]


def _dated(check: Check, signals: Signals) -> Check:
    """Since when it has not been well is what the alert with the same runbook remembers."""
    rule = check.action.rpartition("/")[2].removesuffix(".md").replace("-", "_")
    if check.status is Status.ok or check.for_seconds is not None:
        return check
    return replace(check, for_seconds=_value(signals, "alert_open_seconds", rule))


def _value(signals: Signals, name: str, label: str = "") -> float | None:
    return signals.get((name, label))


def _shifts(kind: str) -> Callable[[Signals], Check]:
    name = f"{kind}_shifts"
    flag = {"timer": "timer_monitoring", "fanout": "pubnub_broadcasting"}[kind]

    def judge(signals: Signals) -> Check:
        at_work = int(_value(signals, "shifts_at_work", kind) or 0)
        silent = _value(signals, "shifts_silent_seconds", kind) or 0.0
        numbers: tuple[tuple[str, float | str], ...] = (
            ("atWork", at_work),
            ("heartbeatAgeSeconds", round(silent, 1)),
        )
        if at_work >= 2:
            return Check(name, Status.ok, f"{at_work} at work", numbers=numbers)
        action = "see docs/runbooks/shift-missing.md"
        if at_work == 1:
            return Check(name, Status.warning, "only one is at work", action, numbers=numbers)
        if kind == "timer" and _value(signals, "switch_on", flag) == 0:
            said = f"none is at work and the flag {flag} is off"
            return Check(name, Status.warning, said, "see docs/runbooks/switched-off.md", numbers=numbers)
        action = "see docs/runbooks/shifts-gone.md"
        return Check(name, Status.failing, "none is at work", action, silent, numbers=numbers)

    return judge


def _pubnub(signals: Signals) -> Check:
    age, took = _value(signals, "canary_age_seconds"), _value(signals, "canary_milliseconds")
    ages = [value for (name, _), value in signals.items() if name == "canary_age_seconds"]
    times = [value for (name, _), value in signals.items() if name == "canary_milliseconds"]
    age, took = (min(ages) if ages else age), (max(times) if times else took)
    if _value(signals, "circuit_open"):
        return Check(
            "pubnub",
            Status.failing,
            "the circuit is open: PubNub fails as a whole",
            "see docs/runbooks/circuit-open.md",
            _value(signals, "circuit_open_seconds"),
            took,
        )
    if age is None or took is None:
        said, action = (
            "no canary has been heard yet",
            "run `sketchy probe`, and keep `sketchy watchdog` running",
        )
        return Check("pubnub", Status.warning, said, action)
    if age > CANARY_SECONDS:
        said, action = f"no canary for {age:.0f} s", "see docs/runbooks/canary-silent.md"
        return Check("pubnub", Status.failing, said, action, age, took)
    if took > SLOW_CANARY_MS:
        said, action = f"a canary took {took:.0f} ms", "see docs/runbooks/canary-slow.md"
        return Check("pubnub", Status.warning, said, action, latency_ms=took)
    return Check("pubnub", Status.ok, f"a canary was heard {age:.0f} s ago", latency_ms=took)


def _daemon(signals: Signals) -> Check:
    age, alive = _value(signals, "dagster_daemon_alive_age_seconds"), _value(signals, "dagster_daemon_alive")
    if age is None or alive is None:
        said = "Dagster has not reported within a day"
        action = "without Dagster, keep `sketchy shift` and `sketchy watchdog` running"
        return Check("dagster_daemon", Status.warning, said, action)
    if age > DAEMON_SECONDS or not alive:
        said = (
            f"no sign of Dagster's daemon for {age:.0f} s" if age > DAEMON_SECONDS else "a daemon is silent"
        )
        return Check("dagster_daemon", Status.failing, said, "see docs/runbooks/dagster-daemon.md", age)
    return Check("dagster_daemon", Status.ok, f"reported {age:.0f} s ago")


def _games(signals: Signals) -> Check:
    overdue, oldest = (
        int(_value(signals, "games_overdue") or 0),
        _value(signals, "games_overdue_seconds") or 0.0,
    )
    aside = int(_value(signals, "games_set_aside") or 0)
    numbers = (("overdue", float(overdue)), ("setAside", float(aside)))
    if overdue and oldest >= OVERDUE_SECONDS:
        said = f"{overdue} games are overdue, the longest by {oldest:.0f} s"
        if _value(signals, "switch_on", "timer_monitoring") == 0:
            said += "; the flag timer_monitoring is off"
        return Check(
            "games", Status.failing, said, "see docs/runbooks/games-overdue.md", oldest, numbers=numbers
        )
    if aside:
        said, action = f"{aside} games are set aside", "see docs/runbooks/games-set-aside.md"
        return Check("games", Status.warning, said, action, numbers=numbers)
    return Check("games", Status.ok, "none is overdue", numbers=numbers)


def _outbox(signals: Signals) -> Check:
    waiting = int(_value(signals, "events_waiting") or 0)
    oldest = _value(signals, "events_oldest_waiting_seconds") or 0.0
    dead = int(_value(signals, "dead_letters_open") or 0)
    numbers = (
        ("waiting", float(waiting)),
        ("oldestSeconds", round(oldest, 1)),
        ("deadLetters", float(dead)),
    )
    if oldest >= WAITING_SECONDS:
        said = f"{waiting} events wait, the oldest for {oldest:.0f} s"
        if _value(signals, "switch_on", "pubnub_broadcasting") == 0:
            said += "; the flag pubnub_broadcasting is off"
        return Check(
            "outbox", Status.failing, said, "see docs/runbooks/events-waiting.md", oldest, numbers=numbers
        )
    if dead:
        said, action = f"{dead} dead letters wait for a person", "see docs/runbooks/dead-letters.md"
        return Check("outbox", Status.warning, said, action, numbers=numbers)
    return Check("outbox", Status.ok, f"{waiting} events wait", numbers=numbers)


def _partitions(signals: Signals) -> Check:
    ahead = _value(signals, "partitions_ahead_days") or 0.0
    numbers = (("aheadDays", ahead),)
    action = "see docs/runbooks/partitions-ahead.md"
    if ahead < 1:
        said = "tomorrow has no partitions: events will be lost from midnight UTC"
        return Check("partitions", Status.failing, said, action, numbers=numbers)
    if ahead < FEW_PARTITIONS:
        return Check("partitions", Status.warning, f"{ahead:.0f} days ahead", action, numbers=numbers)
    return Check("partitions", Status.ok, f"{ahead:.0f} days ahead", numbers=numbers)


_JUDGES: tuple[Callable[[Signals], Check], ...] = (
    _pubnub,
    _shifts("timer"),
    _shifts("fanout"),
    _daemon,
    _games,
    _outbox,
    _partitions,
)
