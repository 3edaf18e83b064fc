"""Dagster's own storage, on SQLite as in development and on Postgres as in production."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import instance_for_test

from sketchy_orchestration.defs.maintenance import dagster_storage


@dg.job
def nothing() -> None:
    """A run that ends at once."""


@pytest.fixture(params=["sqlite", "postgres"])
def instance(request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    overrides: dict[str, object] = {"telemetry": {"enabled": False}}
    if request.param == "postgres":
        url = request.getfixturevalue("empty_database").replace("postgresql://", "postgresql+psycopg2://")
        overrides["storage"] = {"postgres": {"postgres_url": url}}
    with instance_for_test(overrides=overrides) as made:
        yield made


def evaluated(passed: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("service_levels"), check_name="contract_kept", passed=passed
    )


def test_old_runs_points_and_evaluations_leave(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        assert nothing.execute_in_process(instance=instance).success
    instance.report_runless_asset_event(dg.AssetMaterialization("service_levels"))
    for passed in (True, False):
        instance.report_runless_asset_event(evaluated(passed))
    key, check = (
        dg.AssetKey("service_levels"),
        dg.AssetCheckKey(dg.AssetKey("service_levels"), "contract_kept"),
    )
    assert set(dagster_storage.clean(instance).removed.values()) == {0}
    ages = {"runs_kept": timedelta(seconds=-60), "events_kept": timedelta(seconds=-60)}
    dry = dagster_storage.clean(instance, dry_run=True, **ages)
    assert dry.removed == {"runs": 3, "ticks": 0, "runless events": 3, "evaluations of checks": 1}
    assert instance.get_runs_count() == 3
    assert dagster_storage.clean(instance, **ages).removed == dry.removed
    assert instance.get_runs_count() == 0
    assert list(instance.fetch_materializations(key, limit=10).records) == []
    # The newest evaluation of a check stays: it is what the UI shows.
    shown = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    assert shown[check].status.value == "FAILED"
