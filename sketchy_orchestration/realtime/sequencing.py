"""Giving each event its `seq` when it is first seen committed; goes on whatever may be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from itertools import groupby

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.relay import Session, TakenLane
from sketchy_orchestration.realtime.games import Game, Games
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.sending import Sending
from sketchy_orchestration.realtime.tally import RelayTally

LIMIT = 1_000
"""Events numbered in one statement, so that no statement keeps the lease session long."""

# Seconds between looks at the outbox: while events come, when none do, and while none may be sent.
_BUSY, _IDLE, _SHUT = 0.003, 0.015, 0.1
_GROWTH = 1.25


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
                found = await self._pass() if self._lanes and self._cursor is not None else 0
            self._sending.pump()
            if found < LIMIT:
                pause = _BUSY if found else min(_IDLE, pause * _GROWTH)
                await asyncio.sleep(pause if self._gate.open else max(pause, _SHUT))

    async def adopt(self, taken: Sequence[TakenLane]) -> None:
        """Find what waits in lanes just taken, number what their former holder did not, and go on."""

        def place(lane: TakenLane) -> tuple[str, int]:
            return lane.cursor or "", lane.waiting_from or 0

        async with self._turn:
            for _, same in groupby(sorted(taken, key=place), key=place):
                lanes = list(same)
                first, numbers = lanes[0], [lane.lane for lane in lanes]
                found = await statements.waiting(self._reader, numbers, first.cursor, first.waiting_from)
                games = self._games.found(found)
                seen = await self._catch_up(numbers, first.cursor)
                # The lanes we have already stand at an earlier snapshot, which is right for all: what was
                # numbered is not numbered again.
                if self._cursor is None or not self._lanes:
                    self._cursor = seen
                self._lanes.update(numbers)
                for game in games:
                    self._sending.offer(game)
            self.changed = True
        self._sending.pump()

    async def _catch_up(self, lanes: Collection[int], cursor: str | None) -> str:
        """Number all that `cursor` did not see; returns the snapshot reached."""
        epochs = self._lease.epochs_of(lanes)
        first = await self._lease.run(
            lambda session: statements.sequence(session, epochs, cursor, limit=LIMIT if cursor else 0)
        )
        self._took(first)
        if cursor is not None and first.found < LIMIT:
            return first.seen
        await self._backlog(epochs, cursor, first)
        return first.seen

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
        epochs = self._lease.epochs_of(self._lanes)
        done = await self._lease.run(
            lambda session: statements.sequence(session, epochs, self._cursor, limit=LIMIT)
        )
        self._took(done)
        if done.found == LIMIT:
            await self._backlog(epochs, self._cursor, done)
        self._cursor = done.seen
        return len(done.events)

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
