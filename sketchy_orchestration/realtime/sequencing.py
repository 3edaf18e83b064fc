"""Giving each event its `seq` when it is first seen committed; goes on whatever may be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from itertools import groupby

from sketchy_orchestration.database import backlog
from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.relay import Session, TakenLane
from sketchy_orchestration.realtime.games import Game, Games
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.sending import Sending
from sketchy_orchestration.realtime.tally import RelayTally

LIMIT = 1_000
"""Events numbered in one statement, so that no statement keeps the lease session long."""

SLICE = 4_000
"""The same where they are not read, for what waits in lanes just taken."""

PAGE = 10_000
"""Events looked at in one statement to find what waits in lanes just taken."""

# Seconds between looks at the outbox: while events come, when none do, and while none may be sent.
_BUSY, _IDLE, _SHUT = 0.003, 0.010, 0.1
_GROWTH = 1.1


class Sequencing:
    """Numbers the events of the lanes adopted, all in one statement a pass.

    Attributes:
        changed: something was numbered since the lanes were last saved.
    """

    def __init__(
        self,
        lease: Lease,
        reader: Session,
        gate: Gate,
        games: Games,
        sending: Sending,
        tally: RelayTally,
    ) -> None:
        self._lease, self._reader, self._gate = lease, reader, gate
        self._games, self._sending, self._tally = games, sending, tally
        self._turn = asyncio.Lock()
        self._lanes: set[int] = set()
        self._cursor: str | None = None
        self.changed = False

    async def run(self) -> None:
        pause = _IDLE
        while True:
            async with self._turn:
                found = await self._pass()
            self._sending.pump()
            if found < LIMIT:
                pause = _BUSY if found else min(_IDLE, pause * _GROWTH)
                await asyncio.sleep(pause if self._gate.open else max(pause, _SHUT))

    async def adopt(self, taken: Sequence[TakenLane]) -> None:
        """Number what the former holder of lanes just taken did not, find what waits in them, and go on."""

        def place(lane: TakenLane) -> tuple[str, int]:
            return lane.cursor or "", lane.waiting_from or 0

        for _, same in groupby(sorted(taken, key=place), key=place):
            lanes = list(same)
            first, numbers = lanes[0], [lane.lane for lane in lanes]
            seen = await self._catch_up(numbers, first.cursor)
            found = await backlog.waiting(self._reader, numbers, first.cursor, first.waiting_from, page=PAGE)
            async with self._turn:
                games = self._games.found(found)
                # What came meanwhile. The lanes we have already may stand at an earlier snapshot than this,
                # which is right for all: what was numbered is not numbered again.
                joined = await self._number_new(numbers, seen)
                if self._cursor is None or not self._lanes:
                    self._cursor = joined
                self._lanes.update(numbers)
                self.changed = True
            for game in games:
                self._sending.offer(game)
        self._sending.pump()

    async def _catch_up(self, lanes: Collection[int], cursor: str | None) -> str:
        """Number all that `cursor` did not see, without reading it; returns the snapshot reached."""
        epochs = self._lease.epochs_of(lanes)
        target = await self._lease.run(statements.snapshot)
        last, found = 0, SLICE
        if cursor is not None:
            # Mostly a second's worth; what came before it by its id is found by its transaction alone.
            done = await self._lease.run(
                lambda session: statements.sequence(session, epochs, cursor, limit=LIMIT)
            )
            self._count(len(done.events), done.fenced)
            if done.found < LIMIT:
                return done.seen
            last, target = done.last_id, done.seen
        while found == SLICE:
            sliced = await self._lease.run(
                lambda session, after=last: backlog.number_slice(  # type: ignore[misc]  # bound in the loop
                    session, epochs, cursor, target=target, after_id=after, limit=SLICE
                )
            )
            self._count(sliced.numbered, sliced.fenced)
            last, found = sliced.last_id, sliced.found
        return target

    async def _number_new(self, lanes: Collection[int], cursor: str) -> str:
        epochs = self._lease.epochs_of(lanes)
        done = await self._lease.run(
            lambda session: statements.sequence(session, epochs, cursor, limit=LIMIT)
        )
        self._took(done)
        if done.found == LIMIT:
            await self._backlog(epochs, cursor, done)
        return done.seen

    async def _backlog(self, epochs: dict[int, int], cursor: str | None, first: statements.Sequenced) -> None:
        """The rest of what `first` saw, in slices by id."""
        last, full = first.last_id, True
        while full:
            after = last
            done = await self._lease.run(
                lambda session, after=after: statements.sequence(  # type: ignore[misc]  # bound in the loop
                    session, epochs, cursor, limit=LIMIT, backlog=True, after_id=after, target=first.seen
                )
            )
            self._took(done)
            full, last = done.found == LIMIT, done.last_id

    async def _pass(self) -> int:
        before = self._tally.sequenced
        if self._lanes and self._cursor is not None:
            self._cursor = await self._number_new(self._lanes, self._cursor)
        return self._tally.sequenced - before

    def _count(self, numbered: int, fenced: bool) -> None:
        if fenced:
            self._lease.lose("a lane has another holder")
        self._tally.sequenced += numbered

    def _took(self, done: statements.Sequenced) -> None:
        if done.fenced:
            self._lease.lose("a lane has another holder")
            return
        touched: dict[int, Game] = {}
        for event in done.events:
            game = self._games.add(event)
            touched[id(game)] = game
        for game in touched.values():
            self._sending.offer(game)
        self._tally.sequenced += len(done.events)
        self.changed = self.changed or bool(done.events)
        self._sending.pump()

    async def release(self, lanes: Collection[int]) -> str | None:
        """Number nothing more in these lanes; the snapshot up to which it was done."""
        async with self._turn:
            self._lanes.difference_update(lanes)
            return self._cursor

    async def save(self) -> None:
        """Save how far the lanes have come, for whoever takes them next."""
        async with self._turn:
            self.changed = False
            if self._lanes and self._cursor is not None:
                epochs = self._lease.epochs_of(self._lanes)
                cursor, waiting_from = self._cursor, self._games.waiting_from()
                await self._lease.run(
                    lambda session: statements.save_lanes(session, epochs, cursor, waiting_from)
                )
