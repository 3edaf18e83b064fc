"""What Dagster shows of a rollout of any flag: points, verdicts as checks, and its end, whoever ended it."""

from __future__ import annotations

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from sketchy_orchestration.database import flags
from sketchy_orchestration.defs.delivery.rollout_control import (
    PLANS_OF_FLAGS,
    rollout_controller,
    rollout_of_flags_verdicts,
)
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.domain.rollout import Action
from sketchy_orchestration.domain.rollout_commands import Wish
from sketchy_orchestration.domain.rollout_metrics import MetricName
from sketchy_orchestration.domain.rollout_plan import Metric, Plan, Step
from sketchy_orchestration.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer")

FLAGS = ("new_canvas", "new_chat")
ASSET, CHECK = dg.AssetKey("rollout_of_flags"), "critical_alerts"


def shown(instance: dg.DagsterInstance, flag: str) -> tuple[float, str]:
    """Percentage and state of the newest point."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(ASSET, asset_partitions=[flag]), limit=1
    ).records
    point = records[0].asset_materialization
    assert point is not None
    return float(str(point.metadata["percentage"].value)), str(point.metadata["state"].value)


def test_each_flag_has_its_points_and_its_checks(
    its_settings: Settings,
    connection: psycopg.Connection,
    stored_instance: dg.DagsterInstance,
    resources: dict[str, object],
) -> None:
    def tick(cursor: str | None) -> str:
        with dg.build_sensor_context(
            instance=stored_instance, resources=resources, cursor=cursor, sensor_name="rollout_controller"
        ) as context:
            told = rollout_controller.evaluate_tick(context).cursor
        assert told is not None
        return told

    metrics = (Metric(name=MetricName.critical_alerts),)
    steps = (Step(percentage=10, hours=1), Step(percentage=50, hours=1))
    for flag in FLAGS:
        flags.add_flag(connection, flag, "percentage", value=0, description="x", by="ann", reason="a test")
        plan = Plan(flag=flag, steps=steps, metrics=metrics, comparisons=())
        rollouts.start(connection, its_settings, plan, by="ann", reason="a test")
    cursor = tick(None)
    rollouts.tell(connection, its_settings, FLAGS[1], Wish(Action.skip), by="ann", reason="a test")
    cursor = tick(cursor)
    assert set(stored_instance.get_dynamic_partitions("rollout_flags")) == set(FLAGS)
    assert [shown(stored_instance, flag) for flag in FLAGS] == [(10, "running"), (50, "running")]
    history = stored_instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(ASSET, CHECK), limit=9
    )
    assert {(each.partition, each.status) for each in history} == {
        (flag, AssetCheckExecutionRecordStatus.SUCCEEDED) for flag in FLAGS
    }
    # Ended by a command of which Dagster knows nothing.
    rollouts.tell(connection, its_settings, FLAGS[0], Wish(Action.abort), by="ann", reason="a test")
    tick(cursor)
    assert [shown(stored_instance, flag) for flag in FLAGS] == [(0, "aborted"), (50, "running")]
    # And asked for by hand, as from the button of the UI.
    connection.execute(
        "insert into orchestration.alerts (rule, severity, state, value, fired_at)"
        " values ('made_up', 'critical', 'firing', 1, now())"
    )
    definitions = dg.Definitions(
        assets=[PLANS_OF_FLAGS], asset_checks=[rollout_of_flags_verdicts], resources=resources
    )
    done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=stored_instance, tags={"dagster/partition": FLAGS[1]}
    )
    assert {each.check_name: each.passed for each in done.get_asset_check_evaluations()}[CHECK] is False
