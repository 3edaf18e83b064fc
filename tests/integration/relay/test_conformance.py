"""What every database does alike for a relay: Postgres, and the one in memory, for simulated nights."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest

from sketchy_orchestration.database.relay import StoppedError
from sketchy_orchestration.domain import circuit, publishing
from sketchy_orchestration.domain.circuit import State
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import game_in_lane
from tests.integration.relay.rigs import FencedError, GoneError, MemoryRig, PostgresRig, Rig
from tests.simulation.database import moment


@pytest.fixture
async def postgres_rig(settings: Settings, connection: psycopg.Connection) -> AsyncIterator[PostgresRig]:
    rig = PostgresRig(settings, connection)
    yield rig
    await rig.close()


@pytest.fixture(params=["memory", "Postgres"])
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "memory":
        return MemoryRig()
    found: Rig = request.getfixturevalue("postgres_rig")
    return found


async def holder(rig: Rig, lane: int = 3) -> tuple[Any, int]:
    """A session that has taken the lane, and its epoch."""
    session = await rig.session()
    epoch = await rig.take(session, lane)
    assert epoch is not None
    return session, epoch


def seqs(rig: Rig, game: UUID) -> list[tuple[str, int]]:
    return [(place.event, place.seq) for place in rig.places() if place.game == game]


async def test_a_lane_has_one_holder_and_its_epoch_grows(rig: Rig) -> None:
    first, epoch = await holder(rig)
    second = await rig.session()
    assert epoch == 1
    assert await rig.take(second, 3) is None
    assert await rig.take(second, 4) == 1
    await rig.give_up(first, 3, epoch)
    assert await rig.take(second, 3) == 2
    await rig.falls_silent(second)
    with pytest.raises(GoneError):
        await rig.take(second, 5)
    third = await rig.session()
    assert [await rig.take(third, lane) for lane in (3, 4, 5)] == [3, 2, 1]
    await rig.crash()
    with pytest.raises(GoneError):
        await rig.take(third, 6)
    assert [await rig.take(await rig.session(), lane) for lane in (3, 4)] == [4, 3]


async def test_a_former_epoch_changes_nothing(rig: Rig) -> None:
    former, old = await holder(rig)
    game = game_in_lane(3)
    (one,) = rig.write(game, "vote_cast")
    assert await rig.number(former, 3, old) == [one]
    await rig.give_up(former, 3, old)
    # Until the next epoch begins, nobody is harmed by what the last one says.
    (two,) = rig.write(game, "vote_cast")
    assert await rig.number(former, 3, old) == [two]
    successor, new = await holder(rig)
    (three,) = rig.write(game, "vote_cast")
    before = rig.places()
    with pytest.raises(FencedError):
        await rig.number(former, 3, old)
    with pytest.raises(FencedError):
        await rig.acknowledge(former, 3, old, [(one, "delivered")])
    assert (rig.places(), rig.outcomes()) == (before, [])
    assert [waits.event for waits in await rig.load(successor, 3)] == [one, two]
    assert await rig.number(successor, 3, new) == [three]
    await rig.acknowledge(successor, 3, new, [(one, "delivered")])
    assert seqs(rig, game) == [(one, 1), (two, 2), (three, 3)]
    assert [place.epoch for place in rig.places()] == [old, old, new]
    assert rig.outcomes() == [(one, "delivered")]


async def test_the_dead_number_and_acknowledge_nothing(rig: Rig) -> None:
    session, epoch = await holder(rig)
    (one,) = rig.write(game_in_lane(3), "vote_cast")
    await rig.number(session, 3, epoch)
    rig.write(game_in_lane(3), "vote_cast")
    before = rig.places()
    await rig.falls_silent(session)
    for statement in (
        rig.number(session, 3, epoch),
        rig.acknowledge(session, 3, epoch, [(one, "delivered")]),
        rig.load(session, 3),
        rig.give_up(session, 3, epoch),
    ):
        with pytest.raises(GoneError):
            await statement
    assert (rig.places(), rig.outcomes()) == (before, [])


async def test_places_are_given_without_gaps_in_the_order_of_commits(rig: Rig) -> None:
    session, epoch = await holder(rig)
    game, other, elsewhere = game_in_lane(3), game_in_lane(3), game_in_lane(4)
    slow, undone = rig.open(game, "player_left"), rig.open(game, "player_left")
    first = rig.write(game, "drawing_submitted", "phase_changed")
    theirs = rig.write(other, "phase_changed")
    rig.write(elsewhere, "phase_changed")
    assert await rig.number(session, 3, epoch) == first + theirs
    undone(False)
    slow(True)
    (late,) = await rig.number(session, 3, epoch)
    again = rig.write(game, "vote_cast")
    await rig.crash()
    session, epoch = await holder(rig)
    assert await rig.number(session, 3, epoch) == again
    assert seqs(rig, game) == [(first[0], 1), (first[1], 2), (late, 3), (again[0], 4)]
    assert seqs(rig, other) == [(theirs[0], 1)]
    assert seqs(rig, elsewhere) == []


async def test_numbering_goes_on_without_broadcasting_and_stops_in_an_emergency(rig: Rig) -> None:
    session, epoch = await holder(rig)
    game = game_in_lane(3)
    rig.broadcast(False)
    (one,) = rig.write(game, "vote_cast")
    assert await rig.number(session, 3, epoch) == [one]
    rig.broadcast(True)
    rig.stop()
    (two,) = rig.write(game, "vote_cast")
    with pytest.raises(StoppedError):
        await rig.number(session, 3, epoch)
    assert seqs(rig, game) == [(one, 1)]
    # What was on its way when the stop came is written down all the same.
    await rig.acknowledge(session, 3, epoch, [(one, "delivered")])
    rig.lift()
    assert await rig.number(session, 3, epoch) == [two]
    assert (seqs(rig, game), rig.outcomes()) == ([(one, 1), (two, 2)], [(one, "delivered")])


async def test_a_successor_finds_what_waits_and_what_was_sent(rig: Rig) -> None:
    session, epoch = await holder(rig)
    game, other = game_in_lane(3), game_in_lane(3)
    events = rig.write(game, *["vote_cast"] * 5)
    theirs = rig.write(other, "vote_cast")
    await rig.number(session, 3, epoch)
    # Neither what expired nor what was given up was sent: the next message says so.
    told = list(zip(events, ["delivered", "delivered", "expired", "dead"], strict=False))
    await rig.acknowledge(session, 3, epoch, told)
    await rig.crash()
    session, epoch = await holder(rig)
    found = {waits.event: (waits.seq, waits.sent) for waits in await rig.load(session, 3)}
    assert found == {events[4]: (5, 2), theirs[0]: (1, 0)}
    # Outcomes are written in a game's order: whatever lies below one is over.
    more = rig.write(game, "vote_cast", "vote_cast")
    await rig.number(session, 3, epoch)
    await rig.acknowledge(session, 3, epoch, [(more[0], "delivered")])
    found = {waits.event: (waits.seq, waits.sent) for waits in await rig.load(session, 3)}
    assert found == {more[1]: (7, 6), theirs[0]: (1, 0)}


async def test_an_acknowledgement_said_twice_is_written_twice(rig: Rig) -> None:
    """Nothing there makes one of two: that each is said once is the relay's part, and the checker counts."""
    session, epoch = await holder(rig)
    (one,) = rig.write(game_in_lane(3), "vote_cast")
    await rig.number(session, 3, epoch)
    for _ in range(2):
        await rig.acknowledge(session, 3, epoch, [(one, "delivered")])
    assert rig.outcomes() == [(one, "delivered")] * 2
    assert await rig.load(session, 3) == []


