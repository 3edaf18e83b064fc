"""The voice made wrong on purpose, in ways that it could be wrong: the checker must notice each."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.database import queries
from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.circuit import Evidence, WayOut
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.pubnub.publisher import Acceptance, PublishError
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.relay import Relay
from sketchy_orchestration.realtime.sending import Sending
from sketchy_orchestration.settings import Settings
from tests.faults.books import audit
from tests.faults.invariants import Breach, Expected
from tests.faults.proxy import Proxy
from tests.faults.test_network import through
from tests.integration.relay.conftest import outcomes, running, until, write_event

pytestmark = [pytest.mark.fault]

GAMES, EACH = 20, 5
CONCURRENCY = 10
TOGETHER = 5

Patch = pytest.MonkeyPatch


@asynccontextmanager
async def a_relay(url: str, publisher: MemoryPublisher) -> AsyncIterator[Relay]:
    settings = Settings(_env_file=None, database_url=url)  # type: ignore[call-arg,arg-type]
    async with running(settings, publisher, limit=1.0) as relay:
        yield relay


class Case:
    """Events of some games, and what came of them."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url, self.connection = url, connection
        self.publisher = MemoryPublisher(latency=0.005)
        self.games = [uuid4() for _ in range(GAMES)]
        connection.execute(
            "update orchestration.flags set value = %s where name = 'fanout_concurrency'", [CONCURRENCY]
        )

    def write(self, times: int = EACH) -> None:
        for _ in range(times):
            for game in self.games:
                write_event(self.connection, game)

    async def all_have_outcomes(self, count: int = GAMES * EACH, limit: float = 15) -> None:
        await until(lambda: sum(outcomes(self.connection).values()) >= count, limit=limit)

    def breaches(self, **allowed: Any) -> list[Breach]:
        entries = [
            {"channel": one.channel, "message": dict(one.message), "timetoken": str(one.timetoken)}
            for one in self.publisher.accepted
        ]
        return audit(self.connection, entries, Expected(**allowed))[1]


# ----------------------------------------------------------------------------------------------------
# What happens while the relay is at work


async def quietly(case: Case) -> list[Breach]:
    """Nothing goes wrong."""
    async with a_relay(case.url, case.publisher):
        case.write()
        await case.all_have_outcomes()
    return case.breaches(delivered=GAMES * EACH)


async def in_a_storm(case: Case) -> list[Breach]:
    """Every game fails once."""
    async with a_relay(case.url, case.publisher):
        for game in case.games:
            case.publisher.answer(503, channel=f"game-{game}")
        case.write()
        await case.all_have_outcomes()
    return case.breaches(delivered=GAMES * EACH)


async def cut_off(case: Case) -> list[Breach]:
    """The session is ended while much is under way; another relay goes on."""
    case.publisher.latency = 0.05
    async with a_relay(case.url, case.publisher):
        case.write()
        await until(lambda: len(case.publisher.accepted) > 2 * CONCURRENCY)
        case.connection.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name like 'sketchy relay%'"""
        )
        await case.all_have_outcomes()
    return case.breaches(delivered=GAMES * EACH, repeats=CONCURRENCY)


async def in_an_outage(case: Case) -> list[Breach]:
    """PubNub answers nothing but errors for three seconds."""
    case.publisher.answer(503, times=None)
    async with a_relay(case.url, case.publisher):
        case.write()
        with suppress(TimeoutError):
            await case.all_have_outcomes(1, limit=3)
        case.publisher.heal()
        await case.all_have_outcomes()
    return case.breaches(delivered=GAMES * EACH)


async def beside_a_slow_transaction(case: Case) -> list[Breach]:
    """An event is written before others and committed after them."""
    with psycopg.connect(case.url) as slow:
        async with a_relay(case.url, case.publisher):
            write_event(slow, case.games[0])
            case.write()
            await case.all_have_outcomes()
            slow.commit()
            with suppress(TimeoutError):
                await case.all_have_outcomes(GAMES * EACH + 1, limit=1.5)
    return case.breaches(delivered=GAMES * EACH + 1)


async def while_the_clock_jumps(case: Case) -> list[Breach]:
    """What the worker's wall clock says jumps by an hour each time it is asked."""
    honest, jumps = time.time, itertools.cycle([-3600.0, 0.0, 3600.0])
    with Patch.context() as patch:
        patch.setattr(time, "time", lambda: honest() + next(jumps))
        patch.setattr(time, "time_ns", lambda: int((honest() + next(jumps)) * 1e9))
        return await quietly(case)


