"""Publishing: many games at once, each strictly in order, `concurrency` events unacknowledged at most."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

import structlog

from sketchy_orchestration import crash_points
from sketchy_orchestration.database.relay import Attempt, OutboxEvent, Outcome
from sketchy_orchestration.domain import envelope, publishing
from sketchy_orchestration.domain.backoff import Backoff
from sketchy_orchestration.domain.circuit import Evidence, WayOut
from sketchy_orchestration.domain.publishing import Fault, Verdict
from sketchy_orchestration.pubnub.publisher import Publisher, PublishError
from sketchy_orchestration.realtime.games import Game, Games, envelope_of, outlived
from sketchy_orchestration.realtime.gate import Gate
from sketchy_orchestration.realtime.lease import Lease
from sketchy_orchestration.realtime.tally import DatabaseClock, RelayTally
from sketchy_orchestration.realtime.turns import Turns

# Seconds that the acknowledger has to begin with what was tried in lanes that are given up.
_NOTED = 0.1

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Hooks:
    """Whom the sender tells; set once all parts of the relay exist."""

    load: Callable[[Game], None] = lambda _: None
    check: Callable[[], None] = lambda: None
    sync: Callable[[UUID], None] = lambda _: None


class Sending:
    """Takes games that are ready, in turns, as far as gate, lease and rate allow.

    Attributes:
        outcomes, attempts: to be written by the acknowledger, who is woken by `written`.
        leaving: lanes being given up; nothing new of theirs is sent.
    """

    def __init__(
        self,
        lease: Lease,
        gate: Gate,
        games: Games,
        evidence: Evidence,
        publisher: Publisher,
        clock: DatabaseClock,
        tally: RelayTally,
        *,
        limit: float,
        backoff: Backoff | None = None,
    ) -> None:
        self._lease, self._gate, self._games = lease, gate, games
        self._evidence, self._publisher = evidence, publisher
        self._clock, self._tally = clock, tally
        self._limit = limit
        self._backoff = backoff or Backoff()
        self._turns = Turns()
        self._slots = 0
        self._tasks: dict[asyncio.Task[bool], Game] = {}
        self._later: asyncio.TimerHandle | None = None
        self._resting: dict[Game, asyncio.TimerHandle] = {}
        self.hooks = Hooks()
        self.outcomes: list[Outcome] = []
        self.attempts: list[Attempt] = []
        self.written = asyncio.Event()
        self.leaving: set[int] = set()

    @property
    def in_flight(self) -> int:
        """Events being sent, or sent and not yet acknowledged."""
        return self._slots

    @property
    def enough(self) -> int:
        """So many outcomes are worth a commit of their own."""
        return max(1, self._gate.concurrency // 4)

    def offer(self, game: Game) -> None:
        """Consider a game that has something new to send."""
        if game.ready:
            self._turns.add(game)
        elif game.hungry:
            self.hooks.load(game)

    def pump(self) -> None:
        """Start what may start now."""
        while self._slots < self._gate.concurrency and self._gate.open and self._lease.may_send():
            game = self._turns.next()
            if game is None:
                self._gate.nothing_held_back()
                return
            if game.lane in self.leaving or game.key not in self._games:
                continue
            self._expire(game)
            if not game.loaded:
                self.offer(game)
                continue
            event = game.loaded[0]
            if wait := self._gate.take(len(event.channels) - len(event.accepted)):
                self._turns.back(game)
                self._pump_later(wait)
                return
            self._start(game)

    def _start(self, game: Game) -> asyncio.Task[bool]:
        self._slots += 1
        game.flying = True
        task = asyncio.create_task(self._fly(game, game.loaded[0]))
        self._tasks[task] = game
        task.add_done_callback(self._landed)
        return task

    def _pump_later(self, wait: float) -> None:
        # A rate of nothing waits for a look at the flags, which pumps again.
        if self._later is None and wait < 60:
            self._later = asyncio.get_running_loop().call_later(wait, self._pump_again)

    def _pump_again(self) -> None:
        self._later = None
        self.pump()

    # ------------------------------------------------------------------------------------------------
    # One event

    async def _fly(self, game: Game, event: OutboxEvent) -> bool:
        """Try to publish it; whether it is delivered."""
        # Between the decision and this moment the process may have been stopped, for any length of time.
        if not self._lease.may_send():
            self._release(game)
            return False
        game.tried += 1
        whole = envelope.message(envelope_of(game, event), int(self._clock.now() * 1000))
        missing = [channel for channel in event.channels if channel not in event.accepted]
        try:
            if len(missing) == 1:
                verdicts = [await self._publish(game, event, missing[0], whole)]
            else:
                tries = [self._publish(game, event, channel, whole) for channel in missing]
                verdicts = list(await asyncio.gather(*tries))
        except BaseException:  # broken off, mostly
            self._note(game, event, missing)
            raise
        failures = [verdict for verdict in verdicts if verdict is not None]
        if failures:
            self._note(game, event, missing)
        if not game.slim and any(verdict.reason == "too_large" for verdict in failures):
            # Sent slim as soon as gate, rate and lease allow it: the attempt begins anew.
            game.slim, game.tried = True, game.tried - 1
            self._release(game)
        elif failures:
            self._judge(game, event, failures)
        else:
            occurred = event.occurred_at.timestamp()
            self._tally.lateness.add([(self._clock.now() - occurred) * 1000])
            self._finish(game, event, "delivered")
        return not failures

    async def _publish(
        self, game: Game, event: OutboxEvent, channel: str, built: dict[str, object]
    ) -> Verdict | None:
        began = time.monotonic()
        verdict = await self._try(game, event, channel, built)
        if verdict is not None and verdict.reason == "too_large" and not game.slim:
            # By PubNub's formula or by PubNub itself: only what does not even fit slim has failed.
            return verdict
        now = time.monotonic()
        if verdict is None:
            self._evidence.accepted(game.name, now)
            self._gate.way_out = True
            return None
        self._evidence.failed(game.name, verdict, now)
        if self._evidence.way_out(now) is WayOut.fails:
            self._gate.way_out = False
        self._tally.failed_attempts += 1
        took = (now - began) * 1000
        self.attempts.append(Attempt(event, channel, game.tried, verdict.fault, verdict.reason, took))
        self.written.set()
        return verdict

    async def _try(
        self, game: Game, event: OutboxEvent, channel: str, built: dict[str, object]
    ) -> Verdict | None:
        crash_points.reach("relay.publish")
        try:
            if game.slim:
                moment = int(self._clock.now() * 1000)
                built = envelope.slim_message(envelope_of(game, event), tuple(event.channels), moment)
            acceptance = await self._publisher.publish(channel, built, timeout=self._limit)
        except PublishError as error:
            return error.verdict
        except envelope.EventTooLargeError as error:
            return publishing.of_unsendable("too_large", str(error))
        crash_points.reach("relay.published")
        event.accepted[channel] = acceptance.timetoken
        return None

    def _note(self, game: Game, event: OutboxEvent, tried: Collection[str]) -> None:
        """What only some channels took: so that whoever is next omits them. Takes slots until committed."""
        taken = [(channel, event.accepted[channel]) for channel in tried if channel in event.accepted]
        self._slots += len(taken)
        for channel, timetoken in taken:
            self.attempts.append(Attempt(event, channel, game.tried, "accepted", "accepted", None, timetoken))
        self.written.set()

    def _judge(self, game: Game, event: OutboxEvent, failures: list[Verdict]) -> None:
        refused = next((verdict for verdict in failures if verdict.fault is Fault.event), None)
        now = time.monotonic()
        fails = self._evidence.way_out(now) is WayOut.fails
        if refused is not None and not fails:
            self._finish(game, event, "dead", refused)
            return
        worst = next((verdict for verdict in failures if verdict.fault is Fault.keyset), failures[0])
        if fails:
            # The keyset's or our own way out's fault: that costs no event an attempt, nor those before it.
            for each in self._games:
                each.failed, each.failing_since = 0, None
        else:
            if game.failing_since is None:
                game.failing_since = now
            failed, tried = self._evidence.others(game.name, now, game.failing_since)
            needed = publishing.attempts_needed(self._gate.attempts, failed, tried)
            unproven = tried < publishing.ENOUGH_OTHERS or (needed or 0) > self._gate.attempts
            if worst.fault is Fault.keyset or (unproven and game.tried > 1):
                self.hooks.check()
            if needed is not None or tried < publishing.ENOUGH_OTHERS:
                game.failed += 1
            if needed is not None and game.failed >= needed:
                self._finish(game, event, "dead", worst)
                return
        self._rest(game, self._backoff.wait(game.tried, random.random, worst.retry_after))

    def _finish(self, game: Game, event: OutboxEvent, outcome: str, verdict: Verdict | None = None) -> None:
        epoch = self._lease.epochs.get(event.lane)
        if epoch is None:
            return
        self.outcomes.append(
            Outcome(
                event,
                epoch,
                outcome,
                game.tried,
                game.after if event.game_id is not None else None,
                dict(event.accepted),
                verdict.reason if verdict else None,
                verdict.detail if verdict else None,
            )
        )
        if outcome == "dead":
            log.warning(
                "dead letter",
                event_id=str(event.event_id),
                game_id=event.game_id and str(event.game_id),
                request_id=event.request_id,
                type=event.type,
                reason=verdict and verdict.reason,
            )
        self._games.done(game, delivered=outcome == "delivered")
        self.written.set()
        # Whoever held the game during the outage may be gone: its events tell that they waited through one.
        game.owes_sync = game.owes_sync or self._gate.waited_through(event.occurred_at)
        if game.owes_sync and not game.waits and isinstance(game.key, UUID):
            game.owes_sync = False
            self.hooks.sync(game.key)

    def _expire(self, game: Game) -> None:
        """What is next and has lost its meaning is never sent."""
        while gone := outlived(game, self._clock.now()):
            while game.loaded and game.loaded[0].id in gone:
                game.owes_sync = True
                self._finish(game, game.loaded[0], "expired")

    # ------------------------------------------------------------------------------------------------
    # Between events

    def _landed(self, task: asyncio.Task[bool]) -> None:
        game = self._tasks.pop(task)
        if task.cancelled():
            self._release(game)
        elif error := task.exception():
            self._tally.errors += 1
            log.error("sending failed unexpectedly", error=repr(error), game_id=game.name)
            if game.flying:
                self._rest(game, self._backoff.cap)
        elif game.flying:
            # Done: its slot stays taken until the outcome is committed.
            game.flying = False
            self.offer(game)
        self.pump()

    def _release(self, game: Game) -> None:
        if game.flying:
            game.flying = False
            self._slots -= 1
            self.offer(game)

    def _rest(self, game: Game, seconds: float) -> None:
        game.flying = False
        self._slots -= 1
        game.resting = True
        loop = asyncio.get_running_loop()
        self._resting[game] = loop.call_later(seconds, self._rested, game)

    def _rested(self, game: Game) -> None:
        self._resting.pop(game, None)
        game.resting = False
        self.offer(game)
        self.pump()

    def acknowledged(self, outcomes: Collection[Outcome]) -> None:
        """These outcomes are committed."""
        for outcome in outcomes:
            self._slots -= outcome.outcome != "expired"
            if outcome.outcome == "delivered":
                self._tally.delivered += 1
            elif outcome.outcome == "dead":
                self._tally.dead += 1
            else:
                self._tally.expired += 1
            self._games.acknowledged(outcome.event.game_id or outcome.event.id)
        self.pump()

    def noted(self, attempts: Collection[Attempt]) -> None:
        """These attempts are committed."""
        self._slots -= sum(each.verdict == "accepted" for each in attempts)
        self.pump()

    def reopened(self) -> None:
        """After an outage: everybody may try again at once, and whoever waited hears the time afterwards."""
        for game in self._games:
            game.owes_sync = game.owes_sync or game.waits
            game.failed, game.failing_since = 0, None
            if not game.flying:
                game.tried = 0
        for handle in self._resting.values():
            handle.cancel()
        for game in list(self._resting):
            self._rested(game)
        self.pump()

    async def send_one(self) -> bool | None:
        """Send one event although the gate is closed, as a probe; None when nothing waits, else: accepted?"""
        while (game := self._turns.next()) is not None:
            if game.loaded and game.key in self._games and game.lane not in self.leaving:
                task = self._start(game)
                await asyncio.wait([task])
                return not task.cancelled() and task.exception() is None and task.result()
        return None

    async def settle(self, lanes: Collection[int], within: float) -> None:
        """Wait until nothing of these lanes is in flight or unacknowledged; in the end break it off."""
        until = time.monotonic() + within
        for game in self._games.in_lanes(lanes):
            while (game.flying or game.unacknowledged) and time.monotonic() < until:  # noqa: ASYNC110  # rare
                await asyncio.sleep(0.01)
        broken = [task for task, game in self._tasks.items() if game.lane in lanes]
        for task in broken:
            task.cancel()
        if broken:
            await asyncio.wait(broken)
        # Once the acknowledger has them, they have their turn on the lease before the lanes are left.
        until += _NOTED
        while time.monotonic() < until and any(a.event.lane in lanes for a in self.attempts):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def forget(self, lanes: Collection[int]) -> None:
        """Outcomes of these lanes that are not being written never are: whoever is next sends them again."""
        forgotten = [outcome for outcome in self.outcomes if outcome.event.lane in lanes]
        self.outcomes = [outcome for outcome in self.outcomes if outcome.event.lane not in lanes]
        self._slots -= sum(outcome.outcome != "expired" for outcome in forgotten)

    def break_off(self, why: str) -> None:
        """Cancel what is in flight; whether PubNub took it is unknown, and noted as such an attempt."""
        for task, game in self._tasks.items():
            # One that has not yet begun is cancelled, too, and has nothing to be noted.
            if game.flying and task.cancel() and game.tried and game.loaded:
                event = game.loaded[0]
                missing = (channel for channel in event.channels if channel not in event.accepted)
                self.attempts += [Attempt(event, each, game.tried, "unknown", why, 0.0) for each in missing]
        self.written.set()

    def close(self) -> None:
        """Break everything off: the lease is lost, or nothing is left to do."""
        self.leaving = set(range(1 << 15))
        for handle in self._resting.values():
            handle.cancel()
        if self._later is not None:
            self._later.cancel()
        for task in self._tasks:
            task.cancel()
