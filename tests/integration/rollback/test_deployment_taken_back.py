"""Whichever step of a deployment fails, it takes itself back, by the commands it was begun with."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner

from sketchy_orchestration.cli.main import app
from sketchy_orchestration.database import releases
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.database.deployments import DeploymentError
from sketchy_orchestration.defs.delivery.deployment import production_deployment
from sketchy_orchestration.defs.delivery.rollback import emergency_rollback
from sketchy_orchestration.defs.resources import resources
from sketchy_orchestration.delivery import deployment, deployment_parts, deployment_steps, release_side
from sketchy_orchestration.delivery.deployment_steps import Config
from sketchy_orchestration.delivery.steps import Steps
from sketchy_orchestration.delivery.validation import Check, Scene, StepFailedError
from sketchy_orchestration.domain.deployment import FIRST_CHANGE, StepName
from sketchy_orchestration.domain.validation import Suite
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.settings import settings as own_settings
from sketchy_orchestration.version import Version, this_version
from tests.e2e.releases import vouch_for
from tests.integration.rollback import platform

NEW = Version("9.9.9", "build", "migrations", "settings")
AFTER = list(StepName)[list(StepName).index(FIRST_CHANGE) :]
_TABLES = """
    create table public.commands (id bigint generated always as identity, what text, release text);
    create table public.broken (what text);
    -- A shift of the platform leaves as one of ours does: when it is relieved.
    create function public.leaves() returns trigger language plpgsql as $$
    begin new.ended_at := clock_timestamp(); return new; end $$;
    create trigger leaves before update of relieved_by on orchestration.shifts
        for each row when (new.relieved_by is not null and new.host <> 'stubborn')
        execute function public.leaves();
"""


class Schedules:
    """Two that somebody had switched off."""

    def __init__(self) -> None:
        self.off = {"backstop", "housekeeping"}
        self.broken = False

    def switch_on(self) -> list[str]:
        if self.broken:
            raise RuntimeError("Dagster's storage is away")
        switched, self.off = sorted(self.off), set()
        return switched

    def switch_off(self, names: list[str]) -> None:
        self.off |= set(names)


@pytest.fixture
def stored_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def commands(
    settings: Settings, connection: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What a deployment calls here; versions are told, for no release is installed elsewhere."""
    old = this_version(settings)
    connection.execute(_TABLES)
    connection.execute(platform.BEGIN, [old.label, old.label])
    words = [sys.executable, platform.__file__, database_url, NEW.label, old.label]
    with connect(settings, Role.operator) as operator:
        releases.make_current(operator, old, {}, by="ann", reason="the release before")
    vouch_for(settings, NEW)
    answers = {"pending": {}, "migrate": []}
    monkeypatch.setattr(release_side, "version_of", lambda *_, **__: NEW)
    monkeypatch.setattr(release_side, "ask", lambda what, *_, **__: answers[what])
    monkeypatch.setattr(deployment_steps, "LEFT_WITHIN", 0.3)
    monkeypatch.setattr(deployment_steps, "SMOKE", (Check("smoke", Suite.smoke, "a line", lambda _: "well"),))
    return {f"{what}_command": shlex.join([*words, what]) for what in ("code", "shifts", "undo")}


Break = Callable[[psycopg.Connection, Schedules, pytest.MonkeyPatch], object]


def sql(text: str) -> Break:
    return lambda connection, _, __: connection.execute(text)


def fails(_: Scene) -> str:
    raise StepFailedError("the gateway does not answer")


