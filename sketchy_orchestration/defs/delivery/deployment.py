"""Production deployment as a job: every step in the run's log, the way back by itself."""

import sys
from collections.abc import Callable
from datetime import timedelta

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from pydantic import Field

from sketchy_orchestration.database import deployments, monitoring
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.defs.delivery.reporting import OWNER_TAGS, report, teller
from sketchy_orchestration.defs.resources import PostgresResource, PubNubResource
from sketchy_orchestration.delivery import deployment, deployment_parts
from sketchy_orchestration.delivery.deployment_steps import Config, Parts
from sketchy_orchestration.delivery.steps import Step, Steps
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings

RECENT = timedelta(days=1)
"""A release younger than this is taken back by an emergency rollback."""


class DeploymentConfig(dg.Config):
    """Config of production_deployment."""

    action: str = Field(
        default="start",
        pattern="^(start|resume|roll_back)$",
        description="start; or resume or roll_back the last one, as it was begun, whatever else is said here",
    )
    reason: str = Field(default="launched from the Dagster UI", min_length=1, description="Why; kept")
    python: str = Field(default="", description="Interpreter of the new release; empty: the one at work here")
    path: str = Field(default="", description="Checkout of the new release, where it is not installed")
    code_command: str = Field(
        default="", description="Command that starts its code server, where this machine does not run it"
    )
    shifts_command: str = Field(default="", description="Command that starts its shifts")
    undo_command: str = Field(default="", description="Command that brings the release before back")
    window: str = Field(default="02:00-06:00", description="UTC; outside it a deployment is refused")
    override: str = Field(default="", description="Why it is done outside the window all the same")
    watch_minutes: float = Field(default=30.0, ge=0, le=1440, description="Watch before the rollout")
    legacy_cron: str = Field(default="", description="What was done about the legacy cron; recorded")
    start_rollout: bool = Field(default=True, description="Begin the default rollout at the end")


def previous_back(
    settings: Settings, instance: dg.DagsterInstance, *, by: str, reason: str, tell: Callable[[Step], None]
) -> Steps | None:
    """Take the last deployment back, if it ended well within the last day; None: there is none such.

    Launched again after it was killed, it goes on.
    """
    with connect(settings, Role.operator, application_name="sketchy deployment") as connection:
        newest = deployments.newest(connection)
        if newest is None or newest.state not in ("succeeded", "rolling_back"):
            return None
        if monitoring.database_now(connection) - newest.began_at > RECENT:
            return None
    parts = deployment_parts.of_newest(settings, DagsterSchedules(instance))
    return deployment.roll_back(parts, by=by, reason=reason, tell=tell)


class DagsterSchedules:
    """Sensors and schedules that somebody switched off in this Dagster."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def switch_on(self) -> list[str]:
        """See `Schedules`."""
        off = [one for one in self._states() if one.status is InstigatorStatus.STOPPED]
        for state in off:
            self._instance.update_instigator_state(state.with_status(InstigatorStatus.RUNNING))
        return [state.instigator_name for state in off]

    def switch_off(self, names: list[str]) -> None:
        """See `Schedules`."""
        for state in self._states():
            if state.instigator_name in names:
                self._instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))

    def _states(self) -> list[InstigatorState]:
        return list(self._instance.all_instigator_state())


def _parts(config: DeploymentConfig, settings: Settings, instance: dg.DagsterInstance) -> Parts:
    schedules = DagsterSchedules(instance)
    if config.action != "start":
        return deployment_parts.of_newest(settings, schedules)
    wanted = Config(
        python=config.python or sys.executable,
        path=config.path,
        window=config.window,
        override=config.override,
        watch_minutes=config.watch_minutes,
        legacy_cron=config.legacy_cron,
        start_rollout=config.start_rollout,
        code_command=config.code_command,
        shifts_command=config.shifts_command,
        undo_command=config.undo_command,
    )
    return deployment_parts.of_config(settings, wanted, schedules)


@dg.op
def walk_the_deployment(
    context: dg.OpExecutionContext,
    config: DeploymentConfig,
    postgres: PostgresResource,
    pubnub: PubNubResource,
) -> None:
    """Walks the steps, each kept in the database before the next; rolls back by itself when one fails."""
    tell = teller(context)
    by = f"dagster run {context.run_id}"
    done: Steps
    try:
        parts = _parts(config, pubnub.settings(postgres), context.instance)
        if config.action == "roll_back":
            done = deployment.roll_back(parts, by=by, reason=config.reason, tell=tell)
        elif config.action == "resume":
            done = deployment.resume(parts, tell=tell)
        else:
            done = deployment.deploy(parts, by=by, reason=config.reason, tell=tell)
    except SketchyError as error:
        context.log.error(error.in_one_line())
        raise dg.Failure(error.in_one_line(), allow_retries=False) from error
    report(context, f"deployment of {parts.new.label}", done)


@dg.job(tags=OWNER_TAGS)
def production_deployment() -> None:
    """Brings a validated version into production beside the old one, watches it, begins the rollout.

    It refuses without a fresh go for this very version and outside the window. A failure after the first
    change is rolled back by itself. A run that was killed: launch it with action resume or roll_back.
    """
    walk_the_deployment()


definitions = dg.Definitions(jobs=[production_deployment])
