"""The fan-out shift: a relay with a heartbeat, relieved like any shift; and one bounded pass of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import structlog

from sketchy_orchestration.database import shifts
from sketchy_orchestration.database.connect import Role, connect, connect_async
from sketchy_orchestration.database.relay import Session
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.publisher import Publisher
from sketchy_orchestration.pubnub.sdk import SdkPublisher
from sketchy_orchestration.realtime.relay import STOP_WITHIN, Relay
from sketchy_orchestration.realtime.shift import EndReason, RunningShift, ShiftIdentity
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import this_version

CONNECTIONS = 1_000
"""To PubNub at most: the flag fanout_concurrency, times the channels of an event, may rise up to this."""

RELIEVE_EVERY = 30.0
"""Seconds between looks whether an older shift should be relieved; the first with the first heartbeat."""

# Seconds that writing down its own end may take a shift; one that is stopped has what is left of its second.
_END_WITHIN, _STOPPED_WITHIN, _LEAST = 5.0, 0.95, 0.3

# A pass ends when nothing has waited for so long, in seconds: longer than two looks for free lanes.
_QUIET = 0.5

log = structlog.get_logger(__name__)


class FanoutShift:
    """One relay, in an event loop of its own."""

    def __init__(
        self, identity: ShiftIdentity, settings: Settings, publisher: Callable[[], Publisher]
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._publisher = publisher
        self._reason: EndReason | None = None
        self._next_relief = 0.0
        self._stopped_at: float | None = None

    def work(self, running: RunningShift) -> EndReason:
        """Relay until relieved, stopped or ended; the reason."""
        return asyncio.run(self._work(running))

    async def _work(self, running: RunningShift) -> EndReason:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopped() -> None:
            loop.remove_reader(running.stopping.fileno())
            self._stopped_at = time.monotonic()
            relay.leave_within = STOP_WITHIN
            stop.set()

        async def beat(session: Session, numbers: dict[str, float]) -> None:
            self._reason = self._reason or await self._beat(session, numbers)
            if self._reason is not None:
                stop.set()
            if running.report_due():
                running.hand_in(numbers)
                relay.new_tally()

        publisher = self._publisher()
        relay = Relay(
            self._settings,
            publisher,
            self._identity.shift_id,
            limit=self._settings.pubnub_request_timeout,
            beat=beat,
        )
        loop.add_reader(running.stopping.fileno(), stopped)
        try:
            await relay.run(stop)
        finally:
            loop.remove_reader(running.stopping.fileno())
            await publisher.close()
        reason = self._reason or EndReason(running.stopping.reason)
        running.hand_in(relay.numbers())
        await self._end(reason, relay.numbers())
        return reason

    async def _beat(self, session: Session, numbers: dict[str, float]) -> EndReason | None:
        beat = await shifts.beat_async(session, self._identity.shift_id, numbers)
        if beat is None:
            return EndReason.ended_by_supervisor
        if beat.relieved:
            return EndReason.relieved
        if beat.too_long:
            return EndReason.hard_bound
        if time.monotonic() >= self._next_relief:
            self._next_relief = time.monotonic() + RELIEVE_EVERY
            relieved = await shifts.relieve_async(session, self._identity.shift_id, self._identity.kind)
            if relieved is not None:
                log.info("relieves an older shift", relieved=str(relieved))
        return None

    async def _end(self, reason: EndReason, numbers: dict[str, float]) -> None:
        within = _END_WITHIN
        if self._stopped_at is not None:
            within = max(_LEAST, self._stopped_at + _STOPPED_WITHIN - time.monotonic())
        try:
            async with asyncio.timeout(within):
                session = await connect_async(self._settings, Role.relay, application_name="sketchy relay")
                async with session:
                    await shifts.end_async(session, self._identity.shift_id, reason, numbers)
        except (psycopg.Error, SketchyError, TimeoutError) as error:
            said = " ".join(str(error).split()) or "no answer in time"
            log.warning("could not record the end of the shift", error=said)
        log.info("fan-out shift ended", reason=str(reason), **numbers)


def start_fanout_shift(identity: ShiftIdentity, settings: Settings) -> RunningShift:
    """Start a fan-out shift.

    Raises:
        SketchyError: no keyset, or the database cannot be reached, or lacks our schema or role.
    """
    keyset = Keyset.of(settings)
    with connect(settings, Role.relay, application_name="sketchy relay") as connection:
        shifts.start(
            connection,
            identity.shift_id,
            identity.kind,
            identity.version,
            identity.host,
            identity.pid,
            identity.dagster_run_id,
            this_version(settings).label,
        )
    shift = FanoutShift(identity, settings, lambda: SdkPublisher(keyset, concurrency=CONNECTIONS))
    return RunningShift(identity, shift.work)


def fanout_pass(settings: Settings, *, within: float = 30.0) -> dict[str, float]:
    """Relay what waits in lanes that nobody holds, until nothing does or `within` seconds are over.

    Raises:
        SketchyError: no keyset, or the database cannot be reached, or lacks our schema or role.
    """
    keyset = Keyset.of(settings)
    # Reaching the database is tried once here: the relay itself would go on trying.
    with connect(settings, Role.relay, application_name="sketchy relay"):
        pass
    return asyncio.run(
        pass_once(settings, lambda: SdkPublisher(keyset, concurrency=CONNECTIONS), within=within)
    )


async def pass_once(
    settings: Settings, new_publisher: Callable[[], Publisher], *, within: float, shift_id: UUID | None = None
) -> dict[str, float]:
    """As `fanout_pass`, with any publisher."""
    began = time.monotonic()
    publisher, stop = new_publisher(), asyncio.Event()
    relay = Relay(settings, publisher, shift_id or uuid4(), limit=settings.pubnub_request_timeout)
    work = asyncio.create_task(relay.run(stop))
    try:
        quiet_since = None
        while time.monotonic() - began < within and not work.done():
            await asyncio.sleep(0.05)
            tenure = relay.tenure
            quiet = tenure is not None and tenure.quiet
            quiet_since = (quiet_since or time.monotonic()) if quiet else None
            if quiet_since is not None and time.monotonic() - quiet_since >= _QUIET:
                break
        numbers = relay.numbers()
    finally:
        stop.set()
        await work
        await publisher.close()
    return {**numbers, **relay.tally.numbers(), "took_ms": round((time.monotonic() - began) * 1000, 3)}
