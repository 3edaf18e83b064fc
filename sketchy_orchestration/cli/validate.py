"""sketchy validate: run the checklists against the running system, see the verdicts, vouch for the rest."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import validations as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.delivery import validation
from sketchy_orchestration.delivery.validation_checks import checks
from sketchy_orchestration.domain.validation import Item, Result, Suite, Verdict, refusal
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.local.pubnub.remote import RunningStandIn
from sketchy_orchestration.settings import Environment, Settings
from sketchy_orchestration.version import this_version

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Run the checklists against the running system; vouch for what no program can check.",
)


class NoGoError(SketchyError):
    """The validation says no go."""


@app.callback(invoke_without_command=True)
def validate(
    context: typer.Context,
    suite: Annotated[
        list[Suite] | None,
        typer.Option(help="Which parts; may be given several times. Default: all.", show_default=False),
    ] = None,
    target: Annotated[
        Environment | None,
        typer.Option(help="Which environment this must be; refuses another.", show_default=False),
    ] = None,
    on_production: bool = typer.Option(
        False, "--on-production", help="Run more than smoke tests on production all the same."
    ),
    games: int = typer.Option(50, min=1, max=1000, help="Games of the larger load step."),
    report: Annotated[Path | None, typer.Option(help="Write the Markdown report here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
) -> None:
    """Run the steps of the checklists, clean up, and record go or no go for this exact version.

    \b
    Examples:
      sketchy validate
      sketchy validate --suite smoke --target production
      sketchy validate attest team_training --note "all of operations, 12 May" --days 90
    """
    if context.invoked_subcommand is not None:
        return
    settings = joined_settings()
    if target is not None and settings.environment is not target:
        raise validation.ValidationRefusedError(
            f"this is {settings.environment}, not {target}: set ENVIRONMENT and the connections of {target}"
        )
    done = validation.validate(
        scene_of(settings, games),
        checks(),
        suite or tuple(Suite),
        by=getpass.getuser(),
        on_production=on_production,
        tell=_tell,
    )
    if report is not None:
        report.write_text(done.markdown(), encoding="utf-8")
    if junit is not None:
        junit.write_text(done.junit(), encoding="utf-8")
    verdict = done.verdict
    typer.echo(f"validation {done.number} of {done.version.label}: {verdict.share:.1%} passed; {verdict.why}")
    if any(result.outcome != "passed" for result in done.results):
        raise NoGoError(f"no go: {verdict.why}")


@app.command()
def attest(
    item: Annotated[Item, typer.Argument(help="What is vouched for.")],
    note: str = typer.Option(..., help="What was done or looked at; kept."),
    days: int = typer.Option(90, min=1, max=365, help="For how long it holds."),
) -> None:
    """Vouch for an item of the go/no-go list that no program can check."""
    with connect(joined_settings(), Role.operator, application_name="sketchy validate") as connection:
        done = table.attest(connection, item, by=getpass.getuser(), note=note, days=days)
    typer.echo(f"{done.item} attested by {done.attested_by} until {done.expires_at:%Y-%m-%d}")


@app.command()
def verdicts(limit: int = typer.Option(10, min=1, max=1000, help="Most validations to show.")) -> None:
    """The last validations, what is attested, and whether this very version may be deployed."""
    settings = joined_settings()
    version = this_version(settings)
    with connect(settings, Role.operator, application_name="sketchy validate") as connection:
        made = table.validations(connection, limit)
        attested = table.attestations(connection)
        own = table.newest_of(connection, version, [str(suite) for suite in Suite])
    shown = Table("validation", "at", "target", "passed", "verdict", "why")
    for one in made:
        shown.add_row(
            str(one.validation_id),
            f"{one.ended_at:%Y-%m-%d %H:%M}",
            one.target,
            f"{one.passed} of {one.total}",
            "go" if one.go else "no go",
            one.why,
        )
    console = Console()
    console.print(shown)
    for item in attested:
        console.print(f"{item.item}: {item.attested_by}, until {item.expires_at:%Y-%m-%d}: {item.note}")
    verdict = None if own is None else Verdict(own.go, own.passed / max(1, own.total), own.why)
    reasons = refusal(verdict, own.age / 86400 if own else 0.0, {one.item: one.valid for one in attested})
    console.print(f"{version.label}: " + ("may be deployed" if not reasons else "; ".join(reasons)))


def scene_of(settings: Settings, games: int) -> validation.Scene:
    """The scene of these settings; the local PubNub can be broken on purpose."""
    origin = settings.pubnub_origin
    local = origin is not None and origin.rpartition(":")[0] in ("127.0.0.1", "localhost")
    faults = RunningStandIn(origin) if local and origin is not None else None
    return validation.Scene(settings, faults=faults, size=games)


def _tell(result: Result) -> None:
    what = f"{result.outcome:<8} {result.suite:<12} {result.name:<14}"
    typer.echo(f"{what} {result.seconds:6.1f} s  {result.found}")
