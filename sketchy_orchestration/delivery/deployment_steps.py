"""What each step of a deployment does, and what takes it back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

from psycopg import Connection

from sketchy_orchestration.database import deployments as table
from sketchy_orchestration.database import releases, rollback, rollout, validations
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.deployments import Deployment, DeploymentError
from sketchy_orchestration.delivery import release_side, validation
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery.deployment_host import Host
from sketchy_orchestration.delivery.validation_smoke import SMOKE
from sketchy_orchestration.domain import deployment as decide
from sketchy_orchestration.domain.deployment import StepName, Watched
from sketchy_orchestration.domain.health import Status
from sketchy_orchestration.domain.rollout_plan import Plan
from sketchy_orchestration.domain.validation import Outcome, Suite, Verdict, refusal
from sketchy_orchestration.monitoring import health
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import Version, this_version

AT_WORK_WITHIN = 120.0
"""Seconds in which shifts of a release must come to work."""

LEFT_WITHIN = 30.0
"""Seconds in which relieved shifts must have left."""

WATCH_EVERY = 2.0

KINDS = ("timer", "fanout")


class Schedules(Protocol):
    """Sensors and schedules of the host of the jobs; without one, nothing is switched."""

    def switch_on(self) -> list[str]:
        """Switch all of them on; the names of those that were off."""
        ...

    def switch_off(self, names: list[str]) -> None:
        """Switch these off again."""
        ...


@dataclass(frozen=True, slots=True)
class Config:
    """How a deployment goes.

    Attributes:
        python, path: interpreter and checkout of the new release.
        old_python, old_path: those of the one at work; empty: it is the one that runs this.
        override: why the window does not hold now; empty: it holds.
        watch_minutes: how long the new release is watched before the rollout.
        legacy_cron: what was done about the legacy handler's cron; recorded.
        start_rollout: begin the default rollout at the end.
        code_command, shifts_command, undo_command: see `CommandHost`; empty where this machine runs releases.
    """

    python: str
    path: str = ""
    old_python: str = ""
    old_path: str = ""
    window: str = "02:00-06:00"
    override: str = ""
    watch_minutes: float = 30.0
    legacy_cron: str = ""
    start_rollout: bool = True
    code_command: str = ""
    shifts_command: str = ""
    undo_command: str = ""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(slots=True)
class Parts:
    """What a deployment works with: the new release's host and the old one's.

    Attributes:
        scene: makes the scene of the smoke tests.
        new, old: the versions; known after `learn_versions`.
    """

    settings: Settings
    config: Config
    new_host: Host
    old_host: Host
    schedules: Schedules | None = None
    scene: Callable[[Settings], validation.Scene] = validation.Scene
    new: Version = field(default_factory=lambda: Version("", "", "", ""))
    old: Version = field(default_factory=lambda: Version("", "", "", ""))

    def learn_versions(self) -> None:
        """Ask both releases which versions they are."""
        config = self.config
        self.new = release_side.version_of(self.settings, python=config.python, path=config.path)
        if config.old_python or config.old_path:
            python = config.old_python or sys.executable
            self.old = release_side.version_of(self.settings, python=python, path=config.old_path)
        else:
            self.old = this_version(self.settings)

    def old_placement(self, connection: Connection[Row]) -> dict[str, Any]:
        """What runs of the release before, as far as a deployment started it."""
        now = releases.current(connection)
        return dict(now.placement) if now is not None else {}

    def remember(self, deployment: Deployment) -> None:
        """Take over the versions of a deployment that was begun by another process."""
        self.new = Version(deployment.package, deployment.build, deployment.migrations, deployment.settings)
        self.old = Version(**deployment.kept["old"])


def do(
    step: StepName,
    connection: Connection[Row],
    parts: Parts,
    deployment: Deployment,
    now: Callable[[], datetime],
) -> str:
    """Do a step; what came of it.

    Raises:
        SketchyError: it failed.
    """
    match step:
        case StepName.go:
            return _go(connection, parts)
        case StepName.window:
            return _window(parts.config, now())
        case StepName.backup:
            marker = table.backup_marker(connection)
            table.keep(connection, deployment.deployment_id, backup=marker)
            return f"a restore to before this deployment ends at {marker['at']}, {marker['lsn']}"
        case StepName.migrations:
            return _migrate(parts)
        case StepName.settings:
            return _unchanged(parts)
        case StepName.code:
            return _start_code(connection, parts, deployment)
        case StepName.shifts:
            return _start_shifts(connection, parts, deployment)
        case StepName.relieve:
            return _relieve(connection, parts.new.label)
        case StepName.current:
            placement = deployment.kept.get("placement", {})
            releases.make_current(
                connection, parts.new, placement, by=deployment.started_by, reason=deployment.reason
            )
            return f"{parts.new.label} is the current release"
        case StepName.schedules:
            return _switch_on(connection, parts, deployment)
        case StepName.smoke:
            return _smoke(parts, deployment)
        case StepName.watch:
            return _watch(connection, parts, deployment)
        case StepName.rollout:
            return _begin_rollout(connection, parts, deployment)


def undo(step: StepName, connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    """Take a step back; what came of it.

    Raises:
        SketchyError: it could not be.
    """
    by, why = deployment.started_by, f"deployment {deployment.deployment_id} is taken back"
    match step:
        case StepName.rollout:
            return f"{rollout.halt(connection, by=by, reason=why)} rollouts ended"
        case StepName.schedules:
            off = list(deployment.kept.get("switched_on", []))
            if parts.schedules is not None and off:
                parts.schedules.switch_off(off)
            if parts.config.legacy_cron:
                details = {"deployment": deployment.deployment_id}
                rollback.act(connection, by=by, action="legacy_cron_on_again", reason=why, details=details)
                return f"{len(off)} switched off again; switch the legacy cron on again"
            return f"{len(off)} switched off again"
        case StepName.current:
            placement = deployment.kept.get("old_back") or deployment.kept.get("old_placement", {})
            releases.make_current(connection, parts.old, placement, by=by, reason=why)
            return f"{parts.old.label} is the current release again"
        case StepName.relieve:
            return _old_back(connection, parts, deployment)
        case StepName.shifts | StepName.code:
            if parts.new.label != parts.old.label or step is StepName.code:
                return parts.new_host.stop(deployment.kept.get("placement", {}))
            return "stopped with the code server"
        case StepName.migrations:
            return "migrations stay: they only added, and the release before runs with them"
        case _:
            return "nothing to take back"


def _go(connection: Connection[Row], parts: Parts) -> str:
    newest = validations.newest_of(connection, parts.new, [str(suite) for suite in Suite])
    attested = {one.item: one.valid for one in validations.attestations(connection)}
    verdict = None
    if newest is not None:
        verdict = Verdict(newest.go, newest.passed / max(1, newest.total), newest.why)
    if reasons := refusal(verdict, newest.age / 86400 if newest else 0.0, attested):
        raise DeploymentError(f"no go for {parts.new.label}: {'; '.join(reasons)}")
    assert newest is not None, "without one it was refused"  # noqa: S101
    return f"validation {newest.validation_id} of {newest.ended_at:%Y-%m-%d %H:%M} says go; all is attested"


def _window(config: Config, now: datetime) -> str:
    if decide.in_window(now, decide.window_of(config.window)):
        return f"{now:%H:%M} UTC lies in the window {config.window}"
    if not config.override.strip():
        raise DeploymentError(
            f"{now:%H:%M} UTC lies outside the window {config.window}", hint="override it with a reason"
        )
    return f"{now:%H:%M} UTC lies outside the window {config.window}; overridden: {config.override}"


def _migrate(parts: Parts) -> str:
    where = {"python": parts.config.python, "path": parts.config.path}
    pending: dict[str, list[str]] = release_side.ask("pending", parts.settings, **where)
    if taken := {name: found for name, found in pending.items() if found}:
        said = "; ".join(f"{name}: {', '.join(found)}" for name, found in taken.items())
        raise DeploymentError(f"migrations must only add; these take away: {said}")
    made = release_side.ask("migrate", parts.settings, **where)
    return f"{len(made)} migrations applied: {', '.join(made)}" if made else "no migration is pending"


def _unchanged(parts: Parts) -> str:
    """Asked again: a deployment may be resumed long after its go, and files and settings change."""
    now = release_side.version_of(parts.settings, python=parts.config.python, path=parts.config.path)
    if now != parts.new:
        raise DeploymentError(f"the new release is {now.label} by now: {parts.new.label} was validated")
    return f"settings {now.settings}, as validated"


def _start_code(connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    placement = parts.new_host.start_code(deployment.kept.get("placement", {}))
    table.keep(connection, deployment.deployment_id, placement=placement)
    return (
        f"the new code server is up beside the old one: {placement.get('code_port', placement.get('code'))}"
    )


def _start_shifts(connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    label = parts.new.label
    if label == parts.old.label and min(_counted(connection, label).values()) >= 2:
        # Nobody would relieve the ones that are there: both would hold their connections for good.
        return f"two shifts of each kind of {label} were at work already"
    placement = parts.new_host.start_shifts(deployment.kept.get("placement", {}))
    table.keep(connection, deployment.deployment_id, placement=placement)
    return _wait_for_shifts(connection, label)


def _wait_for_shifts(connection: Connection[Row], label: str) -> str:
    until = time.monotonic() + AT_WORK_WITHIN
    while min(_counted(connection, label).values()) < 2:
        if time.monotonic() > until:
            raise DeploymentError(
                f"shifts of {label} at work after {AT_WORK_WITHIN:g} s: {_counted(connection, label)}"
            )
        time.sleep(0.2)
    return f"two shifts of each kind of {label} are at work"


def _counted(connection: Connection[Row], label: str | None = None) -> dict[str, int]:
    """Shifts that beat, of one release or all, by kind."""
    found = [one for one in releases.at_work(connection) if one.beats and not one.relieved]
    mine = [one for one in found if label is None or one.release == label]
    return {kind: sum(one.kind == kind for one in mine) for kind in KINDS}


def _relieve(connection: Connection[Row], label: str) -> str:
    told = sum(releases.relieve_others(connection, label, kind) for kind in KINDS)
    until = time.monotonic() + LEFT_WITHIN
    while others := [one for one in releases.at_work(connection) if one.release != label and one.beats]:
        if time.monotonic() > until:
            raise DeploymentError(f"{len(others)} shifts of other releases have not left")
        told += sum(releases.relieve_others(connection, label, kind) for kind in KINDS)
        time.sleep(0.2)
    return f"{told} shifts of other releases were relieved and have left"


def _old_back(connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    label = parts.old.label
    if label == parts.new.label:
        return "the same version is at work"
    if min(_counted(connection, label).values()) < 2:
        placement = parts.old_host.start_shifts(deployment.kept.get("old_placement", {}))
        table.keep(connection, deployment.deployment_id, old_back=placement)
        _wait_for_shifts(connection, label)
    return f"{label} is at work again; {_relieve(connection, label)}"


def _switch_on(connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    were_off: list[str] = []
    if parts.schedules is not None:
        were_off = parts.schedules.switch_on()
        known = [*deployment.kept.get("switched_on", []), *were_off]
        table.keep(connection, deployment.deployment_id, switched_on=known)
    cron = parts.config.legacy_cron or "nothing said: it goes on with the games that are its own"
    rollback.act(
        connection,
        by=deployment.started_by,
        action="legacy_cron",
        reason=deployment.reason,
        details={"deployment": deployment.deployment_id, "legacy_cron": cron},
    )
    return f"{len(were_off)} sensors and schedules switched on; legacy cron: {cron}"


def _smoke(parts: Parts, deployment: Deployment) -> str:
    done = validation.validate(
        parts.scene(parts.settings), SMOKE, [Suite.smoke], by=f"deployment {deployment.deployment_id}"
    )
    if bad := [f"{one.name}: {one.found}" for one in done.results if one.outcome is not Outcome.passed]:
        raise DeploymentError(f"smoke tests: {'; '.join(bad)}")
    return f"{len(done.results)} smoke tests passed"


def _watch(connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    until = float(deployment.kept.get("watch_until", 0)) or time.time() + parts.config.watch_minutes * 60
    # Kept, so that a watch that was killed goes on where it was.
    table.keep(connection, deployment.deployment_id, watch_until=until)
    looks = 0
    while True:
        if wrong := _look(connection, parts, deployment).wrong(2):
            raise DeploymentError(f"while watching: {wrong}")
        looks += 1
        if time.time() >= until:
            return f"{looks} looks in {parts.config.watch_minutes:g} minutes found nothing wrong"
        time.sleep(max(0.0, min(WATCH_EVERY, until - time.time())))


def _look(connection: Connection[Row], parts: Parts, deployment: Deployment) -> Watched:
    _, critical = rollout.critical_alerts(connection)
    checks = health.look_at_database(parts.settings)
    # Where no daemon is there to be asked for, its absence is no news.
    failing = tuple(
        f"{one.name} ({one.said})"
        for one in checks
        if one.status is Status.failing and one.name not in ("dagster_daemon", "gateway")
    )
    row = connection.execute(
        """select coalesce(extract(epoch from clock_timestamp() - min(l.deadline))::float8, 0),
                  (select count(*)::int from orchestration.dead_letters d where d.dead_at > %s)
           from orchestration.live_games l
           where l.deadline < now() and not l.paused
             and not exists (select from orchestration.set_aside a where a.game_id = l.game_id)""",
        [deployment.began_at],
    ).fetchone()
    overdue, dead = (float(row[0]), int(row[1])) if row else (0.0, 0)
    return Watched(critical, failing, _counted(connection, parts.new.label), overdue, dead)


def _begin_rollout(connection: Connection[Row], parts: Parts, deployment: Deployment) -> str:
    if not parts.config.start_rollout:
        return "not asked for: begin it with `sketchy rollout start`"
    plan = Plan()
    for active in rollout.rollouts(connection, flag=plan.flag, active=True):
        if active.release == parts.new.label:
            return f"rollout {active.id} of {plan.flag} has begun already"
    flag = rollout.flag_now(connection, plan.flag)
    if flag.value > plan.steps[0].percentage:
        return f"{plan.flag} is at {flag.value:g} % already: nothing is rolled out"
    begun = rollouts.start(
        connection,
        parts.settings,
        plan,
        by=deployment.started_by,
        reason=deployment.reason,
        release=parts.new.label,
    )
    return f"rollout {begun.id} of {plan.flag} begins at {plan.steps[0].percentage:g} %"
