"""sketchy deploy: bring a release into production, go on with a deployment, take it back."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.delivery import deployment, deployment_parts
from sketchy_orchestration.delivery.deployment_steps import Config
from sketchy_orchestration.delivery.steps import Step, Steps
from sketchy_orchestration.errors import SketchyError


class NotDeployedError(SketchyError):
    """The deployment failed and was taken back."""


def deploy(
    reason: Annotated[str, typer.Option(help="Why; kept with the deployment.")] = "",
    python: Annotated[str, typer.Option(help="Interpreter of the new release.")] = sys.executable,
    path: Annotated[str, typer.Option(help="Its checkout, if it is not installed.")] = "",
    old_python: Annotated[str, typer.Option(help="Interpreter of the one at work. Default: this one.")] = "",
    old_path: Annotated[str, typer.Option(help="Its checkout, if it is not installed.")] = "",
    window: Annotated[str, typer.Option(help="When, UTC.")] = "02:00-06:00",
    override: Annotated[str, typer.Option(help="Why outside the window all the same.")] = "",
    watch_minutes: Annotated[float, typer.Option(min=0, help="How long to watch before the rollout.")] = 30.0,
    legacy_cron: Annotated[str, typer.Option(help="What was done about the legacy cron; recorded.")] = "",
    no_rollout: Annotated[bool, typer.Option("--no-rollout", help="Begin no rollout.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the one that was broken off, as begun.")
    ] = False,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Take the last one back, as it was begun.")
    ] = False,
) -> None:
    """Deploy a release beside the one at work, relieve the old one, watch, begin the rollout.

    Without Dagster it switches no sensors or schedules; the job production_deployment does that too. Any
    failure after the first change is rolled back by itself.

    \b
    Examples:
      sketchy deploy --python /opt/sketchy-1.5/bin/python --reason "release 1.5"
      sketchy deploy --resume
      sketchy deploy --roll-back --reason "players complain"
    """
    settings = joined_settings()
    config = Config(
        python=python,
        path=path,
        old_python=old_python,
        old_path=old_path,
        window=window,
        override=override,
        watch_minutes=watch_minutes,
        legacy_cron=legacy_cron,
        start_rollout=not no_rollout,
    )
    begun = roll_back or resume
    parts = deployment_parts.of_newest(settings) if begun else deployment_parts.of_config(settings, config)
    done: Steps
    if roll_back:
        done = deployment.roll_back(parts, by=getpass.getuser(), reason=reason, tell=_tell)
    elif resume:
        done = deployment.resume(parts, tell=_tell)
    else:
        done = deployment.deploy(parts, by=getpass.getuser(), reason=reason, tell=_tell)
    if not done.ok:
        failed = next(step for step in done.done if not step.ok)
        raise NotDeployedError(f"{failed.name} failed: {failed.found}")


def _tell(step: Step) -> None:
    mark = "" if step.ok else "FAILED: "
    typer.echo(f"{step.at_ms / 1000:8.1f} s  {step.name:<16} {mark}{step.found}")
