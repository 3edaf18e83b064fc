"""Sending dead letters again that a person asked for: marked as replays, each game's in their order."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from uuid import UUID

import structlog

from sketchy_orchestration.database import replays as statements
from sketchy_orchestration.database.relay import Session
from sketchy_orchestration.database.replays import AskedReplay
from sketchy_orchestration.domain import envelope, publishing
from sketchy_orchestration.domain.backoff import Backoff
from sketchy_orchestration.domain.publishing import Fault, Verdict
from sketchy_orchestration.pubnub.publisher import Publisher, PublishError
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.lease import Lease, LeaseLostError
from sketchy_orchestration.realtime.tally import DatabaseClock, RelayTally

LOOK_EVERY = 0.5
"""Seconds between looks for replays asked for."""

# Games whose replays are under way at the same time: events come first.
_AT_ONCE = 10
_BATCH = 200
_BACKOFF = Backoff(base=1.0, cap=30.0)

log = structlog.get_logger(__name__)


class Replaying:
    """Sends what is asked for in the lanes held, within gate and rate.

    A replay that PubNub refuses for good is a dead letter as before; one that fails for the moment is tried
    again, and those of its game after it wait.
    """

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
        self._failed = 0
        self._rest_until = float("-inf")
        # What channels have taken of replays still under way, so that a second try repeats only the missing.
        self._taken: dict[UUID, dict[str, int]] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            lanes = list(self._lease.epochs)
            if not lanes or not self._gate.open or time.monotonic() < self._rest_until:
                continue
            asked = await statements.replays_asked(self._reader, lanes, limit=_BATCH)
            games = [list(each) for _, each in groupby(asked, key=lambda replay: replay.game_id)]
            for start in range(0, len(games), _AT_ONCE):
                await asyncio.gather(*(self._send_all(game) for game in games[start : start + _AT_ONCE]))

    async def _send_all(self, of_game: Iterable[AskedReplay]) -> None:
        for replay in of_game:
            if not await self._send(replay):
                return

    async def _send(self, replay: AskedReplay) -> bool:
        """Send one; False: it is to be tried again, and nothing of its game before that."""
        epoch = self._lease.epochs.get(replay.lane)
        if epoch is None:
            return False
        taken = self._taken.setdefault(replay.event_id, dict(replay.timetokens))
        failures: list[Verdict] = []
        for build in (envelope.fitting_message, envelope.slim_message):
            missing = [channel for channel in replay.channels if channel not in taken]
            while self._gate.open and (wait := self._gate.take(len(missing))):  # noqa: ASYNC110  # for tokens
                await asyncio.sleep(min(wait, 1.0))
            if not (self._gate.open and self._lease.may_send()):
                return False
            message = functools.partial(build, _event(replay), tuple(replay.channels))
            verdicts = await asyncio.gather(*(self._publish(each, message, taken) for each in missing))
            failures = [each for each in verdicts if each is not None]
            # What PubNub itself finds too large is sent slim, by the same rules.
            if all(each.reason != "too_large" for each in failures):
                break
        return await self._end(replay, epoch, taken, failures)

    async def _publish(
        self, channel: str, message: Callable[[int], dict[str, object]], taken: dict[str, int]
    ) -> Verdict | None:
        try:
            built = message(int(self._clock.now() * 1000))
            acceptance = await self._publisher.publish(channel, built, timeout=self._limit)
        except envelope.EventTooLargeError as error:
            return publishing.of_unsendable("too_large", str(error))
        except PublishError as error:
            return error.verdict
        taken[channel] = acceptance.timetoken
        return None

    async def _end(
        self, replay: AskedReplay, epoch: int, taken: dict[str, int], failures: Sequence[Verdict]
    ) -> bool:
        refused = next((each.detail for each in failures if each.fault is Fault.event), None)
        if failures and refused is None:
            self._failed += 1
            self._rest_until = time.monotonic() + _BACKOFF.wait(self._failed, random.random)
            self._tally.failed_attempts += len(failures)
            return False
        self._failed = 0
        self._taken.pop(replay.event_id, None)
        try:
            await self._lease.run(
                lambda session: statements.end_replay(session, replay, epoch, taken, refused)
            )
        except LeaseLostError:
            return False
        self._tally.replayed += refused is None
        log.info(
            "replayed a dead letter",
            event_id=str(replay.event_id),
            game_id=replay.game_id and str(replay.game_id),
            request_id=replay.request_id,
            refused=refused,
        )
        return True


def _event(replay: AskedReplay) -> envelope.Event:
    return envelope.Event(
        event_id=str(replay.event_id),
        game_id=None if replay.game_id is None else str(replay.game_id),
        type=replay.type,
        user_id=replay.user_id,
        occurred_at=replay.occurred_at,
        request_id=replay.request_id,
        data=replay.data,
        seq=replay.seq,
        after=replay.after_seq if replay.after_seq is not None else (replay.seq or 1) - 1,
        replayed=True,
    )
