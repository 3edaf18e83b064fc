"""sketchy alerts: what is wrong, who was told when; test the channels; acknowledge."""

from __future__ import annotations

import getpass
import json
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from sketchy_orchestration.cli.joining import joined_settings
from sketchy_orchestration.database import alerts as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.domain.alerting import Channel
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring import prometheus_rules
from sketchy_orchestration.monitoring.alerting import Alerting
from sketchy_orchestration.monitoring.rules import BY_NAME, rules_of
from sketchy_orchestration.settings import settings

_COLOURS = {"pending": "yellow", "firing": "red", "resolved": "green"}

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


class AlertError(SketchyError):
    """There is no such alert or channel."""


@app.command("list")
def list_alerts(
    all_: bool = typer.Option(False, "--all", help="Also those that are over."),
    limit: int = typer.Option(50, min=1, max=1000, help="Most alerts to show."),
    as_json: bool = typer.Option(False, "--json", help="Machine-readable, one array."),
) -> None:
    """Alerts that are pending or firing, and who was told of them when."""
    with connect(joined_settings(), Role.operator, application_name="sketchy alerts") as connection:
        rows = table.listed(connection, resolved_too=all_, limit=limit)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, default=str))
        return
    console = Console()
    for row in rows:
        console.print(_paragraph(row))
    if not rows:
        console.print("nothing is wrong")


def _paragraph(row: dict[str, Any]) -> Text:
    rule = BY_NAME.get(row["rule"])
    what = rule.told(row["value"], row["label"]) if rule else f"{row['value']:g}"
    shown = Text(f"{row['id']}  ")
    shown.append(f"{row['severity']} {row['state']}", style=_COLOURS.get(row["state"], ""))
    shown.append(f"  {row['rule']}" + (f" ({row['label']})" if row["label"] else ""))
    ended = f" to {row['resolved_at']:%m-%d %H:%M:%S}" if row["resolved_at"] else ""
    lines = [what, f"since {row['since']:%m-%d %H:%M:%S}{ended} UTC"]
    if row["told"]:
        lines.append("told " + ", ".join(row["told"].splitlines()))
    elif row["fired_at"]:
        lines.append("told nobody: no channel is set, or Prometheus notifies")
    if row["acknowledged_by"]:
        lines.append(f"{row['acknowledged_by']} looks after it: {row['acknowledged_why']}")
    if rule and row["resolved_at"] is None:
        lines.append(f"what to do: docs/runbooks/{rule.runbook}")
    for line in lines:
        shown.append(f"\n     {line}")
    return shown


@app.command()
def ack(
    alert: str = typer.Argument(help="The alert's id, or a rule's name for all of its alerts."),
    reason: str = typer.Option(..., "--reason", help="What you do about it; others read it."),
) -> None:
    """Say that you look after an alert: it is neither repeated nor escalated any more.

    Example: sketchy alerts ack 17 --reason "restarting the relay"
    """
    if not reason.strip():
        raise AlertError("--reason is empty: say what you do about it")
    number = int(alert) if alert.isdigit() else None
    if number is None and alert not in BY_NAME:
        raise AlertError(f"{alert!r} is neither an id nor a rule; rules: {', '.join(BY_NAME)}")
    with connect(joined_settings(), Role.operator, application_name="sketchy alerts") as connection:
        ids = table.acknowledge(
            connection,
            alert_id=number,
            rule=alert if number is None else None,
            by=getpass.getuser(),
            why=reason,
        )
    if not ids:
        raise AlertError(f"no open alert {alert} waits to be acknowledged: see `sketchy alerts list`")
    typer.echo(f"acknowledged: {', '.join(map(str, ids))}")


@app.command("test")
def try_channels(
    channel: str | None = typer.Option(None, help="slack, email or pagerduty; default: all that are set."),
) -> None:
    """Send a test message; exit code 1 when a channel does not accept it, or none is set."""
    chosen = joined_settings()
    try:
        wanted = [Channel(channel)] if channel else []
    except ValueError as error:
        raise AlertError(f"{error}: there are {', '.join(Channel)}") from None
    with connect(chosen, Role.operator, application_name="sketchy alerts") as connection:
        found = Alerting(chosen).test(connection, wanted)
    if not found:
        raise AlertError("no channel is set: set ALERT_SLACK_URL, ALERT_EMAIL_URL or ALERT_PAGERDUTY_URL")
    for name, why_not in found.items():
        typer.echo(f"{name}: {why_not or 'accepted'}")
    if any(found.values()):
        raise typer.Exit(1)


@app.command()
def rules() -> None:
    """Print the rules as Prometheus reads them.

    Example: sketchy alerts rules > deploy/prometheus/alerts.yml
    """
    chosen = settings()
    typer.echo(prometheus_rules.text(rules_of(chosen), chosen.alert_runbook_url), nl=False)
