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


def test_old_runs_and_points_leave(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        assert nothing.execute_in_process(instance=instance).success
    instance.report_runless_asset_event(dg.AssetMaterialization("service_levels"))
    key = dg.AssetKey("service_levels")
    assert dagster_storage.clean(instance).removed == {"runs": 0, "ticks": 0, "runless events": 0}
    ages = {"runs_kept": timedelta(seconds=-60), "events_kept": timedelta(seconds=-60)}
    dry = dagster_storage.clean(instance, dry_run=True, **ages)
    assert dry.removed == {"runs": 3, "runless events": 1}
    assert instance.get_runs_count() == 3
    done = dagster_storage.clean(instance, **ages)
    assert (done.removed["runs"], done.removed["runless events"]) == (3, 1)
    assert instance.get_runs_count() == 0
    assert list(instance.fetch_materializations(key, limit=10).records) == []
