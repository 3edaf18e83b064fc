"""Looking at flags, circuit and the other relays, several times a second, and drawing the conclusions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.relay import Session, World
from sketchy_orchestration.database.shifts import FRESH
from sketchy_orchestration.domain import circuit as decide
from sketchy_orchestration.domain.circuit import Circuit, Conclusion, Evidence, Report, State, WayOut
from sketchy_orchestration.domain.lanes import LANES
from sketchy_orchestration.domain.publishing import ENOUGH_OTHERS
from sketchy_orchestration.pubnub.publisher import Publisher, PublishError
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.holding import Holding
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.sending import Sending
from sketchy_orchestration.realtime.tally import DatabaseClock

LOOK_EVERY = 0.2
"""Seconds between looks; a flag takes effect within this."""

CHECK_CHANNEL = "orchestration-check"
"""Nobody listens there: a publish to it says only whether publishes get through."""

_ANSWER = 5.0
_CHECK_EVERY = 1.0
_NOT_TRIED = "lease"  # our own lease was late: that says nothing about publishes
_WAY_OUT = {WayOut.works: 1.0, WayOut.unknown: 0.0, WayOut.fails: -1.0}
_OF_NUMBER = {number: way_out for way_out, number in _WAY_OUT.items()}

log = structlog.get_logger(__name__)


class Watching:
    """Sets the gate, opens and closes the circuit, gives up lanes when only our own way out fails.

    Attributes:
        changed: set when the other relays should hear of our way out at once.
    """

    def __init__(
        self,
        reader: Session,
        lease: Lease,
        gate: Gate,
        evidence: Evidence,
        sending: Sending,
        holding: Holding,
        publisher: Publisher,
        clock: DatabaseClock,
        shift_id: UUID,
        *,
        limit: float,
    ) -> None:
        self._reader, self._lease, self._gate = reader, lease, gate
        self._evidence, self._sending, self._holding = evidence, sending, holding
        self._publisher, self._clock = publisher, clock
        self._shift_id = shift_id
        self._limit = limit
        self._probe_limit = timedelta(seconds=limit + 2)
        self._was_open = True
        self._was_closed = True
        self._way_out = WayOut.unknown
        self._since = clock.moment()
        self._checking: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._last_check = float("-inf")
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Raises TimeoutError when the database does not answer."""
        while True:
            async with asyncio.timeout(_ANSWER):
                world = await statements.look(self._reader, self._shift_id, fresh=FRESH)
            await self._conclude(world)
            for task in (self._checking, self._probing):
                if task is not None and task.done():
                    task.result()
            await asyncio.sleep(LOOK_EVERY)

    def report(self) -> dict[str, float]:
        """What the other relays must know, as numbers for the shift's row."""
        own = self._own_report()
        return {
            "way_out": _WAY_OUT[own.way_out],
            "way_out_since": own.since.timestamp(),
            "worked_at": 0.0 if own.worked_at is None else own.worked_at.timestamp(),
        }

    def _own_report(self) -> Report:
        worked = self._evidence.worked_at
        ago = None if worked is None else timedelta(seconds=time.monotonic() - worked)
        return Report(self._way_out, self._since, None if ago is None else self._clock.moment() - ago)

    async def _conclude(self, world: World) -> None:
        self._clock.set(world.now)
        self._gate.circuit_closed = closed = world.circuit.state is State.closed
        if closed:
            self._gate.closed_at = world.circuit.since
        if closed and not self._was_closed:
            log.info("circuit is closed")
            self._evidence.forget()
        self._was_closed = closed
        self._follow_way_out()
        broadcasting = self._gate.broadcasting
        self._gate.looked(world.flags, len(self._lease.epochs), LANES)
        if self._gate.stopped:
            raise statements.StoppedError("an emergency stop stands")
        if broadcasting and not self._gate.broadcasting:
            self._sending.break_off("broadcasting_off")
        reports = [_report(other) for other in world.others]
        self._holding.relays = 1 + sum(other.way_out is not WayOut.fails for other in reports)
        if closed:
            await self._judge_way_out(world, reports)
        else:
            await self._probe(world.circuit)
        is_open = self._gate.open
        if is_open and not self._was_open:
            self._sending.reopened()
        self._was_open = is_open
        self._sending.pump()

    def _follow_way_out(self) -> None:
        way_out = self._evidence.way_out(time.monotonic())
        self._gate.way_out = way_out is not WayOut.fails
        if way_out is not self._way_out:
            self._way_out, self._since = way_out, self._clock.moment()
            self.changed.set()

    async def _judge_way_out(self, world: World, others: list[Report]) -> None:
        now = datetime.fromtimestamp(world.now, UTC)
        if self._holding.unfit:
            if self._way_out is WayOut.works:
                log.info("way out works again")
                self._holding.unfit = False
            else:
                self.check()
            return
        match decide.conclude(self._own_report(), others, now):
            case Conclusion.open:
                reason = self._evidence.reason() or "unknown"
                changed = decide.opened(world.circuit, reason, now)
                if changed is not None and await statements.change_circuit(self._reader, changed):
                    log.warning("circuit opened", reason=reason)
                    self._gate.circuit_closed = self._was_closed = False
            case Conclusion.give_up_lanes:
                log.warning("our own way out fails while another's works", reason=self._evidence.reason())
                self._holding.unfit = True
            case Conclusion.check:
                self.check()
            case Conclusion.wait | Conclusion.carry_on:
                pass

    # ------------------------------------------------------------------------------------------------
    # Trying whether publishes get through

    def check(self) -> None:
        """Try the way out on a channel of nobody's, unless that is being done."""
        now = time.monotonic()
        if (self._checking is None or self._checking.done()) and now - self._last_check >= _CHECK_EVERY:
            self._last_check = now
            self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        # As many as it takes to tell bad luck from an outage; the first that fails settles it.
        for _ in range(ENOUGH_OTHERS):
            if await self._try() is not None:
                break
        self._follow_way_out()
        self._sending.pump()

    async def _try(self) -> str | None:
        """One publish to nobody; None when it was accepted, else the reason, or `_NOT_TRIED`."""
        if not self._lease.may_send():
            return _NOT_TRIED
        message = {"type": "test", "timestamp": int(self._clock.now() * 1000), "data": {"check": "way out"}}
        try:
            await self._publisher.publish(CHECK_CHANNEL, message, timeout=self._limit, store=False)
        except PublishError as error:
            self._evidence.check_failed(error.verdict, time.monotonic())
            return error.verdict.reason
        self._evidence.check_accepted(time.monotonic())
        return None

    async def _probe(self, circuit: Circuit) -> None:
        if self._probing is not None and not self._probing.done():
            return
        if not self._lease.may_send() or not self._gate.broadcasting:
            return
        half = decide.probing(circuit, str(self._shift_id), self._clock.moment(), self._probe_limit)
        if half is not None and await statements.change_circuit(self._reader, half):
            self._probing = asyncio.create_task(self._probe_as(half))

    async def _probe_as(self, half: Circuit) -> None:
        accepted: bool | None = None
        if half.reason == "refusals":
            # Only an event like those refused can tell whether they still are.
            self._evidence.forget()
            accepted = await self._sending.send_one()
        reason = "refusals" if accepted is False else None
        if accepted is None:
            reason = await self._try()
        holder = str(self._shift_id)
        if reason is None:
            changed = decide.probe_accepted(half, holder, self._clock.moment())
        else:
            changed = decide.probe_failed(half, holder, None if reason == _NOT_TRIED else reason)
        if changed is not None and await statements.change_circuit(self._reader, changed):
            log.info("probed", accepted=reason is None, reason=reason)

    def close(self) -> None:
        for task in (self._checking, self._probing):
            if task is not None:
                task.cancel()


def _report(numbers: Mapping[str, float]) -> Report:
    worked = numbers.get("worked_at") or None
    return Report(
        _OF_NUMBER.get(float(numbers.get("way_out", 0.0)), WayOut.unknown),
        datetime.fromtimestamp(numbers.get("way_out_since", 0.0), UTC),
        None if worked is None else datetime.fromtimestamp(worked, UTC),
    )
