"""Jobs: the two long ones that are always at work, and a bounded pass of each."""

import dagster as dg

from sketchy_orchestration.defs.realtime import ops
from sketchy_orchestration.defs.realtime.assets import OWNER_TAGS
from sketchy_orchestration.realtime.shift import ShiftKind
from sketchy_orchestration.settings import Settings, SettingsError, settings

ROLE_TAG = "sketchy/role"
"""Run coordinators limit runs by this tag, so that shifts and operators' jobs never wait for each other."""


CELL_TAG = "sketchy/cell"
"""Databases that share a Dagster have the same jobs: by this tag each supervision knows its own runs."""


def cell() -> str:
    """This process's cell; a wrong setting is told by whoever needs it, and the definitions load."""
    try:
        return settings().cell
    except SettingsError:
        return str(Settings.model_fields["cell"].default)


def _tags(role: str, kind: ShiftKind, *, priority: int) -> dict[str, str]:
    # The supervisor replaces what ends; Dagster's own retries beside it would start a second replacement.
    return {
        **OWNER_TAGS,
        ROLE_TAG: role,
        CELL_TAG: cell(),
        "sketchy/kind": str(kind),
        "dagster/priority": str(priority),
        "dagster/max_retries": "0",
    }


@dg.job(tags=_tags("pass", ShiftKind.timer, priority=10))
def timer_sweep() -> None:
    """One bounded pass that moves on every game that is due.

    Launch it when games stand still although `timer_monitoring` is on: it needs no shift. Launching it beside
    shifts at work is harmless. The backstop and a schedule request it when something is overdue.
    """
    ops.sweep_once()


@dg.job(tags=_tags("pass", ShiftKind.fanout, priority=10))
def event_fanout() -> None:
    """One bounded pass that sequences and publishes waiting events.

    Launch it when events wait although `pubnub_broadcasting` is on and no fan-out shift lives. Lanes that a
    shift holds are left to it. The backstop and a schedule request it when something is overdue.
    """
    ops.relay_once()


@dg.job(tags=_tags("timer_shift", ShiftKind.timer, priority=5))
def timer_shift() -> None:
    """A long run: sweeps at every deadline until a successor relieves it.

    Two are kept at work by the sensor `shift_supervision`. Launch one by hand only while that sensor is off;
    terminate one freely: it stops within a second and is replaced.
    """
    ops.work_timer_shift()


@dg.job(tags=_tags("fanout_shift", ShiftKind.fanout, priority=5))
def fanout_shift() -> None:
    """A long run: sequences and publishes the events of its lanes until a successor relieves it.

    Two are kept at work by the sensor `shift_supervision`. Launch one by hand only while that sensor is off;
    terminate one freely: it stops within a second, its lanes go to the others, and it is replaced.
    """
    ops.work_fanout_shift()


SHIFT_JOBS: dict[ShiftKind, dg.JobDefinition] = {
    ShiftKind.timer: timer_shift,
    ShiftKind.fanout: fanout_shift,
}
PASS_JOBS: dict[ShiftKind, dg.JobDefinition] = {
    ShiftKind.timer: timer_sweep,
    ShiftKind.fanout: event_fanout,
}
JOBS = [*PASS_JOBS.values(), *SHIFT_JOBS.values()]
