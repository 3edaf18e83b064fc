"""Dagster's runs as supervision sees them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg
import psutil
import structlog

from sketchy_orchestration.defs.realtime.jobs import CELL_TAG, SHIFT_JOBS, cell
from sketchy_orchestration.domain.supervision import Run, Stage
from sketchy_orchestration.realtime.shift import ShiftKind

_STAGES = {
    dg.DagsterRunStatus.QUEUED: Stage.queued,
    dg.DagsterRunStatus.NOT_STARTED: Stage.queued,
    dg.DagsterRunStatus.STARTING: Stage.started,
    dg.DagsterRunStatus.STARTED: Stage.started,
    dg.DagsterRunStatus.CANCELING: Stage.canceling,
}
UNFINISHED = list(_STAGES)

log = structlog.get_logger(__name__)


class DagsterRuns:
    """The runs of one Dagster instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def unfinished(self, kind: ShiftKind) -> Sequence[Run]:
        """See `supervision.Runs`."""
        wanted = dg.RunsFilter(job_name=SHIFT_JOBS[kind].name, statuses=UNFINISHED, tags={CELL_TAG: cell()})
        now = time.time()
        return [
            Run(
                record.dagster_run.run_id,
                _STAGES[record.dagster_run.status],
                max(0.0, now - record.update_timestamp.timestamp()),
            )
            for record in self._instance.get_run_records(wanted)
        ]

    def has_finished(self, run_id: str) -> bool:
        """See `supervision.Runs`."""
        run = self._instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    def end(self, run_id: str, why: str) -> None:
        """See `supervision.Runs`."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        if run.status is dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, f"{why}, and it did not answer")
            return
        try:
            reached = not self._would_hang() and self._instance.run_launcher.terminate(run_id)
        except Exception as error:
            # The code server that started it is gone, and with it whoever could reach the process.
            log.warning("run out of reach", run_id=run_id, error=type(error).__name__)
            reached = False
        if not reached and (left := self._instance.get_run_by_id(run_id)) and not left.is_finished:
            self._instance.report_run_failed(left, why)

    def _would_hang(self) -> bool:
        # To cancel, a code server sets an event and waits until the run's process has woken up to it, holding
        # the lock under which it starts runs: one paused process, and nothing could be started any more.
        # The paused shift needs no cancelling: once awake it finds its row ended, and leaves.
        if not isinstance(self._instance.run_launcher, dg.DefaultRunLauncher):
            return False
        return any(_is_paused(child) for child in psutil.Process().children())


def _is_paused(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