async def after_hours(case: Case) -> list[Breach]:
    """Each game has been over for long, and said so twice: the second is still to be told."""
    for age in (900.0, 800.0):
        for game in case.games:
            write_event(case.connection, game, "game_completed", age=age)
    async with a_relay(case.url, case.publisher):
        await case.all_have_outcomes(2 * GAMES)
    return case.breaches(delivered=2 * GAMES, expired=True)


async def handed_over(case: Case) -> list[Breach]:
    """Of each event's two channels one fails until another relay has the lanes."""
    case.publisher.answer(503, channel="lobby", times=None)
    for game in case.games:
        write_event(case.connection, game, channels=[f"game-{game}", "lobby"])
    async with a_relay(case.url, case.publisher):
        await until(lambda: len(case.publisher.accepted) > CONCURRENCY)
    case.publisher.heal()
    async with a_relay(case.url, case.publisher):
        await case.all_have_outcomes(GAMES)
    return case.breaches(delivered=GAMES)


async def in_a_black_hole(case: Case) -> list[Breach]:
    """Silent to Postgres, not to PubNub, with much in memory; another relay takes the lanes over."""
    info = case.connection.info
    case.publisher.latency = 0.02
    case.connection.execute(
        "update orchestration.flags set value = %s where name = 'fanout_concurrency'", [GAMES * EACH]
    )
    with Proxy(info.host, info.port) as proxy:
        async with a_relay(through(case.url, proxy), case.publisher) as first:
            await until(lambda: first.tenure is not None and len(first.tenure.lease.epochs) == 32)
            case.publisher.hang(times=None)
            case.write()
            await until(lambda: first.tenure is not None and first.tenure.sending.in_flight == GAMES)
            proxy.black_hole()
            async with a_relay(case.url, case.publisher) as second:
                await until(lambda: second.tenure is not None and len(second.tenure.lease.epochs) == 32)
                case.publisher.heal()
                await case.all_have_outcomes()
                # What hung is tried again by the relay that was cut off, if it does not know better.
                with suppress(TimeoutError):
                    await until(lambda: len(case.publisher.accepted) > GAMES * EACH + GAMES, limit=1.5)
            proxy.heal()
    return case.breaches(delivered=GAMES * EACH, repeats=0)


# ----------------------------------------------------------------------------------------------------
# What may be wrong with the relay


def acknowledge_before_publish(patch: Patch) -> None:
    real = Sending._try

    async def early(self: Sending, game: Any, *what: Any) -> Any:
        event, channel, _ = what
        event.accepted[channel] = 1
        asyncio.get_running_loop().call_later(0.03, lambda: asyncio.ensure_future(real(self, game, *what)))
        return None

    patch.setattr(Sending, "_try", early)


def count_attempts_in_an_outage(patch: Patch) -> None:
    patch.setattr(Evidence, "way_out", lambda *_: WayOut.works)
    patch.setattr(Evidence, "others", lambda *_: (0, 100))


def swallow_failures(patch: Patch) -> None:
    async def careless(self: Sending, _: Any, *what: Any) -> Any:
        event, channel, built = what
        try:
            acceptance = await self._publisher.publish(channel, built, timeout=1)
        except PublishError:
            acceptance = Acceptance(1)
        event.accepted[channel] = acceptance.timetoken
        return None

    patch.setattr(Sending, "_try", careless)


def send_everything_twice(patch: Patch) -> None:
    real = Sending._try

    async def eager(self: Sending, game: Any, *what: Any) -> Any:
        await real(self, game, *what)
        return await real(self, game, *what)

    patch.setattr(Sending, "_try", eager)


def let_the_next_go_first(patch: Patch) -> None:
    real = Sending._judge

    def impatient(self: Sending, game: Any, event: Any, failures: Any) -> None:
        real(self, game, event, failures)
        if len(game.loaded) > 1:
            game.loaded[0], game.loaded[1] = game.loaded[1], game.loaded[0]

    patch.setattr(Sending, "_judge", impatient)


def remember_only_how_far(patch: Patch) -> None:
    """The oldest mistake of all: what is not yet visible counts as seen."""
    real = statements.sequence

    async def hasty(*arguments: Any, **more: Any) -> Any:
        done = await real(*arguments, **more)
        end = done.seen.split(":")[1]
        return statements.Sequenced(done.events, done.found, done.last_id, f"{end}:{end}:", done.fenced)

    patch.setattr(statements, "sequence", hasty)


def expire_the_newest_too(patch: Patch) -> None:
    patch.setattr(publishing, "expired", lambda waiting: [event.event_id for event in waiting])


