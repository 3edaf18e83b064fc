"""What an operator is told about the system."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import replace
from io import StringIO

import psycopg
from rich.console import Console

from sketchy_orchestration.cli.stack_screen import one_line, screen
from sketchy_orchestration.database.status import first_transition_after, read_status, shifts_at_work


def _shift(conn: psycopg.Connection, kind: str, silent_seconds: float) -> str:
    shift_id = str(uuid.uuid4())
    conn.execute(
        "insert into orchestration.shifts (shift_id, kind, version, host, pid, started_at, heartbeat_at)"
        " values (%s, %s, '0', %s, %s, now() - interval '1 minute', now() - make_interval(secs => %s))",
        [shift_id, kind, socket.gethostname(), os.getpid(), silent_seconds],
    )
    return shift_id


def _event(conn: psycopg.Connection, seconds_ago: float) -> int:
    game_id = uuid.uuid4()
    row = conn.execute(
        "insert into orchestration.outbox (game_id, lane, type, data, channels, request_id, occurred_at)"
        " values (%(game)s, orchestration.lane_of(%(game)s), 'timer_sync', '{}', '{game-x}', 'r',"
        " now() - make_interval(secs => %(ago)s)) returning id",
        {"game": game_id, "ago": seconds_ago},
    ).fetchone()
    assert row is not None
    return int(row[0])


def _deliver(conn: psycopg.Connection, outbox_id: int) -> None:
    conn.execute(
        "insert into orchestration.outcomes"
        " (outbox_id, event_id, game_id, lane, seq, outcome, attempts, occurred_at)"
        " select id, event_id, game_id, lane, 1, 'delivered', 1, occurred_at from orchestration.outbox"
        " where id = %s",
        [outbox_id],
    )


def test_an_idle_system_has_nothing_to_tell(connection: psycopg.Connection) -> None:
    status = read_status(connection)
    assert set(status.games.values()) == {0}
    assert (status.waiting_events, status.sent_events, status.dead_letters) == (0, 0, 0)
    assert (status.overdue, status.set_aside, status.trigger_failures) == (0, 0, 0)
    assert (status.lateness.p50_ms, status.circuit, status.flags_off, status.shifts) == (
        None,
        "closed",
        [],
        [],
    )
    assert json.loads(json.dumps(status.as_dict()))["shifts"] == []
    assert one_line(status).startswith("games none; lateness p50 –")


def test_a_shift_that_is_silent_is_not_counted_as_alive(connection: psycopg.Connection) -> None:
    alive = _shift(connection, "timer", 0.5)
    _shift(connection, "timer", 20)
    _shift(connection, "fanout", 600)
    status = read_status(connection)
    assert (status.alive("timer"), status.alive("fanout")) == (1, 0)
    assert [shift.shift_id for shift in shifts_at_work(connection)] == [alive]


def test_events_held_back_by_the_rate_limit_are_said_to_be(connection: psycopg.Connection) -> None:
    for silent, share in ((0.5, 0.9), (0.5, 0.1), (60, 1.0)):
        shift_id = _shift(connection, "fanout", silent)
        connection.execute(
            "update orchestration.shifts set report = %s where shift_id = %s",
            [json.dumps({"held_back_share": share}), shift_id],
        )
    status = read_status(connection)
    assert status.held_back == 0.9
    for held_back, said in ((0.9, True), (0.1, False)):
        text = StringIO()
        shown = screen(replace(status, held_back=held_back), [], title="t")
        Console(file=text, width=120).print(shown)
        assert ("held back by the rate limit" in text.getvalue()) is said


def test_why_and_since_when_the_circuit_is_open(connection: psycopg.Connection) -> None:
    connection.execute(
        "update orchestration.circuit"
        " set state = 'open', reason = 'credentials', since = now() - interval '75 s'"
    )
    status = read_status(connection)
    assert (status.circuit, status.circuit_reason, 75 <= status.circuit_seconds < 95) == (
        "open",
        "credentials",
        True,
    )
    text = StringIO()
    Console(file=text, width=120).print(screen(replace(status, circuit_seconds=75.4), [], title="t"))
    assert "open (credentials) for 75 s" in text.getvalue()


def test_an_event_that_waits_is_counted_however_many_came_after_it(connection: psycopg.Connection) -> None:
    _event(connection, 30)
    for _ in range(3):
        _deliver(connection, _event(connection, 1))
    for exact in (True, False):
        status = read_status(connection, exact=exact)
        assert (status.waiting_events, status.sent_events) == (1, 3)
        assert 29 <= status.oldest_waiting_seconds < 60


def test_lateness_is_that_of_the_timers_transitions(connection: psycopg.Connection) -> None:
    since = connection.execute("select clock_timestamp()").fetchone()
    assert since is not None
    assert first_transition_after(connection, since[0]) is None
    for cause, late_ms in (("timer", 4), ("timer", 8), ("application", 60_000)):
        connection.execute(
            "insert into orchestration.transitions"
            " (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)"
            " select gen_random_uuid(), 'briefing', 'drawing', t - make_interval(secs => %s), t, %s,"
            " 'orchestration', 'r' from clock_timestamp() t",
            [late_ms / 1000, cause],
        )
    status = read_status(connection)
    assert status.transitions == 3
    assert status.lateness.p50_ms is not None
    assert status.lateness.max_ms is not None
    assert (round(status.lateness.p50_ms), round(status.lateness.max_ms)) == (4, 8)
    seconds = first_transition_after(connection, since[0])
    assert seconds is not None
    assert 0 <= seconds < 5
