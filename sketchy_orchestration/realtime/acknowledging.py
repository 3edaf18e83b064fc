"""Writing down what became of events: in batches, one at a time, on the lease session."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from sketchy_orchestration import crash_points
from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.relay import Attempt
from sketchy_orchestration.realtime.lease import Lease, LeaseLostError
from sketchy_orchestration.realtime.sending import Sending

_BATCH = 500
# Seconds that outcomes are gathered, in turns: a commit for every few would cost half as much as sending.
_GATHER, _TURNS = 0.012, 3

log = structlog.get_logger(__name__)


class Acknowledging:
    """Commits outcomes in batches; what gathers meanwhile is the next."""

    def __init__(self, lease: Lease, sending: Sending, shift_id: UUID) -> None:
        self._lease, self._sending = lease, sending
        self._shift_id = shift_id

    async def run(self) -> None:
        """Raises LeaseLostError when a lane turns out to have another holder."""
        sending = self._sending
        while True:
            await sending.written.wait()
            await self._gather()
            sending.written.clear()
            if sending.outcomes:
                batch, sending.outcomes = sending.outcomes[:_BATCH], sending.outcomes[_BATCH:]
                await self._acknowledge(batch)
            if sending.attempts:
                failed, sending.attempts = sending.attempts, []
                await self._note(failed)
            if sending.outcomes:
                sending.written.set()

    async def _gather(self) -> None:
        """Wait a moment for more, unless so much is unacknowledged that it keeps others from being sent."""
        for _ in range(_TURNS):
            if len(self._sending.outcomes) >= self._sending.enough:
                return
            await asyncio.sleep(_GATHER / _TURNS)

    async def _acknowledge(self, batch: list[statements.Outcome]) -> None:
        crash_points.reach("relay.acknowledge")
        if not await self._lease.run(lambda session: statements.acknowledge(session, batch, self._shift_id)):
            self._lease.lose("a lane has another holder")
            raise LeaseLostError("a lane has another holder")
        crash_points.reach("relay.acknowledged")
        self._sending.acknowledged(batch)

    async def _note(self, failed: list[Attempt]) -> None:
        # On the lease, too: who was paused and has lost it writes nothing any more.
        await self._lease.run(lambda session: statements.record_attempts(session, failed, self._shift_id))
        self._sending.noted(failed)