BROKEN: dict[StepName, Break] = {
    StepName.migrations: lambda _, __, patch: patch.setattr(
        release_side, "ask", lambda *_, **__: {"0099_bad": ["drop column"]}
    ),
    StepName.settings: lambda _, __, patch: patch.setattr(
        release_side, "version_of", iter_of(NEW, Version("9.9.9", "build", "migrations", "others"))
    ),
    StepName.code: sql("insert into public.broken values ('code')"),
    StepName.shifts: sql("insert into public.broken values ('shifts')"),
    StepName.relieve: sql("update orchestration.shifts set host = 'stubborn'"),
    StepName.current: lambda _, __, patch: patch.setattr(
        releases, "make_current", once_failing(releases.make_current)
    ),
    StepName.schedules: lambda _, schedules, __: setattr(schedules, "broken", True),
    StepName.smoke: lambda _, __, patch: patch.setattr(
        deployment_steps, "SMOKE", (Check("smoke", Suite.smoke, "a line", fails),)
    ),
    StepName.watch: sql(
        "insert into orchestration.alerts (rule, severity, state, value, fired_at)"
        " values ('made_up', 'critical', 'firing', 1, now())"
    ),
    StepName.rollout: sql("select orchestration.set_flag('enrolment', 'ann', 'x', false)"),
}


def iter_of(*versions: Version) -> Callable[..., Version]:
    left = iter(versions)
    return lambda *_, **__: next(left)


def once_failing(real: Callable[..., None]) -> Callable[..., None]:
    failed: list[bool] = []

    def call(*arguments: object, **more: object) -> None:
        if not failed:
            failed.append(True)
            raise psycopg.OperationalError("the database was restarted")
        real(*arguments, **more)

    return call


def test_every_step_after_the_first_change_has_its_failure() -> None:
    assert list(BROKEN) == AFTER


