"""The emergency stop: nothing moves and nothing is sent after it, and what is handed over stays so."""

from __future__ import annotations

import threading

import psycopg
import pytest

from sketchy_orchestration.database.rollback import RollbackError, lanes_held
from sketchy_orchestration.delivery.emergency import emergency_stop, lift_stop
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.realtime.shift import EndReason
from sketchy_orchestration.settings import Settings
from tests.integration.rollback.conftest import MakeGames, at_work


def count(connection: psycopg.Connection, text: str) -> int:
    row = connection.execute(text).fetchone()
    assert row is not None
    return int(row[0])


MOVED = "select count(*) from orchestration.transitions where handler = 'orchestration' and cause = 'timer'"
NUMBERED = "select count(*) from orchestration.sequenced"
OVERDUE = """select count(*) from public.games
             where status <> 'completed' and phase_expires_at < clock_timestamp()"""
WAITING = """select count(*) from orchestration.outbox o
             where not exists (select from orchestration.outcomes c where c.outbox_id = o.id)"""


def legacy_handler_finishes_everything(connection: psycopg.Connection) -> None:
    """Its list and its one call a game, again and again, without the waiting between."""
    for _ in range(6):
        connection.execute(
            "update public.game_transition_log set created_at = created_at - interval '1 minute'"
        )
        connection.execute(
            """update public.games set phase_expires_at = now() - interval '1 second'
               where status <> 'completed'"""
        )
        connection.execute(
            """select public.transition_game_status(f.game_id, (case f.current_status
                   when 'briefing' then 'drawing' when 'drawing' then 'voting'
                   else 'completed' end)::game_status)
               from public.find_expired_games(1000) f"""
        )


def test_nothing_moves_and_nothing_is_sent_after_it_and_games_change_hands_for_good(
    settings: Settings, connection: psycopg.Connection, make_games: MakeGames
) -> None:
    make_games(600, within=6)
    with at_work(settings) as work:
        assert wait_until(lambda: count(connection, MOVED) > 60 and work.tried > 200, seconds=30)
        for publisher in work.publishers:
            publisher.hang(times=5)
        tried = work.tried
        assert wait_until(lambda: work.tried > tried + 20, seconds=10)
        told: list[str] = []
        done = emergency_stop(
            settings, by="ann", reason="a test", release=True, tell=lambda step: told.append(step.name)
        )
        moved, numbered, tried = count(connection, MOVED), count(connection, NUMBERED), work.tried
        assert done.ok, done.markdown("stop")
        # Every shift leaves by itself, and deadlines pass by the hundred.
        assert wait_until(lambda: work.all_left, seconds=10)
        assert wait_until(lambda: count(connection, OVERDUE) > 100, seconds=20)
        assert count(connection, MOVED) == moved
        assert work.tried == tried
        assert {shift.end_reason for shift in work.shifts} == {EndReason.ended_by_supervisor}
    assert told == [step.name for step in done.done]
    assert told[:4] == [
        "timers and broadcasting off",
        "no more transitions",
        "no more publishes",
        "games released",
    ]
    assert numbered <= count(connection, NUMBERED)
    # What was in flight is known to be unknown, and nothing was forgotten.
    unknown = connection.execute(
        "select distinct reason from orchestration.attempts where verdict = 'unknown'"
    ).fetchall()
    assert unknown == [("emergency_stop",)]
    assert count(connection, WAITING) == 0
    assert count(connection, "select count(*) from orchestration.outcomes where outcome = 'expired'") > 0
    gaps = """select count(*) from (select max(seq) - count(*) as missing,
                                           count(*) - count(distinct seq) as twice
                                    from orchestration.sequenced group by game_id) s
              where missing <> 0 or twice <> 0"""
    assert count(connection, gaps) == 0
    # All games are the legacy handler's, which finishes them; none comes back, and no new one is enrolled.
    assert count(connection, "select count(*) from orchestration.live_games") == 0
    assert (
        count(connection, "select count(*) from orchestration.enrolments where handler = 'orchestration'")
        == 0
    )
    legacy_handler_finishes_everything(connection)
    assert count(connection, "select count(*) from public.games where status = 'completed'") == 600
    assert lift_stop(settings, by="bob", reason="over").ok
    connection.execute("select * from orchestration.reconcile()")
    connection.execute("insert into public.games (prompt) values ('another')")
    assert (
        count(connection, "select count(*) from orchestration.enrolments where handler = 'orchestration'")
        == 0
    )
    with at_work(settings) as work:
        assert wait_until(
            lambda: (
                count(connection, "select count(*) from orchestration.lanes where holder is not null") == 32
            ),
            seconds=20,
        )
    assert work.tried == 0
    rows = connection.execute(
        "select operator, action from orchestration.operator_actions order by id"
    ).fetchall()
    assert rows == [("ann", "emergency_stop"), ("ann", "release_games"), ("bob", "lift_stop")]