async def test_the_rule_finds_the_same_expired(rig: Rig) -> None:
    session, epoch = await holder(rig)
    game = game_in_lane(3)
    written = [
        *rig.write(game, "timer_expired", "phase_changed", age=45),
        *rig.write(game, "server_timer_sync", "vote_cast", age=31),
        *rig.write(game, "phase_changed", "game_completed", age=29),
        *rig.write(game, "server_timer_sync", age=3),
    ]
    await rig.number(session, 3, epoch)
    found = await rig.load(session, 3)
    assert [waits.event for waits in found] == written
    waiting = [publishing.Waiting(waits.event, waits.type, "system", waits.age) for waits in found]
    assert publishing.expired(waiting) == written[:4]


async def test_of_two_who_change_the_circuit_one_is_faster(rig: Rig) -> None:
    one, two = await rig.session(), await rig.session()
    seen = await rig.circuit(one)
    assert seen.state is State.closed
    opened = circuit.opened(seen, "timeout", moment(1.0))
    also = circuit.opened(await rig.circuit(two), "credentials", moment(2.0))
    assert opened is not None
    assert also is not None
    assert await rig.change_circuit(one, opened)
    assert not await rig.change_circuit(two, also)
    assert not await rig.change_circuit(one, opened)
    assert await rig.circuit(two) == opened


