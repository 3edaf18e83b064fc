"""Load: games dealt at a steady rate by the application's own statements; each ends a phase soon after."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

from tests.faults.timer.table import Table

PER_PAIR = 13
"""Events of two dealt games: four joined, two drew, two voted, two times timer_expired and phase_changed, one
game_completed."""


TIME_OUTS = "-c statement_timeout=8s -c lock_timeout=2s"
"""What an application asks for: whoever makes it wait longer than that harms it."""


class Load:
    """A thread that deals `rate` games a second, whatever becomes of its connection.

    Attributes:
        dealt: games whose dealing was committed, as far as this thread knows.
        errors: statements that failed, or waited for longer than the application would.
    """

    def __init__(self, url: str, *, rate: float, first: float = 1.2, spread: float = 1.0) -> None:
        self._url, self._rate = url, rate
        self._first, self._spread = first, spread
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.dealt = 0
        self.errors: list[str] = []

    def start(self) -> Load:
        self._thread.start()
        return self

    def stop(self) -> int:
        """Stop dealing; the games dealt."""
        self._done.set()
        self._thread.join(30)
        if self._thread.is_alive():
            self.errors.append("a statement has not ended for 30 s")
        return self.dealt

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                with psycopg.connect(
                    self._url, autocommit=True, connect_timeout=5, options=TIME_OUTS
                ) as connection:
                    self._deal(connection)
            except psycopg.Error as error:
                self.errors.append(" ".join(str(error).split()))
                self._done.wait(0.05)

    def _deal(self, connection: psycopg.Connection[Any]) -> None:
        table = Table(connection)
        due, each = time.monotonic(), 0.1
        while not self._done.is_set():
            count = 2 * max(1, round(self._rate * each / 2))
            with connection.transaction():
                table.deal(count, first=self._first, spread=self._spread)
            self.dealt += count
            due = max(due + each, time.monotonic() - 1)
            self._done.wait(max(0.0, due - time.monotonic()))
