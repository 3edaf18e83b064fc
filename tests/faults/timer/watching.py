"""Seen from outside: how late phases end, and what the machine did to a bare loop in the same moments."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import psycopg

# Ids are handed out before commits: one may show up after greater ones.
_OVERLAP = 500

_SEEN = """
    select id, game_id::text, extract(epoch from clock_timestamp() - deadline)::float8 * 1000
    from orchestration.transitions where id > %s and cause = 'timer' order by id
"""


class Watching:
    """Two threads on connections of their own.

    One looks every few milliseconds which transitions it can see. The other, the control, commits one row
    every few milliseconds and measures how late it was with that: what the machine and its disk cost anybody.
    Both endure a database that goes away.

    Attributes:
        latenesses_ms: of the game's transitions by the timer, at the moment each was first seen.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self._last = 0
        self.latenesses_ms: dict[int, float] = {}
        self._pulses: list[float] = []
        self._forgotten: set[int] = set()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table if not exists public.pulse (n integer)")
            connection.execute("delete from public.pulse")
            connection.execute("insert into public.pulse values (0)")
            seen = "select id from orchestration.transitions order by id desc limit %s"
            self._forgotten.update(row[0] for row in connection.execute(seen, [2 * _OVERLAP]))
            self._last = max(self._forgotten, default=0)
        self._threads = [
            threading.Thread(target=self._repeat, args=(one,), daemon=True)
            for one in (self._look, self._beat)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(10)

    def worst_ms(self) -> float:
        """The latest transition so far."""
        return max(self.latenesses_ms.values(), default=0.0)

    def machine_ms(self) -> float:
        """The latest beat of the control so far."""
        return max(self._pulses, default=0.0)

    def forget(self) -> None:
        """Begin a new measurement: what was seen before is not seen again."""
        self._forgotten.update(self.latenesses_ms)
        self.latenesses_ms = {}
        self._pulses.clear()

    def bound_ms(self, figure: float) -> float:
        """The figure for a machine of one's own, and room for what this one did meanwhile."""
        return figure + 3 * self.machine_ms()

    def _repeat(self, what: Any) -> None:
        while not self._done.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
                    while not self._done.wait(0.004):
                        what(connection)
            except psycopg.OperationalError:
                self._done.wait(0.05)

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        rows = connection.execute(_SEEN, [max(0, self._last - _OVERLAP)], prepare=True)
        for number, _game, late in rows:
            if number not in self._forgotten:
                self.latenesses_ms.setdefault(number, late)
            self._last = max(self._last, number)

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        began = time.monotonic()
        self._done.wait(0.004)
        connection.execute("update public.pulse set n = n + 1", prepare=True)
        self._pulses.append((time.monotonic() - began) * 1000 - 4)