class Story:
    """Random deeds done to a rig; events are named by their number, so that two rigs can be compared."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig, self._random = rig, Random(seed)
        self._written: list[str] = []
        self._sessions: list[Any] = []
        self._holder: dict[int, Any] = {}
        self._taken = [(0, 1)]
        self._deeds = {self._write: 6, self._take: 3, self._give_up: 2, self._number: 5, self._acknowledge: 5}
        self._deeds |= {self._fall_silent: 1, self._stop: 1, self._lift: 2}

    async def tell(self, steps: int) -> list[object]:
        """What was heard, step by step, and what is in the books in the end."""
        self._sessions = [await self._rig.session() for _ in range(3)]
        heard: list[object] = []
        for deed in self._random.choices(list(self._deeds), list(self._deeds.values()), k=steps):
            try:
                heard.append((deed.__name__, await deed(self._random.randrange(3))))
            except (GoneError, FencedError, StoppedError) as error:
                heard.append((deed.__name__, type(error).__name__))
        places = {self._number_of(one.event): (one.seq, one.epoch) for one in self._rig.places()}
        return [*heard, places, Counter((self._number_of(one), end) for one, end in self._rig.outcomes())]

    def _number_of(self, event: str) -> int:
        return self._written.index(event)

    async def _write(self, number: int) -> None:
        game = UUID(int=32 * number + self._random.randrange(2))
        self._written += self._rig.write(game, *["vote_cast"] * self._random.randint(1, 3))

    async def _take(self, number: int) -> int | None:
        lane, session = self._random.randrange(2), self._sessions[number]
        # Nobody asks for what it holds.
        if self._holder.get(lane) is session:
            return None
        epoch = await self._rig.take(session, lane)
        if epoch is not None:
            self._holder[lane] = session
            self._taken.append((lane, epoch))
        return epoch

    def _lately_taken(self) -> tuple[int, int]:
        return self._random.choice(self._taken[-3:])

    async def _give_up(self, number: int) -> None:
        lane, epoch = self._lately_taken()
        await self._rig.give_up(self._sessions[number], lane, epoch)
        if self._holder.get(lane) is self._sessions[number]:
            del self._holder[lane]

    async def _number(self, number: int) -> list[int]:
        found = await self._rig.number(self._sessions[number], *self._lately_taken())
        return [self._number_of(event) for event in found]

    async def _acknowledge(self, number: int) -> list[tuple[int, int, int]]:
        lane, epoch = self._lately_taken()
        waits = await self._rig.load(self._sessions[number], lane)
        waits.sort(key=lambda one: self._number_of(one.event))
        some = [one.event for one in waits[: self._random.randrange(5)]]
        ends = self._random.choices(["delivered", "expired", "dead"], [6, 1, 1], k=len(some))
        if some:
            await self._rig.acknowledge(
                self._sessions[number], lane, epoch, list(zip(some, ends, strict=True))
            )
        return [(self._number_of(one.event), one.seq, one.sent) for one in waits]

    async def _fall_silent(self, number: int) -> None:
        await self._rig.falls_silent(self._sessions[number])
        self._holder = {
            lane: held for lane, held in self._holder.items() if held is not self._sessions[number]
        }
        self._sessions[number] = await self._rig.session()

    async def _stop(self, number: int) -> None:  # noqa: ARG002
        self._rig.stop()

    async def _lift(self, number: int) -> None:  # noqa: ARG002
        self._rig.lift()


async def test_both_tell_the_same_of_any_story(postgres_rig: PostgresRig) -> None:
    told = await Story(postgres_rig, 7).tell(250)
    assert told == await Story(MemoryRig(), 7).tell(250)
    # It was one with something in it.
    assert all(word in str(told) for word in ("FencedError", "StoppedError", "'delivered'", "'expired'"))
