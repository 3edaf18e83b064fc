from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from sketchy_orchestration.domain import alerting
from sketchy_orchestration.domain.alerting import Alert, Channel, Kind, Rule, Severity, State, Step, step

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
RULE = Rule("r", Severity.critical, "s", 5, (Channel.slack,), "{label} {value}", for_seconds=30)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def alert_of(taken: Step) -> Alert:
    assert taken.alert is not None
    return taken.alert


def firing(**changes: object) -> Alert:
    made = Alert("r", "", Severity.critical, State.firing, 6, NOW, NOW, fired_at=NOW, told_at=NOW, id=1)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_a_breach_is_pending_until_it_has_lasted() -> None:
    begun = step(RULE, None, "", 6, NOW)
    assert alert_of(begun).state is State.pending
    assert begun.message is None
    waits = step(RULE, alert_of(begun), "", 7, after(29))
    assert alert_of(waits).state is State.pending
    fires = step(RULE, alert_of(waits), "", 8, after(30))
    assert alert_of(fires).state is State.firing
    assert (fires.message, fires.channels) == (Kind.firing, (Channel.slack,))
    assert alert_of(fires).value == 8


def test_a_short_breach_is_forgotten() -> None:
    begun = alert_of(step(RULE, None, "", 6, NOW))
    assert step(RULE, begun, "", None, after(10)) == Step(None)
    assert step(RULE, None, "", None, after(20)) == Step(None)


def test_without_a_wait_it_fires_at_once() -> None:
    assert step(dataclasses.replace(RULE, for_seconds=0), None, "", 6, NOW).message is Kind.firing


def test_it_is_told_once_and_its_end_once_where_it_was_told() -> None:
    told = (Channel.slack, Channel.pagerduty)
    assert step(RULE, firing(), "", 6, after(60), told=told).message is None
    lasting = alert_of(step(RULE, firing(), "", 6, after(60), told=told))
    assert step(RULE, lasting, "", None, after(100), told=told).message is None
    over = step(RULE, lasting, "", None, after(121), told=told)
    assert (over.message, over.channels) == (Kind.resolved, told)
    assert alert_of(over).resolved_at == after(121)


def test_a_critical_one_escalates_once_to_the_next_channel() -> None:
    lasting = step(RULE, firing(), "", 6, after(600), told=(Channel.slack,))
    assert (lasting.message, lasting.channels) == (Kind.escalated, (Channel.email,))
    again = step(RULE, alert_of(lasting), "", 6, after(700), told=(Channel.slack, Channel.email))
    assert again.message is None


def test_where_all_know_all_are_told_again() -> None:
    assert step(RULE, firing(), "", 6, after(600), told=tuple(Channel)).channels == tuple(Channel)


def test_an_acknowledged_one_is_neither_escalated_nor_repeated() -> None:
    looked_after = firing(acknowledged_at=after(5))
    for seconds in (700, 7_200, 100_000):
        assert step(RULE, looked_after, "", 6, after(seconds), told=(Channel.slack,)).message is None
    assert step(RULE, looked_after, "", None, after(700), told=(Channel.slack,)).message is Kind.resolved


def test_repeats_are_rarer_when_it_matters_less() -> None:
    escalated = firing(escalated_at=after(600), told_at=after(600))
    assert step(RULE, escalated, "", 6, after(600 + 3600), told=(Channel.slack,)).message is Kind.repeated
    warning = dataclasses.replace(RULE, severity=Severity.warning)
    assert step(warning, firing(), "", 6, after(3600 * 5), told=(Channel.slack,)).message is None
    assert step(warning, firing(), "", 6, after(3600 * 6), told=(Channel.slack,)).message is Kind.repeated


@pytest.mark.parametrize(
    ("rule", "value", "signals", "expected"),
    [
        (RULE, 5, {}, False),
        (RULE, 5.1, {}, True),
        (dataclasses.replace(RULE, below=True), 5, {}, False),
        (dataclasses.replace(RULE, below=True), 4.9, {}, True),
        (dataclasses.replace(RULE, beside=("t", 3)), 9, {("t", ""): 2}, True),
        (dataclasses.replace(RULE, beside=("t", 3)), 9, {("t", ""): 3}, False),
        (dataclasses.replace(RULE, beside=("t", 3)), 9, {}, True),
    ],
)
def test_breaches(rule: Rule, value: float, signals: dict[tuple[str, str], float], expected: bool) -> None:
    found = alerting.breaches([rule], {("s", ""): value, **signals})
    assert found == ({("r", ""): value} if expected else {})


def test_each_label_is_an_alert_of_its_own() -> None:
    assert alerting.breaches([RULE], {("s", "a"): 6, ("s", "b"): 1, ("s", "c"): 7}) == {
        ("r", "a"): 6,
        ("r", "c"): 7,
    }


def test_a_message_goes_where_somebody_is() -> None:
    assert alerting.reachable((Channel.slack,), (Channel.slack, Channel.email)) == (Channel.slack,)
    assert alerting.reachable((Channel.slack,), (Channel.email,)) == (Channel.email,)
    assert alerting.reachable((Channel.slack,), ()) == ()
    assert [alerting.next_try(n).total_seconds() for n in (1, 2, 3, 99)] == [10, 20, 40, 600]
