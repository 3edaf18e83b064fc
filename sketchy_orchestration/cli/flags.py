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

_ALLOW = typer.Option([], "--allow", help="A subject always within; repeat it for more.")
_DENY = typer.Option([], "--deny", help="A subject never within; repeat it for more.")


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


@app.command("add")
def add_one(
    name: str = typer.Argument(help="a-z, 0-9 and _, beginning with a letter."),
    value: str = typer.Argument(help="on or off for a switch; 25% for a percentage; else a number."),
    description: str = typer.Option(..., "--description", help="What it does, for those who come after."),
    reason: str = typer.Option(..., "--reason", help="Why; kept in the flag's history."),
) -> None:
    """Add a flag of your own; ask for it with orchestration.flag_on, flag_number or flag_includes.

    \b
    Examples:
      sketchy flags add double_votes off --description "Votes count twice" --reason "party mode"
      sketchy flags add new_canvas 5% --description "The new canvas" --reason "first players"
    """
    switch = {"on": True, "off": False}.get(value.lower())
    kind = "switch" if switch is not None else "percentage" if value.endswith("%") else "number"
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        added = table.add_flag(
            connection,
            name,
            kind,
            value=None if switch is not None else _number(name, value.removesuffix("%")),
            enabled=switch is not False,
            description=description,
            by=getpass.getuser(),
            reason=reason,
        )
    typer.echo(f"{added.name} is now {added.shown}")


@app.command("remove")
def remove_one(
    name: str = typer.Argument(help="A flag that somebody added."),
    reason: str = typer.Option(..., "--reason", help="Why; kept in the flag's history."),
) -> None:
    """Take away a flag that somebody added; those that came with the system stay."""
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        table.remove_flag(connection, name, by=getpass.getuser(), reason=reason)
    typer.echo(f"{name} is removed; its history stays")


@app.command("lists")
def set_lists(
    name: str = typer.Argument(help="The flag's name."),
    reason: str = typer.Option(..., "--reason", help="Why; kept in the flag's history."),
    allow: list[str] = _ALLOW,
    deny: list[str] = _DENY,
    clear: bool = typer.Option(False, "--clear", help="Empty both lists first."),
) -> None:
    """Always or never include subjects, whatever the percentage. Deny beats allow beats percentage.

    \b
    Example:
      sketchy flags lists enrolment --allow 11111111-0000-4000-8000-000000000001 --reason "our own game"
    """
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        before = table.flag(connection, name)
        allowed = [] if clear else [one for one in before.allow if one not in deny]
        denied = [] if clear else [one for one in before.deny if one not in allow]
        changed = table.set_flag(
            connection,
            name,
            by=getpass.getuser(),
            reason=reason,
            allow=list(dict.fromkeys([*allowed, *allow])),
            deny=list(dict.fromkeys([*denied, *deny])),
        )
    typer.echo(f"{name} allows {len(changed.allow)} and denies {len(changed.deny)} subjects")


@app.command("ask")
def ask(
    name: str = typer.Argument(help="The flag's name."),
    subject: str = typer.Argument(help="For enrolment: a game's id."),
) -> None:
    """Whether a subject is within a flag, and its bucket."""
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        within, bucket = table.asked(connection, name, subject)
    typer.echo(f"{'within' if within else 'not within'} {name}; its bucket is {bucket}")


@app.command("history")
def show_history(
    name: str = typer.Argument(help="The flag's name."),
    limit: int = typer.Option(20, min=1, max=1000, help="Most changes to show."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array."),
) -> None:
    """Who changed a flag, when, to what and why; newest first."""
    with connect(joined_settings(), Role.operator, application_name="sketchy flags") as connection:
        table.flag(connection, name)
        rows = table.history(connection, name, limit)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, default=str))
        return
    shown = Table("at", "by", "on", "value", "allow", "deny", "why", "request id")
    for row in rows:
        shown.add_row(
            *(
                str(row[key])
                for key in (
                    "changed_at",
                    "changed_by",
                    "enabled",
                    "value",
                    "allow",
                    "deny",
                    "reason",
                    "request_id",
                )
            )
        )
    Console().print(shown)


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise table.FlagError(f"{value!r} is no value for flag {name}: give on, off or a number") from None
