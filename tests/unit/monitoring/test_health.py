from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sketchy_orchestration.domain import health
from sketchy_orchestration.domain.health import Status

NOW = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)
WELL: dict[tuple[str, str], float] = {
    ("shifts_at_work", "timer"): 2,
    ("shifts_at_work", "fanout"): 2,
    ("switch_on", "timer_monitoring"): 1,
    ("switch_on", "pubnub_broadcasting"): 1,
    ("partitions_ahead_days", ""): 7,
    ("canary_age_seconds", "local"): 4,
    ("canary_milliseconds", "local"): 20,
    ("dagster_daemon_alive", ""): 1,
    ("dagster_daemon_alive_age_seconds", ""): 9,
}


def judged(**changes: float) -> dict[str, health.Check]:
    signals = dict(WELL)
    for name, value in changes.items():
        signal, _, label = name.partition("__")
        signals[signal, label] = value
    return {check.name: check for check in health.of_signals(signals)}


def test_all_is_well() -> None:
    assert {name: check.status for name, check in judged().items()} == dict.fromkeys(
        ("pubnub", "timer_shifts", "fanout_shifts", "dagster_daemon", "games", "outbox", "partitions"),
        Status.ok,
    )


@pytest.mark.parametrize(
    ("name", "changes", "status"),
    [
        ("pubnub", {"circuit_open": 1, "circuit_open_seconds": 30}, Status.failing),
        ("pubnub", {"canary_age_seconds__local": 100}, Status.failing),
        ("pubnub", {"canary_milliseconds__local": 1500}, Status.warning),
        ("timer_shifts", {"shifts_at_work__timer": 1}, Status.warning),
        ("timer_shifts", {"shifts_at_work__timer": 0, "shifts_silent_seconds__timer": 60}, Status.failing),
        ("timer_shifts", {"shifts_at_work__timer": 0, "switch_on__timer_monitoring": 0}, Status.warning),
        ("fanout_shifts", {"shifts_at_work__fanout": 0, "switch_on__pubnub_broadcasting": 0}, Status.failing),
        ("dagster_daemon", {"dagster_daemon_alive_age_seconds": 500}, Status.failing),
        ("dagster_daemon", {"dagster_daemon_alive": 0}, Status.failing),
        ("games", {"games_overdue": 3, "games_overdue_seconds": 9}, Status.failing),
        ("games", {"games_overdue": 3, "games_overdue_seconds": 3}, Status.ok),
        ("games", {"games_set_aside": 1}, Status.warning),
        ("outbox", {"events_waiting": 9, "events_oldest_waiting_seconds": 31}, Status.failing),
        (
            "games",
            {"games_overdue": 3, "games_overdue_seconds": 9, "switch_on__timer_monitoring": 0},
            Status.failing,
        ),
        (
            "outbox",
            {"events_oldest_waiting_seconds": 31, "switch_on__pubnub_broadcasting": 0},
            Status.failing,
        ),
        ("outbox", {"dead_letters_open": 1}, Status.warning),
        ("partitions", {"partitions_ahead_days": 1}, Status.warning),
        ("partitions", {"partitions_ahead_days": 0}, Status.failing),
    ],
)
def test_what_is_not_well_says_what_to_do(name: str, changes: dict[str, float], status: Status) -> None:
    check = judged(**changes)[name]
    assert check.status is status
    if status is not Status.ok:
        assert check.action


@pytest.mark.parametrize(
    ("name", "lacking", "action"),
    [
        ("pubnub", "canary", "`sketchy probe`"),
        ("dagster_daemon", "dagster", "`sketchy shift`"),
    ],
)
def test_what_was_never_heard_of_is_a_warning(name: str, lacking: str, action: str) -> None:
    signals = {key: value for key, value in WELL.items() if not key[0].startswith(lacking)}
    check = {check.name: check for check in health.of_signals(signals)}[name]
    assert check.status is Status.warning
    assert action in check.action


def test_a_database_that_does_not_answer_fails() -> None:
    check = health.of_failed_database("nobody answers at 10.0.0.1", 12)
    assert (check.status, check.for_seconds) == (Status.failing, 12)
    assert "database-unreachable" in check.action


def test_since_is_a_moment() -> None:
    check = judged(games_overdue=3, games_overdue_seconds=90)["games"]
    told = health.as_json([check], NOW, "1.2.3")
    assert told["status"] == "unhealthy"
    assert told["timestamp"] == "2026-01-05T12:00:00.000Z"
    assert told["checks"]["games"] == {
        "healthy": False,
        "status": "failing",
        "said": "3 games are overdue, the longest by 90 s",
        "action": "see docs/runbooks/games-overdue.md",
        "since": "2026-01-05T11:58:30.000Z",
        "latencyMs": None,
        "overdue": 3.0,
        "setAside": 0.0,
    }


def test_what_has_no_moment_of_its_own_takes_that_of_its_alert() -> None:
    check = judged(games_set_aside=2, alert_open_seconds__games_set_aside=300)["games"]
    assert (check.status, check.for_seconds) == (Status.warning, 300)
    assert judged(alert_open_seconds__games_set_aside=300)["games"].for_seconds is None


def test_a_database_with_few_connections_left_is_a_warning() -> None:
    check = health.of_database(3, {("database_connections_used_ratio", ""): 0.9}, pooler="none")
    assert check.status is Status.warning
    assert health.of_database(300, {}, pooler="none").status is Status.warning
    assert health.of_database(3, {}, pooler="none").status is Status.ok
