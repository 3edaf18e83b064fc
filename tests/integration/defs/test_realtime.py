"""Jobs, schedules and sensors in this process, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import dagster as dg
import psycopg
import pytest

from sketchy_orchestration.defs.realtime.jobs import timer_shift, timer_sweep
from sketchy_orchestration.defs.realtime.schedules import timer_sweep_every_minute
from sketchy_orchestration.defs.realtime.sensors import WHY_TAG, backstop, shift_supervision
from sketchy_orchestration.local import processes
from tests.integration.defs.conftest import MakeShift

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer")

Resources = dict[str, Any]


def status_of(connection: psycopg.Connection, game: UUID) -> str:
    row = connection.execute("select status from public.games where id = %s", [game]).fetchone()
    assert row is not None
    return str(row[0])


def look(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, resources: Resources) -> Any:
    with dg.build_sensor_context(instance=instance, resources=resources, sensor_name=sensor.name) as context:
        return sensor.evaluate_tick(context)


def test_timer_sweep_moves_what_is_due_and_says_so(
    connection: psycopg.Connection,
    overdue_game: Callable[..., UUID],
    instance: dg.DagsterInstance,
    resources: Resources,
) -> None:
    game = overdue_game()
    done = timer_sweep.execute_in_process(instance=instance, resources=resources)
    assert done.success
    assert status_of(connection, game) == "drawing"
    (event,) = done.filter_events(lambda event: event.is_successful_output)
    assert event.step_output_data.metadata["transitions"].value == 1


def test_the_schedule_skips_with_a_reason_unless_something_is_overdue(
    connection: psycopg.Connection,
    overdue_game: Callable[..., UUID],
    stored_instance: dg.DagsterInstance,
    resources: Resources,
) -> None:
    def evaluated() -> Any:
        with dg.build_schedule_context(instance=stored_instance, resources=resources) as context:
            return timer_sweep_every_minute.evaluate_tick(context)

    assert "nothing is overdue" in evaluated().skip_message
    overdue_game(by=1)
    assert "nothing is overdue" in evaluated().skip_message, "shifts have two seconds"
    overdue_game(by=5)
    assert len(evaluated().run_requests) == 1
    connection.execute("select orchestration.set_flag('timer_monitoring', 'ann', 'test', false)")
    assert "switched off" in evaluated().skip_message


def test_the_backstop_requests_a_pass_only_of_what_is_overdue(
    overdue_game: Callable[..., UUID], instance: dg.DagsterInstance, resources: Resources
) -> None:
    assert (
        "timer: nothing is overdue; fanout: nothing is overdue"
        in look(backstop, instance, resources).skip_message
    )
    overdue_game()
    (request,) = look(backstop, instance, resources).run_requests
    assert request.job_name == "timer_sweep"
    assert "a pass is requested" in request.tags[WHY_TAG]


def test_events_are_left_to_fanout_shifts_at_work(
    connection: psycopg.Connection,
    overdue_game: Callable[..., UUID],
    make_shift: MakeShift,
    instance: dg.DagsterInstance,
    resources: Resources,
) -> None:
    overdue_game(by=-60)
    connection.execute("update orchestration.outbox set occurred_at = occurred_at - interval '11 seconds'")
    (request,) = look(backstop, instance, resources).run_requests
    assert request.job_name == "event_fanout"
    make_shift("fanout")
    assert "fanout: left to 1 shifts at work" in look(backstop, instance, resources).skip_message


def test_supervision_requests_what_is_missing_with_fresh_keys(
    make_shift: MakeShift, instance: dg.DagsterInstance, resources: Resources
) -> None:
    make_shift("fanout")
    ticks = [look(shift_supervision, instance, resources) for _ in range(2)]
    for tick in ticks:
        assert sorted(request.job_name for request in tick.run_requests) == [
            "fanout_shift",
            "timer_shift",
            "timer_shift",
        ]
    keys = [request.run_key for tick in ticks for request in tick.run_requests]
    assert len(set(keys)) == 6


def test_a_shift_in_a_run_reports_now_and_then_and_leaves_when_it_is_ended(
    connection: psycopg.Connection,
    instance: dg.DagsterInstance,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Instead of five minutes, and slow storage is no reason for the shift to wait.
    monkeypatch.setattr("sketchy_orchestration.realtime.shift.REPORT_EVERY", 0.2)

    def reported() -> int:
        return len(instance.fetch_materializations(dg.AssetKey("timer_lateness"), limit=10).records)

    def end_it() -> None:
        processes.wait_until(lambda: reported() >= 2, seconds=30)
        connection.execute("update orchestration.shifts set ended_at = clock_timestamp()")

    ending = threading.Thread(target=end_it)
    ending.start()
    done = timer_shift.execute_in_process(instance=instance, resources=resources)
    ending.join()
    (event,) = done.filter_events(lambda event: event.is_successful_output)
    assert event.step_output_data.metadata["end_reason"].value == "ended_by_supervisor"
    assert reported() >= 3
    latest = instance.get_latest_materialization_event(dg.AssetKey("timer_lateness"))
    assert latest is not None
    assert latest.asset_materialization is not None
    assert latest.run_id == ""
    metadata = latest.asset_materialization.metadata
    plotted = {"transitions", "lateness_p50_ms", "lateness_p99_ms", "lateness_max_ms", "errors", "set_aside"}
    assert all(isinstance(metadata[name].value, int | float) for name in plotted)


def test_a_shift_that_cannot_start_asks_for_a_retry(
    instance: dg.DagsterInstance, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hunter2@127.0.0.1:1/none")
    monkeypatch.setattr(
        "sketchy_orchestration.defs.realtime.ops.START", dg.RetryPolicy(max_retries=1, delay=0)
    )
    done = timer_shift.execute_in_process(instance=instance, resources=resources, raise_on_error=False)
    assert not done.success
    assert len(done.filter_events(lambda event: event.is_step_up_for_retry)) == 1
    assert "hunter2" not in str(instance.all_logs(done.run_id))
