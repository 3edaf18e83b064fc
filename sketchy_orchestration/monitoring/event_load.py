"""Events by themselves, at a rate and in bursts: how soon PubNub has taken each, beside or without games."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

from psycopg import Connection

from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.monitoring.load import Loaded, play, refuse_production
from sketchy_orchestration.settings import Settings

SUBJECTS = 50
"""Channels the events are spread over, as over so many games."""

# Statements a second that write at a steady rate.
_TURNS = 20
_LEAST_OF_RATE = 0.95


@dataclass(frozen=True, slots=True)
class EventsLoaded:
    """What became of the events, and the time from each one's writing to its acceptance in milliseconds.

    Attributes:
        asked_per_second, per_second: the steady rate, as asked for and as reached in writing.
        waiting: without an outcome when the time was over.
        burst_ms: from a burst's writing to the acceptance of the last event of it; the longest.
    """

    asked_per_second: float
    per_second: float
    written: int
    delivered: int
    expired: int
    dead: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    burst_ms: float

    @property
    def waiting(self) -> int:
        return self.written - self.delivered - self.expired - self.dead

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept, and first of all that there was the load that was asked for."""
        found = []
        if self.per_second < _LEAST_OF_RATE * self.asked_per_second:
            found.append(
                f"{self.per_second:,.0f} events/s were written"
                f" where {self.asked_per_second:,.0f}/s were asked for"
            )
        found += [
            f"{count} of {self.written} events {what}"
            for count, what in (
                (self.waiting, "still waited when the time was over"),
                (self.dead, "were given up"),
                (self.expired, "had lost their meaning before they could be sent"),
            )
            if count
        ]
        return found

    @property
    def numbers(self) -> dict[str, float]:
        names = (
            "asked_per_second",
            "per_second",
            "written",
            "delivered",
            "expired",
            "dead",
            "waiting",
            "p50_ms",
            "p99_ms",
            "max_ms",
            "burst_ms",
        )
        return {f"events_{name}": float(getattr(self, name)) for name in names}


def load_events(
    settings: Settings, *, rate: float, seconds: float, burst: int, bursts: int, within: float
) -> EventsLoaded:
    """Write `rate` events a second for `seconds`, with `bursts` times `burst` at once; wait for all of them.

    The events are of type test: they belong to no game, so they have no place in any order, and nobody
    listens to them. Order is what the players of the games beside them look at.

    Args:
        within: seconds to wait at most for the last acceptance.

    Raises:
        LoadRefusedError: this is production.
    """
    refuse_production(settings)
    run = f"load-{uuid4()}"
    written = 0
    with (
        connect(settings, Role.gateway, application_name="sketchy load") as writer,
        connect(settings, Role.operator, application_name="sketchy load") as reader,
    ):
        turns = max(1, int(seconds * _TURNS))
        every = max(1, turns // (bursts + 1))
        began = time.monotonic()
        for turn in range(turns):
            time.sleep(max(0.0, began + turn / _TURNS - time.monotonic()))
            due = int(rate * (turn + 1) / _TURNS) - int(rate * turn / _TURNS)
            written += _write(writer, due, f"{run}-steady")
            if bursts and turn % every == every - 1 and turn // every < bursts:
                written += _write(writer, burst, f"{run}-burst-{turn // every}")
        pace = min(1.0, turns / _TURNS / (time.monotonic() - began))
        return _outcome(reader, run, (rate, rate * pace, written), time.monotonic() + within)


def play_and_load(
    settings: Settings,
    *,
    games: int,
    games_per_second: float,
    speed: float,
    seconds: float,
    events_per_second: float,
    event_seconds: float,
    burst: int,
    bursts: int,
) -> Loaded:
    """Play so many games in at most `seconds`, with events beside them.

    Raises:
        LoadRefusedError: this is production.
        LoadFailedError: the players did not end in time, or could not begin.
    """
    refuse_production(settings)
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(
            load_events,
            settings,
            rate=events_per_second,
            seconds=event_seconds,
            burst=burst,
            bursts=bursts,
            within=seconds,
        )
        played = play(settings, games=games, rate=games_per_second, speed=speed, seconds=seconds)
        events = loading.result()
    summary = {**played.summary, "events": events.numbers}
    return Loaded(played.broken + events.broken, summary, {**played.numbers, **events.numbers})


def _write(writer: Connection[Row], count: int, request_id: str) -> int:
    if count:
        values = {"count": count, "subjects": SUBJECTS, "request_id": request_id}
        writer.execute(query("load.write"), values)
    return count


def _outcome(reader: Connection[Row], run: str, load: tuple[float, float, int], until: float) -> EventsLoaded:
    while True:
        row = reader.execute(query("load.outcome"), {"run": f"{run}%"}).fetchone()
        found = EventsLoaded(*load, *(row or (0, 0, 0, 0.0, 0.0, 0.0, 0.0)))
        if found.waiting <= 0 or time.monotonic() >= until:
            return found
        time.sleep(0.2)
