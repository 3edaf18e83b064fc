"""The parts of a deployment, made of its configuration; or again of what was kept of the last one."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

from sketchy_orchestration.database import deployments as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.database.deployments import Deployment, DeploymentError
from sketchy_orchestration.delivery.deployment_host import CommandHost, Host, ProcessHost
from sketchy_orchestration.delivery.deployment_steps import Config, Parts, Schedules
from sketchy_orchestration.settings import Settings


def of_config(settings: Settings, config: Config, schedules: Schedules | None = None) -> Parts:
    """Those of a deployment that is to begin."""
    new, old = _hosts(settings, config)
    return Parts(settings, config, new, old, schedules=schedules)


def of_newest(settings: Settings, schedules: Schedules | None = None) -> Parts:
    """Those of the last deployment as it was begun: whoever asks may be either release, or a third.

    Raises:
        DeploymentError: there is none.
        SketchyError: the database is away.
    """
    with connect(settings, Role.operator, application_name="sketchy deployment") as connection:
        newest = table.newest(connection)
    if newest is None:
        raise DeploymentError("there is no deployment")
    return of_config(settings, config_of(newest), schedules)


def config_of(deployment: Deployment) -> Config:
    """How it was begun; what another version knew beside is left out."""
    known = {field.name for field in fields(Config)}
    return Config(**{name: value for name, value in deployment.config.items() if name in known})


def with_own_place(config: Config) -> Config:
    """The same, the release at work named where it was left out: it is the one that runs this."""
    if config.old_python or config.old_path:
        return config
    root = Path(__file__).parents[2]
    installed = root.name in ("site-packages", "dist-packages")
    return replace(config, old_python=sys.executable, old_path="" if installed else str(root))


def _hosts(settings: Settings, config: Config) -> tuple[Host, Host]:
    if config.code_command or config.shifts_command:
        release = config.path or config.python
        new = CommandHost(release, config.code_command, config.shifts_command, config.undo_command)
        return new, CommandHost("previous", shifts=config.undo_command)
    logs = Path(settings.sketchy_home).resolve() / "releases"
    return (
        ProcessHost(settings, logs / "new", python=config.python, path=config.path),
        ProcessHost(settings, logs / "old", python=config.old_python or sys.executable, path=config.old_path),
    )
