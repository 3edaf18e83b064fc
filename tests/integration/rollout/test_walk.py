"""The whole plan in simulated time: healthy to 100 %, failing back, too little to judge by, and again."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from sketchy_orchestration.database import flags
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.domain.rollout import Action, Pause, Rollout, State
from sketchy_orchestration.domain.rollout_commands import Wish
from sketchy_orchestration.domain.rollout_metrics import MetricName
from sketchy_orchestration.domain.rollout_plan import Metric, OnFail, Plan
from tests.integration.rollout.simulation import Simulation


def told(simulation: Simulation, action: Action, **more: object) -> Rollout:
    done = rollouts.tell(
        simulation.connection,
        simulation.settings,
        "enrolment",
        Wish(action, **more),  # type: ignore[arg-type]
        by="ann",
        reason="a test",
        now=simulation.now,
    )
    return done.rollout


def test_a_healthy_rollout_walks_to_a_hundred(simulation: Simulation) -> None:
    began = simulation.now
    simulation.start()
    rollout = simulation.until(State.completed, State.paused, State.rolled_back)
    assert rollout.state is State.completed, rollout.why
    assert simulation.story() == [
        ("start", "running", 0),
        ("advance", "running", 25),
        ("advance", "running", 50),
        ("advance", "running", 100),
        ("complete", "completed", 100),
    ]
    assert simulation.now - began == timedelta(hours=24)
    changes = table.changes(simulation.connection, rollout.id)
    assert [change.by for change in changes] == ["controller"] * 4 + ["ann"]
    assert all(change.reason and change.request_id for change in changes)
    by_metric = {each.metric: each for each in table.verdicts(simulation.connection, rollout.id)}
    assert {each.verdict for each in by_metric.values()} == {"pass"}
    # The control group has no new games at 100 %: earlier ones stand beside ours, and that is said.
    assert "earlier ones among them" in by_metric["completion_gap"].said
    assert "confidence" in by_metric["compare_overrun_ms"].said
    # Every change set the flag, and was left for the channels.
    history = flags.history(simulation.connection, "enrolment")
    assert [row["value"] for row in history[:3]] == [100, 50, 25]
    titles = [
        row[0]
        for row in simulation.connection.execute(
            "select title from orchestration.alert_messages where kind = 'rollout' order by id"
        )
    ]
    assert len(titles) == 5
    assert titles[1] == "[info rollout] enrolment: 0 % passed: now 25 %"


def games_in_play(simulation: Simulation, count: int) -> dict[str, str]:
    """Real games created now; who handles each."""
    simulation.connection.execute(
        "insert into public.games (prompt) select 'a cat' from generate_series(1, %s)", [count]
    )
    return handlers(simulation)


def handlers(simulation: Simulation) -> dict[str, str]:
    rows = simulation.connection.execute(
        "select e.game_id::text, e.handler from orchestration.enrolments e"
        " join public.games g on g.id = e.game_id"
    )
    return dict(rows.fetchall())


def finish(simulation: Simulation, games: list[str]) -> None:
    """Play games to their end as players, the application and the timer do."""
    connection = simulation.connection
    for game in games:
        connection.execute("select public.transition_game_status(%s, 'briefing')", [game])
    for _ in range(8):
        connection.execute(
            "update public.games set phase_expires_at = clock_timestamp() - interval '1 ms'"
            " where status::text in ('briefing', 'drawing', 'voting', 'results') and id = any(%s)",
            [games],
        )
        connection.execute("select from orchestration.sweep(p_limit => 500)")


def test_a_fault_at_fifty_rolls_back_and_no_game_changes_hands(simulation: Simulation) -> None:
    simulation.start()
    simulation.until_percentage(50)
    before = games_in_play(simulation, 60)
    ours = [game for game, handler in before.items() if handler == "orchestration"]
    assert 10 < len(ours) < 50
    simulation.play.errors = 0.02
    rollout = simulation.until(State.rolled_back, State.completed, State.paused)
    assert rollout.state is State.rolled_back
    assert "error_rate" in rollout.why
    assert simulation.percentage() == 0
    # What was enrolled stays ours and is finished properly; what comes now goes to the legacy handler.
    finish(simulation, ours)
    statuses = simulation.connection.execute(
        "select distinct status::text from public.games where id = any(%s)", [ours]
    ).fetchall()
    assert statuses == [("completed",)]
    after = games_in_play(simulation, 20)
    assert {game: after[game] for game in before} == before
    assert {handler for game, handler in after.items() if game not in before} == {"legacy"}
    # What was wrong is mended; the same plan begins again.
    simulation.play.errors = 0.001
    assert told(simulation, Action.retry).attempt == 2
    assert simulation.until(State.completed, State.paused, State.rolled_back).state is State.completed
    told(simulation, Action.undo)
    assert simulation.percentage() == 0


def test_it_goes_back_to_the_last_good_percentage_and_from_there_to_none(simulation: Simulation) -> None:
    simulation.start(Plan(on_fail=OnFail.last_good))
    simulation.until_percentage(50)
    simulation.play.complete = 0.5
    rollout = simulation.until(State.paused, State.rolled_back)
    assert (rollout.pause, rollout.percentage, simulation.percentage()) == (Pause.failed, 25, 25)
    assert "completion_gap" in rollout.why
    assert "compare_completed" in rollout.why
    # Still watched, though paused: what fails there too goes to 0.
    rollout = simulation.until(State.rolled_back)
    assert simulation.percentage() == 0


def test_a_failure_can_hold_instead_of_rolling_back(simulation: Simulation) -> None:
    """For a release with a migration in it, that nobody wants taken back automatically."""
    simulation.start(Plan(on_fail=OnFail.hold))
    simulation.until_percentage(50)
    simulation.play.late = 3.0
    rollout = simulation.until(State.paused)
    assert (rollout.pause, simulation.percentage()) == (Pause.failed, 50)
    assert "timer_accuracy" in rollout.why
    simulation.tick()
    assert simulation.rollout().version == rollout.version


def test_too_little_traffic_is_inconclusive_and_pauses(simulation: Simulation) -> None:
    simulation.start()
    simulation.until_percentage(25)
    simulation.play.games = 40
    rollout = simulation.until(State.paused, State.completed, State.rolled_back)
    assert (rollout.pause, simulation.percentage()) == (Pause.inconclusive, 25)
    assert "completion_gap" in rollout.why
    assert " of 100 needed" in rollout.why
    # Time alone changes nothing; more games do, once a person lets it go on.
    simulation.play.games = 1000
    for _ in range(3):
        simulation.tick()
    assert simulation.rollout().state is State.paused
    told(simulation, Action.resume)
    simulation.tick()
    assert simulation.percentage() == 50


def test_after_an_abort_retry_works(simulation: Simulation) -> None:
    simulation.start()
    simulation.until_percentage(25)
    told(simulation, Action.abort)
    assert simulation.percentage() == 0
    simulation.tick()
    assert simulation.rollout().state is State.aborted
    rollout = told(simulation, Action.retry, from_step=True)
    assert (rollout.state, rollout.attempt, simulation.percentage()) == (State.running, 2, 25)
    simulation.until_percentage(50)


def test_a_flag_set_beside_the_rollout_pauses_it(simulation: Simulation) -> None:
    simulation.start()
    simulation.until_percentage(25)
    flags.set_flag(simulation.connection, "enrolment", by="bob", reason="careful", value=Decimal(5))
    simulation.tick()
    rollout = simulation.rollout()
    assert (rollout.pause, simulation.percentage()) == (Pause.flag, 5)
    assert "set to 5 % by bob (careful)" in rollout.why
    told(simulation, Action.resume)
    assert simulation.percentage() == 25


def test_a_critical_alert_rolls_back_even_while_paused(
    simulation: Simulation, connection: psycopg.Connection
) -> None:
    simulation.start()
    simulation.until_percentage(25)
    told(simulation, Action.pause)
    connection.execute(
        "insert into orchestration.alerts (rule, severity, state, value, fired_at)"
        " values ('circuit_open', 'critical', 'firing', 40, clock_timestamp())"
    )
    simulation.tick()
    rollout = simulation.rollout()
    assert rollout.state is State.rolled_back
    assert "critical_alerts 1 fire: circuit_open" in rollout.why


def test_what_cannot_be_measured_pauses_after_its_error_limit(simulation: Simulation) -> None:
    metrics = (
        Metric(name=MetricName.error_rate, minimum=1000, error_limit=1),
        Metric(name=MetricName.critical_alerts),
    )
    simulation.start(Plan(metrics=metrics, comparisons=()))
    simulation.until_percentage(25)
    simulation.connection.execute("alter function orchestration.metric_window rename to gone")
    simulation.tick()
    assert simulation.rollout().state is State.running
    simulation.tick()
    rollout = simulation.rollout()
    assert (rollout.pause, simulation.percentage()) == (Pause.inconclusive, 25)
    assert "metric_window" in rollout.why
    assert "2 times in a row" in rollout.why


@pytest.mark.parametrize("percentage", [0, 100])
def test_halting_ends_every_rollout_at_once(simulation: Simulation, percentage: float) -> None:
    simulation.start()
    if percentage:
        told(simulation, Action.promote, full=True)
    assert rollouts.halt(simulation.connection, simulation.settings, by="ann", reason="emergency") == 1
    assert rollouts.halt(simulation.connection, simulation.settings, by="ann", reason="emergency") == 0
    rollout = simulation.rollout()
    assert (rollout.state, simulation.percentage()) == (State.aborted, 0)
    assert table.changes(simulation.connection, rollout.id)[0].action == "halt"
