"""Waits for what the relay makes of events: one question to the database for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sketchy_orchestration.database.gateway import (
    AcceptedEvent,
    DatabaseAwayError,
    DatabaseBusyError,
    Outcome,
)

PAUSE = 0.010
"""Seconds between two questions while somebody waits."""

_PAUSE_AFTER_FAILURE = 0.25


class Outcomes(Protocol):
    """Where outcomes are looked up."""

    async def outcomes(self, outbox_ids: Sequence[int], since: datetime) -> list[Outcome]:
        """What is known of these events."""
        ...


class OutcomeWatch:
    """Lets any number of tasks wait for events of theirs."""

    def __init__(self, database: Outcomes) -> None:
        self._database = database
        self._waiting: dict[int, tuple[datetime, asyncio.Future[Outcome]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, event: AcceptedEvent, seconds: float) -> Outcome | None:
        """The event's outcome; None when it has none after `seconds`."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[event.outbox_id] = (event.occurred_at, future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="gateway outcomes")
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(event.outbox_id, None)

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(PAUSE)
            if not self._waiting:
                return
            since = min(occurred for occurred, _ in self._waiting.values())
            try:
                found = await self._database.outcomes(list(self._waiting), since)
            except (DatabaseAwayError, DatabaseBusyError):
                # Who waits has a bound of its own; the event is in the outbox already.
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                continue
            for outcome in found:
                waiting = self._waiting.get(outcome.outbox_id)
                if waiting is not None and not waiting[1].done():
                    waiting[1].set_result(outcome)

    async def close(self) -> None:
        """End the looking; those who wait get None when their time is up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
