"""Games in play by the hundred, and shifts of both kinds at work on them, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg
import pytest

from sketchy_orchestration.database import shifts
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.pubnub.publisher import Publisher
from sketchy_orchestration.realtime.fanout_shift import FanoutShift
from sketchy_orchestration.realtime.shift import RunningShift, ShiftKind, new_identity
from sketchy_orchestration.realtime.timer_shift import start_timer_shift
from sketchy_orchestration.settings import Settings

MakeGames = Callable[..., None]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, database_url=database_url)  # type: ignore[call-arg,arg-type]  # pydantic's


@pytest.fixture
def make_games(connection: psycopg.Connection) -> MakeGames:
    """Games of ours in briefing, whose deadlines pass one after the other."""
    connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', null, 100)")

    def make(count: int, *, within: float) -> None:
        connection.execute(
            """with made as (
                   insert into public.games (prompt) select 'a cat' from generate_series(1, %(n)s)
                   returning id
               ), begun as materialized (
                   select id, public.transition_game_status(id, 'briefing') from made
               )
               select count(*) from begun""",
            {"n": count},
        )
        connection.execute(
            """update public.games g
               set phase_expires_at = clock_timestamp() + n.n * make_interval(secs => %(each)s)
               from (select id, row_number() over (order by id) as n from public.games
                     where status = 'briefing') n
               where n.id = g.id""",
            {"each": within / count},
        )

    return make


@dataclass
class AtWork:
    """Shifts and what they published with."""

    shifts: list[RunningShift] = field(default_factory=list)
    publishers: list[MemoryPublisher] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return sum(publisher.attempts for publisher in self.publishers)

    @property
    def all_left(self) -> bool:
        return all(shift.join(0) for shift in self.shifts)


def _same(publisher: MemoryPublisher) -> Publisher:
    return publisher


@contextmanager
def at_work(settings: Settings, *, latency: float = 0.05) -> Iterator[AtWork]:
    """A timer shift and two fan-out shifts, until the end of the block."""
    work = AtWork()
    try:
        work.shifts.append(start_timer_shift(new_identity(ShiftKind.timer), settings))
        for _ in range(2):
            publisher = MemoryPublisher(latency=latency)
            work.publishers.append(publisher)
            identity = new_identity(ShiftKind.fanout)
            with connect(settings, Role.relay) as connection:
                shifts.start(
                    connection,
                    identity.shift_id,
                    "fanout",
                    identity.version,
                    identity.host,
                    identity.pid,
                    None,
                )
            shift = FanoutShift(identity, settings, partial(_same, publisher))
            work.shifts.append(RunningShift(identity, shift.work))
        yield work
    finally:
        for running in work.shifts:
            running.stop()
        assert wait_until(lambda: work.all_left, seconds=10)
