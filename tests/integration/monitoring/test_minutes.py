"""Minutes of counts and histograms, and what service levels make of them."""

from __future__ import annotations

import time
from datetime import timedelta

import psycopg
import pytest

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.domain.burn import Pace
from sketchy_orchestration.domain.lateness import bucket_of
from sketchy_orchestration.domain.service_levels import Tally
from sketchy_orchestration.monitoring import standing
from tests.integration.monitoring.conftest import Facts
from tests.integration.sweep.scene import Scene

HOUR = timedelta(hours=1)


def test_buckets_are_those_of_python(connection: psycopg.Connection) -> None:
    values = [0.0, 0.05, 0.1, 0.11, 0.5, 1.7, 14.99, 15.01, 999.0, 86_400_000.0]
    found = connection.execute("select orchestration.bucket_of(v) from unnest(%s::float8[]) v", [values])
    assert [row[0] for row in found] == [bucket_of(value) for value in values]


def test_a_minute_is_rolled_up_once(operator: psycopg.Connection, facts: Facts) -> None:
    facts.forget_roll_ups()
    facts.transition(count=3, late=0.004)
    facts.transition(cause="application", count=2)
    facts.transition(handler="legacy", phases=("voting", "completed"))
    facts.event(took=0.02)
    facts.event(took=3)
    facts.event(outcome="dead")
    facts.failed_attempts(4, age=120)
    facts.accepted_beside_a_failure(5, age=120)
    facts.shift("timer", report='{"sweeps": 90, "slow_sweeps": 1, "lateness_p50_ms": 1}')
    minutes = monitoring.roll_up(operator)
    assert minutes in (9, 10)  # the last one ends for it ten seconds later
    sums = monitoring.sums(operator, HOUR)
    assert sums.count("minutes", "up") == minutes
    monitoring.roll_up(operator)
    again = monitoring.sums(operator, HOUR)
    assert {**again.counts, ("minutes", "up"): minutes} == dict(sums.counts)
    assert sums.count("transitions") == 5
    assert sums.count("transitions", "timer") == 3
    assert sums.count("outcomes", "dead") == 1
    assert sums.count("failed_attempts", "server_error") == 4
    assert sums.count("failed_attempts", "accepted") == 0
    assert sums.count("games_completed", "legacy") == 1
    assert sums.count("shifts", "timer:sweeps") == 90
    assert sums.times["lateness"].percentile(0.99) == pytest.approx(4, rel=0.1)
    assert sums.times["delivery"].largest == pytest.approx(3000, rel=0.01)
    totals = {(each.metric, each.label): each for each in monitoring.totals(operator)}
    assert totals["transitions", "timer"].count == 3
    assert sum(totals["delivery", ""].buckets.values()) == 2


def test_a_shift_that_begins_to_count_anew_loses_nothing(
    operator: psycopg.Connection, connection: psycopg.Connection, facts: Facts
) -> None:
    shift = facts.shift("timer", report='{"sweeps": 90}')
    for report in ('{"sweeps": 90}', '{"sweeps": 100}', '{"sweeps": 7}', '{"sweeps": 7}'):
        connection.execute("update orchestration.shifts set report = %s where shift_id = %s", [report, shift])
        facts.forget_roll_ups(2)  # a minute ends for the roll-up ten seconds later
        connection.execute("delete from orchestration.metric_minutes")
        monitoring.roll_up(operator)
    (sweeps,) = [each for each in monitoring.totals(operator) if each.metric == "shifts"]
    assert sweeps.count == 90 + 10 + 7


def test_an_outage_is_counted_when_it_is_over(operator: psycopg.Connection, facts: Facts) -> None:
    facts.forget_roll_ups(10)
    facts.transition(age=130, late=200, count=20)
    facts.transition(age=130, late=0.1, count=3)
    monitoring.roll_up(operator)
    sums = monitoring.sums(operator, HOUR)
    assert 4 <= sums.count("minutes", "down") <= 5
    assert sums.count("minutes") in (9, 10)


def test_one_game_set_aside_among_many_is_no_outage(operator: psycopg.Connection, facts: Facts) -> None:
    facts.forget_roll_ups(5)
    facts.live_game(overdue=400)
    for age in range(20, 400, 30):
        facts.transition(age=age, count=30)
    monitoring.roll_up(operator)
    assert monitoring.sums(operator, HOUR).count("minutes", "down") == 0


def test_an_event_that_waits_is_an_outage_too(operator: psycopg.Connection, facts: Facts) -> None:
    facts.forget_roll_ups(5)
    facts.event(age=200, took=None)
    monitoring.roll_up(operator)
    assert monitoring.sums(operator, HOUR).count("minutes", "down") >= 2