@pytest.mark.parametrize("failing", AFTER)
def test_a_failing_step_is_taken_back(
    failing: StepName,
    commands: dict[str, str],
    settings: Settings,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, schedules = this_version(settings).label, Schedules()
    BROKEN[failing](connection, schedules, monkeypatch)
    config = Config(python="new", override="a test", watch_minutes=0, legacy_cron="off", **commands)
    parts = deployment_parts.of_config(settings, config, schedules)
    done = deployment.deploy(parts, by="ann", reason="a release")
    steps = [step.name for step in done.done]
    begun = AFTER[: AFTER.index(failing) + 1]
    assert steps[3:] == [*begun, *(f"undo {step}" for step in reversed(begun))], done.markdown("deployment")
    assert [step.name for step in done.done if not step.ok] == [failing]
    at_work = connection.execute("select distinct release from orchestration.shifts where ended_at is null")
    assert at_work.fetchall() == [(old,)]
    with connect(settings, Role.operator) as operator:
        current = releases.current(operator)
    assert current is not None
    assert current.label == old
    assert schedules.off == {"backstop", "housekeeping"}
    state = connection.execute("select state, why from orchestration.deployments").fetchone()
    assert state is not None
    assert state[0] == "rolled_back"
    assert state[1].startswith(f"{failing}: ")
    running = "select count(*) from orchestration.rollouts where state in ('running', 'paused')"
    assert connection.execute(running).fetchone() == (0,)


def test_killed_after_every_step_it_comes_to_the_same_end_over_and_back(
    commands: dict[str, str],
    settings: Settings,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed when a step is done and before that is written down: each is done twice, harmlessly."""
    monkeypatch.setattr(deployment, "do", dying_once(deployment.do))
    monkeypatch.setattr(deployment, "undo", dying_once(deployment.undo))
    schedules = Schedules()
    config = Config(python="new", override="a test", watch_minutes=0.005, **commands)

    def again_and_again(first: Callable[[deployment_steps.Parts], Steps]) -> tuple[Steps, int]:
        go, deaths = first, 0
        while True:
            try:
                return go(deployment_parts.of_config(settings, config, schedules)), deaths
            except KeyboardInterrupt:
                go, deaths = deployment.resume, deaths + 1

    done, deaths = again_and_again(lambda parts: deployment.deploy(parts, by="ann", reason="a release"))
    assert (done.ok, deaths) == (True, len(StepName)), done.markdown("deployment")
    stands = "select state, release from orchestration.rollouts"
    assert connection.execute(stands).fetchall() == [("running", NEW.label)]
    beating = "select release, count(*) from orchestration.shifts where ended_at is null group by 1"
    assert dict(connection.execute(beating).fetchall()) == {NEW.label: 4}
    assert schedules.off == set()

    done, deaths = again_and_again(lambda parts: deployment.roll_back(parts, by="ann", reason="complaints"))
    assert (done.ok, deaths) == (True, len(AFTER)), done.markdown("back")
    assert connection.execute(stands).fetchall() == [("aborted", NEW.label)]
    assert dict(connection.execute(beating).fetchall()) == {this_version(settings).label: 4}
    assert schedules.off == {"backstop", "housekeeping"}
    with pytest.raises(DeploymentError, match="no deployment is under way"):
        deployment.resume(deployment_parts.of_config(settings, config, schedules))


def dying_once(real: Callable[..., str]) -> Callable[..., str]:
    died: set[StepName] = set()

    def step(name: StepName, *arguments: object) -> str:
        found = real(name, *arguments)
        if name not in died:
            died.add(name)
            raise KeyboardInterrupt
        return found

    return step


def test_dagster_takes_it_back_by_the_commands_it_was_begun_with(
    commands: dict[str, str],
    settings: Settings,
    connection: psycopg.Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    stored_instance: dg.DagsterInstance,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    instance = stored_instance
    new = {"python": "new", "override": "a test", "watch_minutes": 0, **commands}

    def launch(**config: object) -> bool:
        done = production_deployment.execute_in_process(
            instance=instance,
            resources=resources(),
            run_config={"ops": {"walk_the_deployment": {"config": config}}},
            raise_on_error=False,
        )
        return done.success

    assert launch(legacy_cron="jobs 1, 2 unscheduled", **new)
    assert launch(action="roll_back", reason="players complain")
    assert not launch(action="roll_back", reason="once more")
    assert connection.execute("select what, release from public.commands order by id").fetchall() == [
        ("code", "new"),
        ("shifts", "new"),
        ("undo", "previous"),
        ("undo", "new"),
        ("undo", "new"),
    ]
    # On record: where a restore would end, why outside the window, what was done about the cron.
    kept = connection.execute("select kept -> 'backup' ->> 'lsn' from orchestration.deployments").fetchone()
    assert kept is not None
    assert re.fullmatch("[0-9A-F]+/[0-9A-F]+", str(kept[0]))
    window = "select found from orchestration.deployment_steps where name = 'window'"
    assert "a test" in str(connection.execute(window).fetchone())
    acts = connection.execute(
        "select action, coalesce(details ->> 'legacy_cron', '') from orchestration.operator_actions"
        " order by id"
    ).fetchall()
    assert acts == [("legacy_cron", "jobs 1, 2 unscheduled"), ("legacy_cron_on_again", "")]
    with connect(settings, Role.operator) as operator:
        assert [one.label for one in releases.releases(operator)][1:] == [NEW.label]

    # Once more, and killed while it is taken back: the job of the emergency goes on with it.
    assert launch(**new)
    parts = deployment_parts.of_newest(settings)
    with monkeypatch.context() as patch:
        patch.setattr(deployment, "undo", dying_once(deployment.undo))
        with pytest.raises(KeyboardInterrupt):
            deployment.roll_back(parts, by="ann", reason="complaints")
    assert emergency_rollback.execute_in_process(instance=instance, resources=resources()).success
    states = connection.execute("select state from orchestration.deployments").fetchall()
    assert states == [("rolled_back",)] * 2


def test_the_command_says_why_it_does_nothing(
    commands: dict[str, str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    now = datetime.now(UTC)
    window = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    for words, why in (
        (["--reason", "x", "--python", "new", "--window", window], f"outside the window {window}"),
        (["--roll-back"], "a rollback needs a reason"),
        (["--resume"], "no deployment is under way"),
    ):
        own_settings.cache_clear()
        done = CliRunner().invoke(app, ["deploy", *words])
        assert done.exit_code == 1
        assert why in str(done.exception)
    own_settings.cache_clear()
