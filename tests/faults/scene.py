"""A scene: a database, a PubNub, two shifts of each kind, load; and what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from sketchy_orchestration.local import processes
from tests.faults.books import audit
from tests.faults.figures import Figures
from tests.faults.invariants import Books, Breach, Expected, repeats, unexplained
from tests.faults.load import PER_PAIR, Load
from tests.faults.timer.watching import Watching
from tests.faults.workers import PubNub, Workers

Connection = psycopg.Connection[Any]

CONCURRENCY = 20
RATE = 20.0

_WAITING = """
    select count(*) from orchestration.outbox o
    where not exists (select from orchestration.outcomes c where c.outbox_id = o.id)
"""
_OVERDUE = "select count(*) from orchestration.live_games where deadline < clock_timestamp() and not paused"
_SOON = """
    select count(*) from orchestration.live_games
    where deadline < clock_timestamp() + interval '10 s' and not paused
"""
# Games go on for minutes; what is due later belongs to no scenario.
_REST = """
    update orchestration.live_games set paused = true, paused_at = clock_timestamp()
    where deadline >= clock_timestamp() + interval '10 s' and not paused
"""
# A relay broke off what was in flight. Of one that could not even connect nothing was.
_BROKEN_OFF = re.compile(
    r"(?:lease lost|relay lost its database|our own way out fails)(?!.*connection failed).*"
)


class Scene:
    """Everything one scenario needs; scenarios may follow each other in it, the books are one."""

    def __init__(self, url: str, folder: Path, figures: Figures) -> None:
        self.url = url
        self.folder = folder
        self.figures = figures
        self.pubnub = PubNub(folder)
        self.workers = Workers(url, self.pubnub.environment(), folder / "shifts.log")
        self.connection: Connection = psycopg.connect(url, autocommit=True)
        self.connection.execute(
            "update orchestration.flags set value = %s where name = 'fanout_concurrency'", [CONCURRENCY]
        )
        self.expected = Expected()
        self._before = (0, 0, 0)
        self._refused: list[str] = []
        self._broken_off = 0

    def reconnect(self) -> None:
        """A new connection of the test's own, after the server went away."""
        self.connection.close()
        self.connection = psycopg.connect(self.url, autocommit=True)

    @contextmanager
    def load(self, rate: float = RATE, *, harmed: bool = False) -> Iterator[Load]:
        """Load for the length of the block; everything dealt counts as expected.

        None of its statements may fail, unless it is `harmed` because Postgres itself is broken meanwhile.
        """
        load = Load(self.url, rate=rate).start()
        try:
            assert processes.wait_until(lambda: load.dealt > 0, seconds=20), load.errors
            yield load
        finally:
            dealt = load.stop()
            self._refused += [] if harmed else load.errors
            self.expected = replace(
                self.expected,
                transitions=self.expected.transitions + dealt,
                delivered=self.expected.delivered + dealt * PER_PAIR // 2,
            )

    @contextmanager
    def watching(self) -> Iterator[Watching]:
        """Somebody who watches how late phases end."""
        with Watching(self.url) as watching:
            yield watching

    def allow(self, *, repeats: int = 0, **more: Any) -> None:
        """What this scenario allows: `repeats` for relays killed; a lease lost is known from the log."""
        self.expected = replace(self.expected, repeats=self.expected.repeats + repeats, **more)

    def number(self, query: str) -> float:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return float(row[0])

    def outcomes(self) -> int:
        """Events whose outcome is known."""
        return int(self.number("select count(*) from orchestration.outcomes"))

    def wait_for_more(self, count: int, seconds: float = 30.0) -> None:
        """Until so many more events have an outcome."""
        known = self.outcomes()
        assert processes.wait_until(lambda: self.outcomes() >= known + count, seconds=seconds), (
            f"{self.outcomes() - known} of {count} events in {seconds} s: {self.workers.said()}"
        )

    def _count_broken_off(self) -> None:
        """What was in flight when a lease was lost, to whatever, may be sent twice."""
        times = len(_BROKEN_OFF.findall(self.workers.said(whole=True)))
        self.allow(repeats=CONCURRENCY * (times - self._broken_off))
        self._broken_off = times

    def settle(self, seconds: float = 40.0) -> None:
        """Until every game that is due soon has moved and nothing waits; what is due later rests."""

        def quiet() -> bool:
            self.connection.execute(_REST)
            return self.number(_SOON) == 0 and self.number(_WAITING) == 0

        processes.wait_until(quiet, seconds=seconds, pause=0.05)

    def judge(self, name: str, seconds: float = 40.0) -> Books:
        """Wait until all is done, then check everything that ever happened here."""
        began = time.monotonic()
        self.settle(seconds)
        self._count_broken_off()
        books, breaches = self.audit()
        delivered = sum(one.outcome == "delivered" for one in books.outcomes)
        counts = (len(books.transitions), delivered, repeats(books))
        for what, now, before in zip(
            ("transitions", "delivered", "sent twice"), counts, self._before, strict=True
        ):
            self.figures.note(name, what, now - before)
        self._before = counts
        # The next scenario is not allowed what this one was.
        expired = frozenset(one.event_id for one in books.outcomes if one.outcome == "expired")
        forgiven = expired if self.expected.expired else self.expected.forgiven
        self.expected = replace(
            self.expected, repeats=unexplained(books).total(), expired=False, forgiven=forgiven
        )
        self.figures.note(name, "settled after", time.monotonic() - began, unit="s")
        assert not breaches, "\n".join([*map(str, breaches), self.workers.said()])
        return books

    def audit(self) -> tuple[Books, list[Breach]]:
        refused, self._refused = self._refused, []
        return audit(self.connection, self.pubnub.accepted(), self.expected, refused)

    def close(self) -> None:
        self.workers.close()
        self.pubnub.kill()
        self.connection.close()


@contextmanager
def a_scene(
    url: str, folder: Path, figures: Figures, *, timers: int = 2, relays: int = 2, **environment: str
) -> Iterator[Scene]:
    """A scene with shifts at work."""
    scene = Scene(url, folder, figures)
    try:
        for _ in range(timers):
            scene.workers.start("timer", **environment)
        for _ in range(relays):
            scene.workers.start("fanout", **environment)
        scene.workers.wait_for(scene.connection)
        yield scene
    finally:
        scene.close()
