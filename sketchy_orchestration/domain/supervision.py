"""What keeps shifts at work: whom to start, whom to declare ended, which runs lost theirs.

All times are seconds; ages and silences are measured by the database's clock and never by a worker's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Policy:
    """How many shifts of a kind are wanted, and how long each sign is waited for.

    Attributes:
        wanted: shifts at work at any time; with two, a crash needs no detection.
        soft_bound: age at which a shift gets a successor.
        suspect_after: silence after which a shift is looked at again; three heartbeats.
        silent_after: silence after which a shift seen silent twice is ended.
        gone_after: silence after which a shift is ended whose process or run is known to be gone.
        arrival: how long a started run may take until its shift is at work, its retries included.
        leaving: how long a run may outlive its shift.
    """

    wanted: int = 2
    soft_bound: float = 1800.0
    suspect_after: float = 3.0
    silent_after: float = 5.0
    gone_after: float = 2.0
    arrival: float = 180.0
    leaving: float = 30.0


class Stage(StrEnum):
    """Where a run stands, as far as supervision cares."""

    queued = "queued"
    started = "started"
    canceling = "canceling"


@dataclass(frozen=True, slots=True)
class Shift:
    """A row of the table of shifts.

    Attributes:
        heartbeat: the last one, as the database wrote it: equal means not one more since.
        age: since the shift began. silence: since the last heartbeat or the database's own start.
        relieved: asked to leave, a successor being at work.
        gone: its process does not exist, or Dagster says that its run has finished.
        ended_for: since it ended; None while at work.
        outranks: of the release that a deployment made current, which whoever supervises is not.
    """

    shift_id: UUID
    run_id: str | None
    heartbeat: str
    age: float
    silence: float
    relieved: bool = False
    gone: bool = False
    ended_for: float | None = None
    outranks: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the shift's job that has not finished; `age` is its time in this stage."""

    run_id: str
    stage: Stage
    age: float


class EndReason(StrEnum):
    """Why a shift was declared ended by somebody else, as in the table of shifts."""

    died = "died"
    stale = "stale"


@dataclass(frozen=True, slots=True)
class Ending:
    """A shift to declare ended, unless it has sent another heartbeat meanwhile."""

    shift: Shift
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    Attributes:
        launch: runs to request.
        endings: shifts to declare ended.
        end_runs: runs to end, because no shift lives in them any more or ever did.
        suspects: shift to heartbeat of those to look at again: the next decision takes it.
        reason: what was seen and decided, one line for a person.
    """

    launch: int
    endings: tuple[Ending, ...]
    end_runs: tuple[str, ...]
    suspects: dict[str, str]
    reason: str


def plan(
    shifts: Sequence[Shift],
    runs: Sequence[Run],
    *,
    suspected: dict[str, str],
    paused: str | None = None,
    policy: Policy = Policy(),
) -> Plan:
    """Decide for one kind of shift.

    Args:
        shifts: all that have not ended, and those that have but belong to one of `runs`.
        runs: all that have not finished.
        suspected: `suspects` of the decision before.
        paused: why no shift is to be started now; None when they are.
    """
    endings = _endings(shifts, suspected, policy)
    ended = {ending.shift.shift_id for ending in endings}
    live = [shift for shift in shifts if shift.ended_for is None and shift.shift_id not in ended]
    at_work = [shift for shift in live if not shift.relieved]
    arriving = _arriving(shifts, runs, policy)
    missing = policy.wanted - len(at_work) - arriving
    aged = [shift for shift in at_work if shift.age >= policy.soft_bound]
    # A successor from here would be of the release before: that one would creep back, shift by shift.
    kept = sum(shift.outranks for shift in aged)
    # One successor at a time: not while one is arriving, is about to relieve somebody, or has just done so.
    settled = missing == 0 and arriving == 0 and not any(shift.relieved for shift in live)
    launch = 0 if paused is not None else max(missing, int(len(aged) > kept and settled))
    return Plan(
        launch=launch,
        endings=endings,
        end_runs=_lost_runs(shifts, runs, ended, policy),
        suspects={str(s.shift_id): s.heartbeat for s in live if s.silence >= policy.suspect_after},
        reason=_reason(len(at_work), arriving, endings, launch, kept, paused, policy),
    )


def _endings(shifts: Sequence[Shift], suspected: dict[str, str], policy: Policy) -> tuple[Ending, ...]:
    found = []
    for shift in shifts:
        if shift.ended_for is not None:
            continue
        # Silence alone may be the database's or the network's, so it must be seen twice.
        seen_before = suspected.get(str(shift.shift_id)) == shift.heartbeat
        if shift.gone and shift.silence >= policy.gone_after:
            found.append(Ending(shift, EndReason.died))
        elif seen_before and shift.silence >= policy.silent_after:
            found.append(Ending(shift, EndReason.stale))
    return tuple(found)


def _arriving(shifts: Sequence[Shift], runs: Sequence[Run], policy: Policy) -> int:
    known = {shift.run_id for shift in shifts}
    return sum(
        run.run_id not in known
        and (run.stage is Stage.queued or (run.stage is Stage.started and run.age < policy.arrival))
        for run in runs
    )


def _lost_runs(
    shifts: Sequence[Shift], runs: Sequence[Run], ended: Collection[UUID], policy: Policy
) -> tuple[str, ...]:
    of_run = {shift.run_id: shift for shift in shifts if shift.run_id is not None}
    lost = []
    for run in runs:
        shift = of_run.get(run.run_id)
        if shift is None:
            overdue = run.stage is Stage.started and run.age >= policy.arrival
        elif shift.ended_for is not None:
            overdue = shift.ended_for >= policy.leaving
        else:
            overdue = shift.shift_id in ended
        if overdue or (run.stage is Stage.canceling and run.age >= policy.leaving):
            lost.append(run.run_id)
    return tuple(lost)


def _reason(
    at_work: int,
    arriving: int,
    endings: Sequence[Ending],
    launch: int,
    kept: int,
    paused: str | None,
    policy: Policy,
) -> str:
    parts = [f"{at_work} of {policy.wanted} at work"]
    if arriving:
        parts.append(f"{arriving} on the way")
    if endings:
        parts.append("ended " + ", ".join(f"{e.shift.shift_id} ({e.reason})" for e in endings))
    if launch:
        parts.append(f"starting {launch}")
    if kept:
        parts.append(f"{kept} of the current release stay, for this is another: see `sketchy releases`")
    if paused:
        parts.append(f"starting none: {paused}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Overdue:
    """What should have happened already and has not.

    Attributes:
        count: games or events; counting stops at a limit.
        oldest: seconds the oldest is overdue; 0 when there is none.
        enabled: the flag that allows the work.
        shifts: shifts at work to whom all of it is left, because a single pass could not help them.
    """

    count: int
    oldest: float
    enabled: bool = True
    shifts: int = 0


def why_no_pass(overdue: Overdue, *, pending: int = 0) -> str | None:
    """The reason not to make a single pass now; None when one is needed.

    Args:
        pending: single passes that are requested or running.
    """
    if overdue.shifts:
        return f"left to {overdue.shifts} shifts at work"
    if overdue.count == 0:
        return "nothing is overdue"
    what = f"{overdue.count} overdue, the oldest by {overdue.oldest:.1f} s"
    if not overdue.enabled:
        return f"{what}; switched off by its flag"
    if pending:
        return f"{what}; a pass is under way"
    return None
