"""Rollouts as operators and other jobs drive them: start one, tell it something, halt them all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from psycopg import Connection

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.rollout import ChangedMeanwhileError, RolloutError
from sketchy_orchestration.delivery.rollout_measuring import measure
from sketchy_orchestration.delivery.rollout_messages import messages
from sketchy_orchestration.domain.rollout import Action, Rollout
from sketchy_orchestration.domain.rollout_commands import RefusedError, Wish, command
from sketchy_orchestration.domain.rollout_plan import Plan
from sketchy_orchestration.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command came to."""

    rollout: Rollout
    said: str


def newest(connection: Connection[Row], flag: str) -> Rollout:
    """The newest rollout of the flag: the one that commands speak of.

    Raises:
        RolloutError: there was never one.
    """
    found = table.rollouts(connection, flag=flag, limit=1)
    if not found:
        raise RolloutError(f"there was never a rollout of {flag}", hint="begin one: sketchy rollout start")
    return found[0]


def start(
    connection: Connection[Row],
    settings: Settings,
    plan: Plan,
    *,
    by: str,
    reason: str,
    release: str | None = None,
    override_freeze: bool = False,
    now: datetime | None = None,
) -> Rollout:
    """Begin a rollout: its first step holds from now on. The controller walks it from there.

    Args:
        release: the version that is rolled out, kept with it.
        now: the moment it begins; the database's own when not given.

    Raises:
        RolloutError: the flag cannot be rolled out, is off, or is higher than the plan begins; another
            rollout of it is active; the plan is frozen.
    """
    flag = table.flag_now(connection, plan.flag)
    first = plan.steps[0].percentage
    if not flag.enabled:
        raise RolloutError(
            f"the flag {plan.flag} is off", hint=f"sketchy flags set {plan.flag} on --reason ..."
        )
    if flag.value > first:
        raise RolloutError(
            f"{plan.flag} is at {flag.value:g} % and the plan begins at {first:g} %",
            hint=f"lower it first: sketchy flags set {plan.flag} {first:g} --reason ...",
        )
    freeze = plan.frozen(now or monitoring.database_now(connection))
    if freeze is not None and not override_freeze:
        raise RolloutError(f"the plan is frozen now ({freeze.why})", hint="wait, or override the freeze")
    said = f"rollout started at {first:g} % ({plan.name}, {len(plan.steps)} steps)"
    told = messages(settings, plan.flag, said, by=by, reason=reason, grave=False)
    new = table.begin(connection, plan, by=by, reason=reason, release=release, messages=told, now=now)
    log.info("rollout_started", rollout=new, flag=plan.flag, plan=plan.fingerprint, by=by)
    (rollout,) = table.rollouts(connection, rollout_id=new)
    return rollout


def tell(
    connection: Connection[Row],
    settings: Settings,
    flag: str,
    wish: Wish,
    *,
    by: str,
    reason: str,
    step: int | None = None,
    now: datetime | None = None,
) -> Done:
    """Do what an operator asks of the flag's newest rollout.

    Of two who ask at the same moment one is done and one refused: a change is one of a version that was read.

    Args:
        step: refuse unless it stands at this step (0 is the first).

    Raises:
        RolloutError: not in this state. ChangedMeanwhileError: somebody was quicker.
    """
    rollout = newest(connection, flag)
    if step is not None and rollout.step != step:
        raise ChangedMeanwhileError(
            f"rollout {rollout.id} is at step {rollout.step} ({rollout.percentage:g} %), not at {step}",
            hint="look at it again: sketchy rollout status",
        )
    moment = now or monitoring.database_now(connection)
    verdicts = (
        measure(connection, rollout, moment) if wish.action is Action.promote and rollout.active else None
    )
    try:
        change = command(rollout, wish, table.flag_now(connection, flag), moment, verdicts)
    except RefusedError as error:
        raise RolloutError(str(error)) from None
    told = messages(settings, flag, change.said, by=by, reason=reason, grave=change.grave)
    table.change(connection, rollout, change, by=by, reason=reason, messages=told)
    log.info(
        "rollout_told", rollout=rollout.id, flag=flag, action=str(change.action), said=change.said, by=by
    )
    return Done(newest(connection, flag), change.said)


def halt(connection: Connection[Row], settings: Settings, *, by: str, reason: str) -> int:
    """Abort every active rollout and set its flag to 0: for the emergency stop. How many there were.

    One statement that waits for no look and no version, and half a second at most for a controller that is
    frozen while it writes; safe to repeat.
    """
    said = "halted: nothing more is enrolled"
    told = messages(settings, "rollouts", said, by=by, reason=reason, grave=True)
    return table.halt(connection, by=by, reason=reason, messages=told)
