"""Telling running games the time: ephemeral, so without place, outbox row or repetition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.relay import Session
from sketchy_orchestration.domain import envelope
from sketchy_orchestration.domain.lanes import lane_of
from sketchy_orchestration.pubnub.publisher import Publisher, PublishError
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.tally import DatabaseClock, RelayTally

_AT_ONCE = 20
_BATCH = 200
_GATHER = 0.02
_LOOK_EVERY = 0.5

# Tries of a time sync that is owed, and seconds between them; each tells the time anew.
_TRIES, _AGAIN = 3, 0.5


class TimeSyncs:
    """Sends a fresh server_timer_sync to games that are owed one, and to all running games now and then."""

    def __init__(
        self,
        lease: Lease,
        reader: Session,
        gate: Gate,
        publisher: Publisher,
        clock: DatabaseClock,
        tally: RelayTally,
        *,
        limit: float,
    ) -> None:
        self._lease, self._reader, self._gate = lease, reader, gate
        self._publisher, self._clock, self._tally = publisher, clock, tally
        self._limit = limit
        self._owed: dict[UUID, int] = {}
        self._work = asyncio.Event()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._begun = 0

    async def begin(self) -> None:
        """What was asked until now is old news; what is asked from now on is heard."""
        self._begun = await statements.newest_act(self._reader)

    def owe(self, game_id: UUID) -> None:
        """The game has heard its last event after an outage."""
        self._owe(game_id, _TRIES)

    def _owe(self, game_id: UUID, tries: int) -> None:
        self._owed[game_id] = max(tries, self._owed.get(game_id, 0))
        self._work.set()

    async def run(self) -> None:
        """Send what is owed, gathered for a moment; a game that ended meanwhile gets nothing.

        What fails is owed again, and so is what the gate shut upon; that does not count as a try.
        """
        while True:
            await self._work.wait()
            await asyncio.sleep(_GATHER)
            self._work.clear()
            while self._owed and self._gate.open:
                batch = {game_id: self._owed.pop(game_id) for game_id in list(self._owed)[:_BATCH]}
                told = await self._send(await statements.timer_syncs(self._reader, game_ids=list(batch)))
                for game_id, heard in told.items():
                    left = batch[game_id] - (heard is False)
                    if not heard and left:
                        asyncio.get_running_loop().call_later(_AGAIN, self._owe, game_id, left)
            if self._owed:
                await asyncio.sleep(_LOOK_EVERY)
                self._work.set()

    async def run_regularly(self) -> None:
        """Every `timer_sync_seconds`, when that flag is on."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            every = self._gate.sync_seconds
            if every is not None and self._gate.open and time.monotonic() - last >= every:
                last = time.monotonic()
                lanes = list(self._lease.epochs)
                await self._send(await statements.timer_syncs(self._reader, lanes=lanes))

    async def run_on_demand(self) -> None:
        """When somebody asks: games by name, or all that run."""
        after = self._begun
        told: set[int] = set()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            asked = {
                act: game_id
                for act, game_id in await statements.syncs_asked(self._reader, after)
                if act > self._begun
            }
            new = [game_id for act, game_id in asked.items() if act not in told]
            told = set(asked)
            if new:
                after = max(asked)
                lanes = list(self._lease.epochs) if None in new else []
                named = [each for each in new if each is not None and lane_of(each) in self._lease.epochs]
                await self._send(await statements.timer_syncs(self._reader, named, lanes))

    async def _send(self, syncs: list[tuple[UUID, Mapping[str, object]]]) -> dict[UUID, bool | None]:
        told = await asyncio.gather(*(self._send_one(game_id, data) for game_id, data in syncs))
        return {game_id: heard for (game_id, _), heard in zip(syncs, told, strict=True)}

    async def _send_one(self, game_id: UUID, data: Mapping[str, object]) -> bool | None:
        """Whether it was accepted; None: nothing may be sent just now."""
        async with self._at_once:
            while self._gate.open and (wait := self._gate.take(1)):  # noqa: ASYNC110  # waits for tokens
                await asyncio.sleep(min(wait, 1.0))
            if not (self._gate.open and self._lease.may_send()):
                return None
            built = envelope.time_sync(
                str(game_id), data, timestamp_ms=int(self._clock.now() * 1000), event_id=str(uuid4())
            )
            try:
                await self._publisher.publish(
                    f"game-{game_id}", built, timeout=min(self._limit, 2.0), store=False
                )
            except PublishError:
                # As it is, it would be old news by the time it could be sent again.
                return False
            self._tally.syncs += 1
            return True
