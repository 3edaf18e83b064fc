"""Does a connection keep its session, or does a pooler in transaction mode lend it out in between?"""

from __future__ import annotations

import select
import time
from typing import Any, LiteralString

import psycopg
from psycopg import pq

_PID: LiteralString = "select pg_backend_pid()"
_ROUNDS = 4
_WAIT = 2.0  # seconds; a pooler in transaction mode with an idle server answers within milliseconds

_known: set[tuple[str | None, ...]] = set()


def keeps_sessions(parameters: dict[str, str]) -> bool:
    """Whether a session outlives its transactions at this address; a yes is remembered by the process.

    Two connections take turns. With real sessions each has one server process and they are never the same;
    in transaction mode the second gets the process that the first, though still connected, has just released.
    """
    key = tuple(parameters.get(name) for name in ("host", "port", "dbname", "user"))
    if key not in _known and _check(parameters):
        _known.add(key)
    return key in _known


def _check(parameters: dict[str, str]) -> bool:
    given: dict[str, Any] = {**parameters, "application_name": "sketchy session check", "connect_timeout": 2}
    with psycopg.connect("", autocommit=True, **given) as first:
        seen_by_first = {_pid(first)}
        try:
            second = psycopg.connect("", **given)
        except psycopg.Error as error:
            # No second connection to compare with: a pool of one session waits here, as it should.
            import structlog  # here only: it takes a third of the time in which a command starts

            structlog.get_logger(__name__).info("session_check_undecided", reason=type(error).__name__)
            return True
        with second:
            seen_by_second: set[int] = set()
            for _ in range(_ROUNDS):
                pid = _pid_within(second, _WAIT)
                if pid is None:  # the pool gives the first one's process to nobody else: a session
                    return True
                seen_by_second.add(pid)
                seen_by_first.add(_pid(first))  # the second is inside its transaction here
                second.rollback()
                if len(seen_by_first) > 1 or len(seen_by_second) > 1 or seen_by_first & seen_by_second:
                    return False
    return True


def _pid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_PID).fetchone()
    assert row is not None  # noqa: S101 - one row by definition
    return int(row[0])


def _pid_within(connection: psycopg.Connection[Any], seconds: float) -> int | None:
    """The server process inside a new transaction, or None when none is given within `seconds`."""
    raw = connection.pgconn
    raw.send_query(b"begin; " + _PID.encode())
    until = time.monotonic() + seconds
    pid: int | None = None
    while True:
        while raw.is_busy():
            left = until - time.monotonic()
            if left <= 0 or not select.select([raw.socket], [], [], left)[0]:
                return None
            raw.consume_input()
        result = raw.get_result()
        if result is None:
            return pid
        if result.status == pq.ExecStatus.TUPLES_OK:
            value = result.get_value(0, 0)
            pid = int(value) if value else None
