"""Two databases under one Dagster: each supervision sees the runs of its own cell and no other's."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sketchy_orchestration.defs.realtime import runs, sensors
from sketchy_orchestration.defs.realtime.jobs import CELL_TAG, SHIFT_JOBS
from sketchy_orchestration.realtime.shift import ShiftKind


@pytest.mark.parametrize("own", ["main", "second"])
def test_a_cell_counts_its_own_runs_only(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    job = SHIFT_JOBS[ShiftKind.timer]
    assert job.tags[CELL_TAG] == "main", "a run carries the cell of the process that defines it"
    made = {
        name: create_run_for_test(
            instance, job_name=job.name, status=dg.DagsterRunStatus.STARTED, tags={CELL_TAG: name}
        )
        for name in ("main", "second", "third")
    }
    for module in (runs, sensors):
        monkeypatch.setattr(module, "cell", lambda: own)
    found = runs.DagsterRuns(instance).unfinished(ShiftKind.timer)
    assert [run.run_id for run in found] == [made[own].run_id]
    assert sensors.pending_runs(instance, job.name) == 1
