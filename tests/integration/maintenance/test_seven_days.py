"""Seven simulated days of traffic: storage is flat once the first days have left."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.monitoring import housekeeping
from sketchy_orchestration.settings import Settings
from tests.integration.maintenance.test_housekeeping import make_day

_DAY = """
    with events as (
        insert into orchestration.outbox
            (event_id, game_id, lane, type, data, channels, request_id, occurred_at)
        select gen_random_uuid(), gen_random_uuid(), 0, 'phase_changed',
               jsonb_build_object('n', repeat('x', 200)), '{game-x}', 'r', d.noon + n * interval '1 second'
        from generate_series(1, 3000) n, (select %(noon)s::timestamptz as noon) d
        returning id, event_id, game_id, occurred_at
    ), outcomes as (
        insert into orchestration.outcomes
            (outbox_id, event_id, game_id, lane, seq, outcome, attempts, occurred_at, at)
        select id, event_id, game_id, 0, 1, 'delivered', 1, occurred_at, occurred_at from events
    ), enrolled as (
        insert into orchestration.enrolments (game_id, handler, percentage, decided_at)
        select game_id, 'orchestration', 100, occurred_at from events
    )
    insert into orchestration.transitions
        (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)
    select game_id, 'voting', 'completed', occurred_at, occurred_at, 'timer', 'orchestration', 'r' from events
"""
_MEASURED = "select pg_total_relation_size('orchestration.metric_minutes')"
_MINUTES = """
    insert into orchestration.metric_minutes (minute, metric, label, count, buckets)
    select date_trunc('minute', %(noon)s::timestamptz) + n * interval '1 minute', m, '', 9,
           '{"20": 3, "21": 3, "22": 3}'
    from generate_series(0, 600) n, unnest(array['lateness', 'delivery', 'trigger', 'canary']) m
"""


def vacuum(connection: psycopg.Connection) -> None:
    """Free what was deleted; while an autovacuum worker still sees it, a vacuum has to leave it."""

    def alone() -> bool:
        others = connection.execute(
            "select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        return others.fetchone() is None

    def vacuumed() -> bool:
        if not alone():
            return False
        for table in ("transitions", "enrolments", "metric_minutes"):
            connection.execute(f"vacuum orchestration.{table}")
        return alone()

    assert wait_until(vacuumed, seconds=60)


def test_storage_is_flat_after_retention(settings: Settings, connection: psycopg.Connection) -> None:
    sizes, minutes = [], []
    for ago in range(11, 1, -1):
        make_day(connection, ago)
        noon = connection.execute(
            "select ((clock_timestamp() at time zone 'UTC')::date - %s + time '12:00') at time zone 'UTC'",
            [ago],
        ).fetchone()
        assert noon is not None
        connection.execute(_DAY, {"noon": noon[0]})
        connection.execute(_MINUTES, {"noon": noon[0]})
        # As if it were the night after that day.
        since = timedelta(days=ago - 1)
        housekeeping.partitions(settings, keep=since)
        housekeeping.finished_games(settings, keep=since + timedelta(days=1))
        connection.execute(
            "select orchestration.fold_minutes(clock_timestamp() - %s)", [since + housekeeping.MINUTES_KEPT]
        )
        vacuum(connection)
        measured = connection.execute(_MEASURED).fetchone()
        assert measured is not None
        sizes.append(int(housekeeping.sizes(settings)[0]) - int(measured[0]))
        minutes.append(int(measured[0]))
    told = ", ".join(
        f"{size / 1e6:.2f} + {more / 1e6:.2f}" for size, more in zip(sizes, minutes, strict=True)
    )
    print(f"MB after each day, minutes apart: {told}")  # noqa: T201  figures of the report
    # The first days fill what is kept; then space is used again, that of every other day by turns.
    assert max(sizes[-4:]) < 1.03 * max(sizes[2:6])
    # Hours of minutes are kept for 100 days: small, and bounded.
    assert (minutes[-1] - minutes[2]) / (len(minutes) - 3) < 150_000
    kept = connection.execute("select count(distinct at::date) from orchestration.transitions").fetchone()
    assert kept is not None
    assert kept[0] <= 3
