"""The watch within Dagster: reports without runs, checks on change, reviews."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import psycopg
import pytest
from dagster._core.test_utils import instance_for_test

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.defs.monitoring import jobs, reporter
from sketchy_orchestration.defs.monitoring.assets import ASSETS, CHECKS
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.monitoring.verdicts import ASKED
from sketchy_orchestration.monitoring.watch import Watchman
from sketchy_orchestration.settings import Settings
from tests.integration.monitoring.conftest import Facts


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with instance_for_test(overrides={"telemetry": {"enabled": False}}) as made:
        yield made


def points(instance: dg.DagsterInstance, asset: str) -> list[dg.AssetMaterialization]:
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return [record.asset_materialization for record in records if record.asset_materialization]


def test_assets_are_reported_every_five_minutes_and_checks_when_they_change(
    instance: dg.DagsterInstance, settings: Settings, operator: psycopg.Connection, facts: Facts
) -> None:
    facts.at_work()
    facts.forget_roll_ups()
    facts.transition(count=5)
    monitoring.roll_up(operator)
    reporter.tell_the_watch(instance, settings)
    watchman, memory, now = Watchman(settings), reporter.Memory(), time.time()
    look = watchman.look()
    assert (
        reporter.report(instance, settings, look, memory, now) == f"5 assets and {len(ASKED)} checks reported"
    )
    assert reporter.report(instance, settings, look, memory, now + 290) == "nothing is due"
    assert reporter.report(instance, settings, look, memory, now + 301) == "5 assets and 0 checks reported"
    facts.live_game(overdue=30)
    memory = reporter.Memory.of(memory.cursor())
    look = watchman.look()
    # What has changed is told at once, and only once.
    assert reporter.report(instance, settings, look, memory, now + 330) == "1 checks reported"
    assert reporter.report(instance, settings, look, memory, now + 602) == "5 assets and 0 checks reported"
    # Hourly all of them are, so that nobody takes an old one for what is so.
    hourly = reporter.report(instance, settings, look, memory, now + 3601)
    assert hourly == f"5 assets and {len(ASKED)} checks reported"
    latest = points(instance, "service_levels")[0].metadata
    assert latest["timer_accuracy_percent"].value == 100.0
    assert "| service level |" in str(latest["report"].value)
    assert points(instance, "shifts")[0].metadata["timer_at_work"].value == 2.0
    assert len(points(instance, "pool")) == 4
    together = points(instance, "timer_lateness")[0].metadata
    assert together["all_transitions"].value == 5.0
    assert 2 < float(str(together["all_lateness_p99_ms"].value)) < 5
    assert points(instance, "event_delivery")[0].metadata["all_waiting"].value == 0.0
    assert instance.get_runs_count() == 0
    signals = monitoring.signals(operator)
    assert ("dagster_daemon_alive", "") in signals


def test_the_checks_can_be_made_by_hand_all_or_one(
    instance: dg.DagsterInstance, settings: Settings, facts: Facts
) -> None:
    assert settings.database_url is not None
    postgres = PostgresResource(database_url=settings.database_url.get_secret_value())
    definitions = dg.Definitions(assets=ASSETS, asset_checks=CHECKS, resources={"postgres": postgres})
    one = dg.AssetCheckKey(dg.AssetKey("shifts"), "two_timer_shifts")
    wanted = (dg.AssetSelection.all_asset_checks(), dg.AssetSelection.checks(one))
    for selection, count in zip(wanted, (len(ASKED), 1), strict=True):
        facts.at_work()  # each time: a heartbeat counts for five seconds
        job = dg.define_asset_job("by_hand", selection=selection)
        built = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("by_hand")
        done = built.execute_in_process(instance=instance)
        assert done.success
        found = done.get_asset_check_evaluations()
        assert [each.passed for each in found] == [True] * count
        for each in found:
            assert each.severity.value.lower() == {one.name: one.weight for one in ASKED}[each.check_name]


def test_a_review_writes_its_report_into_the_run(
    instance: dg.DagsterInstance, settings: Settings, facts: Facts
) -> None:
    assert settings.database_url is not None
    postgres = PostgresResource(database_url=settings.database_url.get_secret_value())
    done = jobs.performance_review.execute_in_process(instance=instance, resources={"postgres": postgres})
    assert done.success
    (output,) = [event for event in done.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert "| service level |" in str(output.step_output_data.metadata["report"].value)
