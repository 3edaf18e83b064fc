"""Deployments under load: two releases on one schema, over and back; failures that take themselves back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.database import deployments, releases
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.database.deployments import DeploymentError
from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.delivery import deployment, deployment_steps
from sketchy_orchestration.domain.deployment import StepName, StepState
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.settings import Settings
from tests.e2e.releases import Play, Sums, copy_release, parts_of, settings_of, vouch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OLD, NEW = "9.8.0", "9.9.9"


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub() as server:
        yield server


@pytest.fixture
def settings(postgres: RunningPostgres, pubnub: LocalPubNub, tmp_path: Path) -> Iterator[Settings]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url)
    yield settings_of(url, pubnub, tmp_path / "home")
    postgres.drop_database(name)


@pytest.fixture
def sums(settings: Settings) -> Iterator[Sums]:
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        yield Sums(connection)


def step_states(settings: Settings) -> dict[StepName, StepState]:
    with connect(settings, Role.operator) as connection:
        newest = deployments.newest(connection)
        assert newest is not None
        return deployments.states(connection, newest.deployment_id)


def url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def test_over_and_back_under_load_nothing_is_lost_and_nothing_is_twice(
    settings: Settings, sums: Sums, pubnub: LocalPubNub, tmp_path: Path
) -> None:
    path, before = copy_release(tmp_path / "new", NEW), copy_release(tmp_path / "old", OLD)
    parts = parts_of(settings, tmp_path, path, before)
    old = parts.old_host.start_shifts({})
    try:
        with pytest.raises(DeploymentError, match="has not been validated"):
            deployment.deploy(parts, by="ann", reason="a release")
        vouch(settings, path)
        noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
        early = parts_of(settings, tmp_path, path, before, override="")
        with pytest.raises(DeploymentError, match="12:00 UTC lies outside the window"):
            deployment.deploy(early, by="ann", reason="a release", now=lambda: noon)
        with Play(url_of(settings)):
            assert wait_until(lambda: sums.releases == {OLD} and sums.waiting < 50, seconds=60)
            done = deployment.deploy(parts, by="ann", reason="a release")
            assert done.ok, done.markdown("deployment")
            assert sums.releases == {NEW}
            with connect(settings, Role.operator) as connection:
                current = releases.current(connection)
                assert current is not None
                assert (current.version, current.made_by) == (parts.new, "ann")
            back = deployment.roll_back(parts, by="bob", reason="players complain")
            assert back.ok, back.markdown("back")
            assert sums.releases == {OLD}
        assert wait_until(lambda: sums.waiting == 0, seconds=60)
        assert sums.lost() == {"dead": 0, "transitions twice": 0, "outcomes twice": 0, "early": 0}
        assert sums.heard_twice(pubnub) == 0
        assert sums.one("select count(*) from orchestration.transitions where cause = 'timer'") > 50
    finally:
        stop_everything(parts, old, settings)


def test_failures_take_themselves_back_and_a_killed_one_goes_on(
    settings: Settings, sums: Sums, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = copy_release(tmp_path / "new", NEW), copy_release(tmp_path / "old", OLD)
    files = sorted((path / "sql" / "migrations").glob("*.up.sql"))
    number = int(files[-1].name[:4]) + 1
    bad = path / "sql" / "migrations" / f"{number:04d}_half_way.up.sql"
    bad.write_text("create table orchestration.half_way (id int);\nselect 1 / 0;\n", encoding="utf-8")
    down = path / "sql" / "migrations" / f"{number:04d}_half_way.down.sql"
    down.write_text("drop table orchestration.half_way;\n", encoding="utf-8")
    parts = parts_of(settings, tmp_path, path, before)
    old = parts.old_host.start_shifts({})
    try:
        assert wait_until(lambda: sums.releases == {OLD}, seconds=60)
        vouch(settings, path)
        done = deployment.deploy(parts, by="ann", reason="a release")
        assert [step.name for step in done.done if not step.ok] == ["migrations"]
        assert sums.one("select count(*) from pg_class where relname = 'half_way'") == 0
        assert sums.one(f"select count(*) from orchestration.migrations where number = {number}") == 0
        assert sums.one("select count(*) from orchestration.deployments where state = 'rolled_back'") == 1
        # One that takes something away is not even begun.
        bad.write_text("alter table orchestration.flags drop column salt;\n", encoding="utf-8")
        vouch(settings, path)
        done = deployment.deploy(parts, by="ann", reason="a release")
        assert "take away: " in done.done[-2].found
        assert "drop column" in done.done[-2].found

        # Killed between two steps, then gone on with by another process, and failing there.
        bad.unlink()
        down.unlink()
        vouch(settings, path)
        parts = parts_of(settings, tmp_path, path, before)
        with monkeypatch.context() as patch:

            def killed(*_: object) -> str:
                raise KeyboardInterrupt

            patch.setattr(deployment_steps, "_relieve", killed)
            with pytest.raises(KeyboardInterrupt):
                deployment.deploy(parts, by="ann", reason="a release")
        assert step_states(settings)[StepName.relieve] is StepState.doing
        with pytest.raises(DeploymentError, match="has not ended"):
            deployment.deploy(parts, by="bob", reason="another")
        another = parts_of(settings, tmp_path, path, before)
        sums.connection.execute(
            """insert into orchestration.alerts (rule, severity, state, value, fired_at)
               values ('made_up', 'critical', 'firing', 1, now())"""
        )
        done = deployment.resume(another)
        assert not done.ok
        failed = [step for step in done.done if not step.ok]
        assert [step.name for step in failed] == ["watch"]
        assert "critical alerts" in failed[0].found
        assert sums.releases == {OLD}
        states = step_states(settings)
        assert (
            states[StepName.code] is states[StepName.relieve] is states[StepName.current] is StepState.undone
        )
    finally:
        stop_everything(parts, old, settings)


def stop_everything(parts: deployment_steps.Parts, old: dict[str, object], settings: Settings) -> None:
    with connect(settings, Role.operator) as connection:
        newest = deployments.newest(connection)
    kept = newest.kept if newest is not None else {}
    for placement in (old, kept.get("placement", {}), kept.get("old_back", {})):
        parts.new_host.stop(placement)
