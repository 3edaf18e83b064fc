"""The relay: from outbox to PubNub, in order, for the lanes it holds.

One lease session carries whatever may happen only while lanes are held (numbering, acknowledging, taking,
saving); one reader session carries the rest. Each part is a loop of its own; when the lease is lost, all of
them end, everything in memory is forgotten, and a new tenure begins.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import psycopg
import structlog

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.connect import Role, connect_async
from sketchy_orchestration.database.relay import Session
from sketchy_orchestration.database.shifts import FRESH
from sketchy_orchestration.domain.backoff import Backoff
from sketchy_orchestration.domain.circuit import Evidence
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.publisher import Publisher
from sketchy_orchestration.realtime.acknowledging import Acknowledging
from sketchy_orchestration.realtime.games import Games
from sketchy_orchestration.realtime.gate import STOP_FLAG, Gate
from sketchy_orchestration.realtime.holding import SETTLE_WITHIN, Holding
from sketchy_orchestration.realtime.lease import Lease, LeaseLostError, LeaseTimes, sever
from sketchy_orchestration.realtime.loading import Loading
from sketchy_orchestration.realtime.replaying import Replaying
from sketchy_orchestration.realtime.sending import Hooks, Sending
from sketchy_orchestration.realtime.sequencing import Sequencing
from sketchy_orchestration.realtime.tally import DatabaseClock, RelayTally
from sketchy_orchestration.realtime.time_syncs import TimeSyncs
from sketchy_orchestration.realtime.watching import Watching
from sketchy_orchestration.settings import Settings

NOTE_WITHIN = 0.5
"""Seconds that noting what an emergency stop broke off may take."""

LEAVE_WITHIN = 2.0
"""Seconds that giving up all lanes in good order may take; then the lease is simply let go."""

STOP_WITHIN = 0.6
"""The same for a relay that is stopped rather than relieved: it is to be gone within a second."""

_STATEMENT_TIMEOUT = 10.0
_RECONNECT = Backoff(base=0.1, cap=2.0)

Beat = Callable[[Session, dict[str, float]], Awaitable[None]]

log = structlog.get_logger(__name__)


class Tenure:
    """The parts of a relay from one taking of the lease to its end."""

    def __init__(
        self,
        lease: Lease,
        reader: Session,
        publisher: Publisher,
        gate: Gate,
        tally: RelayTally,
        shift_id: UUID,
        *,
        limit: float,
    ) -> None:
        clock, evidence = DatabaseClock(), Evidence()
        self.lease, self.reader, self.gate = lease, reader, gate
        self.games = Games()
        self.sending = Sending(lease, gate, self.games, evidence, publisher, clock, tally, limit=limit)
        self.sequencing = Sequencing(lease, reader, gate, self.games, self.sending, tally)
        self.holding = Holding(lease, self.games, self.sending, self.sequencing, shift_id)
        self.watching = Watching(
            reader,
            lease,
            gate,
            evidence,
            self.sending,
            self.holding,
            publisher,
            clock,
            shift_id,
            limit=limit,
        )
        self._acknowledging = Acknowledging(lease, self.sending, shift_id)
        self._loading = Loading(reader, self.games, self.sending)
        self._syncs = TimeSyncs(lease, reader, gate, publisher, clock, tally, limit=limit)
        self._replaying = Replaying(lease, reader, gate, publisher, clock, tally, limit=limit)
        self.sending.hooks = Hooks(load=self._loading.want, check=self.watching.check, sync=self._syncs.owe)

    async def begin(self) -> None:
        """What is to be known before the first lane is taken."""
        await self._syncs.begin()

    def loops(self) -> list[Awaitable[None]]:
        return [
            self.holding.run(),
            self.sequencing.run(),
            self._acknowledging.run(),
            self._loading.run(),
            self.watching.run(),
            self._syncs.run(),
            self._syncs.run_regularly(),
            self._syncs.run_on_demand(),
            self._replaying.run(),
        ]

    @property
    def quiet(self) -> bool:
        """Flags and lanes were looked at, and nothing of what is held waits or is unacknowledged."""
        looked = self.gate.looked_at > float("-inf")
        return looked and not self.holding.adopting and not len(self.games)

    def numbers(self) -> dict[str, float]:
        return {
            "lanes": len(self.lease.epochs),
            "waiting": self.games.waiting,
            "in_flight": self.sending.in_flight,
            **self.watching.report(),
        }

    def close(self) -> None:
        self.sending.close()
        self.holding.close()
        self.watching.close()


class Relay:
    """Runs tenures until it is stopped.

    Args:
        limit: seconds one publish may take.
        beat: called on the reader session about every second with `numbers()`.

    Attributes:
        leave_within: seconds that leaving in good order may take.
    """

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        shift_id: UUID,
        *,
        limit: float = 10.0,
        times: LeaseTimes | None = None,
        beat: Beat | None = None,
        beat_every: float = 1.0,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._shift_id = shift_id
        self._limit = limit
        self._times = times or LeaseTimes()
        self._beat = beat
        self._beat_every = beat_every
        self.tally = RelayTally()
        self.gate = Gate()
        self.tenure: Tenure | None = None
        self.leave_within = LEAVE_WITHIN

    def numbers(self) -> dict[str, float]:
        """What it holds and did since the last `new_tally`."""
        held = self.tenure.numbers() if self.tenure is not None else {"lanes": 0.0}
        gate = {
            "held_back_s": round(self.gate.held_back, 3),
            "held_back_share": round(self.gate.held_back_share, 3),
        }
        return {**self.tally.numbers(), **gate, **held}

    def new_tally(self) -> None:
        """Begin to count anew."""
        self.tally.reset()
        self.gate.held_back = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set; then give everything back in good order. Survives a lost database."""
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._tenure(stop)
            except LeaseLostError as error:
                self.tally.leases_lost += 1
                log.warning("lease lost", error=str(error))
            except statements.StoppedError as error:
                log.warning("stands still", reason=str(error))
            except (psycopg.Error, SketchyError, TimeoutError) as error:
                self.tally.errors += 1
                log.warning("relay lost its database", error=" ".join(str(error).split()))
            failures = 1 if time.monotonic() - began > _RECONNECT.cap * 2 else failures + 1
            if not stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RECONNECT.wait(failures, random.random)):
                        await stop.wait()

    async def _tenure(self, stop: asyncio.Event) -> None:
        sessions: list[Session] = []
        begun = asyncio.create_task(self._begin(sessions))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([begun, stopped], return_when=asyncio.FIRST_COMPLETED)
            if begun.done():
                await self._work(begun.result(), stop)
        finally:
            for session in sessions:
                sever(session)
            for task in (begun, stopped):
                task.cancel()
            await asyncio.gather(begun, stopped, return_exceptions=True)
            for session in sessions:
                await session.close()

    async def _begin(self, sessions: list[Session]) -> Tenure:
        for name in ("sketchy relay lease", "sketchy relay"):
            sessions.append(
                await connect_async(
                    self._settings,
                    Role.relay,
                    application_name=name,
                    statement_timeout=_STATEMENT_TIMEOUT,
                    lock_timeout=1.0,
                )
            )
        lease = await Lease.begin(sessions[0], self._times)
        await statements.enter_reader(sessions[1])
        await self._heed_stop(sessions[1])
        tenure = Tenure(
            lease, sessions[1], self._publisher, self.gate, self.tally, self._shift_id, limit=self._limit
        )
        await tenure.begin()
        return tenure

    async def _heed_stop(self, reader: Session) -> None:
        """Under an emergency stop no lane is even taken. What the flags said before is forgotten."""
        self.gate.shut()
        world = await statements.look(reader, self._shift_id, fresh=FRESH)
        if world.flags.get(STOP_FLAG, (False, None))[0]:
            if self._beat is not None:
                await self._beat(reader, self.numbers())
            raise statements.StoppedError("an emergency stop stands")

    async def _work(self, tenure: Tenure, stop: asyncio.Event) -> None:
        self.tenure = tenure
        loops = [asyncio.ensure_future(loop) for loop in (*tenure.loops(), self._beats(tenure))]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
            try:
                for task in done - {stopped}:
                    task.result()
            except statements.StoppedError:
                await self._break_off(tenure)
                raise
            await self._leave(tenure)
        finally:
            self.tenure = None
            tenure.lease.lose("the tenure has ended")
            sever(tenure.reader)
            tenure.close()
            stopped.cancel()
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, stopped, return_exceptions=True)

    async def _break_off(self, tenure: Tenure) -> None:
        """The emergency stop: nothing more is sent, what is in flight is cancelled, all of it is noted."""
        self.gate.stopped = True
        tenure.sending.break_off("emergency_stop")
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTE_WITHIN):
                while tenure.sending.attempts or tenure.sending.outcomes:  # noqa: ASYNC110  # at most NOTE_WITHIN
                    await asyncio.sleep(0.01)
        # What was about to be numbered for lanes just taken has found the stop, too.
        with suppress(statements.StoppedError):
            await self._leave(tenure)

    async def _leave(self, tenure: Tenure) -> None:
        within = self.leave_within
        # First: an interrupted statement would wait for its server's answer, a severed one does not.
        cut = asyncio.get_running_loop().call_later(within, self._cut_off, tenure)
        try:
            async with asyncio.timeout(within + 0.05):
                await tenure.holding.leave(min(SETTLE_WITHIN, within / 2))
                if self._beat is not None:
                    await self._beat(tenure.reader, self.numbers())
        except TimeoutError:
            log.warning("could not give up all lanes in time", within=within)
        finally:
            cut.cancel()

    def _cut_off(self, tenure: Tenure) -> None:
        tenure.lease.lose(f"lanes not given up within {self.leave_within:g} s")
        sever(tenure.reader)

    async def _beats(self, tenure: Tenure) -> None:
        while True:
            tenure.watching.changed.clear()
            self.gate.measure()
            if self._beat is not None:
                await self._beat(tenure.reader, self.numbers())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_every):
                    await tenure.watching.changed.wait()
