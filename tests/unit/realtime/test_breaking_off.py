"""Nobody who is told to stop waits for a connection."""

from __future__ import annotations

import threading

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.realtime.breaking_off import unless_stopped
from sketchy_orchestration.realtime.stop import Stop


class Made:
    """As much of a connection as is needed to see whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_connection_that_comes_after_the_stop_is_closed() -> None:
    stopping, answers, made = Stop(), threading.Event(), Made()

    def connect() -> Made:
        answers.wait(10)
        return made

    stopping.set()
    assert unless_stopped(stopping, connect) is None
    assert not made.closed
    answers.set()
    assert wait_until(lambda: made.closed, seconds=5)


def test_until_then_it_is_as_if_one_had_connected_oneself() -> None:
    stopping, made = Stop(), Made()
    assert unless_stopped(stopping, lambda: made) is made

    def refuse() -> Made:
        raise psycopg.OperationalError("no")

    with pytest.raises(psycopg.OperationalError, match="no"):
        unless_stopped(stopping, refuse)