def test_kept_games_go_on_when_the_stop_is_lifted_and_nothing_is_lost(
    settings: Settings, connection: psycopg.Connection, make_games: MakeGames
) -> None:
    make_games(200, within=4)
    with at_work(settings) as work:
        assert wait_until(lambda: work.tried > 100, seconds=30)
        before = emergency_stop(settings, by="ann", reason="a test", dry_run=True)
        assert "would keep" in {step.name for step in before.done}
        assert count(connection, "select count(*) from orchestration.emergency_stops") == 0
        first = emergency_stop(settings, by="ann", reason="a test", triggers_off=True)
        again = emergency_stop(settings, by="bob", reason="once more")
        assert first.ok
        assert again.ok
        assert wait_until(lambda: work.all_left, seconds=10)
        tried = work.tried
        # A relay that somebody starts all the same takes no lane and sends nothing.
        with at_work(settings) as defiant:
            beating = """select count(*) from orchestration.shifts
                         where ended_at is null and heartbeat_at > started_at + interval '1.5 s'"""
            assert wait_until(lambda: count(connection, beating) == 3, seconds=20)
            assert defiant.tried == 0
            assert lanes_held(connection) == 0
    assert work.tried == tried
    stops = connection.execute(
        "select operator, games_released, jsonb_array_length(steps) > 4 from orchestration.emergency_stops"
    )
    assert stops.fetchall() == [("ann", 0, True)]
    lift_stop(settings, by="ann", reason="over")
    off = """select count(*) from orchestration.flags
             where kind = 'switch' and not enabled and name <> 'emergency_stop'"""
    assert count(connection, off) == 0
    with at_work(settings, latency=0.0):
        assert wait_until(
            lambda: (
                count(connection, "select count(*) from public.games where status = 'drawing'") == 200
                and count(connection, WAITING) == 0
            ),
            seconds=30,
        )
    twice = """select count(*) from (select outbox_id from orchestration.outcomes
                                     group by 1 having count(*) > 1) o"""
    assert count(connection, twice) == 0


def test_a_sweep_that_hangs_does_not_hold_up_the_stop(
    settings: Settings, connection: psycopg.Connection
) -> None:
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url.get_secret_value()) as sweeper:
        sweeper.execute("select pg_advisory_xact_lock_shared(orchestration.lock_class(), 1)")

        def hang() -> None:
            with pytest.raises(psycopg.errors.QueryCanceled):
                sweeper.execute("select pg_sleep(60)")
            sweeper.rollback()

        thread = threading.Thread(target=hang)
        thread.start()
        done = emergency_stop(settings, by="ann", reason="a test")
        thread.join(10)
        assert not thread.is_alive()
    assert done.ok
    assert "sweep broken off" in {step.name for step in done.done}


@pytest.mark.parametrize(
    ("handler", "release", "what"),
    [("a cron", None, "would release"), (None, None, "would keep"), ("a cron", False, "would keep")],
)
def test_games_are_released_where_somebody_else_can_move_them(
    settings: Settings, handler: str | None, release: bool | None, what: str
) -> None:
    settings = settings.model_copy(update={"legacy_handler": handler})
    done = emergency_stop(settings, by="ann", reason="x", release=release, dry_run=True)
    assert what in {step.name for step in done.done}


def test_refusals_say_why(settings: Settings) -> None:
    with pytest.raises(RollbackError, match="needs a reason"):
        emergency_stop(settings, by="ann", reason=" ")
    with pytest.raises(RollbackError, match="no emergency stop stands"):
        lift_stop(settings, by="ann", reason="over")
