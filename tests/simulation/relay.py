"""The fan-out shift on virtual time: lanes by lease, places, publishes in order, outcomes, one circuit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random

from sketchy_orchestration.domain import circuit, lanes, publishing
from sketchy_orchestration.domain.backoff import Backoff
from sketchy_orchestration.domain.circuit import Conclusion, State, WayOut
from sketchy_orchestration.domain.publishing import Fault, Verdict
from tests.faults.invariants import Accepted
from tests.simulation.database import Database, FencedError, StoppedError, UnavailableError, moment
from tests.simulation.kernel import UNTIL_NOTIFIED, Host, Kernel, Process, Work
from tests.simulation.line import TIMES, Line
from tests.simulation.service import ATTEMPT_LIMIT, Service

ATTEMPTS = 3
GATHER = 0.01
"""Seconds that outcomes are gathered before they are acknowledged."""

_PROBE_LIMIT = timedelta(seconds=ATTEMPT_LIMIT + 2)
_BACKOFF = Backoff()


@dataclass(slots=True)
class Defects:
    """What a deliberately broken relay leaves out."""

    forgets_lease: bool = False
    acknowledges_first: bool = False
    counts_in_outage: bool = False
    sends_out_of_order: bool = False


@dataclass(slots=True)
class Queue:
    """A game's events in order, with the last place sent; of one epoch of its lane.

    Attributes:
        busy: somebody works it off. flying: one of its events is on its way.
    """

    lane: int
    epoch: int
    sent: int
    events: deque[tuple[str, int]] = field(default_factory=deque)
    busy: bool = False
    flying: bool = False


class Relay:
    """One shift.

    Attributes:
        line: its way to the database.
        exposed: events that were in flight, or not yet acknowledged, when their lane was lost.
    """

    def __init__(
        self,
        kernel: Kernel,
        database: Database,
        service: Service,
        random: Random,
        name: str,
        defects: Defects | None = None,
    ) -> None:
        self.host = Host(name)
        self._kernel, self._database, self._service, self._random = kernel, database, service, random
        self._defects = defects or Defects()
        self.line = Line(kernel, database)
        self._open = True
        self.exposed = 0
        self._held: dict[int, int] = {}
        self._given_up: dict[int, float] = {}
        self._queues: dict[str, Queue] = {}
        self._found: dict[int, list[tuple[str, str, str | None]]] = {}
        self._evidence = circuit.Evidence()
        self._failing_since = kernel.now
        self._closed_at = database.circuit.since
        for work in (self._pinging(), self._judging(), self._probing()):
            kernel.spawn(self.host, work)
        self._acknowledger: Process = kernel.spawn(self.host, self._acknowledging())
        self._sequencer: Process = kernel.spawn(self.host, self._sequencing())
        database.on_commit.append(self._told)

    def _told(self) -> None:
        if self.host.alive:
            self._kernel.notify(self._sequencer)

    # Lease and lanes ---------------------------------------------------------------------------------

    def _pinging(self) -> Work:
        while True:
            try:
                self.line.connect()
                yield from self.line.run(self._database.ping)
                self._share()
            except UnavailableError:
                self._lose_everything()
            yield TIMES.ping

    def _share(self) -> None:
        session, now = self.line.session, self._kernel.now
        assert session is not None
        live = max(1, len(self._live_reports()))
        for lane in lanes.surplus(self._held, live):
            self._lose(lane)
            self._given_up[lane] = now
            self._database.give_up(session, lane)
        if live > 1 and self._evidence.reason() is not None:
            return
        for lane in self._database.free(lanes.wanted(self._held, self._given_up, now)):
            epoch = self._database.take(session, lane)
            if epoch is not None:
                self._held[lane] = epoch
                for event_id, seq in self._database.load(session, lane):
                    self._enqueue(event_id, seq)
        self._kernel.notify(self._sequencer)

    def _lose(self, lane: int) -> None:
        if self._held.pop(lane, None) is not None:
            self.exposed += self.in_flight([lane])
        self._found.pop(lane, None)
        for game in [game for game, queue in self._queues.items() if queue.lane == lane]:
            queue = self._queues.pop(game)
            if not self._defects.forgets_lease:
                queue.events.clear()

    def in_flight(self, lanes: Iterable[int]) -> int:
        """Events of these lanes under way, or taken and not yet acknowledged: they may be sent twice."""
        wanted = set(lanes)
        flying = sum(queue.flying for queue in self._queues.values() if queue.lane in wanted)
        return flying + sum(len(self._found.get(lane, ())) for lane in wanted)

    def _lose_everything(self) -> None:
        self.line.session = None
        for lane in list(self._held):
            self._lose(lane)

    def _may_send(self, queue: Queue) -> bool:
        if self._defects.forgets_lease:
            return True
        return self._is_held(queue) and self.line.may_send()

    def _is_held(self, queue: Queue) -> bool:
        return self._held.get(queue.lane) == queue.epoch

    # Places ------------------------------------------------------------------------------------------

    def _sequencing(self) -> Work:
        while True:
            yield 0.001 + 0.002 * self._random.random()
            fresh = self._database.unnumbered
            for lane, epoch in [one for one in self._held.items() if fresh.get(one[0])]:
                try:
                    numbered = yield from self.line.run(
                        partial(self._database.number, lane=lane, epoch=epoch)
                    )
                except FencedError:
                    self._lose(lane)
                except UnavailableError:
                    self._lose_everything()
                    break
                except StoppedError:
                    break
                else:
                    for one in numbered if self._held.get(lane) == epoch else ():
                        self._enqueue(one.event_id, one.seq or 0)
            yield 0.5

    def _enqueue(self, event_id: str, seq: int) -> None:
        game = self._database.outbox[event_id].game
        queue = self._queues.get(game.game_id)
        if queue is None:
            queue = Queue(game.lane, self._held[game.lane], self._database.last_sent[game.game_id])
            self._queues[game.game_id] = queue
        queue.events.append((event_id, seq))
        if not queue.busy or self._defects.sends_out_of_order:
            queue.busy = True
            self._kernel.spawn(self.host, self._sending(game.game_id, queue))

    # Sending -----------------------------------------------------------------------------------------

    def _sending(self, game_id: str, queue: Queue) -> Work:
        while queue.events:
            event_id, seq = queue.events[0]
            if self._defects.sends_out_of_order:
                queue.events.popleft()
            yield from self._deliver(game_id, queue, event_id, seq)
            if not self._defects.sends_out_of_order and queue.events and queue.events[0][0] == event_id:
                queue.events.popleft()
        queue.busy = False

    def _deliver(self, game_id: str, queue: Queue, event_id: str, seq: int) -> Work:
        row = self._database.outbox[event_id]
        attempt, first_failed = 0, self._kernel.now
        if self._defects.acknowledges_first:
            self._note(queue, event_id, "delivered", "0")
        while True:
            if not self._may_send(queue):
                if not self._is_held(queue):
                    queue.events.clear()
                    return
                yield 0.05
                continue
            if not self._is_open():
                yield 0.1
                continue
            if event_id in self._expired(queue):
                self._note(queue, event_id, "expired", None)
                return
            channel = f"game-{game_id}"
            message = Accepted(channel, event_id, row.type, game_id, seq, queue.sent, "", False)
            answer: list[tuple[float, str | Verdict]] = []
            up = 0.001 + 0.003 * self._random.random()
            queue.flying = True
            # Once on its way it arrives, whatever becomes of the relay.
            self._kernel.call(up, lambda: answer.append(self._service.publish(message)))  # noqa: B023
            yield up + 1e-6
            took, said = answer[0]
            yield took
            queue.flying = False
            now = self._kernel.now
            if isinstance(said, str):
                self._evidence.accepted(game_id, now)
                queue.sent = seq
                self._note(queue, event_id, "delivered", said)
                return
            self._evidence.failed(game_id, said, now)
            if said.fault is Fault.keyset:
                yield from self._check()
            attempt += 1
            if attempt == 1:
                first_failed = now
            if said.fault is Fault.event and self._evidence.reason() is None:
                self._note(queue, event_id, "dead", None)
                return
            needed = publishing.attempts_needed(ATTEMPTS, *self._evidence.others(game_id, now, first_failed))
            if self._defects.counts_in_outage:
                needed = ATTEMPTS
            if said.fault is Fault.moment and needed is not None and attempt >= needed:
                self._note(queue, event_id, "dead", None)
                return
            yield _BACKOFF.wait(attempt, self._random.random, said.retry_after)

    def _is_open(self) -> bool:
        """Whether events may be sent, as far as was last heard."""
        if self.line.reaches():
            database = self._database
            closed = database.circuit.state is State.closed
            self._open = closed and database.broadcasting and not database.stopped
        return self._open

    def _expired(self, queue: Queue) -> list[str]:
        now = self._kernel.now
        rows = [self._database.outbox[event_id] for event_id, _ in list(queue.events)[:100]]
        return publishing.expired(
            [publishing.Waiting(row.event_id, row.type, "system", now - row.at) for row in rows]
        )

    def _note(self, queue: Queue, event_id: str, outcome: str, timetoken: str | None) -> None:
        if self._is_held(queue) or self._defects.forgets_lease:
            if not self._found:
                self._kernel.notify(self._acknowledger, GATHER)
            self._found.setdefault(queue.lane, []).append((event_id, outcome, timetoken))

    def _acknowledging(self) -> Work:
        while True:
            yield GATHER if self._found else UNTIL_NOTIFIED
            for lane, found in list(self._found.items()):
                batch, epoch = list(found), self._held.get(lane)
                try:
                    if epoch is None:
                        raise FencedError
                    acknowledge = partial(self._database.acknowledge, lane=lane, epoch=epoch, found=batch)
                    yield from self.line.run(acknowledge)
                except FencedError:
                    self._lose(lane)
                except UnavailableError:
                    self._lose_everything()
                    break
                else:
                    del found[: len(batch)]
                    if not found:
                        self._found.pop(lane, None)

    # The circuit -------------------------------------------------------------------------------------

    def _live_reports(self) -> list[circuit.Report]:
        now = self._kernel.now
        return [report for at, report in self._database.reports.values() if now - at <= 2.0]

    def _judging(self) -> Work:
        fails = False
        while True:
            now = self._kernel.now
            way_out = self._evidence.way_out(now)
            if (way_out is WayOut.fails) != fails:
                fails, self._failing_since = way_out is WayOut.fails, now
            worked = self._evidence.worked_at
            own = circuit.Report(
                way_out, moment(self._failing_since), None if worked is None else moment(worked)
            )
            if self.line.reaches():
                others = [
                    report
                    for name, (at, report) in self._database.reports.items()
                    if name != self.host.name and now - at <= 2.0
                ]
                self._database.reports[self.host.name] = (now, own)
                try:
                    self._conclude(circuit.conclude(own, others, moment(now)))
                except UnavailableError:
                    self._lose_everything()
            yield 1.0

    def _check(self) -> Work:
        took, said = self._service.probe()
        yield took
        if isinstance(said, Verdict):
            self._evidence.check_failed(said, self._kernel.now)
        else:
            self._evidence.check_accepted(self._kernel.now)

    def _conclude(self, conclusion: Conclusion) -> None:
        shared = self._database.circuit
        if shared.state is State.closed and shared.since != self._closed_at:
            # Somebody has closed it: what was seen before is over.
            self._closed_at = shared.since
            self._evidence.forget()
        elif conclusion is Conclusion.open:
            self._change(
                circuit.opened(shared, self._evidence.reason() or "unknown", moment(self._kernel.now))
            )
        elif conclusion is Conclusion.give_up_lanes and self.line.session is not None:
            for lane in list(self._held):
                self._lose(lane)
                self._given_up[lane] = self._kernel.now
                self._database.give_up(self.line.session, lane)
            self._evidence.forget()

    def _change(self, changed: circuit.Circuit | None) -> bool:
        return changed is not None and self.line.reaches() and self._database.change_circuit(changed)

    def _probing(self) -> Work:
        name = self.host.name
        while True:
            yield 0.2 + 0.1 * self._random.random()
            shared = self._database.circuit
            if shared.state is State.closed or not self.line.reaches():
                continue
            if not self._change(circuit.probing(shared, name, moment(self._kernel.now), _PROBE_LIMIT)):
                continue
            took, said = self._service.probe()
            yield took
            shared = self._database.circuit
            if isinstance(said, Verdict):
                self._change(circuit.probe_failed(shared, name, said.reason))
            else:
                self._change(circuit.probe_accepted(shared, name, moment(self._kernel.now)))
