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


@dataclass(frozen=True, slots=True)
class EventsLoaded:
    """What became of the events, and the time from each one's writing to its acceptance in milliseconds.

    Attributes:
        waiting: without an outcome when the time was over.
        burst_ms: from a burst's writing to the acceptance of the last event of it; the longest.
    """

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
    def kept(self) -> bool:
        """Nothing was lost or given up."""
        return self.waiting == 0 and self.dead == 0

    @property
    def numbers(self) -> dict[str, float]:
        names = (
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

    The events are of type test: they belong to no game, have no place, and nobody listens to them.

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
        return _outcome(reader, run, written, time.monotonic() + within)


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
    return Loaded(played.kept and events.kept, summary, {**played.numbers, **events.numbers})


def _write(writer: Connection[Row], count: int, request_id: str) -> int:
    if count:
        values = {"count": count, "subjects": SUBJECTS, "request_id": request_id}
        writer.execute(query("load.write"), values)
    return count


def _outcome(reader: Connection[Row], run: str, written: int, until: float) -> EventsLoaded:
    while True:
        row = reader.execute(query("load.outcome"), {"run": f"{run}%"}).fetchone()
        found = EventsLoaded(written, *(row or (0, 0, 0, 0.0, 0.0, 0.0, 0.0)))
        if found.waiting <= 0 or time.monotonic() >= until:
            return found
        time.sleep(0.2)
