"""sketchy rollback: a part is switched off, or what answers a known risk is done; the rest goes on."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.delivery import rollback
from sketchy_orchestration.delivery.steps import Step
from sketchy_orchestration.domain.rollback import Risk

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Switch a part off, or do what answers a known risk. Without --yes it says what it would do.",
)

_REASON = typer.Option(..., "--reason", help="Why; kept in the flag's history.")
_YES = typer.Option(False, "--yes", help="Do it; without it, it only says what it would do.")


@app.command()
def flag(
    name: str = typer.Argument(help="A flag, as `sketchy flags list` shows it."),
    reason: str = _REASON,
    yes: bool = _YES,
) -> None:
    """Switch one flag off."""
    rollback.switch_off(
        joined_settings(), name, by=getpass.getuser(), reason=reason, dry_run=not yes, tell=_tell
    )
    _note(yes)


@app.command()
def risk(
    name: Annotated[Risk, typer.Argument(help="pubnub, connections or overlaps.")],
    reason: str = _REASON,
    yes: bool = _YES,
) -> None:
    """Do what answers a known risk.

    \b
    pubnub       broadcasting off, database updates go on
    connections  fewer publishes and games at once, every connection made anew
    overlaps     timers off; move games on with `sketchy games advance`
    """
    rollback.answer(joined_settings(), name, by=getpass.getuser(), reason=reason, dry_run=not yes, tell=_tell)
    _note(yes)


def _tell(step: Step) -> None:
    typer.echo(f"{step.name:<24} {step.found}")


def _note(yes: bool) -> None:
    if not yes:
        typer.echo("nothing was changed: give --yes to do it")
