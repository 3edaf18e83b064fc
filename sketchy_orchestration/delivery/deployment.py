"""A deployment walks its steps, each committed before the next; a failure takes all of it back by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from psycopg import Connection

from sketchy_orchestration.database import deployments as table
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.database.deployments import Deployment, DeploymentError
from sketchy_orchestration.delivery.deployment_parts import with_own_place
from sketchy_orchestration.delivery.deployment_steps import Parts, do, undo
from sketchy_orchestration.delivery.steps import Step, Steps
from sketchy_orchestration.domain import deployment as decide
from sketchy_orchestration.domain.deployment import StepState
from sketchy_orchestration.errors import SketchyError

log = structlog.get_logger(__name__)


def _quiet(_: Step) -> None:
    pass


def deploy(
    parts: Parts,
    *,
    by: str,
    reason: str,
    tell: Callable[[Step], None] = _quiet,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Steps:
    """Deploy a release: refuse, or go through all steps, or roll back by itself.

    The steps that failed are in what is returned; `ok` says whether the release is in production.

    Raises:
        DeploymentError: refused before anything was changed.
        SketchyError: the database is away; what was begun can be resumed.
    """
    if not reason.strip():
        raise DeploymentError("a deployment needs a reason")
    with _walking(parts) as connection:
        if (unfinished := table.running(connection)) is not None:
            raise DeploymentError(
                f"deployment {unfinished.deployment_id} of {unfinished.label} has not ended",
                hint="resume it or roll it back",
            )
        parts.learn_versions()
        # Whoever takes it back may be run by the new release, which does not know where the old one is.
        config = with_own_place(parts.config).as_dict()
        number = table.begin(connection, parts.new, config, by=by, reason=reason)
        placement = parts.old_placement(connection)
        table.keep(connection, number, old=parts.old.as_dict(), old_placement=placement)
        return _walk(connection, parts, _known(connection), Steps(tell), now)


def resume(
    parts: Parts,
    *,
    tell: Callable[[Step], None] = _quiet,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Steps:
    """Go on with the deployment that has not ended, where it stands; or with its rolling back.

    Raises:
        DeploymentError: there is none, or somebody else is at it.
    """
    with _walking(parts) as connection:
        deployment = table.running(connection)
        if deployment is None:
            raise DeploymentError("no deployment is under way")
        parts.remember(deployment)
        if deployment.state == "rolling_back":
            return _roll_back(connection, parts, deployment, Steps(tell), deployment.why or "resumed")
        return _walk(connection, parts, deployment, Steps(tell), now)


def roll_back(parts: Parts, *, by: str, reason: str, tell: Callable[[Step], None] = _quiet) -> Steps:
    """Take the last deployment back, whether it has ended or not: the release before it is at work again.

    Raises:
        DeploymentError: there is none, or it is taken back already.
    """
    if not reason.strip():
        raise DeploymentError("a rollback needs a reason")
    with _walking(parts) as connection:
        deployment = table.newest(connection)
        if deployment is None or deployment.state == "rolled_back":
            raise DeploymentError("there is no deployment to take back")
        parts.remember(deployment)
        return _roll_back(connection, parts, deployment, Steps(tell), f"{by}: {reason}")


def _walking(parts: Parts) -> Connection[Row]:
    connection = connect(
        parts.settings, Role.operator, application_name="sketchy deployment", statement_timeout=60.0
    )
    try:
        table.walk_alone(connection)
    except SketchyError:
        connection.close()
        raise
    return connection


def _known(connection: Connection[Row]) -> Deployment:
    deployment = table.running(connection)
    assert deployment is not None, "it was just begun"  # noqa: S101
    return deployment


def _walk(
    connection: Connection[Row],
    parts: Parts,
    deployment: Deployment,
    steps: Steps,
    now: Callable[[], datetime],
) -> Steps:
    number = deployment.deployment_id
    while (step := decide.next_step(table.states(connection, number))) is not None:
        table.enter(connection, number, step, StepState.doing)
        log.info("deployment_step", deployment=number, step=str(step))
        try:
            found = do(step, connection, parts, _known(connection), now)
        except Exception as error:
            # Whatever it is, Dagster's own included: what was changed is taken back.
            said = _said(error)
            if connection.closed:
                raise
            table.enter(connection, number, step, StepState.failed, said)
            steps.did(str(step), said, ok=False)
            if not decide.changed(table.states(connection, number)):
                table.set_state(connection, number, "failed", said)
                raise DeploymentError(f"refused: {said}") from None
            return _roll_back(connection, parts, _known(connection), steps, f"{step}: {said}")
        table.enter(connection, number, step, StepState.done, found)
        steps.did(str(step), found)
    table.set_state(connection, number, "succeeded")
    return steps


def _said(error: Exception) -> str:
    if isinstance(error, SketchyError):
        return error.in_one_line()
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _roll_back(
    connection: Connection[Row], parts: Parts, deployment: Deployment, steps: Steps, why: str
) -> Steps:
    number = deployment.deployment_id
    # Of one that had ended, too: whoever is killed in it leaves something that can be resumed.
    table.set_state(connection, number, "rolling_back", why)
    log.warning("deployment rolls back", deployment=number, why=why)
    whole = True
    for step in decide.to_undo(table.states(connection, number)):
        table.enter(connection, number, step, StepState.undoing)
        try:
            found, state = (
                undo(step, connection, parts, table.newest(connection) or deployment),
                StepState.undone,
            )
        except Exception as error:
            found, state = _said(error), StepState.not_undone
            if connection.closed:
                raise
        whole = whole and state is StepState.undone
        table.enter(connection, number, step, state, found)
        steps.did(f"undo {step}", found, ok=state is StepState.undone)
    table.set_state(connection, number, "rolled_back" if whole else "failed", why)
    return steps
