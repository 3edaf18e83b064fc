"""Facts for the watch to see, written as triggers, sweeps and relays write them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.settings import Settings
from tests.integration.migrations.conftest import start_pooler

__all__ = ["Facts", "facts", "operator", "settings", "start_pooler"]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, database_url=database_url)


@pytest.fixture
def operator(settings: Settings) -> Iterator[psycopg.Connection[Row]]:
    """A session of sketchy_operator, whom the watch works as."""
    with connect(settings, Role.operator) as session:
        yield session


class Facts:
    """Writes what happened `age` seconds ago."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def forget_roll_ups(self, minutes: int = 10) -> None:
        """Let the next roll-up begin that many minutes ago."""
        self.connection.execute(
            "update orchestration.rolled_up set until = date_trunc('minute', clock_timestamp())"
            " - make_interval(mins => %s)",
            [minutes],
        )

    def transition(
        self,
        *,
        age: float = 120,
        late: float = 0.003,
        count: int = 1,
        cause: str = "timer",
        handler: str = "orchestration",
        phases: tuple[str, str] = ("drawing", "voting"),
    ) -> None:
        self.connection.execute(
            """
            insert into orchestration.transitions
                (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)
            select gen_random_uuid(), %(from)s, %(to)s, m.at - make_interval(secs => %(late)s), m.at,
                   %(cause)s, %(handler)s, 'r'
            from (select clock_timestamp() - make_interval(secs => %(age)s) as at) m,
                 generate_series(1, %(count)s)
            """,
            {
                "from": phases[0],
                "to": phases[1],
                "late": late,
                "age": age,
                "count": count,
                "cause": cause,
                "handler": handler,
            },
        )

    def event(self, *, age: float = 120, took: float | None = 0.01, outcome: str = "delivered") -> UUID:
        """An event; `took` seconds to its outcome, None: it waits."""
        event_id, game = uuid4(), uuid4()
        values = {"event": event_id, "game": game, "age": age, "took": took, "outcome": outcome}
        row = self.connection.execute(
            """
            insert into orchestration.outbox
                (event_id, game_id, lane, type, data, channels, request_id, occurred_at)
            values (%(event)s, %(game)s, orchestration.lane_of(%(game)s), 'vote_cast', '{}', '{game-x}', 'r',
                    clock_timestamp() - make_interval(secs => %(age)s))
            returning id, occurred_at
            """,
            values,
        ).fetchone()
        assert row is not None
        if took is not None:
            self.connection.execute(
                """
                insert into orchestration.outcomes
                    (outbox_id, event_id, game_id, lane, seq, outcome, attempts, occurred_at, at, timetokens)
                values (%(id)s, %(event)s, %(game)s, orchestration.lane_of(%(game)s), 1, %(outcome)s, 1,
                        %(occurred_at)s, %(occurred_at)s + make_interval(secs => %(took)s), '{"game-x": "1"}')
                """,
                {**values, "id": row[0], "occurred_at": row[1]},
            )
        return event_id

    def failed_attempts(self, count: int, *, age: float = 60, reason: str = "server_error") -> None:
        self.connection.execute(
            """
            insert into orchestration.attempts
                (outbox_id, event_id, channel, attempt, verdict, reason, occurred_at, at)
            select 0, gen_random_uuid(), 'game-x', 1, 'moment', %(reason)s, clock_timestamp(),
                   clock_timestamp() - make_interval(secs => %(age)s)
            from generate_series(1, %(count)s)
            """,
            {"count": count, "age": age, "reason": reason},
        )

    def accepted_beside_a_failure(self, count: int, *, age: float = 60) -> None:
        """What one channel took while another did not: no failure."""
        self.connection.execute(
            """
            insert into orchestration.attempts
                (outbox_id, event_id, channel, attempt, verdict, reason, timetoken, occurred_at, at)
            select 0, gen_random_uuid(), 'game-y', 1, 'accepted', 'accepted', 17, clock_timestamp(),
                   clock_timestamp() - make_interval(secs => %(age)s)
            from generate_series(1, %(count)s)
            """,
            {"count": count, "age": age},
        )

    def live_game(self, *, overdue: float = -60) -> UUID:
        """A game in play whose deadline passed `overdue` seconds ago."""
        game = uuid4()
        self.connection.execute(
            "insert into orchestration.live_games (game_id, phase, deadline)"
            " values (%s, 'drawing', clock_timestamp() - make_interval(secs => %s))",
            [game, overdue],
        )
        return game

    def shift(self, kind: str, *, report: str = "{}", silent: float = 0) -> UUID:
        shift = uuid4()
        self.connection.execute(
            "insert into orchestration.shifts (shift_id, kind, version, host, pid, report, heartbeat_at)"
            " values (%s, %s, '0', 'h', 1, %s, clock_timestamp() - make_interval(secs => %s))",
            [shift, kind, report, silent],
        )
        return shift

    def at_work(self) -> None:
        """Two shifts of each kind, no lane without a holder, minutes rolled up (the template may be old)."""
        monitoring.roll_up(self.connection)
        shifts = [self.shift(kind) for kind in ("timer", "timer", "fanout", "fanout")]
        self.connection.execute(
            "with held as (update orchestration.lanes set holder = %s)"
            " update orchestration.lane_progress set cursor = pg_current_snapshot()",
            [shifts[-1]],
        )


@pytest.fixture
def facts(connection: psycopg.Connection) -> Facts:
    return Facts(connection)