def test_hours_of_minutes_become_one_row_and_say_the_same(
    operator: psycopg.Connection, connection: psycopg.Connection, facts: Facts
) -> None:
    facts.forget_roll_ups(60)
    for age in range(100, 3500, 60):
        facts.transition(age=age, late=age / 1e5)
    monitoring.roll_up(operator)
    connection.execute("update orchestration.metric_minutes set minute = minute - interval '3 days'")
    before = monitoring.sums(operator, timedelta(days=28))
    rows = _count(connection)
    dry = operator.execute("select orchestration.fold_minutes(now() - interval '2 days', true)").fetchone()
    assert _count(connection) == rows
    saved = operator.execute("select orchestration.fold_minutes(now() - interval '2 days')").fetchone()
    assert saved == dry
    assert saved is not None
    assert _count(connection) == rows - saved[0] < 10
    assert monitoring.sums(operator, timedelta(days=28)) == before


def test_a_month_is_read_in_a_moment(operator: psycopg.Connection, connection: psycopg.Connection) -> None:
    connection.execute(
        """
        insert into orchestration.metric_minutes (minute, metric, label, minutes, count, buckets)
        select date_trunc('hour', now()) - n * interval '1 hour', m, l, 60, 1000,
               (select jsonb_object_agg(b, 30) from generate_series(1, 40) b)
        from generate_series(48, 28 * 24) n, unnest(array['lateness', 'delivery', 'trigger', 'canary']) m,
             unnest(array['a', 'b']) l
        union all
        select date_trunc('minute', now()) - n * interval '1 minute', m, l, 1, 20,
               (select jsonb_object_agg(b, 1) from generate_series(1, 20) b)
        from generate_series(1, 2879) n, unnest(array['lateness', 'delivery', 'trigger', 'canary']) m,
             unnest(array['a', 'b']) l
        on conflict do nothing
        """
    )
    began = time.perf_counter()
    found = standing.standings(operator)
    seconds = time.perf_counter() - began
    size = connection.execute(
        "select pg_total_relation_size('orchestration.metric_minutes') / 1e6"
    ).fetchone()
    assert size is not None
    print(f"28 days: {size[0]:.1f} MB, judged in {seconds * 1000:.0f} ms")  # noqa: T201  figures of the report
    assert {each.level.name for each in found if each.contract.total}
    assert size[0] < 50


def test_a_burning_budget_is_seen(operator: psycopg.Connection, facts: Facts) -> None:
    facts.forget_roll_ups(10)
    facts.transition(age=100, count=50)
    facts.transition(age=100, late=4, count=50)
    monitoring.roll_up(operator)
    assert standing.burning(operator)["timer_accuracy"] is Pace.fast
    report = standing.report(operator)
    (accuracy,) = [each for each in report.standings if each.level.name == "timer_accuracy"]
    assert accuracy.contract == Tally(50, 100)
    text = standing.markdown(report)
    assert "| 99.9 % within 1000 ms | 50.000 % ✗ |" in text
    assert "timer_accuracy (fast)" in text


def test_players_measures_stand_beside_the_control_group(operator: psycopg.Connection, facts: Facts) -> None:
    facts.forget_roll_ups(10)
    for handler, completed, cancelled in (("orchestration", 9, 1), ("legacy", 3, 1)):
        facts.transition(handler=handler, phases=("voting", "completed"), count=completed)
        facts.transition(
            handler=handler, phases=("drawing", "cancelled"), count=cancelled, cause="application"
        )
        facts.transition(handler=handler, phases=("waiting", "cancelled"), count=5, cause="application")
    monitoring.roll_up(operator)
    found = standing.players_measures(monitoring.sums(operator, HOUR))
    assert found["orchestration"].completion == 0.9
    assert found["legacy"].completion == 0.75
    assert found["legacy"].abandoned == {"drawing": 1, "waiting": 5}
    for name, label, value in (
        ("support_tickets", "helpdesk", 3),
        ("support_tickets", "helpdesk", 2),
        ("satisfaction", "survey", 4),
        ("satisfaction", "survey", 5),
    ):
        monitoring.observe(operator, name, value, label=label)
    text = standing.markdown(standing.report(operator))
    assert "| legacy | 0 | 3 | 75.000 % |" in text
    assert "Reported: support tickets (helpdesk) 5, satisfaction (survey) 4.5" in text


def test_a_drawing_that_is_missing_after_grace_is_lost(
    operator: psycopg.Connection, connection: psycopg.Connection, database_url: str
) -> None:
    scene = Scene(database_url, connection)
    game = scene.game("drawing", players=4, drawings=2)
    scene.leave(game.id, next(user for user in game.users if user not in game.drawings))
    scene.sweep()
    assert scene.phase(game.id) == "drawing", "there is grace"
    scene.put(game.id, "drawing", -0.1)
    scene.sweep()
    assert scene.phase(game.id) == "voting"
    scene.do("select orchestration.roll_up_minutes(clock_timestamp() + interval '1 minute')")
    found = standing.players_measures(monitoring.sums(operator, HOUR))
    assert found["orchestration"].drawings_lost == 1


def _count(connection: psycopg.Connection) -> int:
    row = connection.execute("select count(*) from orchestration.metric_minutes").fetchone()
    assert row is not None
    return int(row[0])
