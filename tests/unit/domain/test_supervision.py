"""What keeps shifts at work: examples a person would ask about, then a simulated life of shifts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sketchy_orchestration.domain.supervision import (
    EndReason,
    Overdue,
    Plan,
    Policy,
    Run,
    Shift,
    Stage,
    plan,
    why_no_pass,
)

POLICY = Policy()


def a_shift(age: float = 60.0, silence: float = 0.2, **more: object) -> Shift:
    shift = Shift(uuid4(), run_id=None, heartbeat="12:00:00", age=age, silence=silence)
    return replace(shift, **more)


def decide(*shifts: Shift, runs: tuple[Run, ...] = (), **more: object) -> Plan:
    return plan(shifts, runs, **{"suspected": {}, **more})


def test_nobody_at_work_starts_both() -> None:
    assert decide().launch == 2


def test_a_run_on_its_way_fills_its_gap() -> None:
    waiting = Run("a", Stage.queued, age=10_000)
    starting = Run("b", Stage.started, age=3)
    assert decide(runs=(waiting, starting)).launch == 0
    assert decide(a_shift(), runs=(starting,)).launch == 0


def test_a_run_whose_shift_is_at_work_is_no_arrival() -> None:
    assert decide(a_shift(run_id="a"), runs=(Run("a", Stage.started, 60),)).launch == 1


def test_a_run_that_never_came_to_work_is_ended_and_replaced() -> None:
    found = decide(a_shift(), runs=(Run("a", Stage.started, POLICY.arrival),))
    assert (found.launch, found.end_runs) == (1, ("a",))


def test_a_run_being_cancelled_is_no_arrival_and_may_not_take_long() -> None:
    found = decide(a_shift(), runs=(Run("a", Stage.canceling, 1),))
    assert (found.launch, found.end_runs) == (1, ())
    assert decide(runs=(Run("a", Stage.canceling, POLICY.leaving),)).end_runs == ("a",)


def test_silence_must_be_seen_twice() -> None:
    silent = a_shift(silence=7, run_id="a")
    runs = (Run("a", Stage.started, 60),)
    first = decide(a_shift(), silent, runs=runs)
    assert (first.endings, first.launch) == ((), 0)
    second = decide(a_shift(), silent, runs=runs, suspected=first.suspects)
    assert [ending.reason for ending in second.endings] == [EndReason.stale]
    assert (second.launch, second.end_runs) == (1, ("a",))


def test_one_heartbeat_between_two_looks_clears_a_suspect() -> None:
    silent = a_shift(silence=7)
    suspected = decide(silent).suspects
    assert decide(replace(silent, heartbeat="12:00:04"), suspected=suspected).endings == ()


def test_a_shift_whose_process_is_gone_is_replaced_at_the_first_look() -> None:
    found = decide(a_shift(), a_shift(silence=POLICY.gone_after, gone=True))
    assert ([e.reason for e in found.endings], found.launch) == ([EndReason.died], 1)


def test_a_shift_that_beats_is_alive_whatever_dagster_believes() -> None:
    assert decide(a_shift(), a_shift(silence=0.9, gone=True)).endings == ()


def test_an_aged_shift_gets_one_successor_and_no_second() -> None:
    aged = a_shift(age=POLICY.soft_bound)
    assert decide(aged, a_shift()).launch == 1
    assert decide(aged, a_shift(), runs=(Run("a", Stage.queued, 1),)).launch == 0
    assert decide(aged, a_shift(), a_shift(age=1)).launch == 0
    assert decide(replace(aged, relieved=True), a_shift(age=POLICY.soft_bound), a_shift()).launch == 0


def test_an_aged_shift_of_the_current_release_stays_when_another_supervises() -> None:
    found = decide(a_shift(age=POLICY.soft_bound, outranks=True), a_shift())
    assert found.launch == 0
    assert "1 of the current release stay" in found.reason


def test_two_aged_shifts_hand_over_one_after_the_other() -> None:
    assert decide(a_shift(age=9_000), a_shift(age=9_000)).launch == 1


def test_nothing_is_started_while_switched_off_but_the_dead_are_still_ended() -> None:
    found = decide(a_shift(silence=60, gone=True), paused="timer_monitoring is off")
    assert (found.launch, len(found.endings)) == (0, 1)
    assert "timer_monitoring is off" in found.reason


def test_a_run_that_outlives_its_shift_is_ended() -> None:
    runs = (Run("a", Stage.started, 100),)
    assert decide(a_shift(run_id="a", ended_for=3), runs=runs).end_runs == ()
    assert decide(a_shift(run_id="a", ended_for=POLICY.leaving), runs=runs).end_runs == ("a",)


@pytest.mark.parametrize(
    ("overdue", "pending", "said"),
    [
        (Overdue(0, 0), 0, "nothing"),
        (Overdue(3, 9.0, enabled=False), 0, "switched off"),
        (Overdue(3, 9.0), 1, "under way"),
        (Overdue(3, 9.0, shifts=2), 0, "2 shifts"),
    ],
)
def test_no_pass_is_made_for_a_reason(overdue: Overdue, pending: int, said: str) -> None:
    assert said in (why_no_pass(overdue, pending=pending) or "")


def test_a_pass_is_made_when_nobody_else_does_it() -> None:
    assert why_no_pass(Overdue(1, 2.5)) is None


@dataclass
class Worker:
    """One run in the simulation: on its way, then at work with a shift, then gone."""

    run_id: str
    since: float
    arrives_after: float
    shift_id: UUID = field(default_factory=uuid4)
    arrived: float | None = None
    heartbeat: float = 0.0
    relieved: bool = False
    dead: bool = False
    known_dead: bool = False
    ended: float | None = None


class Life(RuleBasedStateMachine):
    """Shifts arrive, beat, die, noticed or not, and are relieved; supervision looks every five seconds."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.workers: list[Worker] = []
        self.suspects: dict[str, str] = {}

    def at_work(self) -> list[Worker]:
        return [w for w in self.workers if w.arrived is not None and w.ended is None and not w.dead]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.workers:
            if worker.dead or worker.ended is not None:
                continue
            if worker.arrived is None and self.now >= worker.since + worker.arrives_after:
                worker.arrived = self.now
            if worker.relieved:
                worker.ended = self.now
            elif worker.arrived is not None:
                worker.heartbeat = self.now
                self.relieve(worker)

    def relieve(self, by: Worker) -> None:
        """As a shift does it: the oldest past the soft bound, when more than wanted are at work."""
        working = [w for w in self.at_work() if not w.relieved]
        aged = [w for w in working if w is not by and self.now - (w.arrived or 0) > POLICY.soft_bound]
        if len(working) > POLICY.wanted and aged:
            min(aged, key=lambda w: w.arrived or 0).relieved = True

    @rule(arrives_after=st.floats(1, 20))
    def look(self, arrives_after: float) -> None:
        shifts = [
            Shift(
                w.shift_id,
                w.run_id,
                heartbeat=str(w.heartbeat),
                age=self.now - w.arrived,
                silence=self.now - w.heartbeat,
                relieved=w.relieved,
                gone=w.known_dead,
                ended_for=None if w.ended is None else self.now - w.ended,
            )
            for w in self.workers
            if w.arrived is not None
        ]
        runs = [
            Run(w.run_id, Stage.started, self.now - w.since)
            for w in self.workers
            if w.ended is None and not w.known_dead
        ]
        before = self.suspects
        found = plan(shifts, runs, suspected=before)
        alive = {w.shift_id for w in self.at_work()}
        for ending in found.endings:
            assert ending.shift.shift_id not in alive, "a shift that beats was declared ended"
            next(w for w in self.workers if w.shift_id == ending.shift.shift_id).ended = self.now
        on_the_way = [w for w in self.workers if w.arrived is None and not w.dead]
        assert len(self.at_work()) + len(on_the_way) + found.launch <= POLICY.wanted + 1
        for _ in range(found.launch):
            self.workers.append(Worker(str(uuid4()), self.now, arrives_after))
        self.suspects = found.suspects
        requested = [Run(w.run_id, Stage.queued, 0) for w in self.workers[len(self.workers) - found.launch :]]
        assert plan(shifts, [*runs, *requested], suspected=before).launch == 0, "two for one gap"
        self.pass_time(5)

    @precondition(lambda self: self.at_work())
    @rule(data=st.data(), noticed=st.booleans())
    def kill(self, data: st.DataObject, noticed: bool) -> None:
        worker = data.draw(st.sampled_from(self.at_work()))
        worker.dead, worker.known_dead = True, noticed

    @rule()
    def half_an_hour_passes(self) -> None:
        for _ in range(3):
            self.pass_time(POLICY.soft_bound / 3)

    def teardown(self) -> None:
        """Left alone, exactly the wanted number is at work and nobody is past the bound."""
        for _ in range(100):
            self.look(3.0)
        working = self.at_work()
        assert len(working) == POLICY.wanted
        # One hand-over takes three looks at most.
        assert all(self.now - (w.arrived or 0) < POLICY.soft_bound + 60 for w in working)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
