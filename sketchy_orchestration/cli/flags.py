"""sketchy flags: look at the switches, percentages and numbers, and change them with a reason."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import flags as table
from sketchy_orchestration.database.connect import Role, connect

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_flags(as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array.")) -> None:
    """Every flag, its value, and who set it last and why."""
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        found = table.flags(connection)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, default=str))
        return
    shown = Table("flag", "value", "changed by", "at", "why", "what it does")
    for one in found:
        shown.add_row(
            one.name,
            one.shown,
            one.changed_by,
            f"{one.changed_at:%Y-%m-%d %H:%M:%S}",
            one.reason,
            one.description,
        )
    Console().print(shown)


@app.command("set")
def set_one(
    name: str = typer.Argument(help="The flag's name, as `sketchy flags list` shows it."),
    value: str = typer.Argument(help="on, off, or a number; percentages are 0 to 100."),
    reason: str = typer.Option(..., "--reason", help="Why; kept in the flag's history."),
) -> None:
    """Change a flag; every process follows within a second.

    \b
    Examples:
      sketchy flags set pubnub_broadcasting off --reason "PubNub incident 123"
      sketchy flags set enrolment 25 --reason "second step of the rollout"
    """
    switch = {"on": True, "off": False}.get(value.lower())
    number = None if switch is not None else _number(name, value)
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        changed = table.set_flag(
            connection, name, by=getpass.getuser(), reason=reason, enabled=switch, value=number
        )
    typer.echo(f"{changed.name} is now {changed.shown}")


@app.command("history")
def show_history(
    name: str = typer.Argument(help="The flag's name."),
    limit: int = typer.Option(20, min=1, max=1000, help="Most changes to show."),
) -> None:
    """Who changed a flag, when, to what and why; newest first."""
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        table.flag(connection, name)
        rows = table.history(connection, name, limit)
    shown = Table("at", "by", "on", "value", "why", "request id")
    for row in rows:
        shown.add_row(
            *(
                str(row[key])
                for key in ("changed_at", "changed_by", "enabled", "value", "reason", "request_id")
            )
        )
    Console().print(shown)


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise table.FlagError(f"{value!r} is no value for flag {name}: give on, off or a number") from None
