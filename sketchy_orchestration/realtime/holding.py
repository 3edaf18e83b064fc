"""Which lanes this relay holds: takes what is free, gives back what is more than its share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from uuid import UUID

import structlog

from sketchy_orchestration import crash_points
from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.domain import lanes as decide
from sketchy_orchestration.realtime.games import Games
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.sending import Sending
from sketchy_orchestration.realtime.sequencing import Sequencing

LOOK_EVERY = 0.2
"""Seconds between looks for free lanes; each look is a ping of the lease."""

SAVE_EVERY = 1.0
"""Seconds between savings of how far lanes have come, when anything happened."""

SETTLE_WITHIN = 0.7
"""Seconds that what is in flight in a lane may take before the lane is given up without it."""

log = structlog.get_logger(__name__)


class Holding:
    """Takes and gives up lanes.

    Attributes:
        relays: relays fit for work, this one included.
        unfit: our own way out fails while another's works: hold nothing.
    """

    def __init__(
        self, lease: Lease, games: Games, sending: Sending, sequencing: Sequencing, shift_id: UUID
    ) -> None:
        self._lease, self._games = lease, games
        self._sending, self._sequencing = sending, sequencing
        self._shift_id = shift_id
        self._given_up: dict[int, float] = {}
        self._taken_at = float("-inf")
        self._giving: asyncio.Task[None] | None = None
        self._adopting: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.relays = 1
        self.unfit = False

    @property
    def adopting(self) -> bool:
        """What waits in lanes just taken is not yet known."""
        return bool(self._adopting)

    async def run(self) -> None:
        """Raises LeaseLostError when the lease is lost."""
        next_save = time.monotonic() + SAVE_EVERY
        while True:
            began = time.monotonic()
            await self._take()
            self._sending.pump()
            if began >= next_save:
                next_save = began + SAVE_EVERY
                if self._sequencing.changed:
                    await self._sequencing.save()
            self._balance()
            for task in [task for task in (*self._adopting, self._giving) if task and task.done()]:
                self._adopting.discard(task)
                task.result()
            await asyncio.sleep(max(0.0, LOOK_EVERY - (time.monotonic() - began)))

    async def _take(self) -> None:
        free: list[int] = []
        left: list[int] = []
        if not self.unfit and not self._stopping:
            now = time.monotonic()
            free = decide.wanted(self._lease.epochs, self._given_up, now)
            left = decide.left_to_others(self._lease.epochs, self._given_up, now)
        got = await self._lease.run(lambda session: statements.try_lanes(session, free, left))
        if got:
            crash_points.reach("lease.locked")
            taken = await self._lease.run(lambda session: statements.take_lanes(session, got, self._shift_id))
            crash_points.reach("lease.taken")
            self._lease.epochs.update({each.lane: each.epoch for each in taken})
            self._taken_at = time.monotonic()
            log.info("took lanes", lanes=sorted(got), held=len(self._lease.epochs))
            # Not here: pings must go on however much waits in them.
            self._adopting.add(asyncio.create_task(self._sequencing.adopt(taken)))

    def _balance(self) -> None:
        if self._giving is not None and not self._giving.done():
            return
        held = self._lease.epochs
        extra = list(held) if self.unfit else decide.surplus(held, self.relays)
        settled = self.unfit or time.monotonic() - self._taken_at >= decide.KEPT_SECONDS
        if extra and settled and not self._adopting:
            self._giving = asyncio.create_task(self.give_up(extra))

    async def give_up(self, lanes: Collection[int], settle: float = SETTLE_WITHIN) -> None:
        """Give lanes back in good order: nothing of them in flight, outcomes written, progress saved.

        Outcomes not even being written when `settle` is over are forgotten, so that none is written without
        the lock: their events wait again. Those that were sent, at most `concurrency`, are repeated.

        Args:
            settle: seconds that what is in flight in them may take.
        """
        self._sending.leaving.update(lanes)
        cursor = await self._sequencing.release(lanes)
        await self._sending.settle(lanes, settle)
        # What is being written has its turn on the lease before the lanes are left; nothing after that.
        self._sending.forget(lanes)
        epochs = self._lease.epochs_of(lanes)
        if cursor is not None:
            waiting_from = self._games.waiting_from()
            await self._lease.run(
                lambda session: statements.save_lanes(session, epochs, cursor, waiting_from)
            )
        await self._lease.run(lambda session: statements.leave_lanes(session, epochs))
        now = time.monotonic()
        for lane in lanes:
            self._lease.epochs.pop(lane, None)
            self._given_up[lane] = now
        self._games.drop_lanes(lanes)
        self._sending.leaving.difference_update(lanes)
        log.info("gave up lanes", lanes=sorted(lanes), held=len(self._lease.epochs))

    async def leave(self, settle: float = SETTLE_WITHIN) -> None:
        """Give up everything, as `give_up`, and take nothing more."""
        self._stopping = True
        for task in (*self._adopting, self._giving):
            if task is not None:
                await task
        if self._lease.epochs:
            await self.give_up(list(self._lease.epochs), settle)

    def close(self) -> None:
        """End what is still being taken or given up."""
        for task in (*self._adopting, self._giving):
            if task is not None:
                task.cancel()