def lose_an_event_that_was_counted(patch: Patch) -> None:
    """As an outbox would whose days are dropped too early."""
    real = Case.write

    def careless(self: Case, times: int = EACH) -> None:
        real(self, times)
        with self.connection.transaction():
            lost = write_event(self.connection, self.games[0])
            self.connection.execute("select orchestration.refresh_ledger()")
            self.connection.execute("delete from orchestration.outbox where id = %s", [lost])

    patch.setattr(Case, "write", careless)


def forget_the_lease(patch: Patch) -> None:
    patch.setattr(Lease, "may_send", lambda _: True)
    patch.setattr(Gate, "open", property(lambda _: True))


def forget_the_epoch(patch: Patch) -> None:
    """No lock, no fence: every relay believes that it holds every lane."""
    numbered = (
        " and l.epoch = (%(epoch_by_lane)s::bigint[])[n.lane + 1]",
        " and %(epoch_by_lane)s is not null",
    )
    pieces = {
        "relay.acknowledge": (" and l.epoch = d.epoch", ""),
        "relay.number": numbered,
        "relay.number_slice": numbered,
        "relay.try_lanes": (
            "pg_try_advisory_lock(orchestration.lock_class(), orchestration.lane_lock(l.lane)) as got",
            "true as got",
        ),
    }
    careless: dict[str, bytes] = {}
    for name, (old, new) in pieces.items():
        text = str(queries.query(name))
        assert text.count(old) == 1, f"{name} has no {old!r} any more: the defect must be rewritten"
        careless[name] = text.replace(old, new).encode()
    patch.setattr(statements, "query", lambda name: careless.get(name) or queries.query(name))


async def by_two_relays(case: Case) -> list[Breach]:
    """Two relays at once, and so much to number in one statement that they meet at it."""
    async with a_relay(case.url, case.publisher), a_relay(case.url, case.publisher):
        for _ in range(TOGETHER):
            with case.connection.transaction():
                case.write()
            await asyncio.sleep(0.05)
        await case.all_have_outcomes(GAMES * EACH * TOGETHER)
    return case.breaches(delivered=GAMES * EACH * TOGETHER, repeats=CONCURRENCY)


Scenario = Callable[[Case], Awaitable[list[Breach]]]
DEFECTS: dict[str, tuple[Callable[[Patch], None], Scenario, str]] = {
    "acknowledged before it is published": (
        acknowledge_before_publish,
        cut_off,
        "never lost: event .* counts as delivered on game-.*, but was not",
    ),
    "attempts counted in an outage": (
        count_attempts_in_an_outage,
        in_an_outage,
        "no dead letter: event .* was given up",
    ),
    "failures swallowed": (
        swallow_failures,
        in_a_storm,
        "never lost: event .* counts as delivered on game-.*, but was not",
    ),
    "the next event goes first": (
        let_the_next_go_first,
        in_a_storm,
        "in order: MATCH_FOUND .* seq 2 on game-.* says after 0, but 1 was delivered",
    ),
    # Here alone a stall is what shows it: the event that became visible late is never looked at.
    "only how far it came is remembered": (
        remember_only_how_far,
        beside_a_slow_transaction,
        "never lost: 1 events still wait",
    ),
    "the newest expire too": (
        expire_the_newest_too,
        after_hours,
        "never lost: the newest game_completed of game .* expired",
    ),
    "an event that was counted is gone": (
        lose_an_event_that_was_counted,
        quietly,
        "books: the ledger of .* does not balance",
    ),
    "everything sent twice": (
        send_everything_twice,
        in_a_storm,
        "repeats: .* events were sent twice, at most 0 may be: ",
    ),
    "the lease not looked at": (
        forget_the_lease,
        in_a_black_hole,
        "repeats: .* events were sent twice, at most 0 may be: ",
    ),
    "what one channel took is not noted": (
        lambda patch: patch.setattr(Sending, "_note", lambda *_: None),
        handed_over,
        "repeats: .* events were sent twice, at most 0 may be: ",
    ),
    "neither lock nor epoch": (forget_the_epoch, by_two_relays, "books: event .* has 2 outcomes"),
}
SCENARIOS = dict.fromkeys([while_the_clock_jumps, *(scenario for _, scenario, _ in DEFECTS.values())])


@pytest.fixture
def case(database_url: str, connection: psycopg.Connection[Any]) -> Case:
    return Case(database_url, connection)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_nothing_is_wrong_without_a_defect(case: Case, scenario: Scenario) -> None:
    assert await scenario(case) == []


@pytest.mark.parametrize("name", DEFECTS)
async def test_noticed(case: Case, name: str, monkeypatch: Patch) -> None:
    defect, scenario, symptom = DEFECTS[name]
    defect(monkeypatch)
    breaches = await scenario(case)
    assert any(re.match(symptom, str(breach)) for breach in breaches), breaches
